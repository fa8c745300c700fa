"""Recommenders that count: no training, only popularity, neighbours in common and words or pictures alike."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.matrices import nearest, presence, purchases, shown


@dataclass(eq=False)
class ItemKNN:
    """Items that were taken by the users who took the history's items {cite}`sarwar2001item,deshpande2004itembased`.

    Items i and j taken by n_i and n_j users, n_ij of them the same, are alike by n_ij / (sqrt(n_i n_j) + shrink). Each
    item of the history adds this likeness to the scores of its nearest neighbours. Users need no training.

    Args:
        num_neighbors: how many nearest items each item keeps.
        shrinkage: users added to the denominator, so that rare items that met by chance are not alike.
    """

    num_neighbors: int = 100
    shrinkage: float = 10.0
    name: str = "item-kNN"

    def fit(self, split: Split) -> "ItemKNN":
        """Count the users in common, and keep the nearest items of each."""
        taken = presence(purchases(split))
        together = (taken.T @ taken).tocoo()
        count = taken.sum(axis=0)
        row, column = together.coords
        other = row != column
        row, column, common = row[other], column[other], together.data[other]
        likeness = common / (np.sqrt(count[row] * count[column]) + self.shrinkage)
        self.similarity = nearest(sparse.csr_array((likeness, (row, column)), shape=together.shape), self.num_neighbors)
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of likeness over the history; 0 where nobody took both."""
        return (shown(queries, self.similarity.shape[0] - 1) @ self.similarity).toarray()


@dataclass(eq=False)
class UserKNN:
    """What the users took whose training looks most like the history {cite}`herlocker1999framework`.

    A history of n items and a user of m items, c of them the same, are alike by c / (sqrt(n m) + shrink). Each of the
    nearest users adds this likeness to the scores of their items. The user's own training is left out, and the
    history is that of the moment, so that users without training are served as well.

    Args:
        num_neighbors: how many nearest users are heard.
        shrinkage: items added to the denominator, so that short histories that met by chance are not alike.
    """

    num_neighbors: int = 100
    shrinkage: float = 10.0
    name: str = "user-kNN"

    def fit(self, split: Split) -> "UserKNN":
        """Keep who took what."""
        self.taken = presence(purchases(split))
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of likeness over the neighbours who took an item."""
        history = presence(shown(queries, self.taken.shape[1] - 1))
        common = (history @ self.taken.T).tocoo()  # (N, U)
        row, user = common.coords
        other = user != queries.users[row]
        row, user, common = row[other], user[other], common.data[other]
        likeness = common / (np.sqrt(history.sum(axis=1)[row] * self.taken.sum(axis=1)[user]) + self.shrinkage)
        similarity = sparse.csr_array((likeness, (row, user)), shape=(len(queries), self.taken.shape[0]))
        return (nearest(similarity, self.num_neighbors) @ self.taken).toarray()

"""Neighbourhood recommenders: item-kNN and user-kNN on interactions, without training."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import sparse

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.matrices import history_counts, interaction_counts, nearest, presence


@dataclass(eq=False)
class ItemKNN(BaseRecommender):
    """Items with the same users as the history's items {cite}`sarwar2001item,deshpande2004itembased`.

    The similarity of items i and j with n_i and n_j users, n_ij of them in common, is
    n_ij / (sqrt(n_i n_j) + shrinkage). Each item of the history adds its similarity to the scores of its nearest
    neighbours.

    Args:
        num_neighbors: nearest items kept for each item.
        shrinkage: constant in the denominator, which lowers the similarity of rare items.
    """

    FITTED = ("similarity",)
    num_neighbors: int = 100
    shrinkage: float = 10.0
    name: str = "item-kNN"

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Count users in common, and keep the nearest items of each."""
        interactions = presence(interaction_counts(split))
        common = (interactions.T @ interactions).tocoo()
        similarity = _similarity(common, interactions.sum(axis=0), interactions.sum(axis=0), self.shrinkage)
        row, column = similarity.coords
        similarity.data[row == column] = 0
        similarity.eliminate_zeros()
        self.similarity = nearest(similarity.tocsr(), self.num_neighbors)

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of similarity over the history; 0 where no user has both."""
        return (history_counts(queries, self.similarity.shape[0] - 1) @ self.similarity).toarray()


@dataclass(eq=False)
class UserKNN(BaseRecommender):
    """Items of the users whose training items are most similar to the history {cite}`herlocker1999framework`.

    The similarity of a history of n items and a user of m items, c of them in common, is
    c / (sqrt(n m) + shrinkage). Each of the nearest users adds it to the scores of their items. The query's own user is
    excluded, and the history is that of the query, so users without training interactions can be served.

    Args:
        num_neighbors: nearest users kept for each query.
        shrinkage: constant in the denominator, which lowers the similarity of short histories.
    """

    FITTED = ("interactions",)
    num_neighbors: int = 100
    shrinkage: float = 10.0
    name: str = "user-kNN"

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Keep the interactions."""
        self.interactions = presence(interaction_counts(split))

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of similarity over the neighbours that have an item."""
        histories = presence(history_counts(queries, self.interactions.shape[1] - 1))
        common = (histories @ self.interactions.T).tocoo()  # (N, U)
        similarity = _similarity(common, histories.sum(axis=1), self.interactions.sum(axis=1), self.shrinkage)
        row, user = similarity.coords
        similarity.data[user == queries.users[row]] = 0
        similarity.eliminate_zeros()
        return (nearest(similarity.tocsr(), self.num_neighbors) @ self.interactions).toarray()


def _similarity(
    common: sparse.coo_array, row_counts: np.ndarray, column_counts: np.ndarray, shrinkage: float
) -> sparse.coo_array:
    """Shrunk cosine of sets: common / (sqrt(row count * column count) + shrinkage)."""
    row, column = common.coords
    values = common.data / (np.sqrt(row_counts[row] * column_counts[column]) + shrinkage)
    return sparse.coo_array((values, (row, column)), shape=common.shape)

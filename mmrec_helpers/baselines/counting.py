"""Recommenders that count: no training, only popularity, neighbours in common and words or pictures alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from mmrec_helpers.baselines.matrices import check_rows, directions, nearest, presence, purchases, shown, unit
from mmrec_helpers.dataset import Histories, RecDataset, Split

DAY = 86_400
"""Seconds."""


@dataclass(eq=False)
class Random:
    """A number drawn for each user and item: the floor that every system must beat.

    Args:
        seed: another seed draws other numbers; the batch a user comes in does not.
    """

    seed: int = 0
    name: str = "random"

    def fit(self, split: Split) -> "Random":
        """Learn the number of items."""
        self.num_items = split.dataset.num_items
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) uniform numbers."""
        scores = np.empty((len(histories), self.num_items + 1), np.float32)
        for row, user in zip(scores, histories.users, strict=True):
            np.random.default_rng([self.seed, user]).random(out=row, dtype=np.float32)
        return scores


@dataclass(eq=False)
class Popularity:
    """How often each item was taken in training: the same list for everybody.

    Args:
        days: count only the last ``days`` before the moment at which the list is shown. Without it all of training
            is counted, as is usual; under leave-one-out part of that lies after the moment, and the list knows the
            future {cite}`ji2023leakage`. With it, nothing at or after the moment is counted.
    """

    days: float | None = None
    name: str = ""

    def __post_init__(self):
        if self.days is not None and not self.days > 0:
            raise ValueError(f"popularity is counted over a positive number of days, not over {self.days}")
        self.name = self.name or ("popularity" if self.days is None else "recent popularity")

    def fit(self, split: Split) -> "Popularity":
        """Keep the training interactions in order of time.

        Raises:
            ValueError: days were asked for, and the data set tells no times.
        """
        if self.days is not None and not split.dataset.timed:
            raise ValueError(f"{split.dataset.name} tells orders, not times: take Popularity() without days")
        frame = split.interactions("train").sort_values("time")
        self.items, self.times = frame["item"].to_numpy(), frame["time"].to_numpy()
        self.num_items = split.dataset.num_items
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) counts."""
        if self.days is None:
            counts = np.bincount(self.items, minlength=self.num_items + 1)
            return np.tile(counts.astype(np.float32), (len(histories), 1))
        first = np.searchsorted(self.times, histories.times - self.days * DAY, side="left")
        end = np.searchsorted(self.times, histories.times, side="left")
        scores = np.empty((len(histories), self.num_items + 1), np.float32)
        for row, low, high in zip(scores, first, end, strict=True):
            row[:] = np.bincount(self.items[low:high], minlength=self.num_items + 1)
        return scores


@dataclass(eq=False)
class ItemKNN:
    """Items that were taken by the users who took the history's items {cite}`sarwar2001item,deshpande2004itembased`.

    Items i and j taken by n_i and n_j users, n_ij of them the same, are alike by n_ij / (sqrt(n_i n_j) + shrink). Each
    item of the history adds this likeness to the scores of its nearest neighbours. Users need no training.

    Args:
        neighbours: how many nearest items each item keeps.
        shrink: users added to the denominator, so that rare items that met by chance are not alike.
    """

    neighbours: int = 100
    shrink: float = 10.0
    name: str = "item-kNN"

    def fit(self, split: Split) -> "ItemKNN":
        """Count the users in common, and keep the nearest items of each."""
        taken = presence(purchases(split))
        together = (taken.T @ taken).tocoo()
        count = taken.sum(axis=0)
        row, column = together.coords
        other = row != column
        row, column, common = row[other], column[other], together.data[other]
        likeness = common / (np.sqrt(count[row] * count[column]) + self.shrink)
        self.similarity = nearest(sparse.csr_array((likeness, (row, column)), shape=together.shape), self.neighbours)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) sums of likeness over the history; 0 where nobody took both."""
        return (shown(histories, self.similarity.shape[0] - 1) @ self.similarity).toarray()


@dataclass(eq=False)
class UserKNN:
    """What the users took whose training looks most like the history {cite}`herlocker1999framework`.

    A history of n items and a user of m items, c of them the same, are alike by c / (sqrt(n m) + shrink). Each of the
    nearest users adds this likeness to the scores of their items. The user's own training is left out, and the
    history is that of the moment, so that users without training are served as well.

    Args:
        neighbours: how many nearest users are heard.
        shrink: items added to the denominator, so that short histories that met by chance are not alike.
    """

    neighbours: int = 100
    shrink: float = 10.0
    name: str = "user-kNN"

    def fit(self, split: Split) -> "UserKNN":
        """Keep who took what."""
        self.taken = presence(purchases(split))
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) sums of likeness over the neighbours who took an item."""
        history = presence(shown(histories, self.taken.shape[1] - 1))
        common = (history @ self.taken.T).tocoo()  # (N, U)
        row, user = common.coords
        other = user != histories.users[row]
        row, user, common = row[other], user[other], common.data[other]
        likeness = common / (np.sqrt(history.sum(axis=1)[row] * self.taken.sum(axis=1)[user]) + self.shrink)
        similarity = sparse.csr_array((likeness, (row, user)), shape=(len(histories), self.taken.shape[0]))
        return (nearest(similarity, self.neighbours) @ self.taken).toarray()


def tfidf(dataset: RecDataset) -> sparse.csr_array:
    """(I + 1, F) TF-IDF of the words in each item's title and description {cite}`salton1988term`.

    English stop words and words of one item only are left out; how often a word stands in a text counts by its
    logarithm. Row 0, the padding, is zero, and so is that of an item without text.

    Raises:
        ValueError: no two items share a word.
    """
    pairs = zip(dataset.items["title"], dataset.items["description"], strict=True)
    texts = ["", *(" ".join(part or "" for part in pair) for pair in pairs)]
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, stop_words="english", dtype=np.float32)
    try:
        return sparse.csr_array(vectorizer.fit_transform(texts))
    except ValueError as error:
        raise ValueError(f"{dataset.name}: no two items share a word in title and description ({error})") from error


def joined(*blocks: np.ndarray | sparse.sparray) -> np.ndarray | sparse.csr_array:
    """(I + 1, all F) the directions of several features side by side.

    The dot product of two joined rows is the sum of the blocks' cosines, so that no block outweighs another by its
    width or its scale.
    """
    blocks = [directions(block) for block in blocks]
    if any(sparse.issparse(block) for block in blocks):
        return sparse.csr_array(sparse.hstack(blocks))
    return np.concatenate(blocks, axis=1)


class ContentBased:
    """Items that look or read like the history: the cosine with the mean of its items {cite}`pazzani2007content`.

    The features are ``directions``. Nothing is learnt from any interaction, so items that nobody took are served as
    well. An item without features, and every item after a history without any, scores 0.

    Args:
        features: (I + 1, F) dense or sparse, row 0 and the rows of items without features zero. Several kinds are
            put together by ``joined``.
        name: of the system in tables.
    """

    def __init__(self, features: np.ndarray | sparse.sparray, name: str = "content"):
        self.features, self.name = directions(features), name

    def fit(self, split: Split) -> "ContentBased":
        """Check the features.

        Raises:
            ValueError: there is not one row for the padding and one for each item.
        """
        check_rows(self.features, split, self.name)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) cosines."""
        profile = unit(shown(histories, self.features.shape[0] - 1) @ self.features)  # (N, F)
        if not sparse.issparse(profile):
            return profile @ self.features.T
        return np.ascontiguousarray((self.features @ profile.T.toarray()).T)  # most scores are not 0: no sparse product


class Hybrid:
    """A weighted mean of other systems' scores, each user's brought to mean 0 and deviation 1 {cite}`burke2002hybrid`.

    Args:
        parts: the systems.
        weights: one a part; equal if None.
        name: of the system in tables.
    """

    def __init__(self, parts: Sequence, weights: Sequence[float] | None = None, name: str = "hybrid"):
        self.parts, self.name = list(parts), name
        self.weights = [1.0] * len(self.parts) if weights is None else list(weights)
        if len(self.weights) != len(self.parts) or not sum(self.weights) > 0:
            raise ValueError(f"{name}: {len(self.parts)} parts need as many weights with a sum above 0, not {weights}")

    def fit(self, split: Split) -> "Hybrid":
        """Fit every part."""
        for part in self.parts:
            part.fit(split)
        return self

    def score(self, histories: Histories) -> np.ndarray:
        """(N, I + 1) weighted means; a part that scores all items of a user alike has no say."""
        scores = (_standard(part.score(histories)) for part in self.parts)
        return sum(weight / sum(self.weights) * one for weight, one in zip(self.weights, scores, strict=True))


def _standard(scores: np.ndarray) -> np.ndarray:
    """Each row at mean 0 and deviation 1 over the items, the padding not counted; a constant row becomes 0."""
    centred = scores - scores[:, 1:].mean(axis=1, keepdims=True)
    deviation = centred[:, 1:].std(axis=1, keepdims=True)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)

"""Recommenders on item content alone, and weighted hybrids."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.matrices import check_rows, directions, shown, unit


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

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) cosines."""
        profile = unit(shown(queries, self.features.shape[0] - 1) @ self.features)  # (N, F)
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

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) weighted means; a part that scores all items of a user alike has no say."""
        scores = (_standard(part.score(queries)) for part in self.parts)
        return sum(weight / sum(self.weights) * one for weight, one in zip(self.weights, scores, strict=True))


def _standard(scores: np.ndarray) -> np.ndarray:
    """Each row at mean 0 and deviation 1 over the items, the padding not counted; a constant row becomes 0."""
    centred = scores - scores[:, 1:].mean(axis=1, keepdims=True)
    deviation = centred[:, 1:].std(axis=1, keepdims=True)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)

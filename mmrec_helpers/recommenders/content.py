"""Recommenders on item content alone, and weighted hybrids."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import sparse

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.base import BaseRecommender, part_checkpoint
from mmrec_helpers.recommenders.matrices import check_rows, directions, history_counts, unit


@dataclass(eq=False)
class ContentBased(BaseRecommender):
    """Cosine similarity between an item and the mean of the history's items {cite}`pazzani2007content`.

    The features are centred and normalised by ``directions``. Nothing is learnt from interactions, so items without any
    can be recommended. An item without features, and every item after a history without any, scores 0.

    Args:
        features: (I + 1, F) dense or sparse, row 0 and the rows of items without features zero. Several modalities
            are combined by ``concatenate_normalised``.
    """

    features: np.ndarray | sparse.sparray = field(repr=False)
    name: str = "content"

    def __post_init__(self) -> None:
        self.features = directions(self.features)

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Check the features.

        Raises:
            ValueError: there is not one row for the padding and one for each item.
        """
        check_rows(self.features, split, self.name)

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) cosine similarities."""
        profiles = unit(history_counts(queries, self.features.shape[0] - 1) @ self.features)  # (N, F)
        if isinstance(profiles, np.ndarray):
            return profiles @ self.features.T
        return np.ascontiguousarray((self.features @ profiles.T.toarray()).T)  # most scores are not 0: dense product


@dataclass(eq=False)
class Hybrid(BaseRecommender):
    """Weighted hybrid: the weighted mean of other systems' scores, standardised for each query {cite}`burke2002hybrid`.

    Args:
        parts: the systems.
        weights: one for each part; equal if empty.
    """

    parts: Sequence[BaseRecommender]
    weights: Sequence[float] = ()
    name: str = "hybrid"

    def __post_init__(self) -> None:
        self.weights = self.weights or [1.0] * len(self.parts)
        if len(self.weights) != len(self.parts) or not sum(self.weights) > 0:
            fault = f"{len(self.parts)} parts need as many weights with a sum above 0, not {self.weights}"
            raise ValueError(f"{self.name}: {fault}")

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Fit every part, each with a checkpoint of its own."""
        for number, part in enumerate(self.parts):
            part.fit(split, part_checkpoint(checkpoint, str(number)))

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) weighted means; a part with equal scores for all items of a query contributes 0."""
        total = sum(self.weights)
        scores = (_standardise(np.asarray(part.score(queries))) for part in self.parts)
        return np.asarray(sum(weight / total * values for weight, values in zip(self.weights, scores, strict=True)))


def _standardise(scores: np.ndarray) -> np.ndarray:
    """Each row with mean 0 and standard deviation 1 over the items, padding excluded; a constant row becomes 0."""
    centred = scores - scores[:, 1:].mean(axis=1, keepdims=True)
    deviation = centred[:, 1:].std(axis=1, keepdims=True)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)

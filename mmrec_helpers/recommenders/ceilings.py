"""An upper bound on the Pocket Shop: the omniscient oracle."""

from pathlib import Path

import numpy as np

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.pocket_shop.shop import Truth
from mmrec_helpers.recommenders.base import BaseRecommender


class Oracle(BaseRecommender):
    """The ceiling that knows the shopper: ranks by the Pocket Shop's own probabilities."""

    name = "omniscient oracle"

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Keep the data set; nothing is learnt."""
        self.dataset = split.dataset

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) probabilities of the next item."""
        return self.truth.scores(self.dataset, queries).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Refused.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.name} knows the shop's truth: it is a ceiling to compare with, not a system to save")

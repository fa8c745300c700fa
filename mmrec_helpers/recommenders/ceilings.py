"""Upper bounds on the Pocket Shop: the omniscient oracle and the Bayes ceiling."""

import numpy as np

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.pocket_shop.shop import Truth


class Oracle:
    """The ceiling that knows the shopper: ranks by the Pocket Shop's own probabilities."""

    name = "omniscient oracle"

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def fit(self, split: Split) -> "Oracle":
        """Keep the data set; nothing is learnt."""
        self.dataset = split.dataset
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) probabilities of the next item."""
        return self._probabilities(queries).astype(np.float32)

    def _probabilities(self, queries: Queries) -> np.ndarray:
        return self.truth.scores(self.dataset, queries)


class BayesCeiling(Oracle):
    """The ceiling that knows the shop's rules, and must infer the shopper's taste from the history."""

    name = "Bayes ceiling"

    def _probabilities(self, queries: Queries) -> np.ndarray:
        return self.truth.bayes_scores(self.dataset, queries)

"""Two stages: a retriever scores the catalogue, a ranker orders the best."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.base import BaseRecommender, part_checkpoint


@dataclass(eq=False)
class Reranker(BaseRecommender):
    """Retrieve, then rank: for systems that are too expensive to ask for every item.

    The ranker is asked for the retriever's best items that are not in the history, and orders them above all others.
    The others keep the retriever's order. A score is a rank from below, equal for items that are tied.

    Args:
        retriever: scores all items.
        ranker: scores ``top`` candidates a query.
        top: items a query that the ranker is asked for; of tied ones those with the lowest numbers.
    """

    retriever: BaseRecommender
    ranker: BaseRecommender
    top: int = 100
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.name or f"{self.retriever.name}, then {self.ranker.name}"
        if self.top < 1:
            raise ValueError(f"{self.name}: the ranker orders at least 1 item, not {self.top}")

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Fit both, each with a checkpoint of its own."""
        self.retriever.fit(split, part_checkpoint(checkpoint, "retriever"))
        self.ranker.fit(split, part_checkpoint(checkpoint, "ranker"))

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) ranks from below."""
        retrieved = self.retriever.score(queries)
        left = np.array(retrieved, float)
        np.put_along_axis(left, queries.histories, -np.inf, axis=1)
        left[:, 0] = -np.inf
        best = np.argsort(-left, axis=1, kind="stable")[:, : self.top]
        best[np.isneginf(np.take_along_axis(left, best, axis=1))] = 0  # fewer are left
        ranks = rankdata(retrieved, "dense", axis=1)
        asked = np.where(best > 0, self.ranker.score(queries, best), -np.inf)  # what padding scores does not matter
        above = retrieved.shape[1] + rankdata(asked, "dense", axis=1)
        np.put_along_axis(ranks, best, above.astype(ranks.dtype), axis=1)
        return ranks.astype(np.float32)

"""The metric by which trainings stop early and hyperparameters are chosen."""

from collections.abc import Callable

import numpy as np

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg

CHUNK = 1_024
"""Queries that are scored at once."""


def validation_ndcg(
    score: Callable[[Queries], np.ndarray], split: Split, limit: int, seed: int, max_len: int = 50
) -> Callable[[], float] | None:
    """A function for NDCG@10 of the next item in the valid part, over the full catalogue; None where that is empty.

    Args:
        score: (N, I + 1) scores of N queries, by the model as it is when called.
        split: its valid part is used.
        limit: maximum number of queries; where a split has more, they are sampled.
        seed: of the sample.
        max_len: T, the longest history.
    """
    queries = split.queries("valid", max_len)
    if not len(queries):
        return None
    if len(queries) > limit:
        queries = queries.take(np.random.default_rng(seed).permutation(len(queries))[:limit])

    def metric() -> float:
        total = 0.0
        for start in range(0, len(queries), CHUNK):
            chunk = queries.take(slice(start, start + CHUNK))
            total += ndcg(TargetRanks.of(score(chunk), chunk.targets[:, :1], chunk.histories), 10).sum()
        return float(total / len(queries))

    return metric

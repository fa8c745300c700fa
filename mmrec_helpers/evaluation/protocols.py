"""Ranking protocols, full and sampled, and the evaluation of recommenders under them."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import pad

from mmrec_helpers.data.dataset import NotAvailable, Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.runs import Run

SCORES_AT_ONCE = 2_000_000
"""Scores in memory at a time; more is slower, because they no longer fit into the processor's cache."""

Ranking = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Lists (B, K), and num_higher (B, M), num_tied (B, M) and num_candidates (B,) of a ``TargetRanks``."""


@dataclass(frozen=True)
class Ranker:
    """A protocol for the queries of a part.

    Attributes:
        candidates: (N, C) items whose scores are read, 0 is padding; None where all are.
        rank: from scores (B, I + 1), or (B, C) of the candidates, the rows of the queries that they are of, targets
            (B, M) and K to a ranking.
    """

    candidates: np.ndarray | None
    rank: Callable[[torch.Tensor, slice, np.ndarray, int], Ranking]


class FittedRecommender(Protocol):
    """What is evaluated."""

    name: str

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray | torch.Tensor:
        """(N, I + 1) finite scores of all items for N queries, larger = better; column 0 is padding.

        With (N, C) candidates their scores (N, C), the same numbers. The scores of a query do not depend on the other
        queries.
        """


class Recommender(FittedRecommender, Protocol):
    """The interface of every system of the book."""

    def fit(self, split: Split, checkpoint: Path | None = None) -> "Recommender":
        """Train on the split's training interactions, resume from a checkpoint if there is one; return self."""


@dataclass(frozen=True)
class FullRanking:
    """All items of the catalogue are candidates, except those of the history.

    Attributes:
        same_category: only the items of the first target's category are; a target of another category is a miss.
    """

    same_category: bool = False

    @property
    def name(self) -> str:
        """The name in tables and stamps."""
        return "full ranking within the category" if self.same_category else "full ranking"

    def ranker(self, split: Split, part: str, targets: np.ndarray) -> Ranker:
        """The protocol for the queries of ``split.queries(part)`` with (N, M) targets."""
        owner, items = split.interacted(part)
        categories = _category_numbers(split, targets[:, 0]) if self.same_category else None

        def rank(scores: torch.Tensor, rows: slice, targets: np.ndarray, k: int) -> Ranking:
            begin, end = np.searchsorted(owner, [rows.start, rows.stop])
            excluded = owner[begin:end] - rows.start, items[begin:end]
            if categories is not None:
                others = categories != categories[targets[:, :1]]  # (B, I + 1)
                others[excluded], others[:, 0] = True, False
                excluded = divmod(np.flatnonzero(others), others.shape[1])
            return rank_all(scores, excluded, targets, k)

        return Ranker(None, rank)


@dataclass(frozen=True)
class SampledNegatives:
    """The candidates are the targets and some other items, sampled for each user without replacement.

    Sampled metrics do not estimate those of the full ranking: they may even reverse the order of two systems
    {cite}`krichene2020sampled`. They are here because papers print them.

    Attributes:
        num_negatives: items sampled for each user; with one target, 100 give 101 candidates.
        distribution: ``uniform``, or ``popularity``: in proportion to the training interactions.
        seed: of the sampling; the negatives are the same for every system.
        exclude_history: whether items of the user's history are never sampled.
    """

    num_negatives: int = 100
    distribution: str = "uniform"
    seed: int = 0
    exclude_history: bool = True

    def __post_init__(self) -> None:
        if self.distribution not in ("uniform", "popularity"):
            raise ValueError(f"the distribution of negatives is 'uniform' or 'popularity', not {self.distribution!r}")
        if self.num_negatives < 1:
            raise ValueError(f"at least 1 negative must be sampled, not {self.num_negatives}")

    @property
    def name(self) -> str:
        """The name in tables and stamps."""
        history = "" if self.exclude_history else ", history not excluded"
        return f"{self.num_negatives} {self.distribution} negatives{history}"

    def ranker(self, split: Split, part: str, targets: np.ndarray) -> Ranker:
        """The protocol for the queries of ``split.queries(part)`` with (N, M) targets."""
        candidates = np.concatenate([targets, self.sample(split, part)], axis=1)  # (N, M + num_negatives)
        return Ranker(candidates, lambda scores, rows, targets, k: rank_sampled(scores, candidates[rows], targets, k))

    def sample(self, split: Split, part: str) -> np.ndarray:
        """(N, num_negatives) the negatives of each query of ``split.queries(part)``.

        Raises:
            ValueError: too few items can be sampled for a user.
        """
        queries, num_columns, num = split.queries(part, 1), split.dataset.num_items + 1, self.num_negatives
        weights = np.ones(num_columns) if self.distribution == "uniform" else training_counts(split).astype(float)
        weights[0] = 0.0
        rows, columns = np.nonzero(queries.targets)
        excluded = rows * num_columns + queries.targets[rows, columns]  # (row, item) as one number
        if self.exclude_history:
            rows, items = split.interacted(part)
            excluded = np.concatenate([excluded, rows * num_columns + items])
        excluded = np.unique(excluded)
        counted = excluded[weights[excluded % num_columns] > 0]
        num_left = (weights > 0).sum() - np.bincount(counted // num_columns, minlength=len(queries))
        if (num_left < num).any():
            row = int(num_left.argmin())
            raise ValueError(
                f"for user {queries.users[row]} only {num_left[row]} items can be sampled, not {num}: sample fewer"
            )
        rng = np.random.default_rng(self.seed)
        # Sample with replacement and drop repeated and excluded items: the same as sampling without replacement.
        cumulative = np.cumsum(weights / weights.sum())
        sampled = np.searchsorted(cumulative, rng.random((len(queries), 2 * num)), side="right")
        sampled = np.minimum(sampled, num_columns - 1)  # rounding: the sum may be a little less than 1
        dropped = _repeated(sampled) | np.isin(np.arange(len(queries))[:, None] * num_columns + sampled, excluded)
        first = np.argsort(dropped, axis=1, kind="stable")[:, :num]
        sampled = np.take_along_axis(np.where(dropped, 0, sampled), first, axis=1)
        # If too few are left, continue by exponential races: of the remaining items, the first to arrive.
        for row in np.flatnonzero(sampled[:, -1] == 0).tolist():
            remaining = weights.copy()
            begin, end = np.searchsorted(excluded, [row * num_columns, (row + 1) * num_columns])
            remaining[excluded[begin:end] % num_columns] = 0.0
            remaining[sampled[row]] = 0.0
            with np.errstate(divide="ignore"):
                arrival = rng.exponential(size=num_columns) / remaining
            missing = int((sampled[row] == 0).sum())
            sampled[row, num - missing :] = np.argsort(arrival)[:missing]
        return sampled


def training_counts(split: Split) -> np.ndarray:
    """(I + 1,) training interactions of each item."""
    return np.bincount(split.interactions("train")["item"], minlength=split.dataset.num_items + 1)


def _category_numbers(split: Split, targets: np.ndarray) -> np.ndarray:
    """(I + 1,) the number of each item's category.

    Raises:
        NotAvailable: an item among the (N,) targets has no category.
    """
    numbers = pd.factorize(split.dataset.column("category"))[0]  # -1 without one
    if (lacking := targets[numbers[targets] < 0]).any():
        raise NotAvailable(f"{split.dataset.name}: item {lacking[0]} has no category to rank it in")
    return numbers


def item_quintiles(split: Split) -> np.ndarray:
    """(I + 1,) five groups of equally many items by training interactions, 0 the coldest, 4 the warmest, padding -1.

    Items with equally many interactions keep the order of their numbers, so they may be in two groups.
    """
    counts = training_counts(split)[1:]
    rank = np.empty(len(counts), int)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    return np.concatenate([[-1], rank * 5 // len(counts)])


def _repeated(rows: np.ndarray) -> np.ndarray:
    """(N, T) bool: the entry occurs earlier in its row."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    repeated = np.zeros(rows.shape, bool)
    np.put_along_axis(repeated, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return repeated


def _first_occurrences(rows: np.ndarray) -> np.ndarray:
    """Each row of (N, T) without repeated entries, padded with 0 at the right."""
    kept = np.where(_repeated(rows), 0, rows)
    return np.take_along_axis(kept, np.argsort(kept == 0, axis=1, kind="stable"), axis=1)


def evaluate(
    recommender: FittedRecommender,
    split: Split,
    part: str = "test",
    protocol: FullRanking | SampledNegatives = FullRanking(),
    k: int = 20,
    num_targets: int = 1,
    max_len: int = 50,
) -> Run:
    """The run of one system under one protocol; otherwise as ``evaluate_protocols``."""
    return evaluate_protocols([recommender], split, [protocol], part, k, num_targets, max_len)[0][0]


def evaluate_protocols(
    recommenders: Sequence[FittedRecommender],
    split: Split,
    protocols: Sequence[FullRanking | SampledNegatives],
    part: str = "test",
    k: int = 20,
    num_targets: int = 1,
    max_len: int = 50,
) -> list[list[Run]]:
    """The runs of several systems for all users of a part.

    With a full ranking among the protocols, each system scores all items once, for all protocols. Otherwise it scores
    the candidates of each protocol only.

    A target that is in the user's history is unreachable under full ranking, which excludes the history: a miss. An
    item that is repeated among a user's targets counts once.

    Args:
        recommenders: fitted.
        split: what they were fitted on.
        protocols: what the targets are ranked against.
        part: ``valid`` or ``test``.
        k: K, the length of the lists.
        num_targets: M, how many of a user's next items are targets.
        max_len: T, the length of the longest history that a system gets; all of it is excluded from the ranking.

    Returns:
        For each recommender one run for each protocol. Its values are the ``warmth`` of each first target, its group
        of ``item_quintiles``.

    Raises:
        ValueError: scores have a wrong shape, or are not finite; the part has no users.
    """
    queries = split.queries(part, max_len)
    if not len(queries):
        raise ValueError(f"{split.dataset.name}, {split.name}: no user has interactions in the {part} part")
    targets = _first_occurrences(queries.targets)[:, :num_targets]
    rankers = [protocol.ranker(split, part, targets) for protocol in protocols]
    values = {"warmth": item_quintiles(split)[targets[:, 0]].astype(float)}
    runs: list[list[Run]] = []
    for recommender in recommenders:
        rankings, seconds = _rankings(recommender, queries, split.dataset.num_items, targets, rankers, k)
        runs.append([])
        for protocol, (lists, *counts), time_taken in zip(protocols, rankings, seconds, strict=True):
            stamp = {
                "system": recommender.name,
                "dataset": split.dataset.name,
                "fingerprint": split.dataset.fingerprint,
                "split": split.name,
                "part": part,
                "protocol": protocol.name,
                "protocol options": asdict(protocol),
                "targets": num_targets,
                "seed": getattr(recommender, "seed", None),
                "cost": {"score seconds": round(time_taken, 3)},
            }
            runs[-1].append(Run(queries.users, lists, targets, TargetRanks(*counts), stamp, values))
    return runs


def _rankings(
    recommender: FittedRecommender,
    queries: Queries,
    num_items: int,
    targets: np.ndarray,
    rankers: Sequence[Ranker],
    k: int,
) -> tuple[list[list[np.ndarray]], list[float]]:
    """One ranking of all queries for each ranker, and the seconds of the scoring that it took."""
    batches: list[list[Ranking]] = [[] for _ in rankers]
    size, seconds = max(1, SCORES_AT_ONCE // (num_items + 1)), [0.0] * len(rankers)
    all_scored = any(ranker.candidates is None for ranker in rankers)
    for first in range(0, len(queries), size):
        rows = slice(first, first + size)
        some = queries.take(rows)
        everything, taken = _scores(recommender, some, num_items) if all_scored else (None, 0.0)
        for number, ranker in enumerate(rankers):
            candidates = None if ranker.candidates is None else ranker.candidates[rows]
            if everything is None:
                scores, taken = _scores(recommender, some, num_items, candidates)
            else:
                scores = everything if candidates is None else everything.gather(1, torch.from_numpy(candidates))
            seconds[number] += taken
            batches[number].append(ranker.rank(scores, rows, targets[rows], k))
    return [[np.concatenate(arrays) for arrays in zip(*parts, strict=True)] for parts in batches], seconds


def _scores(
    recommender: FittedRecommender, queries: Queries, num_items: int, candidates: np.ndarray | None = None
) -> tuple[torch.Tensor, float]:
    """(B, I + 1) scores, or (B, C) of the candidates, and the seconds that they took; checked."""
    start = time.perf_counter()
    scores = torch.as_tensor(recommender.score(queries, candidates)).detach()
    seconds = time.perf_counter() - start
    shape = (len(queries), num_items + 1) if candidates is None else candidates.shape
    if scores.shape != shape:
        expected = f"(queries, {'items + 1' if candidates is None else 'candidates'}) {shape}"
        raise ValueError(f"{recommender.name} gives scores of the shape {tuple(scores.shape)}, not {expected}")
    real = scores[:, 1:] if candidates is None else scores[torch.from_numpy(candidates > 0)]
    if not torch.isfinite(real.sum()):
        raise ValueError(f"{recommender.name} gives scores that are not finite, so they cannot be ranked")
    return scores, seconds


def rank_all(scores: torch.Tensor, excluded: tuple[np.ndarray, np.ndarray], targets: np.ndarray, k: int) -> Ranking:
    """Rank the catalogue without the excluded items.

    Args:
        scores: (B, I + 1) finite.
        excluded: pairs of a row (P,) and an item (P,), without repetition.
        targets: (B, M) items, 0 for padding.
        k: K.
    """
    scores = scores.clone()
    scores[excluded] = -torch.inf
    scores[:, 0] = -torch.inf
    target_scores = np.take_along_axis(scores.numpy(), targets, axis=1)  # (B, M)
    num_higher, num_tied = np.zeros((2, *targets.shape), np.int64)
    for row, (row_scores, row_targets) in enumerate(zip(scores.numpy(), target_scores, strict=True)):
        for column, score in enumerate(row_targets):  # numpy counts one row many times faster than a matrix by rows
            num_higher[row, column] = np.count_nonzero(row_scores > score)
            num_tied[row, column] = np.count_nonzero(row_scores >= score) - num_higher[row, column]
    num_candidates = scores.shape[1] - 1 - np.bincount(excluded[0], minlength=len(scores))
    unreachable = np.isneginf(target_scores)
    num_higher = np.where(targets == 0, 0, np.where(unreachable, num_candidates[:, None], num_higher))
    num_tied = np.where(targets == 0, 0, np.where(unreachable, 1, num_tied))
    return top_k(scores, k), num_higher, num_tied, num_candidates


def rank_sampled(scores: torch.Tensor, candidates: np.ndarray, targets: np.ndarray, k: int) -> Ranking:
    """Rank the targets by the scores (B, C) of candidates (B, C), of which they are the first; see ``rank_all``."""
    values = np.where(candidates == 0, -np.inf, scores.numpy().astype(float))
    target_values = values[:, : targets.shape[1], None]  # (B, M, 1)
    num_higher = np.where(targets > 0, (values[:, None] > target_values).sum(axis=2), 0)
    num_tied = np.where(targets > 0, (values[:, None] == target_values).sum(axis=2), 0)
    # Ties are listed by item number, which does not favour the targets, although they are the first columns.
    by_item = np.argsort(candidates, axis=1)
    by_score = np.argsort(-np.take_along_axis(values, by_item, 1), axis=1, kind="stable")
    lists = np.take_along_axis(candidates, np.take_along_axis(by_item, by_score, 1), axis=1)[:, :k]
    lists = np.pad(lists, ((0, 0), (0, k - lists.shape[1])))
    return lists, num_higher, num_tied, (candidates > 0).sum(axis=1)


def top_k(scores: torch.Tensor, k: int) -> np.ndarray:
    """(B, K) columns of the K largest scores (B, I + 1), largest first; 0 for those that are minus infinity."""
    values, columns = scores.topk(min(k, scores.shape[1]))
    columns = columns.masked_fill(values == -torch.inf, 0)
    return pad(columns, (0, k - columns.shape[1])).numpy()

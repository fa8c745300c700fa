"""Who is ranked against what: protocols, the runs that systems leave behind, and tables with paired intervals."""

import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
import torch
from torch.nn.functional import pad

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.settings import load_settings

SCORES_AT_ONCE = 2_000_000
"""Scores in memory at a time; more is slower, because they no longer lie in the processor's cache."""


class Recommender(Protocol):
    """What every system of the book offers."""

    name: str

    def fit(self, split: Split) -> "Recommender":
        """Learn from the split's training interactions; return self."""

    def score(self, queries: Queries) -> np.ndarray | torch.Tensor:
        """(N, I + 1) finite scores of every item at N moments, the larger the better; column 0 is padding.

        A moment's scores depend on no other moment asked for at the same time.
        """


@dataclass(frozen=True)
class FullRanking:
    """Every item of the catalogue is a candidate, but those of the history."""

    @property
    def name(self) -> str:
        return "full ranking"


@dataclass(frozen=True)
class SampledNegatives:
    """The targets against some items drawn for each user, without replacement, never a target.

    Sampled metrics are not estimates of the full ranking's: they may even turn the order of two systems around
    {cite}`krichene2020sampled`. They are here because papers print them.

    Attributes:
        num: items drawn for each user; with one target, 100 gives 101 candidates.
        by: ``uniform``, or ``popularity``: in proportion to the training interactions.
        seed: of the draw; the same for every system.
        avoid_history: whether what the user has already is never drawn.
    """

    num: int = 100
    by: str = "uniform"
    seed: int = 0
    avoid_history: bool = True

    def __post_init__(self):
        if self.by not in ("uniform", "popularity"):
            raise ValueError(f"negatives are drawn by 'uniform' or by 'popularity', not by {self.by!r}")
        if self.num < 1:
            raise ValueError(f"at least 1 negative must be drawn, not {self.num}")

    @property
    def name(self) -> str:
        return f"{self.num} {self.by} negatives" + ("" if self.avoid_history else ", history not avoided")

    def draw(self, split: Split, part: str) -> np.ndarray:
        """(N, num) the negatives of each moment of ``split.queries(part)``.

        Raises:
            ValueError: a user has fewer items left that can be drawn.
        """
        queries, width = split.queries(part, 1), split.dataset.num_items + 1
        weight = np.ones(width) if self.by == "uniform" else training_counts(split).astype(float)
        weight[0] = 0.0
        rows, columns = np.nonzero(queries.targets)
        avoided = rows * width + queries.targets[rows, columns]
        if self.avoid_history:
            rows, items = split.seen(part)
            avoided = np.concatenate([avoided, rows * width + items])
        avoided = np.unique(avoided)  # (row, item) as one number
        avoidable = avoided[weight[avoided % width] > 0]
        left = (weight > 0).sum() - np.bincount(avoidable // width, minlength=len(queries))
        if (left < self.num).any():
            row = int(left.argmin())
            raise ValueError(
                f"user {queries.users[row]} has {left[row]} items left to draw from, not {self.num}: draw fewer"
            )
        rng = np.random.default_rng(self.seed)
        # Draw with replacement and skip what is not wanted: the same as drawing without it, one after the other.
        upto = np.cumsum(weight / weight.sum())
        drawn = np.searchsorted(upto, rng.random((len(queries), 2 * self.num)), side="right")
        drawn = np.minimum(drawn, width - 1)  # the shares may add up to a little less than 1
        unwanted = _repeated(drawn) | np.isin(np.arange(len(queries))[:, None] * width + drawn, avoided)
        first = np.argsort(unwanted, axis=1, kind="stable")[:, : self.num]
        drawn = np.take_along_axis(np.where(unwanted, 0, drawn), first, axis=1)
        # Where that was too few, go on by exponential races: of all items left, the first to arrive.
        for row in np.flatnonzero(drawn[:, -1] == 0):
            open_to = weight.copy()
            begin, end = np.searchsorted(avoided, [row * width, (row + 1) * width])
            open_to[avoided[begin:end] % width] = 0.0
            open_to[drawn[row]] = 0.0
            with np.errstate(divide="ignore"):
                arrival = rng.exponential(size=width) / open_to
            missing = int((drawn[row] == 0).sum())
            drawn[row, self.num - missing :] = np.argsort(arrival)[:missing]
        return drawn


def training_counts(split: Split) -> np.ndarray:
    """(I + 1,) training interactions of each item."""
    return np.bincount(split.interactions("train")["item"], minlength=split.dataset.num_items + 1)


def _repeated(rows: np.ndarray) -> np.ndarray:
    """(N, T) bool: the entry stands in its row before."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    same = np.zeros(rows.shape, bool)
    np.put_along_axis(same, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return same


def _first_different(rows: np.ndarray) -> np.ndarray:
    """Each row of (N, T) without what stands in it before, filled up with 0 at the right."""
    kept = np.where(_repeated(rows), 0, rows)
    return np.take_along_axis(kept, np.argsort(kept == 0, axis=1, kind="stable"), axis=1)


def evaluate(
    recommender: Recommender,
    split: Split,
    part: str = "test",
    protocol: FullRanking | SampledNegatives = FullRanking(),
    k: int = 20,
    num_targets: int = 1,
    length: int = 50,
    cost: dict | None = None,
) -> Run:
    """Let a system rank for every user of a part.

    A target that the user has already is out of reach under full ranking, which leaves the history out: a miss. An item
    that is among a user's targets twice is to be found once.

    Args:
        recommender: fitted.
        split: what it was fitted on.
        part: ``valid`` or ``test``.
        protocol: what the targets are ranked against.
        k: K, items kept of each list.
        num_targets: M, how many of a user's next items are to be found.
        length: T, the longest history that the system is shown; all of it is left out of the ranking nevertheless.
        cost: what the system cost until now, such as ``{"fit seconds": 12.0}``, for the stamp.

    Raises:
        ValueError: the scores have another shape, or are not finite; nobody has anything in the part.
    """
    shown, (owner, known) = split.queries(part, length), split.seen(part)
    targets = _first_different(shown.targets)[:, :num_targets]
    negatives = protocol.draw(split, part) if isinstance(protocol, SampledNegatives) else None
    if not len(shown):
        raise ValueError(f"{split.dataset.name}, {split.name}: nobody has anything in the {part} part to be ranked")
    width, seconds = split.dataset.num_items + 1, 0.0
    size = max(1, SCORES_AT_ONCE // width)
    lists = np.zeros((len(shown), k), np.int64)
    better, equal = np.zeros((2, *targets.shape), np.int64)
    candidates, own = np.zeros(len(shown), np.int64), None
    for first in range(0, len(shown), size):
        rows = slice(first, first + size)
        start = time.perf_counter()
        scores = torch.as_tensor(recommender.score(shown.take(rows))).detach()
        seconds += time.perf_counter() - start
        own = torch.empty(size, width, dtype=scores.dtype) if own is None else own
        scores = _checked(scores, own[: len(targets[rows])], recommender.name)
        if negatives is None:
            begin, end = np.searchsorted(owner, [first, first + size])
            excluded = owner[begin:end] - first, known[begin:end]
            found = rank_all(scores, excluded, targets[rows], k)
        else:
            found = rank_some(scores, negatives[rows], targets[rows], k)
        lists[rows], better[rows], equal[rows], candidates[rows] = found
    stamp = {
        "system": recommender.name,
        "dataset": split.dataset.name,
        "fingerprint": split.dataset.fingerprint,
        "split": split.name,
        "part": part,
        "protocol": protocol.name,
        "protocol options": asdict(protocol),
        "targets": num_targets,
        "cost": {"score seconds": round(seconds, 3), **(cost or {})},
        "profile": load_settings().profile,
        "seed": getattr(recommender, "seed", None),
        "device": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in ("mmrec-helpers", "numpy", "torch")},
    }
    return Run(shown.users, lists, targets, TargetRanks(better, equal, candidates), stamp)


def _checked(scores: torch.Tensor, own: torch.Tensor, name: str) -> torch.Tensor:
    """The scores, copied to where they may be written in."""
    if scores.shape != own.shape:
        shape = f"(moments, items + 1) {tuple(own.shape)}"
        raise ValueError(f"{name} gives scores of the shape {tuple(scores.shape)}, not {shape}")
    own.copy_(scores)
    if not torch.isfinite(own[:, 1:].sum()):
        raise ValueError(f"{name} gives scores that are not finite: a rank needs numbers that can be compared")
    return own


def rank_all(
    scores: torch.Tensor, excluded: tuple[np.ndarray, np.ndarray], targets: np.ndarray, k: int
) -> tuple[np.ndarray, ...]:
    """Rank the catalogue, less what is excluded.

    Args:
        scores: (B, I + 1) finite; written in.
        excluded: pairs of a row (P,) and an item (P,), none twice.
        targets: (B, M) items, 0 for padding.
        k: K.

    Returns:
        Lists (B, K), and better (B, M), equal (B, M) and candidates (B,) of a ``TargetRanks``.
    """
    scores[excluded] = -torch.inf
    scores[:, 0] = -torch.inf
    own = np.take_along_axis(scores.numpy(), targets, axis=1)  # (B, M)
    better, equal = np.zeros((2, *targets.shape), np.int64)
    for row, (theirs, mine) in enumerate(zip(scores.numpy(), own, strict=True)):
        for column, score in enumerate(mine):  # numpy counts one row many times faster than a matrix by its rows
            better[row, column] = np.count_nonzero(theirs > score)
            equal[row, column] = np.count_nonzero(theirs >= score) - better[row, column]
    candidates = scores.shape[1] - 1 - np.bincount(excluded[0], minlength=len(scores))
    gone = np.isneginf(own)
    better = np.where(targets == 0, 0, np.where(gone, candidates[:, None], better))
    equal = np.where(targets == 0, 0, np.where(gone, 1, equal))
    return top_k(scores, k), better, equal, candidates


def rank_some(scores: torch.Tensor, negatives: np.ndarray, targets: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    """Rank the targets among some negatives (B, C); otherwise as ``rank_all``."""
    candidates = np.concatenate([targets, negatives], axis=1)  # (B, M + C)
    theirs = scores.double().numpy()[np.arange(len(scores))[:, None], candidates]
    theirs[candidates == 0] = -np.inf
    mine = theirs[:, : targets.shape[1], None]  # (B, M, 1)
    better = np.where(targets > 0, (theirs[:, None] > mine).sum(axis=2), 0)
    equal = np.where(targets > 0, (theirs[:, None] == mine).sum(axis=2), 0)
    # ties are listed in an order that does not favour the targets, which stand first
    mixed = np.argsort(candidates, axis=1)
    order = np.take_along_axis(mixed, np.argsort(-np.take_along_axis(theirs, mixed, 1), axis=1, kind="stable"), 1)
    lists = np.take_along_axis(candidates, order, axis=1)[:, :k]
    lists = np.pad(lists, ((0, 0), (0, k - lists.shape[1])))
    return lists, better, equal, (candidates > 0).sum(axis=1)


def top_k(scores: torch.Tensor, k: int) -> np.ndarray:
    """(B, K) columns of the K largest scores (B, I + 1), largest first; 0 for those that are minus infinity."""
    values, columns = scores.topk(min(k, scores.shape[1]))
    columns = columns.masked_fill(values == -torch.inf, 0)
    return pad(columns, (0, k - columns.shape[1])).numpy()

"""Who is ranked against what: protocols, the runs that systems leave behind, and tables with paired intervals."""

import json
import platform
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch.nn.functional import pad

from mmrec_helpers import metrics
from mmrec_helpers.dataset import Histories, RecDataset, Split
from mmrec_helpers.metrics import Placing
from mmrec_helpers.settings import load_settings

SCORES_AT_ONCE = 2_000_000
"""Scores in memory at a time; more is slower, because they no longer lie in the processor's cache."""
METRICS = {
    "HR": metrics.hit_rate,
    "P": metrics.precision,
    "R": metrics.recall,
    "NDCG": metrics.ndcg,
    "MRR": metrics.reciprocal_rank,
    "MAP": metrics.average_precision,
}
"""Short names of the metrics with a cut-off, as tables print them: NDCG@10."""


class Recommender(Protocol):
    """What every system of the book offers."""

    name: str

    def fit(self, split: Split) -> "Recommender":
        """Learn from the split's training interactions; return self."""

    def score(self, histories: Histories) -> np.ndarray | torch.Tensor:
        """(N, I + 1) finite scores of every item at N moments, the larger the better; column 0 is padding.

        A moment's scores depend on no other moment asked for at the same time.
        """


# Protocols ------------------------------------------------------------------------------------------------------------


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
        """(N, num) the negatives of each moment of ``split.histories(part)``.

        Raises:
            ValueError: a user has fewer items left that can be drawn.
        """
        histories, width = split.histories(part, 1), split.dataset.num_items + 1
        weight = np.ones(width) if self.by == "uniform" else training_counts(split).astype(float)
        weight[0] = 0.0
        rows, columns = np.nonzero(histories.targets)
        avoided = rows * width + histories.targets[rows, columns]
        if self.avoid_history:
            rows, items = split.seen(part)
            avoided = np.concatenate([avoided, rows * width + items])
        avoided = np.unique(avoided)  # (row, item) as one number
        avoidable = avoided[weight[avoided % width] > 0]
        left = (weight > 0).sum() - np.bincount(avoidable // width, minlength=len(histories))
        if (left < self.num).any():
            row = int(left.argmin())
            raise ValueError(
                f"user {histories.users[row]} has {left[row]} items left to draw from, not {self.num}: draw fewer"
            )
        rng = np.random.default_rng(self.seed)
        # Draw with replacement and skip what is not wanted: the same as drawing without it, one after the other.
        upto = np.cumsum(weight / weight.sum())
        drawn = np.searchsorted(upto, rng.random((len(histories), 2 * self.num)), side="right")
        drawn = np.minimum(drawn, width - 1)  # the shares may add up to a little less than 1
        unwanted = _repeated(drawn) | np.isin(np.arange(len(histories))[:, None] * width + drawn, avoided)
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


# Runs -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """What a system produced for N users, from which every table is made.

    Attributes:
        users: (N,) user numbers.
        lists: (N, K) the best K candidates, best first; 0 where there were fewer.
        targets: (N, M) the items to be found, 0 for padding.
        placing: where the targets stand among the candidates.
        stamp: which system, on what, under which protocol, at what cost, with which versions.
    """

    users: np.ndarray
    lists: np.ndarray
    targets: np.ndarray
    placing: Placing
    stamp: dict = field(default_factory=dict)

    @property
    def system(self) -> str:
        """The name of the system."""
        return self.stamp["system"]

    def metric(self, name: str) -> np.ndarray:
        """(N,) a metric by its short name, such as ``NDCG@10``, ``MRR`` (no cut-off) or ``AUC``.

        Raises:
            ValueError: there is no such metric.
        """
        short, _, cut = name.partition("@")
        if name == "AUC":
            return metrics.auc(self.placing)
        if name == "MRR":
            return metrics.reciprocal_rank(self.placing)
        if short not in METRICS or not re.fullmatch(r"[1-9]\d*", cut):
            raise ValueError(f"there is no metric {name!r}; there are AUC, MRR and, as in HR@10, {', '.join(METRICS)}")
        return METRICS[short](self.placing, int(cut))

    def save(self, folder: Path) -> None:
        """Write ``users.parquet`` and ``stamp.json``, both or neither; an older run in the folder is replaced."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        columns = {"user": self.users, "list": self.lists, "target": self.targets}
        columns |= {name: getattr(self.placing, name) for name in ("better", "equal", "candidates")}
        table = pa.table({name: pa.array(list(column)) for name, column in columns.items()})
        pq.write_table(table, part / "users.parquet")
        (part / "stamp.json").write_text(json.dumps(self.stamp, indent=1) + "\n")
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load_run(folder: Path, dataset: RecDataset) -> Run:
    """Read a run that was saved.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was made on other data.
    """
    if not (folder / "stamp.json").exists():
        raise FileNotFoundError(f"{folder}: there is no run; it would hold stamp.json and users.parquet")
    stamp = json.loads((folder / "stamp.json").read_text())
    if stamp["fingerprint"] != dataset.fingerprint:
        raise ValueError(
            f"{folder}: the run was made on {stamp['dataset']} with the fingerprint {stamp['fingerprint']}, and "
            f"{dataset.name} has {dataset.fingerprint}: make the run again, or open the data it was made on"
        )
    table = pq.read_table(folder / "users.parquet")
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    users, lists, targets = (columns.pop(name) for name in ("user", "list", "target"))
    return Run(users, lists, targets, Placing(**columns), stamp)


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
    shown, (owner, known) = split.histories(part, length), split.seen(part)
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
    return Run(shown.users, lists, targets, Placing(better, equal, candidates), stamp)


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
        Lists (B, K), and better (B, M), equal (B, M) and candidates (B,) of a ``Placing``.
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


# Tables ---------------------------------------------------------------------------------------------------------------


def bootstrap_means(values: np.ndarray, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """(draws, S) means of (N, S) per-user values over users drawn with replacement, the same users for all columns.

    The columns are paired: a difference of two of them is a difference on the same users {cite}`efron1979bootstrap`.
    """
    rng, num = np.random.default_rng(seed), len(values)
    means = np.empty((draws, values.shape[1]))
    for draw in range(draws):
        means[draw] = np.bincount(rng.integers(num, size=num), minlength=num) @ values
    return means / num


def league_table(
    runs: Sequence[Run],
    names: Sequence[str] = ("HR@10", "NDCG@10"),
    reference: str | None = None,
    ceiling: str | None = None,
    draws: int = 2000,
) -> pd.DataFrame:
    """Means with 95 % paired-bootstrap intervals, one row a system, the best by the last metric first.

    Runs of one system with several seeds are averaged user by user.

    Args:
        runs: of the same users under the same protocol.
        names: metrics, see ``Run.metric``.
        reference: system with which the others are compared.
        ceiling: system whose means are taken as 100 %.
        draws: bootstrap samples.

    Returns:
        A table indexed by system, with columns (metric, what): ``mean``, ``low``, ``high``; with a reference ``more``,
        ``more low``, ``more high``; with a ceiling ``share``.

    Raises:
        ValueError: the runs cannot be compared, or the reference or ceiling is not among them.
    """
    _must_match(runs)
    systems = list(dict.fromkeys(run.system for run in runs))
    for kind, name in (("reference", reference), ("ceiling", ceiling)):
        if name is not None and name not in systems:
            raise ValueError(f"the {kind} {name!r} is not among the systems: {', '.join(systems)}")
    columns = {}
    for metric in names:
        by_system = [np.mean([run.metric(metric) for run in runs if run.system == name], axis=0) for name in systems]
        values = np.stack(by_system, axis=1)  # (N, S)
        mean, means = values.mean(axis=0), bootstrap_means(values, draws)
        columns[metric, "mean"] = mean
        columns[metric, "low"], columns[metric, "high"] = np.percentile(means, [2.5, 97.5], axis=0)
        if reference is not None:
            at = systems.index(reference)
            more = means - means[:, [at]]
            columns[metric, "more"] = mean - mean[at]
            columns[metric, "more low"], columns[metric, "more high"] = np.percentile(more, [2.5, 97.5], axis=0)
        if ceiling is not None:
            columns[metric, "share"] = mean / mean[systems.index(ceiling)]
    table = pd.DataFrame(columns, index=pd.Index(systems, name="system"))
    return table.sort_values((names[-1], "mean"), ascending=False, kind="stable")


def _must_match(runs: Sequence[Run]) -> None:
    """Refuse runs that answer different questions."""
    if not runs:
        raise ValueError("there are no runs to compare")
    first = runs[0]
    for run in runs[1:]:
        for key in ("fingerprint", "split", "part", "protocol", "protocol options", "targets"):
            if run.stamp[key] != first.stamp[key]:
                raise ValueError(
                    f"{run.system} and {first.system} cannot be compared: their {key} differ, "
                    f"{run.stamp[key]} and {first.stamp[key]}"
                )


# Groups ---------------------------------------------------------------------------------------------------------------


def liked_targets(dataset: RecDataset, users: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """(N, M) bool which targets their users rated at least as high as their own mean; see ``metrics.satisfaction``.

    Where a user took an item more than once, the last rating counts. Padding is not liked.

    Args:
        dataset: which tells ratings.
        users: (N,).
        targets: (N, M) items of these users, 0 for padding.

    Raises:
        ValueError: a rating is missing, or a user has no such item.
    """
    wide = dataset.num_items + 1
    frame = dataset.interactions
    last = frame.assign(pair=frame["user"].astype(np.int64) * wide + frame["item"]).drop_duplicates("pair", keep="last")
    rating = last.set_index("pair")["rating"]
    asked = targets > 0
    own = frame.groupby("user")["rating"].mean().reindex(users).to_numpy()[:, None]
    found = np.full(targets.shape, -np.inf)
    found[asked] = rating.reindex((users[:, None].astype(np.int64) * wide + targets)[asked]).to_numpy()
    row, column = (np.isnan(found) | np.isnan(own)).nonzero()
    if len(row):
        pair = f"user {users[row[0]]}, item {targets[row[0], column[0]]}"
        raise ValueError(f"{dataset.name} tells no rating for {len(row)} targets, the first is {pair}")
    return found >= own


def item_quintiles(split: Split) -> np.ndarray:
    """(I + 1,) five groups of equally many items by training interactions, 0 the coldest, 4 the warmest, padding -1.

    Items of equally many interactions keep the order of their numbers, so that a border may run between them.
    """
    counts = training_counts(split)[1:]
    rank = np.empty(len(counts), int)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    return np.concatenate([[-1], rank * 5 // len(counts)])


def length_groups(histories: Histories, edges: Sequence[int] = (5, 10, 20)) -> np.ndarray:
    """(N,) text labels of the histories by length: ``up to 5``, ``6 to 10``, ``11 to 20``, ``over 20``."""
    lengths = (histories.items > 0).sum(axis=1)
    starts = [1, *(edge + 1 for edge in edges)]
    names = [f"up to {edges[0]}", *(f"{a} to {b}" for a, b in zip(starts[1:], edges[1:], strict=False))]
    return np.array([*names, f"over {edges[-1]}"])[np.searchsorted(edges, lengths)]


def by_group(run: Run, metric: str, groups: np.ndarray, draws: int = 2000) -> pd.DataFrame:
    """A metric's mean and 95 % interval in each group (N,) of users: columns ``users``, ``mean``, ``low``, ``high``."""
    values, rows = run.metric(metric), {}
    for group in pd.unique(pd.Series(groups).sort_values()):
        mine = values[groups == group]
        low, high = np.percentile(bootstrap_means(mine[:, None], draws), [2.5, 97.5])
        rows[group] = {"users": len(mine), "mean": mine.mean(), "low": low, "high": high}
    return pd.DataFrame.from_dict(rows, orient="index")

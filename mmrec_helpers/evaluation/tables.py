"""Tables of runs: leaderboards with paired intervals, groups of users and items."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.evaluation.intervals import bootstrap_means
from mmrec_helpers.evaluation.protocols import training_counts
from mmrec_helpers.evaluation.runs import Run


def leaderboard(
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


def length_groups(queries: Queries, edges: Sequence[int] = (5, 10, 20)) -> np.ndarray:
    """(N,) text labels of the histories by length: ``up to 5``, ``6 to 10``, ``11 to 20``, ``over 20``."""
    lengths = (queries.histories > 0).sum(axis=1)
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

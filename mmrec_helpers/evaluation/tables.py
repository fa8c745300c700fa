"""Tables of runs: leaderboards with paired intervals, groups of users and items."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.evaluation.intervals import mean_interval
from mmrec_helpers.evaluation.protocols import training_counts
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.exploration import bootstrap_interval


def leaderboard(
    runs: Sequence[Run],
    metrics: Sequence[str] = ("HR@10", "NDCG@10"),
    reference: str | None = None,
    ceiling: str | None = None,
) -> pd.DataFrame:
    """Means with 95 % bootstrap intervals, one row a system, the best by the last metric first.

    Runs of one system with several seeds are averaged user by user. Differences are paired: they are of the same users
    {cite}`efron1979bootstrap`.

    Args:
        runs: of the same users under the same protocol.
        metrics: names, see ``Run.metric``.
        reference: system to which the difference of the others is taken.
        ceiling: system whose means are taken as 100 %.

    Returns:
        A table indexed by system, with columns (metric, statistic): ``mean``, ``ci_low``, ``ci_high``; with a reference
        ``difference``, ``difference_ci_low``, ``difference_ci_high``; with a ceiling ``share_of_ceiling``.

    Raises:
        ValueError: the runs cannot be compared, or the reference or ceiling is not among them.
    """
    _check_comparable(runs)
    systems = list(dict.fromkeys(run.system for run in runs))
    for role, name in (("reference", reference), ("ceiling", ceiling)):
        if name is not None and name not in systems:
            raise ValueError(f"the {role} {name!r} is not among the systems: {', '.join(systems)}")
    columns = {}
    for metric in metrics:
        by_system = [np.mean([run.metric(metric) for run in runs if run.system == name], axis=0) for name in systems]
        values = np.stack(by_system, axis=1)  # (N, S)
        columns[metric, "mean"] = values.mean(axis=0)
        columns[metric, "ci_low"], columns[metric, "ci_high"] = bootstrap_interval(values)
        if reference is not None:
            differences = values - values[:, [systems.index(reference)]]
            columns[metric, "difference"] = differences.mean(axis=0)
            interval = bootstrap_interval(differences)
            columns[metric, "difference_ci_low"], columns[metric, "difference_ci_high"] = interval
        if ceiling is not None:
            means = columns[metric, "mean"]
            columns[metric, "share_of_ceiling"] = means / means[systems.index(ceiling)]
    table = pd.DataFrame(columns, index=pd.Index(systems, name="system"))
    return table.sort_values((metrics[-1], "mean"), ascending=False, kind="stable")


def _check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs of different data, parts, protocols or targets."""
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

    If a user rated an item more than once, the last rating counts. Padding is not liked.

    Args:
        dataset: with ratings.
        users: (N,).
        targets: (N, M) items of these users, 0 for padding.

    Raises:
        ValueError: a rating is missing, or a user has no such item.
    """
    num_columns = dataset.num_items + 1
    frame = dataset.interactions
    pairs = frame["user"].astype(np.int64) * num_columns + frame["item"]  # (user, item) as one number
    rating_of = frame.assign(pair=pairs).drop_duplicates("pair", keep="last").set_index("pair")["rating"]
    means = frame.groupby("user")["rating"].mean().reindex(users).to_numpy()[:, None]
    real = targets > 0
    ratings = np.full(targets.shape, -np.inf)
    ratings[real] = rating_of.reindex((users[:, None].astype(np.int64) * num_columns + targets)[real]).to_numpy()
    row, column = (np.isnan(ratings) | np.isnan(means)).nonzero()
    if len(row):
        pair = f"user {users[row[0]]}, item {targets[row[0], column[0]]}"
        raise ValueError(f"{dataset.name} has no rating for {len(row)} targets, the first is {pair}")
    return ratings >= means


def item_quintiles(split: Split) -> np.ndarray:
    """(I + 1,) five groups of equally many items by training interactions, 0 the coldest, 4 the warmest, padding -1.

    Items with equally many interactions keep the order of their numbers, so they may be in two groups.
    """
    counts = training_counts(split)[1:]
    rank = np.empty(len(counts), int)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(counts))
    return np.concatenate([[-1], rank * 5 // len(counts)])


def by_group(run: Run, metric: str, groups: np.ndarray) -> pd.DataFrame:
    """A metric in each group (N,) of users: columns ``users``, ``mean``, ``ci_low``, ``ci_high``."""
    values = pd.Series(run.metric(metric)).groupby(groups)
    rows = {group: [len(members), *mean_interval(members.to_numpy())] for group, members in values}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["users", "mean", "ci_low", "ci_high"])

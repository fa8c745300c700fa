"""Tables of runs: leaderboards with paired intervals, comparisons, groups of users and items, seeds."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import ttest_1samp

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.intervals import format_interval, mean_interval
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.exploration import bootstrap_interval

INTERVAL = ["mean", "ci_low", "ci_high"]


def leaderboard(
    runs: Sequence[Run],
    metrics: Sequence[str] = ("HR@10", "NDCG@10"),
    reference: str | None = None,
    ceiling: str | None = None,
) -> pd.DataFrame:
    """Means with 95 % bootstrap intervals, one row a system, the best by the last metric first.

    Runs of one system are pooled, see ``pooled``. Differences are paired: they are of the same users
    {cite}`efron1979bootstrap`. Intervals and p are over users: they do not cover what another training or another shop
    would bring, which only several seeds show.

    Args:
        runs: under the same protocol, of each system on the same data.
        metrics: names, see ``Run.metric``.
        reference: system to which the difference of the others is taken.
        ceiling: system whose means are taken as 100 %.

    Returns:
        A table indexed by system, with columns (metric, statistic): ``mean``, ``ci_low``, ``ci_high``; with a reference
        ``difference``, ``difference_ci_low``, ``difference_ci_high`` and ``p``, of paired t-tests. Only p is corrected
        for the number of systems, by ``holm``. With a ceiling ``share_of_ceiling``, over the users whom it has; its
        own mean is over them, too.

    Raises:
        ValueError: the runs cannot be compared, or the reference or ceiling is not among them.
    """
    systems = list(dict.fromkeys(run.system for run in runs))
    for role, name in (("reference", reference), ("ceiling", ceiling)):
        if name is not None and name not in systems:
            raise ValueError(f"the {role} {name!r} is not among the systems: {', '.join(systems)}")
    if reference is not None and reference == ceiling:
        raise ValueError(f"the reference and the ceiling are both {reference!r}: choose another one")
    of = {name: [run for run in runs if run.system == name] for name in systems}
    ceilings = [] if ceiling is None else of.pop(ceiling)
    _check_comparable(runs)
    columns: dict[tuple[str, str], pd.Series] = {}
    for metric in metrics:
        by_system = {name: pooled(own, metric) for name, own in of.items()}
        _check_same_users(by_system)
        values = pd.DataFrame(by_system)  # (N, S)
        table = _means(values)
        if reference is not None:
            table = table.join(_differences(values, reference))
        if ceiling is not None:
            upper = pooled(ceilings, metric)
            if not upper.index.isin(values.index).all():
                raise ValueError(f"{values.columns[0]} and {ceiling} cannot be compared: it lacks users of the ceiling")
            table.loc[ceiling, INTERVAL] = mean_interval(upper.to_numpy())
            table["share_of_ceiling"] = values.reindex(upper.index).mean() / upper.mean()
            table.loc[ceiling, "share_of_ceiling"] = 1.0
        columns |= {(metric, str(statistic)): column for statistic, column in table.items()}
    table = pd.DataFrame(columns).rename_axis("system")
    return table.sort_values((metrics[-1], "mean"), ascending=False, kind="stable")


def _means(values: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of each column of (N, S) values; all by the same draws of users."""
    low, high = bootstrap_interval(values.to_numpy())
    return pd.DataFrame({"mean": values.mean(), "ci_low": low, "ci_high": high})


def _differences(values: pd.DataFrame, reference: str) -> pd.DataFrame:
    """System -> mean difference to the reference, its interval, and p by Holm; of the reference 0 and 1."""
    differences = values.sub(values[reference], axis=0)
    others = differences.drop(columns=reference)
    p_values = pd.Series(holm([p_value(others[name].to_numpy()) for name in others]), others.columns)
    table = _means(differences).add_prefix("difference_").rename(columns={"difference_mean": "difference"})
    return table.assign(p=p_values.reindex(table.index, fill_value=1.0))


def compare(runs: Sequence[Run], one: str, other: str, metric: str = "NDCG@10") -> pd.Series:
    """How much more one system has than another: ``mean``, ``ci_low``, ``ci_high``, ``p``, and ``users`` compared.

    As in ``leaderboard``, but p is of this one comparison.
    """
    values = {name: pooled([run for run in runs if run.system == name], metric) for name in (one, other)}
    _check_comparable([run for run in runs if run.system in values])
    _check_same_users(values)
    difference = (values[one] - values[other]).to_numpy()
    row = [*mean_interval(difference), p_value(difference), len(difference)]
    return pd.Series(row, [*INTERVAL, "p", "users"], name=f"{one} - {other}")


def pooled(runs: Sequence[Run], metric: str) -> pd.Series:
    """A metric of one system for every user of all its runs, indexed by data fingerprint, split and user.

    Runs on the same data, with several training seeds, are averaged user by user. Runs on several data sets, such as
    three Pocket Shops, and on several splits, such as five folds, have their users side by side.

    Raises:
        ValueError: there is no run.
    """
    if not runs:
        raise ValueError("there are no runs of that system to compare")
    settings = [run.stamp.get("hyperparameters") for run in runs]
    if others := [own for own in settings if own != settings[0]]:
        raise ValueError(f"{runs[0].system} has runs with {settings[0]} and with {others[0]}: choose one")
    keys = [(run.stamp["fingerprint"], run.stamp["split"], run.users) for run in runs]
    parts = [
        pd.Series(run.metric(metric), pd.MultiIndex.from_product([[data], [split], users]))
        for run, (data, split, users) in zip(runs, keys, strict=True)
    ]
    return pd.concat(parts).groupby(level=[0, 1, 2]).mean()


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of the paired t-test that (N,) differences have the mean 0; 1 if all of them are 0."""
    return float(ttest_1samp(differences, 0).pvalue) if differences.any() else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """P-values corrected for their number, so that rejecting those below alpha errs once in 1 / alpha tables.

    The k-th smallest of m is multiplied by m - k + 1 and made no smaller than the one before {cite}`holm1979simple`.
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values, float)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1)
    return corrected


def by_group(runs: Sequence[Run], metric: str, group: str = "warmth") -> pd.DataFrame:
    """A metric of one system in each group of users: columns ``users``, ``mean``, ``ci_low``, ``ci_high``.

    ``group`` is which of the runs' ``values`` numbers the groups.
    """
    values, groups = pooled(runs, metric), pooled(runs, group)
    rows = {number: [len(own), *mean_interval(own.to_numpy())] for number, own in values.groupby(groups)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["users", *INTERVAL])


def by_seed(runs: Sequence[Run], metric: str = "NDCG@10") -> pd.DataFrame:
    """Mean of each system (row) over its runs of each seed (column), such as ``seed 0``."""
    of: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        of.setdefault((run.system, f"seed {run.stamp['seed']}"), []).append(run)
    return pd.Series({key: pooled(own, metric).mean() for key, own in of.items()}).unstack()


def text_table(board: pd.DataFrame) -> pd.DataFrame:
    """One metric of a leaderboard with a reference, as text that fits a page; columns beside it stay."""
    differences = board[["difference", "difference_ci_low", "difference_ci_high"]]
    text = board.drop(columns=["ci_low", "ci_high", *differences]).map("{:z.3f}".format)
    text.insert(1, "difference (95\xa0%\xa0CI)", differences.apply(format_interval, axis=1))
    return text.rename(columns={"share_of_ceiling": "of ceiling"}).replace("nan.*", "", regex=True)


def _check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs of different parts, protocols or targets. A record names protocols otherwise than ``evaluate``."""
    if not runs:
        raise ValueError("there are no runs to compare")
    first = runs[0]
    for run in runs[1:]:
        for key in ("part", "protocol options", "targets"):
            own, wanted = run.stamp.get(key), first.stamp.get(key)  # some runs rank nothing
            if own != wanted:
                raise ValueError(
                    f"{run.system} and {first.system} cannot be compared: their {key} differ, {own} and {wanted}"
                )


def _check_same_users(values: dict[str, pd.Series]) -> None:
    """Refuse systems that were run on different data, splits or users."""
    first, *others = values or [""]
    for name in others:
        if not values[first].index.equals(values[name].index):
            raise ValueError(f"{name} and {first} cannot be compared: their data, splits or users differ")


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

"""tables.py: paired leaderboards and comparisons, corrected p-values, groups of users and items."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from mmrec_helpers.evaluation.intervals import format_interval
from mmrec_helpers.evaluation.protocols import SampledNegatives, evaluate, item_quintiles, training_counts
from mmrec_helpers.evaluation.runs import RANKS, Run
from mmrec_helpers.evaluation.tables import (
    INTERVAL,
    by_group,
    by_seed,
    compare,
    holm,
    leaderboard,
    liked_targets,
    p_value,
    pooled,
    text_table,
)
from mmrec_helpers.lessons.exploration import bootstrap_interval
from tests.evaluation.random_data import NUM_ITEMS, NUM_USERS, Scores, random_scores, random_split

DIFFERENCE = ["difference", "difference_ci_low", "difference_ci_high"]


def subset(run: Run, rows: slice | np.ndarray) -> Run:
    """The run of some of its users."""
    ranks = replace(run.target_ranks, **{name: getattr(run.target_ranks, name)[rows] for name in RANKS})
    values = {name: numbers[rows] for name, numbers in run.values.items()}
    return replace(run, users=run.users[rows], targets=run.targets[rows], target_ranks=ranks, values=values)


# Leaderboards ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(split):
    """Systems a, b with two training seeds, and c, the ceiling."""
    return [evaluate(Scores(random_scores(seed), name), split) for seed, name in enumerate(("a", "b", "b", "c"))]


def test_a_leaderboard_compares_user_by_user(runs):
    table = leaderboard(runs, ["HR@10", "NDCG@10"], reference="a", ceiling="c")
    a, c = (runs[place].metric("NDCG@10") for place in (0, 3))
    b = (runs[1].metric("NDCG@10") + runs[2].metric("NDCG@10")) / 2
    column = table["NDCG@10"]
    assert column["mean"].is_monotonic_decreasing
    assert column.loc["b", "mean"] == pytest.approx(b.mean())
    assert column.loc["b", "difference"] == pytest.approx((b - a).mean())
    np.testing.assert_allclose(column.loc["b", DIFFERENCE[1:]].astype(float), bootstrap_interval(b - a))
    np.testing.assert_allclose(column.loc["c", INTERVAL[1:]].astype(float), bootstrap_interval(c))
    assert column.loc["b", "share_of_ceiling"] == pytest.approx(b.mean() / c.mean())
    assert column.loc["c", "share_of_ceiling"] == 1
    assert (column.loc["a", DIFFERENCE] == 0).all()
    assert column.loc[["a", "b"], "p"].tolist() == pytest.approx([1, ttest_1samp(b - a, 0).pvalue])
    assert "difference" not in leaderboard(runs)["NDCG@10"]


def test_several_data_sets_stand_side_by_side(runs):
    """Each user of each data set counts once, however many training seeds a data set has."""
    other = random_split(1)
    more = [evaluate(Scores(random_scores(seed), name), other) for seed, name in ((4, "a"), (5, "b"))]
    a, b = (np.concatenate([runs[place].metric("MRR"), more[place].metric("MRR")]) for place in (0, 1))
    b[:NUM_USERS] = (runs[1].metric("MRR") + runs[2].metric("MRR")) / 2
    table = leaderboard([*more, *runs[:3]], ["MRR"], reference="b")["MRR"]
    assert table.loc["a", "mean"] == pytest.approx(a.mean())
    assert table.loc["b", "mean"] == pytest.approx(b.mean())
    assert table.loc["a", "difference"] == pytest.approx((a - b).mean())
    assert len(pooled([runs[1], runs[2], more[1]], "MRR")) == 2 * NUM_USERS
    folds = [replace(run, stamp=run.stamp | {"split": f"fold {number}"}) for number, run in enumerate(runs[1:3])]
    assert len(pooled(folds, "MRR")) == 2 * NUM_USERS


def test_the_order_of_the_runs_changes_nothing_but_that_of_equals(runs):
    one, other = (leaderboard(some, reference="a", ceiling="c") for some in (runs, runs[::-1]))
    np.testing.assert_allclose(one.to_numpy(float), other.loc[one.index, one.columns].to_numpy(float))


def test_a_ceiling_may_have_some_of_the_users(runs):
    few = subset(runs[3], slice(5, 25))
    table = leaderboard([*runs[:3], few], ["NDCG@10"], ceiling="c")["NDCG@10"]
    own = few.metric("NDCG@10").mean()
    assert table.loc["c", "mean"] == pytest.approx(own)
    assert table.loc["a", "share_of_ceiling"] == pytest.approx(runs[0].metric("NDCG@10")[5:25].mean() / own)
    assert table.loc["a", "mean"] == pytest.approx(runs[0].metric("NDCG@10").mean())
    with pytest.raises(ValueError, match="a and c cannot be compared: it lacks users of the ceiling"):
        leaderboard([subset(runs[0], slice(40)), runs[3]], ceiling="c")


def test_runs_that_answer_other_questions_are_refused(split):
    system = Scores(random_scores())
    run = evaluate(system, split)
    for other, said in (
        (evaluate(system, split, part="valid"), "part"),
        (evaluate(system, split, protocol=SampledNegatives(5)), "protocol options"),
        (evaluate(system, split, num_targets=3), "targets"),
    ):
        with pytest.raises(ValueError, match=f"cannot be compared: their {said} differ"):
            leaderboard([run, other])
    one, two = (evaluate(system, split, protocol=SampledNegatives(5, seed=seed)) for seed in (0, 1))
    with pytest.raises(ValueError, match="protocol options differ"):
        leaderboard([one, two])
    with pytest.raises(ValueError, match="reference 'best' is not among the systems: scores"):
        leaderboard([run], reference="best")
    with pytest.raises(ValueError, match="ceiling 'best' is not among the systems: scores"):
        leaderboard([run], ceiling="best")
    with pytest.raises(ValueError, match="no runs"):
        leaderboard([])


def test_systems_with_other_users_are_refused(split):
    run = evaluate(Scores(random_scores(), "a"), split)
    twice = evaluate(Scores(random_scores(), "b"), random_split(1))
    fold = replace(run, stamp=run.stamp | {"system": "b", "split": "fold 1 of 5"})
    fewer = subset(replace(run, stamp=run.stamp | {"system": "b"}), slice(1, None))
    for others in ([twice], [fold], [fewer], [fewer, twice]):
        for table in (leaderboard, lambda runs: leaderboard(runs, reference="a"), lambda runs: compare(runs, "a", "b")):
            with pytest.raises(ValueError, match=r"(a and b|b and a) cannot be compared: their data, splits or users"):
                table([run, *others])


# Comparisons ----------------------------------------------------------------------------------------------------------


def test_two_are_compared_as_in_a_leaderboard(runs):
    found = compare(runs, "b", "a", "HR@10")
    table = leaderboard(runs[:3], ["HR@10"], reference="a")["HR@10"]
    assert found[[*INTERVAL, "p"]].tolist() == pytest.approx(table.loc["b", [*DIFFERENCE, "p"]].tolist())
    assert found["users"] == NUM_USERS
    other = compare(runs, "a", "b", "HR@10")
    assert [-other["mean"], -other["ci_high"], -other["ci_low"]] == pytest.approx(found[INTERVAL].tolist(), abs=0.02)
    assert other["p"] == pytest.approx(found["p"])
    with pytest.raises(ValueError, match="no runs of that system"):
        compare(runs, "a", "best")


def test_equal_systems_differ_by_nothing(runs):
    same = replace(runs[0], stamp=runs[0].stamp | {"system": "same"})
    assert compare([runs[0], same], "a", "same").tolist() == [0, 0, 0, 1, NUM_USERS]
    assert leaderboard([runs[0], same], reference="a")["NDCG@10"]["p"].tolist() == [1, 1]


def rejected(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Holm's definition: from the smallest up, reject while p is at most alpha by the number that are left."""
    left, found = sorted(range(len(p_values)), key=lambda place: p_values[place]), [False] * len(p_values)
    while left and p_values[left[0]] <= alpha / len(left):
        found[left.pop(0)] = True
    return found


def test_holm_rejects_what_the_definition_rejects():
    rng = np.random.default_rng(0)
    for num in (1, 2, 3, 7, 12):
        for _ in range(40):
            p_values = rng.random(num) ** rng.integers(1, 8)
            p_values[rng.integers(num)] = p_values[0]  # ties
            corrected = holm(p_values)
            assert ((corrected >= p_values) & (corrected <= 1)).all()
            assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()
            for alpha in rng.random(20) ** 3:
                assert (corrected <= alpha).tolist() == rejected(p_values, alpha)
    assert holm([]).tolist() == []


def test_a_table_of_equals_seldom_has_a_significant_difference():
    """Of 300 tables of 8 systems that are noise beside a reference that is, too."""
    rng, alpha, families = np.random.default_rng(0), 0.05, []
    for _ in range(300):
        differences = rng.normal(size=(8, 40)) - rng.normal(size=40)
        families.append([p_value(own) for own in differences])
    corrected = np.array([holm(family) for family in families])
    error = np.sqrt(alpha * (1 - alpha) / len(families))  # of a share among so many tables
    assert (corrected < alpha).any(axis=1).mean() < alpha + 2 * error
    assert (np.array(families) < alpha).any(axis=1).mean() > 3 * alpha  # without the correction


def test_a_real_difference_is_found():
    rng = np.random.default_rng(0)
    p_values = holm([p_value(rng.normal(shift, size=200)) for shift in (0.5, 0.4, 0, 0, 0)])
    assert (p_values < 0.01).tolist() == [True, True, False, False, False]


# Groups ----------------------------------------------------------------------------------------------------


def test_groups_add_up(split):
    groups = item_quintiles(split).astype(float)
    runs = [evaluate(Scores(random_scores(seed)), split) for seed in (0, 1)]
    runs = [replace(run, values={"warmth": groups[run.targets[:, 0]]}) for run in runs]
    table, both = by_group(runs, "HR@10"), (runs[0].metric("HR@10") + runs[1].metric("HR@10")) / 2
    assert table["users"].sum() == NUM_USERS
    assert (table["mean"] * table["users"]).sum() / NUM_USERS == pytest.approx(both.mean())
    assert ((table["ci_low"] <= table["mean"]) & (table["mean"] <= table["ci_high"])).all()
    mine = both[runs[0].values["warmth"] == 4]
    assert table.loc[4].tolist() == pytest.approx([len(mine), mine.mean(), *bootstrap_interval(mine)])
    halves = [replace(run, values={"half": (run.users % 2).astype(float)}) for run in runs]
    assert by_group(halves, "HR@10", "half")["users"].tolist() == [NUM_USERS / 2] * 2


# Items ----------------------------------------------------------------------------------------------------------------


def test_each_seed_has_its_own_means(runs):
    seeds = [replace(run, stamp=run.stamp | {"seed": seed}) for run, seed in zip(runs, (1, 0, 1, 1), strict=True)]
    table = by_seed(seeds, "MRR")
    assert table.columns.tolist() == ["seed 0", "seed 1"]
    assert table.loc["b"].tolist() == [run.metric("MRR").mean() for run in runs[1:3]]
    assert table["seed 0"].isna().tolist() == [True, False, True]
    same = by_seed([replace(run, stamp=run.stamp | {"seed": 0}) for run in runs], "MRR")  # trained twice
    assert same.loc["b", "seed 0"] == pytest.approx(pooled(runs[1:3], "MRR").mean())


def test_a_table_as_text_keeps_the_order_and_every_number(runs):
    board = leaderboard(runs, ["HR@10"], reference="a", ceiling="c")["HR@10"]
    text = text_table(board.assign(more=board["mean"]))
    assert text.columns.tolist() == ["mean", "difference (95\xa0%\xa0CI)", "p", "of ceiling", "more"]
    assert text.index.equals(board.index)
    assert text.loc["c", ["difference (95\xa0%\xa0CI)", "p"]].tolist() == ["", ""]
    row = board.loc["b"]
    assert text.loc["b", ["mean", "p", "more"]].tolist() == [f"{row[name]:.3f}" for name in ("mean", "p", "mean")]
    assert text.loc["b", "difference (95\xa0%\xa0CI)"] == format_interval(row[DIFFERENCE])
    assert "-0.000" not in text_table(board.assign(mean=-1e-9)).to_string()


def test_quintiles_are_of_one_size_from_cold_to_warm(split):
    groups, counts = item_quintiles(split), training_counts(split)
    assert np.bincount(groups[1:]).tolist() == [NUM_ITEMS // 5] * 5
    assert groups[0] == -1
    for colder in range(4):
        assert counts[groups == colder].max() <= counts[groups == colder + 1].min()


def test_liked_targets_are_at_least_the_users_mean(split):
    rng, frame = np.random.default_rng(0), split.dataset.interactions
    rated = replace(split.dataset, interactions=frame.assign(rating=rng.integers(1, 6, len(frame)).astype(np.float32)))
    users = np.array([3, 0, 7])
    targets = np.array([[*frame["item"][frame["user"] == user].iloc[[-1, 0]], 0] for user in users])
    liked = liked_targets(rated, users, targets)
    for user, row, found in zip(users, targets, liked, strict=True):
        mine = rated.interactions[rated.interactions["user"] == user]
        last = [mine["rating"][mine["item"] == item].iloc[-1] for item in row[:2]]
        assert found.tolist() == [rating >= mine["rating"].mean() for rating in last] + [False]
    never = np.setdiff1d(np.arange(1, NUM_ITEMS + 1), frame["item"][frame["user"] == 3])[None, :1]
    with pytest.raises(ValueError, match=f"no rating for 1 targets, the first is user 3, item {never[0, 0]}"):
        liked_targets(rated, users[:1], never)

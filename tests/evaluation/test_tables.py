"""tables.py: paired leaderboards, comparable runs, groups of users and items."""

from dataclasses import replace

import numpy as np
import pytest

from mmrec_helpers.evaluation.protocols import SampledNegatives, evaluate, training_counts
from mmrec_helpers.evaluation.tables import by_group, item_quintiles, leaderboard, liked_targets
from mmrec_helpers.lessons.exploration import bootstrap_interval
from tests.evaluation.random_data import NUM_ITEMS, NUM_USERS, Scores, random_scores, random_split

# Leaderboards ---------------------------------------------------------------------------------------------------------


def test_a_leaderboard_compares_user_by_user(split):
    runs = [evaluate(Scores(random_scores(seed), name), split) for seed, name in enumerate(("a", "b", "b", "c"))]
    table = leaderboard(runs, ["HR@10", "NDCG@10"], reference="a", ceiling="c")
    a, c = (runs[place].metric("NDCG@10") for place in (0, 3))
    b = (runs[1].metric("NDCG@10") + runs[2].metric("NDCG@10")) / 2
    column = table["NDCG@10"]
    assert column["mean"].is_monotonic_decreasing
    assert column.loc["b", "mean"] == pytest.approx(b.mean())
    assert column.loc["b", "difference"] == pytest.approx((b - a).mean())
    np.testing.assert_allclose(column.loc["b", ["difference_ci_low", "difference_ci_high"]], bootstrap_interval(b - a))
    np.testing.assert_allclose(column.loc["c", ["ci_low", "ci_high"]], bootstrap_interval(c))
    assert column.loc["b", "share_of_ceiling"] == pytest.approx(b.mean() / c.mean())
    assert (column.loc["a", ["difference", "difference_ci_low", "difference_ci_high"]] == 0).all()
    assert "difference" not in leaderboard(runs)["NDCG@10"]


def test_runs_that_answer_other_questions_are_refused(split):
    system = Scores(random_scores())
    run = evaluate(system, split)
    for other, said in (
        (evaluate(system, split, part="valid"), "part"),
        (evaluate(system, split, protocol=SampledNegatives(5)), "protocol"),
        (evaluate(system, split, num_targets=3), "targets"),
        (evaluate(system, random_split(1)), "fingerprint"),
    ):
        with pytest.raises(ValueError, match=f"cannot be compared: their {said} differ"):
            leaderboard([run, other])
    one, two = (evaluate(system, split, protocol=SampledNegatives(5, seed=seed)) for seed in (0, 1))
    with pytest.raises(ValueError, match="protocol options differ"):
        leaderboard([one, two])
    with pytest.raises(ValueError, match="reference 'best' is not among the systems: scores"):
        leaderboard([run], reference="best")
    with pytest.raises(ValueError, match="no runs"):
        leaderboard([])


# Groups ---------------------------------------------------------------------------------------------------------------


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


def test_groups_add_up(split):
    run = evaluate(Scores(random_scores()), split)
    groups = item_quintiles(split)[run.targets[:, 0]]
    table = by_group(run, "HR@10", groups)
    assert table["users"].sum() == NUM_USERS
    assert (table["mean"] * table["users"]).sum() / NUM_USERS == pytest.approx(run.metric("HR@10").mean())
    assert ((table["ci_low"] <= table["mean"]) & (table["mean"] <= table["ci_high"])).all()
    mine = run.metric("HR@10")[groups == 4]
    np.testing.assert_allclose(table.loc[4, ["ci_low", "ci_high"]], bootstrap_interval(mine))

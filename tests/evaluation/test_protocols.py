"""evaluation.py: ranking held against plain loops, fair draws of negatives, runs that survive, paired tables."""

from collections import Counter
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset, Split
from mmrec_helpers.evaluation import protocols as evaluation
from mmrec_helpers.evaluation import runs
from mmrec_helpers.evaluation.intervals import bootstrap_means
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.protocols import FullRanking, SampledNegatives, evaluate, rank_all, top_k, training_counts
from mmrec_helpers.evaluation.runs import load_run
from mmrec_helpers.evaluation.tables import by_group, item_quintiles, leaderboard, length_groups, liked_targets
from mmrec_helpers.lessons.exploration import bootstrap_interval

NUM_USERS, NUM_ITEMS = 60, 40


@pytest.fixture(scope="module")
def split() -> Split:
    """Leave-one-out of 60 users with 3 to 14 items of 40; the first items are the most popular, some stand twice."""
    return random_split(0)


def random_split(seed: int, num_items: int = NUM_ITEMS) -> Split:
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(NUM_USERS):
        items = 1 + (num_items * rng.random(rng.integers(3, 15)) ** 2).astype(int)
        rows += [(user, item, time, 5.0, None) for time, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * num_items for name in ITEM_FEATURES} | {"item_id": [f"i{n}" for n in range(num_items)]}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"u{user}" for user in range(NUM_USERS)])
    return RecDataset("random", items, frame, names).validate().leave_one_out()


class Scores:
    """Fixed scores for every user."""

    def __init__(self, scores: np.ndarray, name: str = "scores"):
        self.scores, self.name = scores, name

    def score(self, queries):
        return self.scores[queries.users]


def random_scores(seed: int = 0, num_items: int = NUM_ITEMS, levels: int = 10**6) -> np.ndarray:
    """(U, I + 1) with ties when there are few levels."""
    return np.random.default_rng(seed).integers(levels, size=(NUM_USERS, num_items + 1)).astype(np.float32)


# Ranking --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_items", "levels"), [(12, 4), (12, 10**6), (1000, 30)])
def test_rank_all_equals_a_loop(num_items, levels):
    rng = np.random.default_rng(num_items + levels)
    scores = rng.integers(levels, size=(20, num_items + 1)).astype(np.float32)
    excluded = rng.integers(num_items + 1, size=(20, 6))  # zeros, and some items twice
    targets = np.stack([rng.choice(num_items, 3, replace=False) + 1 for _ in range(20)])
    targets[::4, 2] = 0
    pairs = {(row, item) for row, items in enumerate(excluded) for item in items if item}
    flat = tuple(np.array(sorted(pairs)).T)
    lists, better, equal, candidates = rank_all(torch.from_numpy(scores.copy()), flat, targets, k=5)
    for row in range(20):
        pool = [item for item in range(1, num_items + 1) if item not in excluded[row]]
        assert candidates[row] == len(pool)
        for column, target in enumerate(targets[row]):
            if target == 0:
                expected = (0, 0)
            elif target in excluded[row]:
                expected = (len(pool), 1)
            else:
                others = scores[row, pool]
                expected = ((others > scores[row, target]).sum(), (others == scores[row, target]).sum())
            assert (better[row, column], equal[row, column]) == expected
        assert set(lists[row]) <= set(pool)
        assert len(set(lists[row])) == 5
        np.testing.assert_array_equal(scores[row, lists[row]], sorted(scores[row, pool])[::-1][:5])
    reference = TargetRanks.of(scores, targets, excluded)
    np.testing.assert_array_equal(reference.better[targets > 0], better[targets > 0])
    np.testing.assert_array_equal(reference.equal, equal)
    np.testing.assert_array_equal(reference.candidates, candidates)


@pytest.mark.parametrize("width", [1, 3, 300])
@pytest.mark.parametrize("k", [1, 7])
def test_top_k_is_that_of_a_sort(width, k):
    scores = torch.rand(9, width, generator=torch.Generator().manual_seed(width))
    scores[:, ::2] = scores[:, :1].clone()  # many ties
    scores[:4, 3:] = -torch.inf  # fewer than K are left
    lists = top_k(scores, k)
    assert lists.shape == (9, k)
    for row, columns in zip(scores.numpy(), lists, strict=True):
        best = np.sort(row)[::-1][:k]
        best = best[np.isfinite(best)]
        np.testing.assert_array_equal(row[columns[: len(best)]], best)
        assert len(set(columns[: len(best)])) == len(best)
        assert not columns[len(best) :].any()


def test_what_the_user_has_is_not_recommended(split):
    run = evaluate(Scores(random_scores()), split, k=30, length=1)  # all of the history counts, not only what is shown
    queries = split.queries("test")
    for listed, history in zip(run.lists, queries.histories, strict=True):
        assert not set(listed) & set(history[history > 0])
    again = (queries.targets == queries.histories).any(axis=1)
    assert again.any()
    assert not run.metric("HR@30")[again].any()
    assert not run.metric("AUC")[again].any()


def test_users_do_not_depend_on_their_batch(split, monkeypatch):
    run = evaluate(Scores(random_scores(levels=9)), split)
    monkeypatch.setattr(evaluation, "SCORES_AT_ONCE", 7 * (NUM_ITEMS + 1))
    parts = evaluate(Scores(random_scores(levels=9)), split)
    assert np.array_equal(parts.users, run.users)
    for name in ("HR@5", "NDCG@10", "MRR", "AUC"):
        np.testing.assert_array_equal(parts.metric(name), run.metric(name))


def test_the_scores_of_a_system_are_left_as_they_are(split):
    scores = random_scores()
    before = scores.copy()
    system = Scores(scores)
    system.score = lambda queries: scores[: len(queries)]
    evaluate(system, split)
    np.testing.assert_array_equal(scores, before)


def test_scores_that_cannot_be_ranked_are_refused(split):
    for wrong, said in ((np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite")):
        scores = random_scores()
        scores[3, 7] = wrong
        with pytest.raises(ValueError, match=f"broken gives scores .*{said}"):
            evaluate(Scores(scores, "broken"), split)
    with pytest.raises(ValueError, match=r"broken gives scores of the shape \(60, 40\)"):
        evaluate(Scores(random_scores()[:, 1:], "broken"), split)


def test_an_item_bought_twice_is_one_target(split):
    frame = split.dataset.interactions.assign(
        item=np.tile([7, 7, 8], NUM_USERS * 5)[: len(split.part)].astype(np.int32)
    )
    repeated = replace(split.dataset, interactions=frame).temporal_split(0.4, 0.2)
    assert (repeated.queries("test").targets[:, :2] == 7).all(axis=1).any()
    targets = evaluate(Scores(random_scores()), repeated, num_targets=2).targets
    assert set(map(tuple, targets.tolist())) <= {(7, 8), (8, 7), (7, 0), (8, 0)}


def test_a_part_of_nobody_is_refused(split):
    learning = replace(split, part=np.zeros_like(split.part))
    with pytest.raises(ValueError, match="random, leave-one-out: nobody has anything in the test part"):
        evaluate(Scores(random_scores()), learning)


# Protocols ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_negatives_are_different_and_new_to_the_user(split, by):
    queries, counts = split.queries("test"), training_counts(split)
    drawn = SampledNegatives(8, by).draw(split, "test")
    assert drawn.shape == (len(queries), 8)
    for row, negatives in enumerate(drawn):
        assert len(set(negatives)) == 8
        assert not set(negatives) & {0, *queries.histories[row], *queries.targets[row]}
        assert by == "uniform" or (counts[negatives] > 0).all()
    assert np.array_equal(drawn, SampledNegatives(8, by).draw(split, "test"))
    assert not np.array_equal(drawn, SampledNegatives(8, by, seed=1).draw(split, "test"))
    anything = SampledNegatives(8, by, avoid_history=False).draw(split, "test")
    assert any(set(negatives) & set(items) for negatives, items in zip(anything, queries.histories, strict=True))
    assert not any(set(negatives) & set(taken) for negatives, taken in zip(anything, queries.targets, strict=True))


def same_users(items: list[int], popular: list[int]) -> Split:
    """4,000 users with the same items, and a crowd that only makes other items popular."""
    rows = [(user, item, time, 5.0, None) for user in range(4000) for time, item in enumerate(items)]
    rows += [(4000 + user, item, 0, 5.0, None) for user, item in enumerate(popular)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * 13 for name in ITEM_FEATURES} | {"item_id": [f"i{n}" for n in range(13)]}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"u{user}" for user in range(4000 + len(popular))])
    return RecDataset("same", items, frame, names).validate().leave_one_out()


@pytest.mark.parametrize(("by", "num"), [("uniform", 3), ("popularity", 3), ("popularity", 12)])
def test_negatives_are_drawn_like_balls_from_an_urn(by, num):
    """How often each item is drawn, against numpy's own draw without replacement."""
    split = same_users([3, 1, 4, 1, 5, 9, 2, 6, 6, 5, 3, 5], popular=[9, 9, 9, 7, 7, 8, 8, 8, 8, 8, 8, 10, 11, 12, 13])
    weight = np.ones(14) if by == "uniform" else training_counts(split).astype(float)
    weight[[0, 1, 2, 3, 4, 5, 6, 9]] = 0.0
    num = min(num, int((weight > 0).sum()) - 1)
    ours = np.bincount(SampledNegatives(num, by).draw(split, "test")[:4000].ravel(), minlength=14) / 4000
    rng = np.random.default_rng(1)
    theirs = Counter(
        item for _ in range(4000) for item in rng.choice(14, num, replace=False, p=weight / weight.sum()).tolist()
    )
    theirs = np.array([theirs[item] for item in range(14)]) / 4000
    np.testing.assert_allclose(ours, theirs, atol=0.05)  # more than four standard errors of the difference


def test_the_last_negative_can_still_be_drawn(split):
    rows, items = split.seen("test")
    targets = split.queries("test").targets[:, 0]
    left = [set(range(1, NUM_ITEMS + 1)) - {*items[rows == row], targets[row]} for row in range(NUM_USERS)]
    fewest = min(range(NUM_USERS), key=lambda row: len(left[row]))
    num = len(left[fewest])
    assert set(SampledNegatives(num).draw(split, "test")[fewest]) == left[fewest]
    with pytest.raises(ValueError, match=rf"user {fewest} has {num} items left to draw from, not {num + 1}"):
        SampledNegatives(num + 1).draw(split, "test")


def test_faulty_protocols_are_refused():
    with pytest.raises(ValueError, match="'uniform' or by 'popularity', not by 'luck'"):
        SampledNegatives(by="luck")
    with pytest.raises(ValueError, match="at least 1"):
        SampledNegatives(0)


def test_all_items_as_negatives_are_the_full_ranking():
    """Of a user without repeats, where the two protocols mean the same."""
    split = random_split(0)
    frame = split.dataset.interactions.drop_duplicates(["user", "item"]).groupby("user").tail(6)
    frame = frame[frame.groupby("user")["item"].transform("size") == 6].reset_index(drop=True)
    split = replace(split.dataset, interactions=frame).leave_one_out()
    system = Scores(random_scores(levels=12))
    full, sampled = evaluate(system, split), evaluate(system, split, protocol=SampledNegatives(NUM_ITEMS - 6))
    for name in ("HR@5", "NDCG@10", "MRR", "AUC"):
        np.testing.assert_allclose(sampled.metric(name), full.metric(name), err_msg=name)
    assert (sampled.target_ranks.candidates == full.target_ranks.candidates).all()


def test_few_candidates_flatter(split):
    system = Scores(random_scores())
    full, sampled = evaluate(system, split), evaluate(system, split, protocol=SampledNegatives(9))
    assert (sampled.metric("NDCG@5") >= full.metric("NDCG@5") - 1e-12).all()  # fewer stand before the target
    assert sampled.metric("HR@5").mean() > full.metric("HR@5").mean() + 0.2


@pytest.mark.parametrize(("num", "floor"), [(20, 5 / 21), (9, 5 / 10)])
def test_a_system_that_knows_nothing_reaches_the_floor(split, num, floor):
    run = evaluate(Scores(np.zeros((NUM_USERS, NUM_ITEMS + 1))), split, protocol=SampledNegatives(num))
    np.testing.assert_allclose(run.metric("HR@5"), floor)
    np.testing.assert_allclose(run.metric("AUC"), 0.5)
    assert np.isin(run.targets, run.lists[:, :5]).mean() < 1  # its lists do not favour the target either


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_run_survives_on_disk(split, tmp_path):
    run = evaluate(Scores(random_scores(levels=8)), split, num_targets=2, cost={"fit seconds": 1.5})
    run.save(tmp_path / "run")
    read = load_run(tmp_path / "run", split.dataset)
    assert read.stamp == run.stamp
    assert read.stamp["cost"]["fit seconds"] == 1.5
    for name in ("users", "lists", "targets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(run, name))
    for name in ("HR@10", "NDCG@5", "MRR", "MRR@5", "MAP@5", "P@5", "R@5", "AUC"):
        np.testing.assert_array_equal(read.metric(name), run.metric(name))
    other = evaluate(Scores(random_scores(1)), split)
    other.save(tmp_path / "run")
    assert load_run(tmp_path / "run", split.dataset).metric("MRR").tolist() == other.metric("MRR").tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_of_other_data_is_refused(split, tmp_path):
    evaluate(Scores(random_scores()), split).save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run was made on random with the fingerprint \w+, and random has \w+: make"):
        load_run(tmp_path / "run", random_split(1).dataset)
    with pytest.raises(FileNotFoundError, match="there is no run"):
        load_run(tmp_path / "none", split.dataset)


def test_a_run_that_could_not_be_written_leaves_the_old_one(split, tmp_path, monkeypatch):
    run = evaluate(Scores(random_scores()), split)
    run.save(tmp_path / "run")
    monkeypatch.setattr(runs.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(Scores(random_scores(1)), split).save(tmp_path / "run")
    assert load_run(tmp_path / "run", split.dataset).metric("MRR").tolist() == run.metric("MRR").tolist()


def test_unknown_metrics_are_refused(split):
    run = evaluate(Scores(random_scores()), split)
    for name in ("HR", "HR@0", "AUC@5", "hits@5", "HR@five"):
        with pytest.raises(ValueError, match="there is no metric"):
            run.metric(name)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_the_bootstrap_is_that_of_chapter_1():
    values = np.random.default_rng(0).random((80, 2))
    means = bootstrap_means(values)
    for column in range(2):
        expected = bootstrap_interval(values[:, column])
        np.testing.assert_allclose(np.percentile(means[:, column], [2.5, 97.5]), expected)
    gain = np.percentile(means[:, 0] - means[:, 1], [2.5, 97.5])
    np.testing.assert_allclose(gain, bootstrap_interval(values[:, 0] - values[:, 1]))


def test_a_league_table_compares_user_by_user(split):
    runs = [evaluate(Scores(random_scores(seed), name), split) for seed, name in enumerate(("a", "b", "b", "c"))]
    table = leaderboard(runs, ["HR@10", "NDCG@10"], reference="a", ceiling="c")
    a, c = (runs[place].metric("NDCG@10") for place in (0, 3))
    b = (runs[1].metric("NDCG@10") + runs[2].metric("NDCG@10")) / 2
    column = table["NDCG@10"]
    assert column["mean"].is_monotonic_decreasing
    assert column.loc["b", "mean"] == pytest.approx(b.mean())
    assert column.loc["b", "more"] == pytest.approx((b - a).mean())
    np.testing.assert_allclose(column.loc["b", ["more low", "more high"]], bootstrap_interval(b - a))
    np.testing.assert_allclose(column.loc["c", ["low", "high"]], bootstrap_interval(c))
    assert column.loc["b", "share"] == pytest.approx(b.mean() / c.mean())
    assert (column.loc["a", ["more", "more low", "more high"]] == 0).all()
    assert "more" not in leaderboard(runs)["NDCG@10"]


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


def test_histories_are_grouped_by_length(split):
    queries = split.queries("test")
    groups, lengths = length_groups(queries, (3, 6)), (queries.histories > 0).sum(axis=1)
    assert set(groups[lengths <= 3]) == {"up to 3"}
    assert set(groups[(lengths > 3) & (lengths <= 6)]) == {"4 to 6"}
    assert set(groups[lengths > 6]) == {"over 6"}


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
    assert ((table["low"] <= table["mean"]) & (table["mean"] <= table["high"])).all()
    mine = run.metric("HR@10")[groups == 4]
    np.testing.assert_allclose(table.loc[4, ["low", "high"]], bootstrap_interval(mine))


def test_protocols_have_names():
    assert FullRanking().name == "full ranking"
    assert SampledNegatives(20, "popularity").name == "20 popularity negatives"

"""protocols.py: ranking against plain loops, fair sampling of negatives, one scoring for several protocols."""

from collections import Counter
from dataclasses import replace
from itertools import chain

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from mmrec_helpers.data.dataset import ITEM_FEATURES, NotAvailable, RecDataset, Split
from mmrec_helpers.evaluation import protocols
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.protocols import (
    FullRanking,
    SampledNegatives,
    evaluate,
    evaluate_protocols,
    rank_all,
    top_k,
    training_counts,
)
from mmrec_helpers.evaluation.runs import Run
from tests.evaluation.random_data import NUM_ITEMS, NUM_USERS, Scores, random_scores, random_split

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
    lists, num_higher, num_tied, num_candidates = rank_all(torch.from_numpy(scores.copy()), flat, targets, k=5)
    for row in range(20):
        pool = [item for item in range(1, num_items + 1) if item not in excluded[row]]
        assert num_candidates[row] == len(pool)
        for column, target in enumerate(targets[row]):
            if target == 0:
                expected = (0, 0)
            elif target in excluded[row]:
                expected = (len(pool), 1)
            else:
                others = scores[row, pool]
                expected = ((others > scores[row, target]).sum(), (others == scores[row, target]).sum())
            assert (num_higher[row, column], num_tied[row, column]) == expected
        assert set(lists[row]) <= set(pool)
        assert len(set(lists[row])) == 5
        np.testing.assert_array_equal(scores[row, lists[row]], sorted(scores[row, pool])[::-1][:5])
    reference = TargetRanks.of(scores, targets, excluded)
    np.testing.assert_array_equal(reference.num_higher[targets > 0], num_higher[targets > 0])
    np.testing.assert_array_equal(reference.num_tied, num_tied)
    np.testing.assert_array_equal(reference.num_candidates, num_candidates)


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
    run = evaluate(Scores(random_scores()), split, k=30, max_len=1)  # all of the history counts, not only what is shown
    queries = split.queries("test")
    for listed, history in zip(run.lists, queries.histories, strict=True):
        assert not set(listed) & set(history[history > 0])
    again = (queries.targets == queries.histories).any(axis=1)
    assert again.any()
    assert not run.metric("HR@30")[again].any()
    assert not run.metric("AUC")[again].any()


def test_users_do_not_depend_on_their_batch(split, monkeypatch):
    run = evaluate(Scores(random_scores(levels=9)), split)
    monkeypatch.setattr(protocols, "SCORES_AT_ONCE", 7 * (NUM_ITEMS + 1))
    parts = evaluate(Scores(random_scores(levels=9)), split)
    assert np.array_equal(parts.users, run.users)
    for name in ("HR@5", "NDCG@10", "MRR", "AUC"):
        np.testing.assert_array_equal(parts.metric(name), run.metric(name))


def test_the_scores_of_a_system_are_left_as_they_are(split):
    scores = random_scores()
    before = scores.copy()
    system = Scores(scores)
    system.score = lambda queries, candidates: scores[: len(queries)]
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
    with pytest.raises(ValueError, match="random, leave-one-out: no user has interactions in the test part"):
        evaluate(Scores(random_scores()), learning)


# Protocols ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_negatives_are_different_and_new_to_the_user(split, distribution):
    queries, counts = split.queries("test"), training_counts(split)
    drawn = SampledNegatives(8, distribution).sample(split, "test")
    assert drawn.shape == (len(queries), 8)
    for row, negatives in enumerate(drawn):
        assert len(set(negatives)) == 8
        assert not set(negatives) & {0, *queries.histories[row], *queries.targets[row]}
        assert distribution == "uniform" or (counts[negatives] > 0).all()
    assert np.array_equal(drawn, SampledNegatives(8, distribution).sample(split, "test"))
    assert not np.array_equal(drawn, SampledNegatives(8, distribution, seed=1).sample(split, "test"))
    anything = SampledNegatives(8, distribution, exclude_history=False).sample(split, "test")
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


@pytest.mark.parametrize(("distribution", "num"), [("uniform", 3), ("popularity", 3), ("popularity", 12)])
def test_negatives_are_drawn_like_balls_from_an_urn(distribution, num):
    """How often each item is drawn, against numpy's own draw without replacement."""
    split = same_users([3, 1, 4, 1, 5, 9, 2, 6, 6, 5, 3, 5], popular=[9, 9, 9, 7, 7, 8, 8, 8, 8, 8, 8, 10, 11, 12, 13])
    weight = np.ones(14) if distribution == "uniform" else training_counts(split).astype(float)
    weight[[0, 1, 2, 3, 4, 5, 6, 9]] = 0.0
    num = min(num, int((weight > 0).sum()) - 1)
    ours = np.bincount(SampledNegatives(num, distribution).sample(split, "test")[:4000].ravel(), minlength=14) / 4000
    rng = np.random.default_rng(1)
    theirs = Counter(
        item for _ in range(4000) for item in rng.choice(14, num, replace=False, p=weight / weight.sum()).tolist()
    )
    theirs = np.array([theirs[item] for item in range(14)]) / 4000
    np.testing.assert_allclose(ours, theirs, atol=0.05)  # more than four standard errors of the difference


def test_the_last_negative_can_still_be_drawn(split):
    rows, items = split.interacted("test")
    targets = split.queries("test").targets[:, 0]
    left = [set(range(1, NUM_ITEMS + 1)) - {*items[rows == row], targets[row]} for row in range(NUM_USERS)]
    fewest = min(range(NUM_USERS), key=lambda row: len(left[row]))
    num = len(left[fewest])
    assert set(SampledNegatives(num).sample(split, "test")[fewest]) == left[fewest]
    with pytest.raises(ValueError, match=rf"for user {fewest} only {num} items can be sampled, not {num + 1}"):
        SampledNegatives(num + 1).sample(split, "test")


def test_faulty_protocols_are_refused():
    with pytest.raises(ValueError, match="'uniform' or 'popularity', not 'luck'"):
        SampledNegatives(distribution="luck")
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
    assert (sampled.target_ranks.num_candidates == full.target_ranks.num_candidates).all()


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


def test_protocols_have_names():
    assert FullRanking().name == "full ranking"
    assert SampledNegatives(20, "popularity").name == "20 popularity negatives"


def test_several_systems_and_protocols_are_those_of_one_at_a_time(split, monkeypatch):
    """With a full ranking each system is scored once for a batch of queries; each protocol samples once."""
    monkeypatch.setattr(protocols, "SCORES_AT_ONCE", 7 * (NUM_ITEMS + 1))
    systems = [Scores(random_scores(seed, levels=9), name) for seed, name in enumerate("ab")]
    asked = [SampledNegatives(9), FullRanking(), SampledNegatives(9, "popularity")]
    alone = [[evaluate(system, split, protocol=protocol) for protocol in asked] for system in systems]
    calls, sample, score = Counter(), SampledNegatives.sample, Scores.score

    def count_sample(protocol, *args):
        calls[protocol.name] += 1
        return sample(protocol, *args)

    def count_score(system, queries, candidates=None):
        assert candidates is None
        calls[system.name] += len(queries)
        return score(system, queries)

    monkeypatch.setattr(SampledNegatives, "sample", count_sample)
    monkeypatch.setattr(Scores, "score", count_score)
    together = evaluate_protocols(systems, split, asked)
    assert calls == {"a": NUM_USERS, "b": NUM_USERS, asked[0].name: 1, asked[2].name: 1}
    for one, other in zip(chain(*alone), chain(*together), strict=True):
        assert {**one.stamp, "cost": None} == {**other.stamp, "cost": None}
        assert np.array_equal(one.lists, other.lists)
        for counts, others in zip(vars(one.target_ranks).values(), vars(other.target_ranks).values(), strict=False):
            assert np.array_equal(counts, others)


def equal_runs(one: Run, other: Run) -> bool:
    """Whether the rankings are the same."""
    pairs = zip(vars(one.target_ranks).values(), vars(other.target_ranks).values(), strict=True)
    return np.array_equal(one.lists, other.lists) and all(np.array_equal(*pair) for pair in pairs)


def test_sampled_protocols_alone_ask_for_their_candidates_and_nothing_else(split):
    """And rank them as beside a full ranking, ties and items of the history included."""
    asked = Counter()

    class Counting(Scores):
        def score(self, queries, candidates=None):
            asked["items"] += len(queries) * (NUM_ITEMS + 1 if candidates is None else candidates.shape[1])
            asked["queries"] += len(queries)
            return super().score(queries, candidates)

    system, few = Counting(random_scores(levels=9)), SampledNegatives(9, exclude_history=False)
    alone = evaluate(system, split, protocol=few)
    assert asked == {"queries": NUM_USERS, "items": 10 * NUM_USERS}
    beside = evaluate_protocols([system], split, [FullRanking(), few])[0][1]
    assert asked == {"queries": 2 * NUM_USERS, "items": (10 + NUM_ITEMS + 1) * NUM_USERS}
    assert equal_runs(alone, beside)
    both = evaluate_protocols([system], split, [few, SampledNegatives(20)], num_targets=3)[0]
    beside = evaluate_protocols([system], split, [few, FullRanking(), SampledNegatives(20)], num_targets=3)[0]
    assert equal_runs(both[0], beside[0])
    assert equal_runs(both[1], beside[2])


def test_wrong_scores_of_candidates_are_refused(split):
    system = Scores(random_scores(), "broken")
    system.score = lambda queries, candidates: system.scores[queries.users]
    with pytest.raises(ValueError, match=r"broken gives scores .* \(60, 41\), not \(queries, candidates\) \(60, 10\)"):
        evaluate(system, split, protocol=SampledNegatives(9))


def with_categories(split: Split, categories: list) -> Split:
    """The split with a category for each item."""
    items = split.dataset.items.remove_columns("category").add_column("category", categories)
    return replace(split, dataset=replace(split.dataset, items=items))


def test_within_the_category_other_items_are_as_if_they_did_not_exist(split):
    category = np.array([None, *(f"c{item % 3}" for item in range(1, NUM_ITEMS + 1))], object)
    split = with_categories(split, category[1:].tolist())
    scores = random_scores(levels=9)
    run = evaluate(Scores(scores), split, protocol=FullRanking(same_category=True), num_targets=2)
    assert run.stamp["protocol"] == "full ranking within the category"
    rows, items = split.interacted("test")
    for row, (user, targets, listed) in enumerate(zip(run.users, run.targets, run.lists, strict=True)):
        pool = set(np.flatnonzero(category == category[targets[0]])) - set(items[rows == row])
        assert run.target_ranks.num_candidates[row] == len(pool)
        assert set(listed) - {0} == pool if len(pool) <= 20 else set(listed) <= pool
        if targets[0] in pool:
            others = scores[user, sorted(pool)]
            assert run.target_ranks.num_higher[row, 0] == (others > scores[user, targets[0]]).sum()
            assert run.target_ranks.num_tied[row, 0] == (others == scores[user, targets[0]]).sum()
    one = with_categories(split, ["all"] * NUM_ITEMS)
    within, full = (evaluate(Scores(scores), one, protocol=FullRanking(same)) for same in (True, False))
    assert equal_runs(within, full)


def test_a_target_without_a_category_is_refused(split):
    with pytest.raises(NotAvailable, match=r"random: item \d+ has no category"):
        evaluate(Scores(random_scores()), split, protocol=FullRanking(same_category=True))


def test_a_stamp_says_what_was_ranked_and_what_it_cost(split):
    stamp = evaluate(Scores(random_scores()), split, protocol=SampledNegatives(9)).stamp
    assert set(stamp["cost"]) == {"score seconds"}
    identity = {"system", "dataset", "fingerprint", "split", "part", "protocol", "protocol options", "targets", "seed"}
    assert set(stamp) == identity | {"cost"}

"""metrics.py: each metric against ranx and its own definition over all orders of ties, and what must always hold."""

from collections import Counter
from fractions import Fraction
from functools import partial
from itertools import combinations, pairwise, permutations
from math import comb, log2

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mmrec_helpers.evaluation import metrics
from mmrec_helpers.evaluation.metrics import TargetRanks

SEEDS = range(8)
AT_K = {
    "hit_rate": metrics.hit_rate,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "ndcg": metrics.ndcg,
    "map": metrics.average_precision,
    "map over targets": partial(metrics.average_precision, over="targets"),
    "mrr": metrics.reciprocal_rank,
}


def items_of(rng: np.random.Generator, num_users: int, num_items: int, width: int, least: int) -> np.ndarray:
    """(N, width) different items in each row, right-padded with 0, ``least`` of them at the least."""
    items = rng.permuted(np.tile(np.arange(1, num_items + 1), (num_users, 1)), axis=1)[:, :width]
    items[np.arange(width) >= rng.integers(least, width + 1, (num_users, 1))] = 0
    return items


def draw(seed: int, num_users: int = 30, num_items: int = 6, width: int = 4, levels: int = 3, hidden: int = 3):
    """Scores of few levels, targets of which some lie in the excluded items, and these."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (num_users, num_items + 1)).astype(np.float32)
    targets = items_of(rng, num_users, num_items, width, 1)
    return scores, targets, items_of(rng, num_users, num_items, hidden, 0)


def all_values(ranks: TargetRanks, liked: np.ndarray, cuts: range | tuple = (1, 2, 3, 5, 9)) -> dict[str, np.ndarray]:
    """Every metric of some target ranks."""
    values = {f"{name}@{k}": metric(ranks, k) for name, metric in AT_K.items() for k in cuts}
    values |= {f"satisfaction@{k}": metrics.satisfaction(ranks, liked, k) for k in cuts}
    return values | {"mrr": metrics.reciprocal_rank(ranks), "auc": metrics.auc(ranks)}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-12, err_msg=name)


# Against other ways to compute the same -------------------------------------------------------------------------------


def by_definition(places: tuple[str, ...], num_targets: int, cuts: tuple) -> dict[str, float]:
    """Every metric of one user and one order without ties. ``places``: other, target or liked (target)."""
    hit = [kind != "other" for kind in places]
    ranks = [rank for rank, found in enumerate(hit, start=1) if found]
    precise = {rank: sum(hit[:rank]) / rank for rank in ranks}
    pairs = [(a, b) for a in ranks for b in range(1, len(hit) + 1) if not hit[b - 1]]
    lost = (num_targets - len(ranks)) * (len(hit) - len(ranks))
    values = {"mrr": 1 / ranks[0] if ranks else 0.0}
    values["auc"] = sum(a < b for a, b in pairs) / (len(pairs) + lost) if pairs or lost else np.nan
    for k in cuts:
        top = [rank for rank in ranks if rank <= k]
        ideal = sum(1 / log2(rank + 1) for rank in range(1, min(num_targets, k) + 1))
        values[f"hit_rate@{k}"] = float(bool(top))
        values[f"precision@{k}"] = len(top) / k
        values[f"recall@{k}"] = len(top) / num_targets
        values[f"ndcg@{k}"] = sum(1 / log2(rank + 1) for rank in top) / ideal
        values[f"map@{k}"] = sum(precise[rank] for rank in top) / min(num_targets, k)
        values[f"map over targets@{k}"] = sum(precise[rank] for rank in top) / num_targets
        values[f"mrr@{k}"] = 1 / top[0] if top else 0.0
        values[f"satisfaction@{k}"] = float("liked" in places[:k])
    return values


def mean_over_orders(scores: np.ndarray, kinds: dict[int, str], num_targets: int, cuts: tuple) -> dict[str, float]:
    """Every metric of one user: mean over all orders of the candidates that their scores allow."""
    orders = [o for o in permutations(kinds) if all(scores[a] >= scores[b] for a, b in pairwise(o))]
    counts = Counter(tuple(kinds[item] for item in order) for order in orders)
    found = [(count, by_definition(places, num_targets, cuts)) for places, count in counts.items()]
    return {name: sum(n * values[name] for n, values in found) / len(orders) for name in found[0][1]}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_metric_is_its_mean_over_all_orders_of_ties(seed):
    num_items, width, levels, hidden = [(6, 4, 3, 3), (6, 1, 2, 2), (6, 5, 1, 2), (5, 5, 2, 4)][seed % 4]
    scores, targets, excluded = draw(seed, 25, num_items, width, levels, hidden)
    liked = np.random.default_rng(seed).random(targets.shape) < 0.5
    cuts = (1, 2, 3, 5, 9)
    found = all_values(TargetRanks.of(scores, targets, excluded), liked, cuts)
    expected = []
    for row in range(len(scores)):
        kind_of = {int(t): "liked" if good else "target" for t, good in zip(targets[row], liked[row], strict=True) if t}
        candidates = [item for item in range(1, num_items + 1) if item not in excluded[row]]
        kinds = {item: kind_of.get(item, "other") for item in candidates}
        expected.append(mean_over_orders(scores[row], kinds, len(kind_of), cuts))
    same(found, {name: np.array([values[name] for values in expected]) for name in found})


def test_long_ties_stay_exact():
    """One user, three targets among 700 equal scores after 17 better items, one of which is a fourth target."""
    places, after, number, k = 700, 17, 3, 100
    scores = np.concatenate([[0.0], np.full(after, 2.0), np.full(places, 1.0), np.zeros(50)])
    scores[5] = 3.0  # the fourth target leads
    tied = np.array([[18, 19, 400]])
    only = TargetRanks.of(scores[None], tied)
    chance = [Fraction(comb(places - j, number - 1), comb(places, number)) for j in range(1, places + 1)]
    assert sum(chance) == 1
    for cut in (None, 18, k):
        rank = sum(p / (after + j) for j, p in enumerate(chance, start=1) if cut is None or after + j <= cut)
        assert metrics.reciprocal_rank(only, cut)[0] == pytest.approx(float(rank), rel=1e-12)
    hit = 1 - Fraction(comb(places - (k - after), number), comb(places, number))
    assert metrics.hit_rate(only, k)[0] == pytest.approx(float(hit), rel=1e-12)
    both = TargetRanks.of(scores[None], np.array([[5, *tied[0]]]))
    first = [Fraction(number, places) * (2 + Fraction((j - 1) * (number - 1), places - 1)) for j in range(1, places)]
    precise = 1 + sum(hits / (after + j) for j, hits in enumerate(first, start=1) if after + j <= k)
    assert metrics.average_precision(both, k)[0] == pytest.approx(float(precise / 4), rel=1e-12)


def test_equals_ranx_where_there_are_no_ties(monkeypatch):
    """ranx divides AP@k by all targets and P@k by k, and takes targets that the run lacks as misses, as we do."""
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # compiling takes longer than all of this file
    from ranx import Qrels, Run, evaluate

    names = {name.removesuffix(" over targets"): metric for name, metric in AT_K.items()}  # the later "map"
    for seed, width in ((0, 1), (1, 5), (2, 12)):
        rng = np.random.default_rng(seed)
        _, targets, excluded = draw(seed, 40, 25, width, hidden=8)
        scores = rng.permuted(np.tile(np.arange(26.0), (40, 1)), axis=1)
        qrels = Qrels({f"{row:02}": {f"{item}": 1 for item in items if item} for row, items in enumerate(targets)})
        ranked = [{f"{i}": scores[row, i] for i in range(1, 26) if i not in excluded[row]} for row in range(40)]
        run = Run({f"{row:02}": candidates for row, candidates in enumerate(ranked)})
        asked = [f"{name}@{k}" for name in names for k in (1, 3, 5, 10, 20)]
        reference = evaluate(qrels, run, [*asked, "mrr"], return_mean=False)
        ranks = TargetRanks.of(scores, targets, excluded)
        own = {f"{name}@{k}": metric(ranks, k) for name, metric in names.items() for k in (1, 3, 5, 10, 20)}
        same(own | {"mrr": metrics.reciprocal_rank(ranks)}, reference)


@pytest.mark.parametrize("seed", SEEDS)
def test_auc_equals_sklearn_per_user_and_pooled(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 2 + 3 * seed, (20, 9)).astype([float, np.float32][seed % 2])
    is_target = np.zeros((20, 9), bool)
    is_target[:, 1:] = rng.permuted(np.tile(np.arange(8) < 1 + seed % 4, (20, 1)), axis=1)
    targets = np.where(is_target, np.arange(9), 0)
    expected = [roc_auc_score(truth[1:], own[1:]) for truth, own in zip(is_target, scores, strict=True)]
    np.testing.assert_allclose(metrics.auc(TargetRanks.of(scores, targets)), expected, rtol=0, atol=1e-12)
    pooled = roc_auc_score(is_target[:, 1:].ravel(), scores[:, 1:].ravel())
    assert metrics.pooled_auc(scores[:, 1:], is_target[:, 1:]) == pytest.approx(pooled, abs=1e-12)


def test_pooled_auc_asks_whether_users_can_be_compared():
    scores, is_target = np.array([[2.0, 1.0], [12.0, 11.0]]), np.array([[True, False], [True, False]])
    assert metrics.pooled_auc(scores, is_target) == 3 / 4
    assert metrics.pooled_auc(scores - [[0], [10]], is_target) == 1
    for bad in (is_target[:1], is_target.astype(int), np.ones((2, 2), bool), np.zeros((2, 2), bool)):
        with pytest.raises(ValueError, match=r"is_target must be|one of the two kinds"):
            metrics.pooled_auc(scores, bad)
    with pytest.raises(ValueError, match="finite"):
        metrics.pooled_auc(np.array([[np.inf, 1.0], [1.0, 2.0]]), is_target)


# What must always hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_bounds_between_metrics(seed):
    levels = (1, 2, 4, 100)[seed % 4]
    scores, targets, excluded = draw(seed, 200, 20, (1, 6)[seed // 4], levels, hidden=6)
    ranks = TargetRanks.of(scores, targets, excluded)
    liked = np.random.default_rng(seed).random(targets.shape) < 0.5
    before = {name: np.zeros(200) for name in ("hit_rate", "recall", "mrr")}
    for k in (1, 2, 5, 10, 30):
        value = {name: metric(ranks, k) for name, metric in AT_K.items()}
        hit, most = value["hit_rate"], np.minimum(ranks.num_targets, k)
        assert all((found >= 0).all() and (found <= hit + 1e-12).all() for found in value.values())
        assert (hit / k <= value["mrr"] + 1e-12).all()
        assert (value["map over targets"] <= value["map"] + 1e-12).all()
        assert (value["recall"] <= most / ranks.num_targets + 1e-12).all()
        assert (metrics.satisfaction(ranks, liked, k) <= hit + 1e-12).all()
        np.testing.assert_allclose(metrics.satisfaction(ranks, liked | True, k), hit, rtol=0, atol=1e-12)
        assert not metrics.satisfaction(ranks, liked & False, k).any()
        one = ranks.num_targets == 1
        np.testing.assert_allclose(value["precision"][one], hit[one] / k, rtol=0, atol=1e-12)
        np.testing.assert_allclose(value["recall"][one], hit[one], rtol=0, atol=1e-12)
        np.testing.assert_allclose(value["map"][one], value["mrr"][one], rtol=0, atol=1e-12)
        for name, least in before.items():  # a longer list finds no less
            assert (value[name] >= least - 1e-12).all()
            before[name] = value[name]
    np.testing.assert_allclose(metrics.reciprocal_rank(ranks), value["mrr"])  # 30 places are the whole ranking


@pytest.mark.parametrize("seed", SEEDS)
def test_precision_is_recall_with_k_targets(seed):
    scores, _, excluded = draw(seed, 50, 12, levels=4)
    targets = items_of(np.random.default_rng(seed + 50), 50, 12, 5, 5)
    ranks = TargetRanks.of(scores, targets, excluded)
    np.testing.assert_allclose(metrics.precision(ranks, 5), metrics.recall(ranks, 5), rtol=0, atol=1e-15)
    assert metrics.precision(ranks, 5).any()
    assert (metrics.average_precision(ranks, 5) == metrics.average_precision(ranks, 5, over="targets")).all()


@pytest.mark.parametrize("num_candidates", [21, 101])
def test_random_floors(num_candidates):
    """A system that tells nothing apart scores what chance does, wherever the target stands in the array."""
    targets = np.array([[1], [7], [num_candidates]])
    ranks = TargetRanks.of(np.zeros((3, num_candidates + 1)), targets)
    assert (metrics.hit_rate(ranks, 5) == 5 / num_candidates).all()
    assert (metrics.recall(ranks, 5) == 5 / num_candidates).all()
    assert (metrics.auc(ranks) == 0.5).all()
    harmonic = sum(1 / rank for rank in range(1, 6))
    assert metrics.reciprocal_rank(ranks, 5) == pytest.approx([harmonic / num_candidates] * 3)


def test_the_best_ranking_has_one_everywhere_and_the_worst_none():
    targets = np.array([[3, 5, 0], [2, 0, 0]])
    scores = np.array([[9.0, 0, 1, 3, 1, 2], [9.0, 0, 2, 1, 1, 1]])
    best, worst = TargetRanks.of(scores, targets), TargetRanks.of(-scores, targets)
    for name in ("hit_rate", "ndcg", "map"):
        assert AT_K[name](best, 2) == pytest.approx([1, 1]), name
    assert (metrics.auc(best) == 1).all()
    assert (metrics.recall(best, 2) == 1).all()
    assert (metrics.precision(best, 2) == [1, 0.5]).all()
    assert metrics.average_precision(best, 1, over="targets") == pytest.approx([0.5, 1])
    assert not any(metric(worst, 3).any() for metric in AT_K.values())
    assert metrics.auc(worst).max() == 0
    assert metrics.reciprocal_rank(worst) == pytest.approx([1 / 4, 1 / 5])


def test_a_target_that_cannot_be_reached_is_a_miss_and_in_nobodys_way():
    scores = np.array([[0, 9.0, 5, 1, 1], [0, 9.0, 5, 1, 1], [0, 9.0, 5, 1, 1]])
    targets, excluded = np.array([[1, 0], [1, 2], [2, 0]]), np.array([[1], [1], [1]])
    ranks = TargetRanks.of(scores, targets, excluded)
    assert ranks.num_higher.tolist() == [[3, 3], [3, 0], [0, 3]]
    assert ranks.num_tied.tolist() == [[1, 0], [1, 1], [1, 0]]
    for k in (1, 3, 4, 50):  # also where k is longer than the ranking
        assert [float(metric(ranks, k)[0]) for metric in AT_K.values()] == [0] * len(AT_K)
        assert (metrics.hit_rate(ranks, k) == [0, 1, 1]).all()
        assert (metrics.recall(ranks, k) == [0, 0.5, 1]).all()
    assert (metrics.reciprocal_rank(ranks) == [0, 1, 1]).all()
    assert (metrics.auc(ranks) == [0, 0.5, 1]).all()
    assert metrics.ndcg(ranks, 2)[1] == pytest.approx(1 / (1 + 1 / log2(3)))
    everything = TargetRanks.of(scores[:1], np.array([[1, 2, 3, 4]]), np.array([[4]]))
    assert np.isnan(metrics.auc(everything)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_values_follow_users_and_nothing_else(seed):
    """Padding, order of users or targets, the width of integers and any rising map of scores change nothing."""
    rng = np.random.default_rng(seed)
    scores, targets, excluded = draw(seed, 40, 15, 1 + seed % 5, 5, hidden=4)
    liked = rng.random(targets.shape) < 0.5
    found = all_values(TargetRanks.of(scores, targets, excluded), liked)

    def padded(items: np.ndarray, fill: bool = False) -> np.ndarray:
        return np.insert(items, [0, items.shape[1], items.shape[1]], fill, axis=1)

    same(all_values(TargetRanks.of(scores, padded(targets), padded(excluded)), padded(liked, True)), found)
    order = rng.permutation(40)
    same(
        all_values(TargetRanks.of(scores[order], targets[order], excluded[order]), liked[order]),
        {name: values[order] for name, values in found.items()},
    )
    same(all_values(TargetRanks.of(scores, targets[:, ::-1], excluded), liked[:, ::-1]), found)
    same(all_values(TargetRanks.of(3 * np.exp(scores.astype(float)) - 7, targets, excluded), liked), found)
    hidden = scores.copy()
    np.put_along_axis(hidden, excluded, np.nan, axis=1)  # the padding's column with them
    same(all_values(TargetRanks.of(hidden, targets, excluded), liked), found)
    ranks = TargetRanks.of(scores, targets, excluded)
    narrow = TargetRanks(
        *(counts.astype(np.int32) for counts in (ranks.num_higher, ranks.num_tied, ranks.num_candidates))
    )
    same(all_values(narrow, liked), found)
    num_higher = np.where(
        ranks.num_tied > 0, ranks.num_higher, rng.integers(0, 2, targets.shape)
    )  # padding may hold anything
    same(all_values(TargetRanks(num_higher, ranks.num_tied, ranks.num_candidates), liked), found)


def test_a_reversed_list_keeps_the_hit_rate_and_changes_the_reciprocal_rank():
    rng = np.random.default_rng(0)
    ranks = rng.permuted(np.tile(np.arange(1, 31), (300, 1)), axis=1)
    targets = items_of(rng, 300, 30, 1, 1)
    forward, backward = (
        TargetRanks.of(np.insert(-order, 0, 0, axis=1), targets)
        for order in (ranks, np.where(ranks < 7, 7 - ranks, ranks))
    )
    for unordered in (metrics.hit_rate, metrics.precision, metrics.recall):
        assert (unordered(forward, 6) == unordered(backward, 6)).all()
    hit = metrics.hit_rate(forward, 6) > 0
    assert 0 < hit.sum() < 300
    for ordered in (metrics.reciprocal_rank, metrics.ndcg, metrics.average_precision):
        assert ((ordered(forward, 6) != ordered(backward, 6)) == hit).all()  # six places have no middle


@pytest.mark.parametrize("seed", SEEDS)
def test_full_ranking_is_never_easier_than_sampled_candidates(seed):
    scores, targets, _ = draw(seed, 100, 40, 1, (2, 10, 1000)[seed % 3])
    full = TargetRanks.of(scores, targets)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        drawn = rng.random((100, 41)) < 0.3
        np.put_along_axis(drawn, targets, True, axis=1)
        sampled = TargetRanks.of(scores, targets, np.where(drawn, 0, np.arange(41)))
        for name, metric in AT_K.items():
            assert (metric(full, 5) <= metric(sampled, 5) + 1e-12).all(), name
        assert metrics.hit_rate(sampled, 5).mean() > metrics.hit_rate(full, 5).mean()


def test_satisfaction_counts_only_what_was_liked():
    scores = np.array([[0.0, 4, 3, 2, 1]])
    ranks = TargetRanks.of(scores, np.array([[1, 2]]))
    liked = np.array([[False, True]])
    assert [metrics.satisfaction(ranks, liked, k)[0] for k in (1, 2, 3)] == [0, 1, 1]
    with pytest.raises(ValueError, match="liked must be bool"):
        metrics.satisfaction(ranks, liked.astype(int), 1)
    with pytest.raises(ValueError, match="liked must be bool"):
        metrics.satisfaction(ranks, liked[:, :1], 1)


def test_no_users_have_no_values():
    ranks = TargetRanks.of(np.zeros((0, 4)), np.zeros((0, 2), int))
    assert all(values.shape == (0,) for values in all_values(ranks, np.zeros((0, 2), bool)).values())


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scores": np.zeros(4)}, "scores must be"),
        ({"scores": np.zeros((2, 1))}, "scores must be"),
        ({"scores": np.array([[0, 1, 2, np.nan], [0, 1, 2, 3]])}, "item 3 in row 0 is nan"),
        ({"scores": np.array([[0, 1, 2, 3], [0, -np.inf, 2, 3]])}, "item 1 in row 1 is -inf"),
        ({"targets": np.array([[1], [2], [3]])}, "targets are of 3 users, scores of 2"),
        ({"targets": np.array([1, 2])}, "targets must be a table"),
        ({"targets": np.array([[1.0], [2.0]])}, "targets must be a table"),
        ({"targets": np.array([[1], [4]])}, "targets, row 1: item 4 does not exist: items are 1..3"),
        ({"targets": np.array([[-1], [2]])}, "targets, row 0: item -1 does not exist"),
        ({"targets": np.array([[1, 2, 0], [3, 2, 3]])}, "targets, row 1: item 3 occurs twice"),
        ({"targets": np.array([[1, 2], [0, 0]])}, "row 1 of the target ranks: the user has no target"),
        ({"excluded": np.array([[4], [0]])}, "excluded, row 0: item 4 does not exist"),
        ({"excluded": np.array([[1]])}, "excluded are of 1 users, scores of 2"),
    ],
)
def test_wrong_arrays_are_named(change, match):
    scores = np.array([[0.0, 1, 2, 3], [0.0, 3, 2, 1]])
    arrays = {"scores": scores, "targets": np.array([[1, 0], [2, 3]]), "excluded": None}
    TargetRanks.of(**arrays)
    with pytest.raises(ValueError, match=match):
        TargetRanks.of(**arrays | change)


@pytest.mark.parametrize(
    ("num_higher", "num_tied", "num_candidates", "match"),
    [
        ([[0.0]], [[1]], [5], "num_higher must hold"),
        ([[0], [1]], [[1]], [5], r"must be \(N, M\)"),
        ([[0]], [[1]], [5, 5], r"must be \(N, M\)"),
        ([[0]], [[0]], [5], "no target"),
        ([[-1]], [[1]], [5], "negative"),
        ([[4]], [[2]], [5], "exceeds num_candidates"),
        ([[6]], [[1]], [5], "exceeds num_candidates"),
        ([[2, 2]], [[1, 1]], [5], "more targets than candidates are tied"),
    ],
)
def test_impossible_ranks_are_refused(num_higher, num_tied, num_candidates, match):
    with pytest.raises(ValueError, match=match):
        TargetRanks(np.array(num_higher), np.array(num_tied), np.array(num_candidates))


@pytest.mark.parametrize("k", [0, -1, 2.5, "5"])
def test_k_is_a_whole_number_from_1_on(k):
    ranks = TargetRanks.of(np.zeros((1, 3)), np.array([[1]]))
    for metric in (*AT_K.values(), lambda ranks, k: metrics.satisfaction(ranks, np.array([[True]]), k)):
        with pytest.raises(ValueError, match="the cut-off k must be an integer"):
            metric(ranks, k)
        assert metric(ranks, np.int64(2)) == metric(ranks, 2)
    with pytest.raises(ValueError, match="over"):
        metrics.average_precision(ranks, 2, over="k")


# Beyond accuracy ------------------------------------------------------------------------------------------------------


def draw_lists(seed: int, num_users: int = 12, num_items: int = 9, width: int = 4) -> np.ndarray:
    return items_of(np.random.default_rng(seed), num_users, num_items, width, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_list_metrics_equal_their_double_loops(seed):
    rng = np.random.default_rng(seed)
    lists, histories = draw_lists(seed), rng.integers(0, 10, (12, 6))
    if seed == 0:
        histories[0] = lists[1] = 0  # a user without history, and one without a list
    counts, vectors = rng.integers(0, 50, 10), rng.standard_normal((10, 3))
    vectors[rng.integers(1, 10)] = 0
    rows = [[int(item) for item in row if item] for row in lists]
    assert metrics.coverage(lists, 9) == len(set().union(*rows)) / 9

    longest = max(map(len, rows))
    shares = [1 - len(set(one) & set(other)) / longest for one, other in combinations(rows, 2)]
    assert metrics.inter_list_diversity(lists) == pytest.approx(np.mean(shares), abs=1e-12)

    def mean(values: list[float]) -> float:
        return float(np.mean(values)) if values else np.nan

    unit = {i: vectors[i] / np.linalg.norm(vectors[i]) for i in range(1, 10) if vectors[i].any()}
    intra = [mean([1 - unit[a] @ unit[b] for a, b in combinations([i for i in row if i in unit], 2)]) for row in rows]
    np.testing.assert_allclose(metrics.intra_list_diversity(lists, vectors), intra, rtol=0, atol=1e-12)
    rare = [mean([-log2((counts[item] + 1) / 61) for item in row]) for row in rows]
    np.testing.assert_allclose(metrics.novelty(lists, counts, 60), rare, rtol=0, atol=1e-12)
    own = [mean([counts[item] for item in row if item]) for row in histories]
    lift = [(mean([counts[item] for item in row]) - mine) / mine for row, mine in zip(rows, own, strict=True)]
    np.testing.assert_allclose(metrics.popularity_bias(lists, counts, histories), lift, rtol=0, atol=1e-12)
    np.testing.assert_allclose(metrics.popularity_bias(lists, 7 * counts, histories), lift, rtol=0, atol=1e-12)

    wide = np.insert(lists, [0, 2, 4], 0, axis=1)  # padding never counts, and nobody looks at its row
    other, fake = counts.copy(), vectors.copy()
    other[0], fake[0] = 40, np.nan
    for metric, plain, changed in (
        (metrics.coverage, (9,), (9,)),
        (metrics.inter_list_diversity, (), ()),
        (metrics.intra_list_diversity, (vectors,), (3 * fake,)),
        (metrics.novelty, (counts, 60), (other, 60)),
        (metrics.popularity_bias, (counts, histories), (other, np.insert(histories, [0, 6], 0, axis=1))),
    ):
        np.testing.assert_allclose(metric(wide, *changed), metric(lists, *plain), rtol=0, atol=1e-12)


def test_no_list_is_less_novel_than_the_most_popular():
    counts = np.array([0, 5, 17, 3, 0, 9, 30, 17])
    lists = np.array(list(combinations(range(1, 8), 3)))
    novelty = metrics.novelty(lists, counts, 30)
    assert sorted(lists[novelty.argmin()]) == [2, 6, 7]
    assert sorted(lists[novelty.argmax()]) == [1, 3, 4]
    assert (novelty > 0).all()
    bits = metrics.novelty(np.array([[6], [4], [1]]), np.array([0, 3, 0, 0, 0, 0, 7]), 7)
    assert (bits == [0, 3, 1]).all()  # everybody, nobody, half


def test_diversity_knows_its_two_kinds():
    """A popularity list may be varied within, and is the same for all; content-based lists the other way round."""
    vectors = np.array([[0, 0], [1.0, 0], [5.0, 0], [0, 1.0], [0, 3.0], [-2.0, 0]])
    popular, content = np.array([[1, 3], [3, 1], [1, 3]]), np.array([[1, 2], [3, 4]])
    assert metrics.inter_list_diversity(popular) == 0
    assert metrics.intra_list_diversity(popular, vectors) == pytest.approx([1, 1, 1])
    assert metrics.inter_list_diversity(content) == 1
    assert metrics.intra_list_diversity(content, vectors) == pytest.approx([0, 0])
    assert metrics.intra_list_diversity(np.array([[1, 5]]), vectors) == pytest.approx([2])
    for seed in SEEDS:  # rounding makes no negative diversity
        same_way = np.tile(np.random.default_rng(seed).standard_normal(2), (6, 1))
        assert 0 <= metrics.intra_list_diversity(np.array([[1, 2, 3, 4, 5]]), same_way)[0] < 1e-12
    for nothing in (popular[:1], np.zeros((3, 2), int)):
        assert np.isnan(metrics.inter_list_diversity(nothing))


def test_many_lists_are_counted_in_batches():
    lists, vectors = draw_lists(0, 2 * metrics.BATCH + 7), np.random.default_rng(0).standard_normal((10, 3))
    whole = metrics.intra_list_diversity(lists, vectors)
    np.testing.assert_array_equal(whole[-3:], metrics.intra_list_diversity(lists[-3:], vectors))
    np.testing.assert_array_equal(
        whole[metrics.BATCH - 1 : metrics.BATCH + 2],
        metrics.intra_list_diversity(lists[metrics.BATCH - 1 : metrics.BATCH + 2], vectors),
    )


def test_popularity_bias_is_zero_for_what_the_user_takes_anyway():
    counts = np.array([0, 10, 20, 40, 0])
    histories = np.array([[1, 2, 0], [0, 2, 2], [1, 1, 1], [4, 4, 0]])
    lists = np.array([[2, 1], [3, 0], [4, 0], [1, 2]])
    np.testing.assert_array_equal(metrics.popularity_bias(lists, counts, histories), [0, 1, -1, np.nan])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: metrics.coverage(np.array([[1, 5]]), 4), "row 0: item 5 does not exist: items are 1..4"),
        (lambda: metrics.coverage(np.array([[1, 2], [3, 3]]), 4), "lists, row 1: item 3 occurs twice"),
        (lambda: metrics.inter_list_diversity(np.array([[-1]])), "item -1 does not exist: items start at 1"),
        (lambda: metrics.intra_list_diversity(np.array([[3]]), np.zeros((3, 2))), "items are 1..2"),
        (lambda: metrics.intra_list_diversity(np.array([[1]]), np.array([[0], [np.nan]])), "finite"),
        (lambda: metrics.novelty(np.array([[1]]), np.array([0, 9]), 8), "item 1 counts 9 users of 8"),
        (lambda: metrics.novelty(np.array([[1]]), np.array([0, -1]), 8), "counts must be"),
        (lambda: metrics.popularity_bias(np.array([[1]]), np.ones(3), np.ones((2, 1), int)), "histories are of 2"),
        (lambda: metrics.popularity_bias(np.array([[1]]), np.ones(3), np.array([[3]])), "histories, row 0: item 3"),
    ],
)
def test_wrong_lists_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()

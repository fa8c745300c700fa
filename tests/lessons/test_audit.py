"""The audit of a row: real lists are possible, bounds are those of an enumeration, contradictions are minimal."""

from itertools import combinations, combinations_with_replacement

import numpy as np
import pytest

from mmrec_helpers.lessons.audit import (
    METRICS,
    POSSIBLE,
    Outcomes,
    distance,
    explain,
    implied_range,
    outcomes_of,
    smallest_contradiction,
    value_ranges,
)

NAMES = ["HR@5", "P@5", "R@5", "NDCG@5", "MRR@5", "MAP@5", "MRR", "NDCG@3"]
LISTS = outcomes_of(5, 1, 4)


def random_row(rng, length=30, users=20):
    """Rounded means of lists whose hits are known beyond rank 5."""
    num_relevant = rng.integers(1, 5, users)
    hits = np.zeros((users, length), bool)
    for own, n in zip(hits, num_relevant, strict=True):
        own[rng.choice(length, n, replace=False)] = True
    whole = Outcomes(hits, num_relevant)
    return {name: round(float(value_ranges(name, whole)[0].mean()), 3) for name in NAMES}


def test_real_lists_are_possible():
    rng = np.random.default_rng(0)
    for _ in range(40):
        assert distance(random_row(rng), LISTS, 0.001) <= POSSIBLE


def test_outcomes_are_all_and_different():
    whole = outcomes_of(4, 1, 3)
    rows = {(*hits, n) for hits, n in zip(whole.hits.tolist(), whole.num_relevant.tolist(), strict=True)}
    assert len(rows) == len(whole.hits) == 5 + 11 + 15
    assert (whole.hits.sum(1) <= whole.num_relevant).all()
    complete = outcomes_of(4, 2, 2, complete=True)
    assert len(complete.hits) == 6
    assert (complete.hits.sum(1) == 2).all()


def test_complete_lists_leave_no_range():
    whole = outcomes_of(6, 1, 2, complete=True)
    for name in ("MRR", "MAP", "NDCG", "AUC"):
        low, high = value_ranges(name, whole)
        np.testing.assert_allclose(low, high)
    assert METRICS["AUC"](whole.hits, whole.num_relevant).min() == 0


def test_auc_needs_all_candidates():
    with pytest.raises(ValueError, match="AUC needs all candidates"):
        value_ranges("AUC", LISTS)


def test_the_range_without_a_cutoff_is_what_lists_can_have():
    at_two = outcomes_of(2, 1, 2)
    longer = outcomes_of(9, 1, 2)
    for name in ("MRR", "MAP"):
        low, high = value_ranges(name, at_two)
        value = METRICS[name](longer.hits, longer.num_relevant)
        for row, (hits, n) in enumerate(zip(at_two.hits, at_two.num_relevant, strict=True)):
            same = (longer.hits[:, :2] == hits).all(1) & (longer.num_relevant == n)
            assert low[row] == pytest.approx(value[same].min())
            assert high[row] == pytest.approx(value[same].max())


def test_implied_range_is_that_of_all_tables():
    """Every table of six users, enumerated: those with the given hit rate have no mean outside, and reach both ends."""
    whole = outcomes_of(2, 1, 2)
    values = {name: value_ranges(name, whole)[0] for name in ("HR@2", "R@2", "NDCG@2")}
    users = np.array(list(combinations_with_replacement(range(7), 6)))
    means = {name: value[users].mean(1) for name, value in values.items()}
    with_rate = np.isclose(means["HR@2"], 0.5)
    for name in ("R@2", "NDCG@2"):
        ends = implied_range({"HR@2": 0.5}, whole, 1e-9, values[name])
        found = means[name][with_rate]
        np.testing.assert_allclose(ends, [found.min(), found.max()], atol=1e-6)
    np.testing.assert_allclose(implied_range({}, whole, 1, values["R@2"]), [0, 1])


@pytest.mark.parametrize(
    "row",
    [
        {"HR@5": 0.08, "P@5": 0.066, "NDCG@5": 0.129, "MRR": 0.075, "MAP@5": 0.033},
        {"HR@5": 0.137, "P@5": 0.031, "MRR": 0.121, "NDCG@5": 0.132},
        {"HR@5": 1.2, "MRR@5": 0.5},
    ],
)
def test_a_smallest_contradiction_is_impossible_and_its_parts_are_possible(row):
    lists = outcomes_of(5, 1, 20)
    part = smallest_contradiction(row, lists, 0.001)
    assert distance(part, lists, 0.001) > POSSIBLE
    for names in combinations(part, len(part) - 1):
        assert not names or distance({name: part[name] for name in names}, lists, 0.001) <= POSSIBLE
    assert f"not {list(part.values())[-1]:g}" in explain(row, lists, 0.001)


def test_a_possible_row_has_no_contradiction():
    row = random_row(np.random.default_rng(1))
    assert smallest_contradiction(row, LISTS, 0.001) == {}
    assert explain(row, LISTS, 0.001) == ""

"""Lesson 1: windows and hits against brute force; what the leakage lab needs of a data set."""

from dataclasses import replace

import numpy as np
import pytest

from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.evaluation.metrics import TargetRanks, hit_rate
from mmrec_helpers.lessons.exploration import bootstrap_interval, exclude, hit_at_k, leakage_lab, window_scores
from mmrec_helpers.pocket_shop.shop import load_shop


def test_window_scores_equal_brute_force_where_moments_are_shared():
    rng = np.random.default_rng(0)
    items, days = rng.integers(1, 6, 200), np.sort(rng.integers(0, 9, 200))
    moments = rng.integers(0, 9, 30)
    found = window_scores(items, days * 86400, moments * 86400, (-2, 1), num_items=5)
    assert found.tolist() == [
        [int(((items == item) & (days >= moment - 2) & (days < moment + 1)).sum()) for item in range(6)]
        for moment in moments
    ]


def test_hits_leave_out_the_history_and_leave_the_scores_as_they_are():
    scores = np.array([[0, *range(12, 0, -1)]])  # item 1 best, item 12 worst
    before = scores.copy()
    assert hit_at_k(exclude(scores, np.array([[0, 3]])), np.array([11]), 10) == [1]
    assert hit_at_k(exclude(scores, np.array([[0, 3]])), np.array([12]), 10) == [0]
    assert (scores == before).all()


def test_hits_are_those_of_the_metrics():
    rng = np.random.default_rng(0)
    scores, histories = rng.integers(0, 30, (200, 41)), rng.integers(0, 41, (200, 5))
    targets = rng.integers(1, 41, 200)  # some of them in the history
    for k in (1, 10):
        ranks = TargetRanks.of(scores, targets[:, None], histories)
        assert np.array_equal(hit_at_k(exclude(scores, histories), targets, k), hit_rate(ranks, k))


def test_the_bootstrap_of_columns_is_that_of_each_column():
    values = np.random.default_rng(0).random((80, 2))
    intervals = bootstrap_interval(values)
    for column in range(2):
        np.testing.assert_allclose(intervals[:, column], bootstrap_interval(values[:, column]))


@pytest.fixture(scope="module")
def shop():
    return load_shop(size="tiny")[0]


def test_the_lab_tries_no_window_longer_than_the_times(shop):
    found = leakage_lab(shop, days=(10, 20))
    again = leakage_lab(shop, days=(10, 20, 10**5))
    for name, (days, hits) in found.items():
        assert again[name][0] == days
        assert np.array_equal(again[name][1], hits)


def test_the_lab_is_not_available_without_times_or_users_to_test(shop):
    frame = shop.interactions
    week = replace(shop, interactions=frame.assign(time=frame["time"] % (7 * 86400)))
    first_two = shop.select_interactions((frame.groupby("user").cumcount() < 2).to_numpy())
    for dataset, reason in (
        (replace(shop, timed=False), "has orders, not times"),
        (week, r"span 7 days, fewer than the 10 needed"),
        (first_two, "No user has enough interactions"),
    ):
        with pytest.raises(NotAvailable, match=reason):
            leakage_lab(dataset)

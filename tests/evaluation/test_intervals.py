"""intervals.py: the bootstrap of chapter 1, and how an interval is printed."""

import numpy as np

from mmrec_helpers.evaluation.intervals import format_interval, mean_interval
from mmrec_helpers.lessons.exploration import bootstrap_interval


def test_the_interval_is_around_the_mean():
    values = np.random.default_rng(0).random(500)
    mean, low, high = mean_interval(values)
    assert mean == values.mean()
    assert [low, high] == bootstrap_interval(values).tolist()
    assert low < mean < high
    assert high - low < 0.1


def test_an_interval_is_printed_with_three_digits():
    assert format_interval([0.12345, 0.1, 0.2]) == "0.123 (0.100\xa0to\xa00.200)"
    assert format_interval([0.0, -1e-9, 0.2, 0.03]) == "0.000 (0.000\xa0to\xa00.200)"  # p and more may follow

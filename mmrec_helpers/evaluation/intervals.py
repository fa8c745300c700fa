"""Means of per-user values with the 95 % bootstrap intervals of chapter 1."""

from collections.abc import Sequence

import numpy as np

from mmrec_helpers.lessons.exploration import bootstrap_interval


def mean_interval(values: np.ndarray) -> list[float]:
    """Mean of (N,) per-user values, and the ends of its 95 % interval."""
    return [float(values.mean()), *bootstrap_interval(values).tolist()]


def format_interval(interval: Sequence[float]) -> str:
    """A mean and its interval, (3,) or more, as a table shows them; the interval stays on one line."""
    return "{} ({}\xa0to\xa0{})".format(*(f"{number:z.3f}" for number in interval))

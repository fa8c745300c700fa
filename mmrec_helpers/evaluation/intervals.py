"""Bootstrap intervals."""

import numpy as np


def bootstrap_means(values: np.ndarray, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """(draws, S) means of (N, S) per-user values over users drawn with replacement, the same users for all columns.

    The columns are paired: a difference of two of them is a difference on the same users {cite}`efron1979bootstrap`.
    """
    rng, num = np.random.default_rng(seed), len(values)
    means = np.empty((draws, values.shape[1]))
    for draw in range(draws):
        means[draw] = np.bincount(rng.integers(num, size=num), minlength=num) @ values
    return means / num

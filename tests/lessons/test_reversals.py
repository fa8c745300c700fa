"""Chapter 3's filter of rank reversals is the paired interval of each pair of systems."""

import numpy as np
import pandas as pd

from mmrec_helpers.lessons.reversals import significant_order


def test_the_order_is_that_of_paired_intervals():
    rng = np.random.default_rng(0)
    common = rng.normal(size=500)  # of each user: paired differences do not contain it
    means = {"a": 0.0, "b": 0.1, "c": 0.1}
    values = pd.DataFrame({name: common + mean + 0.2 * rng.normal(size=500) for name, mean in means.items()})
    order = significant_order(values)
    for i, one in enumerate(values):
        for j, other in enumerate(values):
            gap = values[one] - values[other]
            error = 1.96 * gap.std() / len(gap) ** 0.5
            assert order[i, j] == np.sign(gap.mean()) * (abs(gap.mean()) > error)
    assert order[0, 1] == -1
    unpaired = 1.96 * ((values["a"].var() + values["b"].var()) / 500) ** 0.5
    assert (values["b"] - values["a"]).mean() < unpaired, "unpaired intervals would not separate the two"

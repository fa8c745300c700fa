"""`make results` makes again what is recorded: two cheap cells of chapter 3 on the first shop."""

import numpy as np
import pytest

from experiments import runner
from experiments.datasets import LEAVE_ONE_OUT, POCKET
from experiments.record import RESULTS
from mmrec_helpers.evaluation.intervals import mean_interval
from mmrec_helpers.evaluation.runs import RANKS, load_runs


@pytest.mark.parametrize("system", ["popularity", "item-kNN"])
def test_a_recorded_cell_is_recomputed(results, system):
    """By the job that the command runs: the same rank of each user's target, and a mean within the interval."""
    where = {"data": POCKET, "seed": 0, "split": LEAVE_ONE_OUT, "part": "test", "protocol": "full", "system": system}
    (recorded,) = load_runs(RESULTS / "ch03.parquet", **where)
    planned = runner.study_of("ch03").plan(load_runs(RESULTS / "ch03.parquet", part="valid"))
    (cell,) = [cell for cell in planned if all(getattr(cell, name) == own for name, own in where.items())]
    runner.run_job([cell], "test")
    (again,) = load_runs(runner.cell_file(cell))
    for name in RANKS:
        np.testing.assert_array_equal(getattr(again.target_ranks, name), getattr(recorded.target_ranks, name))
    np.testing.assert_array_equal(again.users, recorded.users)
    _, low, high = mean_interval(recorded.metric("NDCG@10"))
    assert low < again.metric("NDCG@10").mean() < high
    assert again.stamp["fingerprint"] == recorded.stamp["fingerprint"]

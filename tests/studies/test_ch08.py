"""Rows whose lists exist are never flagged; wrong ones often are."""

from pathlib import Path

from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.lessons.audit import POSSIBLE
from mmrec_helpers.studies.ch08 import audit_samples

RECORD = Path(__file__).resolve().parents[2] / "book" / "results" / "ch03.parquet"


def test_real_rows_are_possible_and_wrong_ones_often_are_not():
    runs = [run for run in load_runs(RECORD, part="test") if run.target_ranks]
    assert (audit_samples(runs, 60) <= POSSIBLE).all()
    assert (audit_samples(runs, 60, wrong=True) > POSSIBLE).mean() > 0.5

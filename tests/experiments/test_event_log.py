"""event_log.py: what a cell counts and measures, on a shop of the tiny size."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from experiments import event_log
from experiments.event_log import CELL, count_events, measured, run_event_log
from experiments.record import stamped
from mmrec_helpers.pocket_shop.events import EVENTS, sample_events, write_events
from mmrec_helpers.pocket_shop.shop import SIZES, load_shop


@pytest.fixture(scope="module")
def run():
    return run_event_log(replace(CELL, data="tiny"))


def test_a_cell_counts_products_users_and_events_by_kind(run):
    truth = load_shop(size="tiny")[1]
    log = sample_events(truth)
    assert {name: run.scalars[name] for name in EVENTS} == log["event"].value_counts().to_dict()
    assert (run.scalars["products"], run.scalars["users"]) == SIZES["tiny"]
    assert run.scalars["image ms"] > 0
    assert 0 < run.scalars["file bytes"] < log.memory_usage(deep=True).sum()


def test_the_file_is_read_in_pieces(tmp_path, monkeypatch):
    truth = load_shop(size="tiny")[1]
    write_events(truth, tmp_path / "events.parquet")
    for rows in (7_000, 10**9):
        monkeypatch.setattr(event_log, "ROWS", rows)
        assert count_events(tmp_path / "events.parquet") == Counter(sample_events(truth)["event"])


def test_each_stage_has_seconds_and_a_peak_of_its_own():
    scalars = {}
    for name, megabytes in (("large", 400), ("small", 10)):
        with measured(name, scalars):
            np.ones(megabytes * 10**6, np.uint8)
    assert scalars["large seconds"] > scalars["small seconds"] > 0
    assert scalars["large peak bytes"] > scalars["small peak bytes"] + 300e6


def test_the_stamp_has_the_highest_peak_of_all_stages(run):
    peaks = [number for name, number in run.scalars.items() if name.endswith("peak bytes")]
    assert len(peaks) == 6
    assert stamped(run, CELL, "").stamp["cost"]["peak_bytes"] >= max(peaks)

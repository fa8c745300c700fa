"""runs.py: records give back what was recorded, whole or not at all; metrics by name; metrics of lists."""

import json
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiments.systems import list_metrics
from mmrec_helpers.evaluation import metrics, runs
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.runs import CELL, RANKS, Run, load_runs, save_runs
from tests.evaluation.random_data import NUM_ITEMS, Scores, random_scores

METRICS = ("HR@10", "NDCG@5", "MRR", "MRR@5", "MAP@5", "P@5", "R@5", "AUC")


def stamped(run: Run, **cell) -> Run:
    """The run as a recorder keeps it, with the fields of its cell."""
    own = {"study": "ch00", "data": "random", "seed": 0, "split": "leave-one-out", "part": "test", "protocol": "full"}
    return replace(run, stamp=run.stamp | own | {"system": "scores", "hyperparameters": {}} | cell)


@pytest.fixture(scope="module")
def recorded(split):
    """A run of several targets with padding, others of one target, and one that ranks nothing."""
    system = Scores(random_scores(levels=8))
    padded = evaluate(system, split.dataset.temporal_split(0.4, 0.1), num_targets=3)
    assert set((padded.targets > 0).sum(axis=1)) == {1, 2, 3}
    warmth = np.random.default_rng(0).random(len(padded.users))
    padded = replace(padded, values={"warmth": warmth, "b": -padded.targets[:, 0] / 3})
    some = [evaluate(Scores(random_scores(seed)), split) for seed in range(4)]
    hyperparameters = [{"lr": 0.1, "weights": [1, 0.5]}, {"lr": 0.2, "weights": [1, 0.5]}, {}, {}]
    none, values = np.zeros((0, 0), np.int64), {"x": np.array([0.1, np.nan, 1e300])}
    return [
        stamped(padded, system="padded", cost={"fit seconds": 1.5}),
        *(stamped(run, seed=seed, hyperparameters=hyperparameters[seed]) for seed, run in enumerate(some)),
        stamped(Run(np.zeros(0, int), none, none, None, scalars={"nested": {"a": [1, 0.1, None]}}), data="other"),
        stamped(Run(np.arange(3), none, np.zeros((3, 0), int), None, values=values), part=""),
    ]


@pytest.fixture
def file(recorded, tmp_path):
    save_runs(tmp_path / "results" / "ch00.parquet", recorded)
    return tmp_path / "results" / "ch00.parquet"


def assert_equal(one: Run, other: Run) -> None:
    """Equal to the bit, but for the lists, which are not recorded."""
    for name in ("users", "targets"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.target_ranks is None) == (other.target_ranks is None)
    for name in RANKS if one.target_ranks else ():
        np.testing.assert_array_equal(getattr(one.target_ranks, name), getattr(other.target_ranks, name))
    assert one.stamp == other.stamp
    assert one.scalars == other.scalars
    assert one.values.keys() == other.values.keys()
    for name, values in one.values.items():
        np.testing.assert_array_equal(values, other.values[name])


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_recorded_run_is_what_was_recorded(recorded, file):
    read = load_runs(file)
    assert len(read) == len(recorded)
    for one, other in zip(read, recorded, strict=True):
        assert_equal(one, other)
        assert one.lists.shape == (len(one.users), 0)
        for metric in METRICS if one.target_ranks else ():
            np.testing.assert_array_equal(one.metric(metric), other.metric(metric))
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    before = file.read_bytes()
    save_runs(file, read)  # what is read can be written again, and is the same file
    assert file.read_bytes() == before


def test_numbers_of_numpy_are_recorded_as_plain_ones(recorded, tmp_path):
    run = replace(recorded[0], scalars={"a": np.float32(0.5), "b": {"c": [np.int64(3)]}})
    save_runs(tmp_path / "one.parquet", [run])
    assert load_runs(tmp_path / "one.parquet")[0].scalars == {"a": 0.5, "b": {"c": [3]}}


def test_a_record_may_be_empty(tmp_path):
    save_runs(tmp_path / "none.parquet", [])
    assert load_runs(tmp_path / "none.parquet") == []


def test_runs_are_chosen_by_the_fields_of_their_cell(recorded, file):
    for where in (
        *({name: run.stamp[name]} for name in CELL for run in recorded),
        {"seed": (1, 3)},
        {"system": ["padded", "nobody"], "seed": range(2)},
        {"data": {"other"}},
        {"system": "scores", "seed": 2, "part": "test"},
        {"hyperparameters": {"weights": [1, 0.5], "lr": 0.2}, "part": "test"},
    ):
        wanted = [
            run
            for run in recorded
            if all(
                run.stamp[name] == value or (not isinstance(value, str | int | dict) and run.stamp[name] in value)
                for name, value in where.items()
            )
        ]
        read = load_runs(file, **where)
        assert [run.stamp for run in read] == [run.stamp for run in wanted], where


@pytest.mark.parametrize("broken", ["_row", "pq.write_table"])
def test_a_record_that_cannot_be_written_leaves_the_old_one(recorded, file, monkeypatch, broken):
    before = file.read_bytes()
    monkeypatch.setattr(f"mmrec_helpers.evaluation.runs.{broken}", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_runs(file, recorded[:1])
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_errors_name_the_file_and_the_fix(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.parquet: there are no recorded runs; `make results` makes them"):
        load_runs(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="runs are not chosen by colour, model; there are study, data, seed"):
        load_runs(file, colour="red", model="x", seed=0)
    with pytest.raises(ValueError, match=r"ch00.parquet has no runs with data='movielens', seed=0"):
        load_runs(file, data="movielens", seed=0)
    pq.write_table(pa.table({"user": [1]}), tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("{}")
    for name in ("other", "text"):
        with pytest.raises(ValueError, match=f"{name}.parquet .*make it again by `make results`"):
            load_runs(tmp_path / f"{name}.parquet")


def test_damage_is_refused_wherever_it_is(recorded, file):
    """One wrong bit, or a lost end: the record is refused, or the bit was not of the runs."""
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:size] for size in rng.integers(len(whole), size=20)]
    for place in rng.integers(len(whole), size=150).tolist():
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :])
    refused = 0
    for data in damaged:
        file.write_bytes(data)
        with suppress(ValueError):
            for one, other in zip(load_runs(file), recorded, strict=True):
                assert_equal(one, other)
            continue
        refused += 1
    assert refused > 100


# Metrics --------------------------------------------------------------------------------------------------------------


def test_unknown_metrics_are_refused(recorded):
    for name in ("HR", "HR@0", "AUC@5", "hits@5", "HR@five", "warmth@10"):
        with pytest.raises(ValueError, match=f"there is no metric '{name}'; there are AUC, MRR .*NDCG.*warmth"):
            recorded[0].metric(name)
    with pytest.raises(ValueError, match="scores ranks nothing and has no 'HR@10'; it has x"):
        recorded[-1].metric("HR@10")


def test_numbers_of_the_users_are_metrics_by_their_name(recorded):
    assert recorded[0].metric("warmth") is recorded[0].values["warmth"]
    assert np.isnan(recorded[-1].metric("x")).tolist() == [False, True, False]


def test_metrics_of_lists_are_those_of_the_metrics_module(split):
    run = evaluate(Scores(random_scores()), split)
    vectors = np.random.default_rng(0).normal(size=(NUM_ITEMS + 1, 5))
    train = split.interactions("train")
    users_of = [set(train["user"][train["item"] == item]) for item in range(NUM_ITEMS + 1)]
    for k in (5, 10):
        lists = run.lists[:, :k]
        novelty = metrics.novelty(lists, np.array([len(users) for users in users_of]), len(set().union(*users_of)))
        by_hand = {
            f"coverage@{k}": metrics.coverage(lists, NUM_ITEMS),
            f"intra-list diversity@{k}": np.nanmean(metrics.intra_list_diversity(lists, vectors)),
            f"inter-list diversity@{k}": metrics.inter_list_diversity(lists),
            f"novelty@{k}": np.nanmean(novelty),
        }
        found = list_metrics(run, split, vectors, k)
        assert found == pytest.approx(by_hand)
        assert json.loads(json.dumps(found)) == found  # plain numbers, which a record can hold


def test_a_record_holds_all_that_a_ranking_is():
    assert {one.name for one in fields(metrics.TargetRanks)} == set(RANKS) <= set(runs._SCHEMA.names)
    assert set(CELL) - {"hyperparameters"} <= set(runs._SCHEMA.names)

"""runner.py: what is missing is run and kept at once, whatever fails or is killed, by any number of workers."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments import __main__ as command
from experiments import record, runner
from experiments.cells import Cell, cell_of
from mmrec_helpers.evaluation.runs import RANKS, Run, load_runs, save_runs
from tests.experiments import fake_study
from tests.experiments.fake_study import cell, fake_run

# In this process ------------------------------------------------------------------------------------------------------


class FakeStudy:
    """A study with some cells, of which some fail; it notes what is run."""

    def __init__(self, cells: Sequence[Cell] | Callable[[Sequence[Run]], list[Cell]]) -> None:
        self.cells, self.fails, self.ran = cells, set(), []

    def plan(self, runs):
        return self.cells(runs) if callable(self.cells) else list(self.cells)

    def run(self, cells, checkpoint):
        for path in (checkpoint, checkpoint.with_suffix(".text.pt")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("half a training")
        for one in cells:
            self.ran.append(one.name)
            if one.name in self.fails:
                raise RuntimeError("no luck")
            yield one, fake_run(one)


class Pool:
    """A pool that runs each job when it is submitted, in this process; it notes the size of each pool."""

    sizes: list[int] = []  # noqa: RUF012

    def __init__(self, workers, context, initializer):
        self.sizes.append(workers)
        assert context.get_start_method() == "spawn"
        assert initializer is runner._begin

    def shutdown(self):
        pass

    def submit(self, function, *args):
        future = Future()
        try:
            future.set_result(function(*args))
        except RuntimeError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def results(monkeypatch, tmp_path):
    """Where cells are recorded: in a folder of this test."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "RUNNING", tmp_path / "running")
    monkeypatch.setattr(runner, "ProcessPoolExecutor", Pool)
    for module in (runner, record):
        monkeypatch.setattr(module, "current_commit", lambda: "c0ffee")
    monkeypatch.setattr(Pool, "sizes", [])
    return tmp_path / "results"


@pytest.fixture
def study(monkeypatch, results):
    """The study ch01 of three systems with two cells each."""
    found = FakeStudy([cell(system, protocol) for system in "abc" for protocol in ("full", "20 uniform")])
    monkeypatch.setattr(runner, "study_of", {"ch01": found}.__getitem__)
    monkeypatch.setattr(runner, "STUDIES", ("ch01",))
    return found


def run(only: str = "*", again: bool = False) -> dict[str, str]:
    return runner.run_studies(["ch01"], only, again, workers=2)


def names(cells: Sequence[Cell]) -> list[str]:
    return [one.name for one in cells]


def files(results: Path) -> dict[str, bytes]:
    """All files that recording leaves."""
    return {path.name: path.read_bytes() for path in results.parent.rglob("*") if path.is_file()}


def test_missing_cells_are_run_once_and_recorded_in_one_file(study, results):
    assert run() == {}
    assert study.ran == names(study.cells)
    assert set(record.recorded("ch01")) == set(names(study.cells))
    assert list(files(results)) == ["ch01.parquet"]  # no checkpoint and no single cell is left
    before = files(results)
    assert run() == {}
    assert len(study.ran) == 6
    assert files(results) == before


def test_a_pattern_names_the_cells_that_run(study, results):
    run("ch01/none-0/s/b/*")
    assert study.ran == names(study.cells[2:4])
    run("*/20 uniform")
    assert study.ran[2:] == names([study.cells[1], study.cells[5]])
    assert set(record.recorded("ch01")) == set(study.ran)
    run("ch02/*")
    assert len(study.ran) == 4


def test_again_repeats_what_matches(study, results, monkeypatch):
    run()
    for module in (runner, record):
        monkeypatch.setattr(module, "current_commit", lambda: "second")
    run("*/b/*", again=True)
    assert study.ran[6:] == names(study.cells[2:4])
    commits = {name: run.stamp["commit"] for name, run in record.recorded("ch01").items()}
    assert {name for name, commit in commits.items() if commit == "second"} == set(study.ran[6:])
    assert set(commits.values()) == {"second", "c0ffee"}
    assert list(files(results)) == ["ch01.parquet"]


def test_what_fails_is_told_and_stops_nothing_else(study, results, capsys):
    study.fails = {study.cells[1].name, study.cells[2].name}
    problems = run()
    wrong = names(study.cells[1:4])  # the second of a fitted system; the first, so that the next was not tried either
    assert problems == dict.fromkeys(wrong, "RuntimeError: no luck")
    assert set(record.recorded("ch01")) == set(names(study.cells)) - set(wrong)
    assert "3 done, 0 to do" in capsys.readouterr().out
    study.fails = set()
    assert run() == {}
    assert study.ran[-3:] == wrong
    assert list(files(results)) == ["ch01.parquet"]


def test_a_repetition_that_fails_is_told_though_an_older_result_is_there(study, results):
    run()
    save_runs(record.cell_file(study.cells[0]), [record.recorded("ch01")[study.cells[0].name]])  # as a killed one left
    study.fails = {study.cells[0].name}
    assert run(again=True) == dict.fromkeys(names(study.cells[:2]), "RuntimeError: no luck")
    assert set(record.recorded("ch01")) == set(names(study.cells))  # the old ones stay


def test_a_plan_grows_with_what_is_recorded(study, results):
    """As in tuning: what is tested depends on what was validated."""
    first, second, test = cell("a", part="valid", lr=1), cell("a", part="valid", lr=2), cell("a", lr=2)
    grown = {0: [first], 1: [first, second], 2: [first, second, test], 3: [first, second, test]}
    study.cells = lambda runs: grown[len(runs)]
    assert run() == {}
    assert study.ran == names([first, second, test])
    assert cell_of(record.recorded("ch01")[test.name]) == test


def test_cells_that_are_no_longer_planned_go_when_all_others_are_there(study, results):
    run()
    everything, study.cells = study.cells, [*study.cells[2:], cell("d")]
    run("*/b/*")
    assert set(record.recorded("ch01")) == set(names(everything))
    study.fails = {cell("d").name}
    run()
    assert set(record.recorded("ch01")) == set(names(everything))
    study.fails = set()
    run()
    assert set(record.recorded("ch01")) == set(names(study.cells))


def test_timing_cells_run_after_the_others_and_alone(study, results):
    study.cells.insert(0, cell("a", "timing", part=""))
    study.cells.insert(2, cell("b", "timing", part=""))
    assert run() == {}
    assert study.ran[-2:] == names([study.cells[0], study.cells[2]])
    assert Pool.sizes == [2, 1]


def test_a_process_a_core_is_the_default(study, results):
    runner.run_studies(["ch01"])
    assert Pool.sizes[0] == os.cpu_count()


def test_cells_of_one_system_are_one_job():
    cells = [cell("a"), cell("b", lr=1), cell("a", "20 uniform"), cell("b", lr=2), cell("a", part="valid")]
    cells.append(replace(cells[0], seed=1))
    assert runner._jobs(cells) == [[cells[0], cells[2], cells[4]], [cells[1]], [cells[3]], [cells[5]]]


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """What the command asks the runner for; one cell lacks its data, and if told so another one fails."""
    calls, problems = [], {"ch01/x": "Unavailable: set MMREC_DATA_HOME"}
    monkeypatch.setattr(command, "run_studies", lambda *arguments: calls.append(arguments) or problems)
    return calls, problems


def call(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
    command.main()


def test_the_command_runs_the_studies_that_may_match(asked, monkeypatch, capsys):
    calls, problems = asked
    call(monkeypatch)
    call(monkeypatch, "ch04/pocket-0/*", "--again", "--workers", "3")
    call(monkeypatch, "*/SASRec/*")
    everything = list(runner.STUDIES)
    assert calls == [
        (everything, "*", False, None),
        (["ch04"], "ch04/pocket-0/*", True, 3),
        (everything, "*/SASRec/*", False, None),
    ]
    assert "ch01/x: Unavailable: set MMREC_DATA_HOME" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="'typo' begins with no study; there are ch01, "):
        call(monkeypatch, "typo")
    problems["ch01/y"] = "RuntimeError: no luck"
    with pytest.raises(SystemExit, match="1 of the cells have failed"):
        call(monkeypatch)


# In processes of its own ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with the runner and no study but the fake one."""
    folder = tmp_path_factory.mktemp("tree")
    source = record.ROOT / "experiments"
    (folder / "experiments").mkdir()
    for name in ("__init__", "__main__", "cells", "record", "runner"):
        shutil.copy(source / f"{name}.py", folder / "experiments")
    shutil.copy(fake_study.__file__, folder / "experiments" / "ch01.py")
    (folder / "experiments" / "datasets.py").write_text("class Unavailable(Exception): ...\n")  # loads much
    return folder


def start(tree: Path, *arguments: str) -> subprocess.Popen:
    """The command, with a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments", "ch01*", *arguments],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(record.ROOT)},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def lines(tree: Path, word: str) -> list[str]:
    """What the study has logged of one kind, without the process."""
    found = (tree / "log").read_text().splitlines() if (tree / "log").exists() else []
    return [line.partition(f" {word} ")[2] for line in found if f" {word} " in line]


@pytest.fixture(scope="module")
def killed(tree):
    """The names of the cells that two workers had recorded when their parent was killed, with which they end."""
    (tree / "hold").touch()
    process = start(tree, "--workers", "2")
    end = time.monotonic() + 180
    while sum("held" in line and "uniform" in line for line in lines(tree, "started")) < 2:
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=60)  # until nobody holds its output
    (tree / "hold").unlink()
    files = (tree / "_build" / "results" / "ch01").glob("*.parquet")
    return [cell_of(run).name for path in files for run in load_runs(path)]


@pytest.fixture(scope="module")
def resumed(tree, killed):
    """The log and the output of one worker, which ran what was left."""
    before = (tree / "log").read_text()
    process = start(tree, "--workers", "1")
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return (tree / "log").read_text().removeprefix(before), output


def test_a_kill_loses_no_more_than_the_running_cells(tree, killed, resumed):
    """Also of a system that is fitted once for two cells, of which one was finished."""
    everything = names(fake_study.plan([]))
    held = names([cell("held 1", "20 uniform"), cell("held 2", "20 uniform")])
    assert len(killed) == 8
    assert set(killed) == set(names([cell("held 1"), cell("held 2")])) | {
        one.name for one in fake_study.plan([]) if one.system in "abc"
    }
    again = [line.partition(" started ")[2] for line in resumed[0].splitlines() if " started " in line]
    assert sorted([*killed, *again]) == sorted(everything)
    assert again[:2] == held


def test_a_killed_training_finds_its_checkpoint_and_none_is_left(tree, resumed):
    assert sorted(lines(tree, "resumed")) == ["held 1", "held 2"]
    kept = [path for path in tree.rglob("*") if path.is_file() and "experiments" not in path.parts]
    assert sorted(path.name for path in kept) == ["ch01.parquet", "lock", "log"]


def test_progress_is_told(resumed):
    told = resumed[1].splitlines()
    assert [line.partition(" min")[0][:-1] for line in told] == [f"{n} done, {4 - n} to do, " for n in range(1, 5)]
    assert all("ch01/none-0/s/" in line and "NDCG@10" in line for line in told)


def test_two_workers_one_worker_and_none_give_the_same_bits(tree, resumed):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    wanted = {one.name: fake_run(one) for one in fake_study.plan([])}
    torch.set_num_threads(threads)
    runs = {cell_of(run).name: run for run in load_runs(tree / "book" / "results" / "ch01.parquet")}
    assert runs.keys() == wanted.keys()
    for name, run in runs.items():
        for ranks in RANKS:
            np.testing.assert_array_equal(getattr(run.target_ranks, ranks), getattr(wanted[name].target_ranks, ranks))
        np.testing.assert_array_equal(run.values["norm"], wanted[name].values["norm"])
        assert run.scalars == wanted[name].scalars


def test_a_stamp_is_of_the_process_that_ran_the_cell(tree, resumed):
    """The same worker ran both, the large one first."""
    (large, *_), (small, *_) = (
        load_runs(tree / "book" / "results" / "ch01.parquet", system=name) for name in ("300 MB", "small")
    )
    workers = [line.split()[0] for line in resumed[0].splitlines()]
    assert len(set(workers)) == 1
    for run in (large, small):
        assert run.stamp["cost"]["threads"] == 1
        assert run.stamp["cost"]["fit seconds"] == 0.5
        assert run.stamp["commit"] == ""  # the tree is no repository
    if sys.platform == "linux":
        assert large.stamp["cost"]["peak_bytes"] > small.stamp["cost"]["peak_bytes"] + 2.5e8

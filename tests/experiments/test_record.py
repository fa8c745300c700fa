"""record.py: the stamp is true, and finished cells move into the file of their study without a loss."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from experiments import record
from experiments.cells import cell_of
from mmrec_helpers.evaluation.runs import load_runs, save_runs
from tests.experiments.fake_study import cell, fake_run


def test_two_processes_do_not_record_at_once(results):
    with record.alone(), pytest.raises(SystemExit, match=r"another process records in .*: wait for it"), record.alone():
        pytest.fail("both record")
    with record.alone():
        pass


# Stamps ---------------------------------------------------------------------------------------------------------------


def git(folder, *arguments):
    identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_clean_tree_is_its_commit_even_beside_new_records(tree):
    commit = record.current_commit(tree)
    assert len(commit) == 40
    (tree / "book" / "results").mkdir(parents=True)
    (tree / "book" / "results" / "ch01.parquet").write_bytes(b"PAR1")
    assert record.current_commit(tree) == commit


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_changed_tree_is_dirty(tree, name):
    commit = record.current_commit(tree)
    (tree / name).write_text("2")
    assert record.current_commit(tree) == f"{commit}-dirty"


def test_a_folder_that_is_no_repository_has_no_commit(tmp_path):
    assert record.current_commit(tmp_path) == ""


def test_the_device_names_processor_and_gpu(monkeypatch):
    monkeypatch.setattr(record.torch.cuda, "is_available", lambda: False)
    cpu = record.device_name()
    cores, _, processor = cpu.partition(" cores of ")
    assert int(cores) >= 1
    assert len(processor) > 3
    if (cpuinfo := Path("/proc/cpuinfo")).exists() and "model name" in cpuinfo.read_text():
        assert f": {processor}\n" in cpuinfo.read_text()
    monkeypatch.setattr(record.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(record.torch.cuda, "get_device_name", lambda: "Card 7")
    assert record.device_name() == f"{cpu}, Card 7"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can begin to measure anew")
def test_the_peak_is_that_since_it_was_reset():
    """In a process of its own: from one that holds much, the system may take memory back in the meantime."""
    code = """
import numpy as np
from experiments import record

record.reset_peak_memory()
before = record.peak_memory()
held = np.ones(300_000_000, np.int8)
assert record.peak_memory() > before + 2.5e8
del held
assert record.peak_memory() > before + 2.5e8
record.reset_peak_memory()
assert record.peak_memory() < before + 1e8
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_a_stamp_has_the_cell_the_process_and_what_the_run_knew():
    one = cell("a", lr=0.1, weights=[1, 0.5])
    run = record.stamped(fake_run(one), one, "c0ffee-dirty")
    assert cell_of(run) == one
    assert run.stamp["commit"] == "c0ffee-dirty"
    assert run.stamp["device"] == record.device_name()
    assert run.stamp["versions"]["torch"] == version("torch")
    assert run.stamp["fingerprint"] == "f"
    cost = run.stamp["cost"]
    assert cost["peak_bytes"] > 1e8
    assert cost["threads"] >= torch.get_num_threads()
    assert cost["fit seconds"] == 0.5


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "RUNNING", tmp_path / "running")
    return tmp_path / "results"


def finish(*cells, seconds=0.5):
    """Leave what a worker leaves of finished cells."""
    for one in cells:
        run = record.stamped(fake_run(one), one, "c0ffee")
        save_runs(record.cell_file(one), [replace(run, stamp=run.stamp | {"cost": {"fit seconds": seconds}})])


def test_finished_cells_are_recorded_at_once_and_collected_in_one_file(results):
    one, two, three = cell("a", lr=0.1), cell("a", lr=0.2), cell("b")
    assert record.recorded("ch01") == {}
    record.collect("ch01")
    assert not results.exists()
    finish(two, one)
    assert set(record.recorded("ch01")) == {one.name, two.name}
    record.collect("ch01")
    finish(three, cell("a", lr=0.1), seconds=0.7)  # one is repeated
    for found in (record.recorded("ch01"), record.collect("ch01") or record.recorded("ch01")):
        assert {name: run.stamp["cost"]["fit seconds"] for name, run in found.items()} == {
            **{one.name: 0.7, two.name: 0.5, three.name: 0.7}
        }
    assert [cell_of(run).name for run in load_runs(results / "ch01.parquet")] == sorted(
        [one.name, two.name, three.name]
    )
    assert [path for path in (results.parent / "running").rglob("*") if path.is_file()] == []


def test_the_file_does_not_depend_on_the_order_in_which_cells_finish(results):
    cells = [cell(system, protocol) for system in "abc" for protocol in ("full", "20 uniform")]
    written = []
    for order in (cells, cells[::-1]):
        (results / "ch01.parquet").unlink(missing_ok=True)
        for one in order:
            finish(one)
            if one in (cells[1], cells[4]):
                record.collect("ch01")
        record.collect("ch01")
        written.append((results / "ch01.parquet").read_bytes())
        record.collect("ch01", [one.name for one in cells])
        assert (results / "ch01.parquet").read_bytes() == written[-1]

    assert written[0] == written[1]
    record.collect("ch01", [one.name for one in cells[:2]])
    assert [run.system for run in load_runs(results / "ch01.parquet")] == ["a", "a"]


def test_a_kill_while_collecting_loses_nothing(results, monkeypatch):
    finish(cell("a"), cell("b"))
    monkeypatch.setattr(Path, "unlink", lambda *_: 1 / 0)  # written, and killed before the single cells are deleted
    with pytest.raises(ZeroDivisionError):
        record.collect("ch01")
    monkeypatch.undo()
    monkeypatch.setattr(record, "RESULTS", results)
    monkeypatch.setattr(record, "RUNNING", results.parent / "running")
    assert set(record.recorded("ch01")) == {cell("a").name, cell("b").name}
    record.collect("ch01")
    assert set(record.recorded("ch01")) == {cell("a").name, cell("b").name}


def test_files_of_cells_and_of_checkpoints_do_not_meet():
    one, same_fit, other = cell("a"), cell("a", "20 uniform"), cell("a", lr=1)
    assert len({record.cell_file(some) for some in (one, same_fit, other)}) == 3
    assert record.cell_file(one, ".pt") == record.cell_file(same_fit, ".pt") != record.cell_file(other, ".pt")
    assert record.cell_file(one).parent == record.RUNNING / "ch01"

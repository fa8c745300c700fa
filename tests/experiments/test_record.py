"""experiments/record.py: the stamp is true, numbers are rounded, records are written whole."""

import json
import subprocess
import sys

import pytest

from experiments import record


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
    (tree / "book" / "results" / "run.json").write_text("{}")
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
    assert " cores of " in cpu
    monkeypatch.setattr(record.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(record.torch.cuda, "get_device_name", lambda: "Card 7")
    assert record.device_name() == f"{cpu}, Card 7"


def test_the_peak_is_that_of_the_process_and_its_workers_but_not_of_its_parent():
    """The parent holds 1.5 GB, more than the imports of torch in its child; the child's worker holds 2 GB."""
    code = "import subprocess, sys; from experiments.record import peak_memory; {}; print(peak_memory())"

    def peak(job):
        done = subprocess.run([sys.executable, "-c", code.format(job)], check=True, capture_output=True, text=True)
        return int(done.stdout)

    held = bytearray(b"1") * 1_500_000_000
    small, own = peak("pass"), peak("bytearray(b'1') * 700_000_000")
    worker = peak("subprocess.run([sys.executable, '-c', 'bytearray(1) * 2_000_000_000'], check=True)")
    assert small < len(held) - 5e8
    assert own > small + 6e8
    assert 2e9 < worker < 2.2e9


def test_numbers_are_rounded_and_what_is_none_is_null():
    assert record.round_decimals({"a": [1.23456, float("nan")], "b": 3}) == {"a": [1.2346, None], "b": 3}
    assert record.round_significant({"a": [1234567.8, 0.00123456789]}) == {"a": [1234570.0, 0.00123457]}


def test_a_record_that_is_written_is_read_and_stamped(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    record.save_record("run", {"rows": [1]} | record.stamp(90, "abc-dirty"))
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    run = record.read_record("run")
    assert json.loads((tmp_path / "run.json").read_text()) == run
    assert (run["rows"], run["minutes"], run["commit"]) == ([1], 1.5, "abc-dirty")
    assert run["peak_gb"] > 0

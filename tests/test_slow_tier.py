"""slow_tier.py: a slow test runs when an input changed, and only then."""

import json
import re
import subprocess
import sys

import pytest
import slow_tier

import mmrec_helpers

CONFTEST = """\
import sys
from pathlib import Path

sys.path.insert(0, {tests!r})
from slow_tier import SlowTier

HERE = Path(__file__).parent


def pytest_configure(config):
    config.pluginmanager.register(SlowTier(HERE, HERE / "slow.json"))
"""
TESTS = """\
import pytest


@pytest.fixture
def costly():
    print("costly fixture")


@pytest.mark.slow("weights/*", "torch==")
@pytest.mark.parametrize("name", ["a", "b"])
def test_slow(name, costly):
    assert open("weights/" + name).read() == "good"


def test_fast():
    pass
"""


@pytest.fixture
def run(tmp_path, root):
    """Run the tests of a small repository: how many passed, failed, were skipped; and all that was printed."""
    (tmp_path / "weights").mkdir()
    (tmp_path / "none.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(root / "tests")))
    (tmp_path / "test_small.py").write_text(TESTS)
    (tmp_path / "requirements.lock").write_text("torch==2.0\nnumpy==2.0\n")
    for name in "ab":
        (tmp_path / "weights" / name).write_text("good")

    def run(*options, **environment):
        command = [sys.executable, "-m", "pytest", "-rsP", "-p", "no:cacheprovider", "-c", "none.ini", *options]
        environment |= {"PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        counts = re.findall(r"(\d+) (passed|failed|skipped)", done.stdout.splitlines()[-1])
        return {word: int(count) for count, word in counts}, done.stdout

    return run


def test_a_slow_test_runs_once_and_again_when_an_input_changes(run, tmp_path):
    assert run()[0] == {"passed": 3}
    counts, out = run()
    assert counts == {"passed": 1, "skipped": 2}
    assert "its inputs have not changed; `make test SLOW=1` runs it" in out
    assert "costly fixture" not in out
    (tmp_path / "weights" / "c").write_text("another file")
    assert run()[0] == {"passed": 3}
    (tmp_path / "requirements.lock").write_text("torch==2.0\nnumpy==2.1\n")
    assert run()[0] == {"passed": 1, "skipped": 2}
    (tmp_path / "requirements.lock").write_text("torch==2.1\nnumpy==2.1\n")
    assert run()[0] == {"passed": 3}
    (tmp_path / "test_small.py").write_text(TESTS + "\n")
    assert run()[0] == {"passed": 3}


def test_what_fails_is_not_recorded_and_runs_until_it_passes(run, tmp_path):
    (tmp_path / "weights" / "b").write_text("bad")
    for _ in range(2):
        counts, _ = run()
        assert counts["failed"] == 1
    assert counts == {"failed": 1, "passed": 1, "skipped": 1}
    (tmp_path / "weights" / "b").write_text("good")
    assert run()[0] == {"passed": 3}


def test_slow_1_runs_all_and_records_the_day(run, tmp_path):
    run()
    record = tmp_path / "slow.json"
    old = {name: row | {"passed": "2020-01-01"} for name, row in json.loads(record.read_text()).items()}
    record.write_text(json.dumps(old | {"test_gone.py::test_x": {"inputs": "", "passed": "2020-01-01"}}))
    assert "passed on 2020-01-01" in run()[1]
    assert json.loads(record.read_text()).keys() > old.keys()  # nothing ran, nothing is written
    assert run(SLOW="1")[0] == {"passed": 3}
    now = json.loads(record.read_text())
    assert now.keys() == old.keys()
    assert all(row["passed"] > "2020-01-01" for row in now.values())


def test_the_workers_of_xdist_share_one_record(run, tmp_path):
    assert run("-p", "xdist", "-n", "2")[0]["passed"] == 3
    assert len(json.loads((tmp_path / "slow.json").read_text())) == 2
    assert run("-p", "xdist", "-n", "2")[0]["skipped"] == 2


def test_a_constant_is_an_input(tmp_path, monkeypatch):
    monkeypatch.setattr(mmrec_helpers, "VERSION", 1, raising=False)
    first = slow_tier.digest(("mmrec_helpers:VERSION",), tmp_path)
    assert first == slow_tier.digest(("mmrec_helpers:VERSION",), tmp_path)
    monkeypatch.setattr(mmrec_helpers, "VERSION", 2)
    assert first != slow_tier.digest(("mmrec_helpers:VERSION",), tmp_path)


@pytest.mark.parametrize("name", ["weights/*", "nothing=="])
def test_an_input_that_does_not_exist_is_refused(tmp_path, name):
    (tmp_path / "requirements.lock").write_text("torch==2.0\n")
    with pytest.raises(pytest.UsageError, match="no such thing"):
        slow_tier.digest((name,), tmp_path)


def test_each_recorded_test_is_a_slow_one(root):
    """The record has no test that is gone, and no test is in it that carries no mark."""
    recorded = json.loads((root / "tests" / "slow.json").read_text())
    for name in recorded:
        file, _, function = name.partition("::")
        assert f"def {function.partition('[')[0]}(" in (root / file).read_text(), f"{name} is gone: delete its row"

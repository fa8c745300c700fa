"""experiments/__main__.py: one record a name; a run without its data leaves the record as it was."""

import pytest

from experiments import __main__ as runner
from experiments import record


@pytest.fixture
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    return tmp_path


def test_there_is_a_run_for_each_record_and_a_record_for_each_run():
    names = {path.stem for path in record.RESULTS.glob("*.json")}
    assert names - {"notebooks", "sasrec-peers"} == set(runner.RUNS)  # written by other commands


def test_a_run_is_recorded_with_its_stamp(results, monkeypatch):
    monkeypatch.setitem(runner.RUNS, "tuning", lambda: {"rows": 3})
    runner.main(["tuning"])
    assert record.read_record("tuning")["rows"] == 3
    assert {"commit", "device", "peak_gb"} <= set(record.read_record("tuning"))


@pytest.mark.parametrize("name", ["real-data", "overlap-real", "decoder-real", "rule", "league-real"])
def test_without_real_data_a_record_stays_as_it_was(results, monkeypatch, capsys, name):
    monkeypatch.delenv("MMREC_DATA_HOME", raising=False)
    runner.main([name])
    assert f"{name} is left as it was: set MMREC_DATA_HOME" in capsys.readouterr().out
    assert list(results.iterdir()) == []


def test_an_unknown_name_is_told_with_those_that_exist():
    with pytest.raises(SystemExit, match="no run is named typo; there are: separations, "):
        runner.main(["tuning", "typo"])


def test_several_runs_have_a_process_each(monkeypatch):
    started = []
    monkeypatch.setattr(runner.subprocess, "run", lambda command, **_: started.append(command[-1]))
    runner.main(["tuning", "rule"])
    assert started == ["tuning", "rule"]
    runner.main([])
    assert started[2:] == list(runner.RUNS)

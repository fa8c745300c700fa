"""tools/colab.py: Colab's versions are within our ranges; a notebook gets the clone's address; what moved is named.

The run itself, `make colab`, needs gigabytes and a network, and is no test.
"""

import re
import tomllib
from datetime import date, timedelta

import colab
from packaging.requirements import Requirement

import notebooks

PINS = dict(re.findall(r"^([a-z0-9-]+)==(\S+)$", colab.PINS.read_text(), re.MULTILINE))


def test_each_line_of_the_table_is_a_pin_or_says_where_they_are_from():
    lines = colab.PINS.read_text().splitlines()
    assert len(PINS) == sum(not line.startswith("#") for line in lines)
    assert list(PINS) == sorted(PINS)
    assert re.search(r"written down on \d{4}-\d\d-\d\d", lines[1])


def test_the_package_can_be_installed_without_changing_what_colab_has(root):
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    needs = [Requirement(text) for text in project["dependencies"]]
    assert [str(need) for need in needs if need.name in PINS and PINS[need.name] not in need.specifier] == []
    assert {need.name for need in needs} - set(PINS) == {"implicit"}  # all else is there
    assert "3.12" in Requirement(f"python{project['requires-python']}").specifier


def test_a_notebook_gets_the_setup_cell_with_the_address_and_nothing_else():
    (path,) = notebooks.paths("01a")
    before, after = notebooks.read(path), colab.on_colab(path, "file:///book")
    changed = [(a, b) for a, b in zip(before.cells, after.cells, strict=True) if a.source != b.source]
    ((old, new),) = changed
    assert notebooks.role(old) == "setup"
    assert new.source == notebooks.SETUP_CELL.format(url="file:///book")
    assert colab.printed(before) == colab.printed(after)


def test_a_notebook_cannot_see_the_book(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/book")
    monkeypatch.setenv("VIRTUAL_ENV", "/book/.venv")
    assert not {"PYTHONPATH", "VIRTUAL_ENV"} & set(colab.environment())


def test_what_changed_is_named():
    before = {"numpy": "2.0.2", "torch": "2.9.0", "pillow": "11.3.0"}
    assert colab.changes(before, before | {"implicit": "0.7.3"}) == []
    after = {"numpy": "2.4.6", "torch": "2.9.0"}
    assert colab.changes(before, after) == ["numpy 2.0.2 -> 2.4.6", "pillow 11.3.0 -> none"]


def test_every_notebook_runs_within_ten_weeks(monkeypatch):
    paths, seen = notebooks.paths(), set()
    for week in range(colab.WEEKS):
        day = date(2026, 11, 30) + timedelta(weeks=week)
        monkeypatch.setattr(colab, "date", type("Day", (), {"today": staticmethod(lambda day=day: day)}))
        chosen = colab.this_week(paths)
        assert len(chosen) <= len(paths) // colab.WEEKS + 1
        seen |= set(chosen)
    assert seen == set(paths)


def test_without_colabs_python_this_one_is_taken_and_said(monkeypatch, capsys):
    monkeypatch.setattr(colab.shutil, "which", lambda name: None)
    assert colab.interpreter() == colab.sys.executable
    assert "No Python 3.12" in capsys.readouterr().out


def test_a_python_that_is_not_colabs_is_not_taken(monkeypatch, tmp_path):
    program = tmp_path / "python3.12"
    program.write_text("#!/bin/sh\nexit 1\n")  # as a version manager whose version is not chosen
    program.chmod(0o755)
    monkeypatch.setattr(colab.shutil, "which", lambda name: str(program))
    assert colab.interpreter() == colab.sys.executable
    program.write_text("#!/bin/sh\nexit 0\n")
    assert colab.interpreter() == str(program)

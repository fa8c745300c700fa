"""files.py: a path has its old content or its new one, whatever happens in between."""

import os
import time

import pytest

from mmrec_helpers import files
from mmrec_helpers.files import LEFT_OVER, atomic, damaged, write_digests


def test_file_is_written_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "deep" / "run.json"
    for text in ("old", "new"):
        with atomic(path) as part:
            part.write_text(text)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_folder_replaces_a_folder_whole(tmp_path):
    path = tmp_path / "run"
    for name in ("old", "new"):
        with atomic(path) as part:
            part.mkdir()
            (part / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_old_content_stays_where_writing_fails(tmp_path, kind):
    path = tmp_path / "run"

    def write(part, text):
        if kind == "folder":
            part.mkdir()
            part = part / "text"
        part.write_text(text)

    with atomic(path) as part:
        write(part, "old")

    def interrupted():
        with atomic(path) as part:
            write(part, "new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (path / "text" if kind == "folder" else path).read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_was_not_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_folders_of_killed_processes_are_deleted_after_a_day(tmp_path):
    for name, age in ((".run.old", LEFT_OVER + 60), (".run.running", 60), (".running.old", LEFT_OVER + 60)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").write_text("half")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with atomic(tmp_path / "run") as part:
        part.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run.running", ".running.old", "run"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_last_of_two_processes_to_finish_wins(tmp_path, kind):
    path = tmp_path / "run"
    with atomic(path) as first, atomic(path) as second:
        for part, text in ((first, "first"), (second, "second")):
            if kind == "folder":
                part.mkdir()
            (part / "text" if kind == "folder" else part).write_text(text)
    assert (path / "text" if kind == "folder" else path).read_text() == "first"  # the outer block ends last
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="not Linux")
def test_a_folder_is_replaced_in_one_step(tmp_path, monkeypatch):
    """A process that is killed at any moment leaves the old folder or the new one: there is no other rename."""
    path, renames = tmp_path / "run", []
    for name in ("old", "new"):
        with atomic(path) as part:
            part.mkdir()
            (part / name).touch()
            monkeypatch.setattr(files.Path, "rename", lambda *paths: renames.append(paths))
    assert [file.name for file in path.iterdir()] == ["new"]
    assert not renames


def test_content_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    steps = []
    monkeypatch.setattr(files, "_flush", lambda path: steps.append(path.name))
    monkeypatch.setattr(files, "_replace", lambda part, path: (steps.append("named"), part.rename(path)))
    with atomic(tmp_path / "run") as part:
        part.mkdir()
        (part / "text").touch()
    assert steps == ["text", "run", "named", tmp_path.name]


def test_digests_are_of_all_files_at_any_depth(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b"):
        (tmp_path / name).write_text("x")
    assert damaged(tmp_path)
    for _ in range(2):
        write_digests(tmp_path)
        assert not damaged(tmp_path)
    (tmp_path / "unrelated").touch()  # as file managers leave them
    assert not damaged(tmp_path)
    (tmp_path / "deep/b").write_text("y")
    assert damaged(tmp_path)
    (tmp_path / "deep/b").unlink()
    assert damaged(tmp_path)

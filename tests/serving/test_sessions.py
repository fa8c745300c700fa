"""sessions.py: items in order, of one session alone, after a restart, and all or none."""

import sqlite3

import pytest

from mmrec_helpers.serving import sessions as module
from mmrec_helpers.serving.sessions import Sessions


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new" / "sessions.sqlite"


def test_a_session_grows_by_itself_and_survives_a_restart(path):
    store = Sessions(path)
    assert store.add("a", ["x", "y"]) == ["x", "y"]
    assert store.add("b", ["z"]) == ["z"]
    assert Sessions(path).add("a", ["x"]) == ["x", "y", "x"]
    assert store.add("a", []) == ["x", "y", "x"]  # written by another connection
    assert store.add("c", []) == []


def test_only_the_last_items_are_kept(path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 3)
    store = Sessions(path)
    store.add("b", ["other"])
    assert store.add("a", list("uvwxy")) == list("wxy")
    assert store.add("a", ["z"]) == list("xyz")
    assert store.db.execute("SELECT count(*) FROM events").fetchone() == (4,)


def test_old_items_are_forgotten_at_the_next_start(path, monkeypatch):
    Sessions(path).add("a", ["x"])
    later = module.time.time() + 31 * 86_400
    monkeypatch.setattr(module.time, "time", lambda: later)
    assert Sessions(path).add("a", ["y"]) == ["y"]


@pytest.mark.parametrize("text", ["'; DROP TABLE events; --", '"', "%", "\0", "💥"])
def test_texts_are_values_and_never_sql(text, path):
    store = Sessions(path)
    store.add("a", ["x"])
    assert store.add(text, [text]) == [text]
    assert store.add("a", []) == ["x"]


def test_on_a_full_disk_nothing_is_half_written(path):
    store = Sessions(path)
    store.add("a", ["x"])
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.add("a", [str(number) for number in range(5_000)])
    assert store.add("a", []) == ["x"]

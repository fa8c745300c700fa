"""sessions.py: items in order, of one session alone, after a restart, and all or none; in Redis as in the file."""

import signal
import sys
import time

import pytest

from mmrec_helpers.serving import sessions as module
from mmrec_helpers.serving.sessions import RedisSessions, Sessions, SessionsLost


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
    later = module.time() + 31 * 86_400
    monkeypatch.setattr(module, "time", lambda: later)
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
    with pytest.raises(SessionsLost, match="full"):
        store.add("a", [str(number) for number in range(5_000)])
    assert store.add("a", []) == ["x"]


# Redis: a real server ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(redis_server):
    store = RedisSessions(redis_server.url, timeout=5)
    yield store
    store.close()


def test_both_stores_answer_alike(store, path, monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 3)
    for session, items in (("a", "xy"), ("b", "z"), ("a", ""), ("c", ""), ("a", "uvwxy"), ("a", "z"), ("\0💥", "%")):
        assert store.add(session, list(items)) == Sessions(path).add(session, list(items))


def test_a_session_in_redis_is_one_expiring_list(store, redis_server):
    other = RedisSessions(redis_server.url, timeout=5)
    assert store.add("a", ["x"]) == ["x"]
    assert other.add("a", ["y"]) == ["x", "y"]
    assert store.db.keys() == ["session:a"]
    assert 86_400 * 29 < store.db.ttl("session:a") <= 86_400 * 30
    other.close()


def test_a_killed_redis_loses_nothing_that_it_had_confirmed(store, redis_server, monkeypatch):
    store.add("a", ["x", "y"])
    redis_server.kill()
    with pytest.raises(SessionsLost):
        store.add("a", ["lost"])
    redis_server.start()
    with pytest.raises(SessionsLost, match="not asked again"):
        store.add("a", ["lost"])
    monkeypatch.setattr(module, "RETRY", 0)
    store.retry_at = 0
    assert store.add("a", ["z"]) == ["x", "y", "z"]


def test_a_redis_that_hangs_costs_one_short_wait_a_second(redis_server):
    store = RedisSessions(redis_server.url, timeout=0.05)
    redis_server.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    for _ in range(20):
        with pytest.raises(SessionsLost):
            store.add("a", ["x"])
    assert time.monotonic() - start < 1
    redis_server.process.send_signal(signal.SIGCONT)
    store.close()


def test_without_the_client_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'mmrec-helpers\[redis\]'"):
        RedisSessions("redis://localhost")

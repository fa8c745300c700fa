"""The last items of each session, in SQLite or Redis: they survive a restart, and a version with other item numbers."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, time

LONGEST = 200
"""Items of a session that are kept."""
DAYS = 30
"""Age from which an item of a session is forgotten at the next start; in Redis that of a session without requests."""
RETRY = 1.0
"""Seconds for which Redis is not asked again after it has failed: else each request would wait for it."""


class SessionsLost(Exception):
    """The store cannot be read or written, such as on a full disk."""


class Sessions:
    """A store of sessions; several processes can share its file.

    Args:
        path: file of the store, which is made if there is none.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.db = sqlite3.connect(path, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = NORMAL")  # a power failure may cost the last items, but not the file
        with self.db:
            self.db.execute(
                "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, session TEXT, item TEXT, time REAL)"
            )
            self.db.execute("CREATE INDEX IF NOT EXISTS by_session ON events (session, number)")
            self.db.execute("DELETE FROM events WHERE time < ?", (time() - 86_400 * DAYS,))

    def add(self, session: str, items: Sequence[str]) -> list[str]:
        """Append items to a session, all or none; its last LONGEST items, oldest first.

        Raises:
            SessionsLost: the file cannot be written, such as on a full disk.
        """
        try:
            return self._add(session, items)
        except sqlite3.Error as error:
            raise SessionsLost(str(error)) from error

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    def _add(self, session: str, items: Sequence[str]) -> list[str]:
        newest = "SELECT number, item FROM events WHERE session = ? ORDER BY number DESC LIMIT ?"
        with self.db:
            rows = [(session, item, time()) for item in items]
            self.db.executemany("INSERT INTO events (session, item, time) VALUES (?, ?, ?)", rows)
            kept = self.db.execute(newest, (session, LONGEST)).fetchall()
            if len(kept) == LONGEST:
                self.db.execute("DELETE FROM events WHERE session = ? AND number < ?", (session, kept[-1][0]))
        return [item for _, item in reversed(kept)]


class RedisSessions:
    """The same in Redis, for services on several machines; needs ``pip install mmrec-helpers[redis]``.

    Args:
        url: of the server, such as ``redis://localhost:6379/0``; it is asked for the first time by ``add``.
        timeout: seconds for an answer. While the server is gone, one request a second waits for it.
    """

    def __init__(self, url: str, timeout: float = 0.05) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise ImportError("sessions in Redis need its client: pip install 'mmrec-helpers[redis]'") from error
        waits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
        self.db = redis.Redis.from_url(url, decode_responses=True, retry=Retry(NoBackoff(), 0), **waits)
        self.error, self.retry_at = redis.RedisError, 0.0

    def add(self, session: str, items: Sequence[str]) -> list[str]:
        """Append items to a session, all or none; its last LONGEST items, oldest first.

        Raises:
            SessionsLost: the server does not answer, or did not less than RETRY seconds ago.
        """
        if monotonic() < self.retry_at:
            raise SessionsLost("Redis is not asked again yet")
        key = f"session:{session}"
        try:
            with self.db.pipeline(transaction=True) as commands:
                if items:
                    commands.rpush(key, *items)
                commands.ltrim(key, -LONGEST, -1)
                commands.expire(key, 86_400 * DAYS)
                commands.lrange(key, 0, -1)
                return commands.execute()[-1]
        except self.error as error:
            self.retry_at = monotonic() + RETRY
            raise SessionsLost(str(error)) from error

    def close(self) -> None:
        """Close the connections."""
        self.db.close()

"""The last items of each session, in SQLite: they survive a restart, and a version that numbers the items anew."""

import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

LONGEST = 200
"""Items of a session that are kept."""
DAYS = 30
"""Age from which an item of a session is forgotten at the next start."""


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
            self.db.execute("DELETE FROM events WHERE time < ?", (time.time() - 86_400 * DAYS,))

    def add(self, session: str, items: Sequence[str]) -> list[str]:
        """Append items to a session, all or none; its last LONGEST items, oldest first.

        Raises:
            sqlite3.Error: the file cannot be written, such as on a full disk.
        """
        newest = "SELECT number, item FROM events WHERE session = ? ORDER BY number DESC LIMIT ?"
        with self.db:
            rows = [(session, item, time.time()) for item in items]
            self.db.executemany("INSERT INTO events (session, item, time) VALUES (?, ?, ?)", rows)
            kept = self.db.execute(newest, (session, LONGEST)).fetchall()
            if len(kept) == LONGEST:
                self.db.execute("DELETE FROM events WHERE session = ? AND number < ?", (session, kept[-1][0]))
        return [item for _, item in reversed(kept)]

"""The report of what was read, kept, dropped, repaired and noted while cleaning: nothing is dropped without a count."""

import pandas as pd

ACTIONS = ("read", "dropped", "repaired", "noted", "kept")
"""``repaired`` changed a value, ``noted`` changed nothing; neither drops, so a row may count in both."""


class CleaningReport:
    """Counts by kind of thing (interactions, users, item rows, items, images), action and reason, in order of entry.

    What is ``read`` is either ``kept`` or ``dropped`` for exactly one reason: the first that applies.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._counts: dict[tuple[str, str, str], int] = {}

    def add(self, reason: str, count: int, *, of: str = "interactions", action: str = "dropped") -> None:
        """Add a count for a reason; a count of 0 is only recorded for ``read`` and ``kept``.

        Raises:
            ValueError: the action is unknown or the count negative.
        """
        if action not in ACTIONS or count < 0:
            raise ValueError(f"{count} {of} {action!r}: counts are 0 or more, actions are {', '.join(ACTIONS)}")
        if count or action in ("read", "kept"):
            self._counts[of, action, reason] = self._counts.get((of, action, reason), 0) + int(count)

    def count(self, reason: str) -> int:
        """Things counted for a reason, of all kinds and actions; 0 where it never occurred."""
        return sum(count for (_, _, key), count in self._counts.items() if key == reason)

    def total(self, action: str, of: str = "interactions") -> int:
        """Things of one kind counted for an action, whatever the reason."""
        return sum(count for key, count in self._counts.items() if key[:2] == (of, action))

    def check(self) -> "CleaningReport":
        """Check that kept + dropped = read for every kind of thing that was read; return self.

        Raises:
            ValueError: the counts do not add up: a reader dropped something without a count.
        """
        for of in dict.fromkeys(kind for kind, action, _ in self._counts if action == "read"):
            read, kept, dropped = (self.total(action, of) for action in ("read", "kept", "dropped"))
            if kept + dropped != read:
                raise ValueError(f"{self.source}: {read} {of} read, but {kept} kept + {dropped} dropped")
        return self

    def table(self) -> pd.DataFrame:
        """One row a count, in order of entry, with the columns ``of``, ``action``, ``reason`` and ``count``."""
        rows = [(*key, count) for key, count in self._counts.items()]
        return pd.DataFrame(rows, columns=["of", "action", "reason", "count"])

    def __str__(self) -> str:
        """One line a count, below the source."""
        lines = [f"{self.source}:"]
        for (of, action, reason), count in self._counts.items():
            lines.append(f"{count:>12,} {of} {action}" + (f": {reason}" if reason else ""))
        return "\n".join(lines)

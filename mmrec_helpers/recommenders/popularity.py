"""Random and popularity: the two baselines that need no model."""

from dataclasses import dataclass

import numpy as np

from mmrec_helpers.data.dataset import Queries, Split

DAY = 86_400
"""Seconds."""


@dataclass(eq=False)
class Random:
    """A number drawn for each user and item: the floor that every system must beat.

    Args:
        seed: another seed draws other numbers; the batch a user comes in does not.
    """

    seed: int = 0
    name: str = "random"

    def fit(self, split: Split) -> "Random":
        """Learn the number of items."""
        self.num_items = split.dataset.num_items
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) uniform numbers."""
        scores = np.empty((len(queries), self.num_items + 1), np.float32)
        for row, user in zip(scores, queries.users, strict=True):
            np.random.default_rng([self.seed, user]).random(out=row, dtype=np.float32)
        return scores


@dataclass(eq=False)
class Popularity:
    """How often each item was taken in training: the same list for everybody.

    Args:
        days: count only the last ``days`` before the moment at which the list is shown. Without it all of training
            is counted, as is usual; under leave-one-out part of that lies after the moment, and the list knows the
            future {cite}`ji2023leakage`. With it, nothing at or after the moment is counted.
    """

    days: float | None = None
    name: str = ""

    def __post_init__(self):
        if self.days is not None and not self.days > 0:
            raise ValueError(f"popularity is counted over a positive number of days, not over {self.days}")
        self.name = self.name or ("popularity" if self.days is None else "recent popularity")

    def fit(self, split: Split) -> "Popularity":
        """Keep the training interactions in order of time.

        Raises:
            ValueError: days were asked for, and the data set tells no times.
        """
        if self.days is not None and not split.dataset.timed:
            raise ValueError(f"{split.dataset.name} tells orders, not times: take Popularity() without days")
        frame = split.interactions("train").sort_values("time")
        self.items, self.times = frame["item"].to_numpy(), frame["time"].to_numpy()
        self.num_items = split.dataset.num_items
        return self

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) counts."""
        if self.days is None:
            counts = np.bincount(self.items, minlength=self.num_items + 1)
            return np.tile(counts.astype(np.float32), (len(queries), 1))
        first = np.searchsorted(self.times, queries.times - self.days * DAY, side="left")
        end = np.searchsorted(self.times, queries.times, side="left")
        scores = np.empty((len(queries), self.num_items + 1), np.float32)
        for row, low, high in zip(scores, first, end, strict=True):
            row[:] = np.bincount(self.items[low:high], minlength=self.num_items + 1)
        return scores

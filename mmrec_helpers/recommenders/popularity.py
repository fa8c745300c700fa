"""Random scores and popularity, two baselines without a model; and scores from which popularity is subtracted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmrec_helpers.data.dataset import NotAvailable, Queries, Split
from mmrec_helpers.recommenders.base import BaseRecommender

DAY = 86_400
"""Seconds."""


@dataclass(eq=False)
class Random(BaseRecommender):
    """The random baseline: a uniform score for each user and item.

    Args:
        seed: of the scores; they do not depend on the batch in which a user comes.
    """

    FITTED = ("num_items",)
    seed: int = 0
    name: str = "random"

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Keep the number of items."""
        self.num_items = split.dataset.num_items

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) uniform numbers."""
        scores = np.empty((len(queries), self.num_items + 1), np.float32)
        for row, user in zip(scores, queries.users, strict=True):
            np.random.default_rng([self.seed, user]).random(out=row, dtype=np.float32)
        return scores


@dataclass(eq=False)
class Popularity(BaseRecommender):
    """The number of training interactions of each item: the same list for everyone.

    Args:
        days: count only the last ``days`` before the time of prediction, and nothing at or after it. Without it all of
            training is counted, as is usual. Under leave-one-out part of that lies after the time of prediction, so
            the list knows the future {cite}`ji2023leakage`.
    """

    FITTED = ("items", "times", "num_items")
    days: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.days is not None and not self.days > 0:
            raise ValueError(f"popularity is counted over a positive number of days, not over {self.days}")
        self.name = self.name or ("popularity" if self.days is None else "recent popularity")

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Keep the training interactions in order of time.

        Raises:
            NotAvailable: ``days`` is given, and the data set has no times.
        """
        if self.days is not None and not split.dataset.timed:
            raise NotAvailable(f"{split.dataset.name} has orders, not times: use Popularity() without days")
        frame = split.interactions("train").sort_values("time")
        self.items, self.times = frame["item"].to_numpy(), frame["time"].to_numpy()
        self.num_items = split.dataset.num_items

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) counts."""
        if self.days is None:
            counts = np.bincount(self.items, minlength=self.num_items + 1)
            return np.tile(counts.astype(np.float32), (len(queries), 1))
        starts = np.searchsorted(self.times, queries.times - self.days * DAY, side="left")
        ends = np.searchsorted(self.times, queries.times, side="left")
        scores = np.empty((len(queries), self.num_items + 1), np.float32)
        for row, start, end in zip(scores, starts, ends, strict=True):
            row[:] = np.bincount(self.items[start:end], minlength=self.num_items + 1)
        return scores


@dataclass(eq=False)
class PopularityAdjusted(BaseRecommender):
    """Another system whose scores lose part of the items' log popularity: logit adjustment {cite}`menon2021logit`.

    The score is s(u, i) - strength log(1 + n_i), with the training interactions n_i of an item. It is meant for systems
    whose scores are logits, trained by BPR or a softmax: with strength 1 calibrated ones rank by how much more likely
    an item is for this user than for a random one.

    Args:
        system: gives the scores.
        strength: what is subtracted; 0 leaves the scores as they are.
    """

    FITTED = ("log_popularity",)
    system: BaseRecommender
    strength: float = 1.0
    name: str = ""

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"the strength of an adjustment is 0 or positive, not {self.strength}")
        self.name = self.name or f"{self.system.name}, adjusted by {self.strength:g}"

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Fit the system, and count."""
        self.system.fit(split, checkpoint)
        self.count(split)

    def count(self, split: Split) -> None:
        """Look up the popularity in the training part: all that is left where the system is fitted already."""
        counts = np.bincount(split.interactions("train")["item"], minlength=split.dataset.num_items + 1)
        self.log_popularity = np.log1p(counts).astype(np.float32)

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) adjusted scores."""
        return self.system.score(queries) - self.strength * self.log_popularity

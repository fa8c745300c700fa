"""Training batches of users whose histories are cut at a random place; the item after the cut is the target."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.training.loop import batch_rows


@dataclass(frozen=True, eq=False)
class HistoryBatch:
    """B users, each cut at a random position of the history.

    Attributes:
        users: (B,) their numbers.
        histories: their items before the cut.
        targets: (B,) the item after it.
        rng: for all else that is random in the step.
    """

    users: np.ndarray
    histories: list[np.ndarray]
    targets: np.ndarray
    rng: np.random.Generator


class HistoryBatches:
    """The batches of a training, by their step; each epoch visits every user once, in another order of ties in time.

    Args:
        split: whose training part it is.
        size: users of a batch.
        seed: of the order, the cuts, the ties, and the sample of the users.
        max_users: a random sample; 0 is all.

    Attributes:
        users: those with two training items or more, in the sample.
        per_epoch: batches in an epoch.
    """

    def __init__(self, split: Split, size: int, seed: int, max_users: int = 0) -> None:
        self.split, self.size, self.seed = split, size, seed
        counts = split.interactions("train")["user"].value_counts(sort=False)
        users = np.sort(counts.index[counts > 1].to_numpy())
        sampled = np.random.default_rng(seed).permutation(users)[: max_users or None]
        self.users = np.sort(sampled)
        self.per_epoch = -(-len(self.users) // size)
        self.items_of = lru_cache(maxsize=1)(self._items_of)

    def of(self, step: int) -> HistoryBatch:
        """The batch of a step, of the seed and the step alone."""
        rng, items_of = np.random.default_rng([self.seed, step]), self.items_of(step // self.per_epoch)
        users = self.users[batch_rows(len(self.users), self.size, step, self.seed)]
        own = [items_of[user] for user in users]
        cuts = rng.integers(1, [len(items) for items in own])
        histories = [items[:cut] for items, cut in zip(own, cuts, strict=True)]
        targets = np.array([items[cut] for items, cut in zip(own, cuts, strict=True)], np.int64)
        return HistoryBatch(users, histories, targets, rng)

    def _items_of(self, epoch: int) -> dict[int, np.ndarray]:
        """User -> training items."""
        split = self.split if self.split.has_tie_order else self.split.shuffle_ties([self.seed, epoch])
        groups = split.interactions("train").groupby("user")["item"]
        return {int(user): items.to_numpy() for user, items in groups}  # type: ignore[call-overload]

"""Training batches of windows of users' histories, in which every item but the first is a target."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.training.loop import batch_rows


@dataclass(frozen=True, eq=False)
class HistoryBatch:
    """N targets in the windows of some users, with the items of the window before them.

    Attributes:
        users: (N,) their numbers.
        histories: N parts of windows, up to the item before the target.
        targets: (N,) the items after them.
        windows: (N,) numbers of the windows, from 0; the targets of a window follow one another.
        rng: for all else that is random in the step.
    """

    users: np.ndarray
    histories: list[np.ndarray]
    targets: np.ndarray
    windows: np.ndarray
    rng: np.random.Generator

    @property
    def last(self) -> np.ndarray:
        """(B,) the last target of each window, whose history holds those of the others."""
        return np.flatnonzero(np.diff(self.windows, append=-1))


class HistoryBatches:
    """The batches of a training, by their step; each epoch visits every user once, in another order of ties in time.

    Args:
        split: whose training part it is.
        size: users of a batch.
        seed: of the order, the windows, the ties, and the sample of the users.
        max_len: targets of a window, which lies at a random place of a history that has more.
        max_users: a random sample; 0 is all.

    Attributes:
        users: those with two training items or more, in the sample.
        per_epoch: batches in an epoch.
    """

    def __init__(self, split: Split, size: int, seed: int, max_len: int, max_users: int = 0) -> None:
        self.split, self.size, self.seed, self.max_len = split, size, seed, max_len
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
        sizes = np.minimum([len(items) - 1 for items in own], self.max_len)  # targets of each window
        begins = rng.integers([len(items) - size for items, size in zip(own, sizes, strict=True)])
        windows = [items[begin:][: size + 1] for items, begin, size in zip(own, begins, sizes, strict=True)]
        histories = [items[:end] for items in windows for end in range(1, len(items))]
        targets = np.concatenate([items[1:] for items in windows]).astype(np.int64)
        return HistoryBatch(users.repeat(sizes), histories, targets, np.arange(len(users)).repeat(sizes), rng)

    def _items_of(self, epoch: int) -> dict[int, np.ndarray]:
        """User -> training items."""
        split = self.split if self.split.has_tie_order else self.split.shuffle_ties([self.seed, epoch])
        groups = split.interactions("train").groupby("user")["item"]
        return {int(user): items.to_numpy() for user, items in groups}  # type: ignore[call-overload]

"""RecDataset: items, interactions and images in one form for synthetic and real shops; its splits and histories."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from PIL import Image

from mmrec_helpers.data.images import open_image, thumbnail

INTERACTION_COLUMNS = ("user", "item", "time", "rating", "review")
ITEM_FEATURES = datasets.Features(
    {
        "item_id": datasets.Value("string"),
        "title": datasets.Value("string"),
        "description": datasets.Value("string"),
        "category": datasets.Value("string"),
        "brand": datasets.Value("string"),
        "price": datasets.Value("float32"),
        "image": datasets.Image(),
    }
)

TRAIN, VALID, TEST, CONTEXT, UNUSED = range(5)
"""The part of an interaction: training, validation, test, only history of later queries, or not used at all."""
PARTS = ("train", "valid", "test", "context", "unused")


class NotAvailable(ValueError):
    """A split or statistic that this data set cannot have; the message is a sentence for the reader."""


@dataclass(frozen=True, eq=False)
class RecDataset:
    """A shop's items, interactions and images.

    Items are numbered 1..I; item 0 is padding everywhere, and has no row in ``items``. Users are numbered 0..U-1.

    Attributes:
        name: what the data set is called in tables.
        items: a ``datasets.Dataset`` with the columns ITEM_FEATURES; row ``i - 1`` holds item ``i``. ``image`` is an
            ``Image`` feature, None where the item has none. Further columns are text, such as a source's colour.
        interactions: one row an interaction with the columns INTERACTION_COLUMNS, sorted by user and time; equal times
            keep the order of the source. ``time`` is Unix time in seconds.
        user_ids: (U,) the source's own name of each user.
        timed: False where the source has the order of each user's interactions, but no times; ``time`` is then the
            position in that order, and cannot be compared between users.
    """

    name: str
    items: datasets.Dataset
    interactions: pd.DataFrame
    user_ids: np.ndarray
    timed: bool = True

    @property
    def num_items(self) -> int:
        """I, the padding item not counted."""
        return len(self.items)

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.user_ids)

    @property
    def num_interactions(self) -> int:
        """Rows of ``interactions``."""
        return len(self.interactions)

    def __repr__(self) -> str:
        numbers = {"user": self.num_users, "item": self.num_items, "interaction": self.num_interactions}
        counts = ", ".join(f"{number:,} {what}" + "s" * (number != 1) for what, number in numbers.items())
        return f"RecDataset({self.name}: {counts})"

    # Items ------------------------------------------------------------------------------------------------------

    @cached_property
    def _undecoded(self) -> datasets.Dataset:
        return self.items.cast_column("image", datasets.Image(decode=False))

    def item(self, item: int, small: bool = False) -> dict:
        """All fields of item 1..I; its picture in RGB, or, much faster for photographs, a thumbnail of it.

        Raises:
            IndexError: there is no such item; 0 is padding.
        """
        if not 1 <= item <= self.num_items:
            raise IndexError(f"item {item} does not exist in {self.name}: items are 1..{self.num_items}, 0 is padding")
        fields = self._undecoded[int(item) - 1]
        if file := fields["image"]:
            fields["image"] = (thumbnail if small else open_image)(file["bytes"] or file["path"])
        return fields

    def image(self, item: int) -> Image.Image | None:
        """The picture of item 1..I, None where it has none."""
        return self.item(item)["image"]

    def column(self, name: str) -> np.ndarray:
        """(I + 1,) a field of every item, indexed by item number; entry 0, the padding, is None."""
        return np.array([None, *self.items[name][:]], dtype=object)

    @cached_property
    def has_image(self) -> np.ndarray:
        """(I + 1,) bool, indexed by item number."""
        return np.array([False, *(image is not None for image in self._undecoded["image"][:])])

    def days_spanned(self, at_least: float = 0) -> float:
        """Days between the first and the last interaction.

        Raises:
            NotAvailable: there are no times, or they span fewer days than a statistic needs, ``at_least``.
        """
        if not self.timed:
            raise NotAvailable(f"{self.name} has orders, not times.")
        days = np.ptp(self.interactions["time"].to_numpy()) / 86400
        if days < at_least:
            raise NotAvailable(f"The times of {self.name} span {days:.0f} days, fewer than the {at_least} needed here.")
        return float(days)

    # Integrity --------------------------------------------------------------------------------------------------

    def validate(self) -> "RecDataset":
        """Check what the class documents of its attributes; return self.

        Raises:
            ValueError: the first fault, with the row where it is.
        """
        frame = self.interactions
        for kind, required, columns in (
            ("interactions", INTERACTION_COLUMNS, frame.columns),
            ("items", ITEM_FEATURES, self.items.column_names),
        ):
            if missing := [column for column in required if column not in columns]:
                raise ValueError(f"{self.name}: {kind} lack the columns {', '.join(missing)}")
        for column, kind in ITEM_FEATURES.items():
            if self.items.features[column] != kind:
                raise ValueError(f"{self.name}: the items' {column} is {self.items.features[column]}, not {kind}")
        for kind, names in (("user_ids", self.user_ids), ("item_id", self.items["item_id"][:])):
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name}: {kind} are not all different")
        user, item, time = (frame[column].to_numpy() for column in ("user", "item", "time"))
        rating = frame["rating"].to_numpy()
        unsorted = (np.diff(user) < 0) | ((np.diff(user) == 0) & (np.diff(time) < 0))
        for fault, bad in (
            (f"the user is not in 0..{self.num_users - 1}", ~((user >= 0) & (user < self.num_users) & (user % 1 == 0))),
            (f"the item is not in 1..{self.num_items}", ~((item >= 1) & (item <= self.num_items) & (item % 1 == 0))),
            ("the time is not a whole number of seconds since 1970", ~((time >= 0) & (time == np.floor(time)))),
            ("the rating is negative or not a number", ~(rating >= 0)),
            ("rows are not sorted by user and time", np.concatenate([[False], unsorted])),
        ):
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(f"{self.name}: interactions, row {row}: {fault} ({frame.iloc[row].to_dict()})")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any item, image or interaction, and with nothing else."""
        sha = hashlib.sha256()
        for column in ("user", "item", "time"):
            sha.update(np.ascontiguousarray(self.interactions[column].to_numpy(np.int64)).tobytes())
        sha.update(np.ascontiguousarray(self.interactions["rating"].to_numpy(np.float32)).tobytes())
        for text in (*self.interactions["review"], *self.user_ids):
            sha.update(_encoded(text) + b"\0")
        for column in sorted(self._undecoded.column_names):
            sha.update(column.encode() + b"\0")
            for value in self._undecoded[column][:]:  # at once: row by row takes several times as long
                if isinstance(value, dict):  # an image, in the table or in a file
                    value = value["bytes"] or Path(value["path"]).read_bytes()
                sha.update((value if isinstance(value, bytes) else _encoded(value)) + b"\0")
        return sha.hexdigest()[:16]

    # Filters ----------------------------------------------------------------------------------------------------

    def select_interactions(self, mask: np.ndarray) -> "RecDataset":
        """The data set of some interactions (bool mask), with the remaining users and items renumbered."""
        frame = self.interactions[mask]
        (users, user), (items, item) = (_renumbered(frame[column].to_numpy(int)) for column in ("user", "item"))
        frame = frame.assign(user=user.astype(np.int32), item=(item + 1).astype(np.int32)).reset_index(drop=True)
        return replace(self, items=self.items.select(items - 1), interactions=frame, user_ids=self.user_ids[users])

    def k_core(self, users: int = 5, items: int | None = None) -> "RecDataset":
        """The largest part in which every user and every item has enough interactions, see ``k_core_mask``."""
        user, item = (self.interactions[column].to_numpy() for column in ("user", "item"))
        return self.select_interactions(k_core_mask(user, item, users, items))

    # Splits -----------------------------------------------------------------------------------------------------

    @cached_property
    def from_end(self) -> np.ndarray:
        """(number of interactions,) how many later interactions the same user has."""
        user = self.interactions["user"].to_numpy()
        ends = np.cumsum(np.bincount(user, minlength=self.num_users))  # (U,)
        return ends[user] - 1 - np.arange(len(user))

    def leave_one_out(self) -> "Split":
        """Test on each user's last interaction, validate on the one before, train on the rest.

        All interactions of users with fewer than three are for training. Beware: other users' training interactions
        may be later than a user's test interaction.
        """
        length = np.bincount(self.interactions["user"], minlength=self.num_users)[self.interactions["user"]]
        part = np.where(self.from_end == 0, TEST, np.where(self.from_end == 1, VALID, TRAIN))
        return Split(self, np.where(length < 3, TRAIN, part), "leave-one-out")

    def temporal_split(self, train: float = 0.75, valid: float = 0.15) -> "Split":
        """Split all interactions at two times, the same for all users: shares ``train``, ``valid``, the rest.

        Raises:
            ValueError: the shares leave nothing to test on.
            NotAvailable: there are no times, no interactions, or none after the last cut.
        """
        if not self.timed:
            raise NotAvailable(f"{self.name} has orders, not times, so it has no temporal split.")
        if train <= 0 or valid < 0 or train + valid >= 1:
            raise ValueError(f"shares must be positive and leave a rest to test on, not train={train}, valid={valid}")
        time = self.interactions["time"].to_numpy()
        if not len(time):
            raise NotAvailable(f"{self.name} has no interactions to split.")
        cuts = np.quantile(time, [train, train + valid], method="lower")
        part = np.searchsorted(cuts, time, side="left")
        if not (part == TEST).any():
            raise NotAvailable(
                f"{self.name} has no temporal split: too many interactions share the last time, so none is left for "
                "the test part."
            )
        return Split(self, part, "temporal")

    def next_day_split(self, seed: int = 0) -> "Split":
        """Test on everything that each user with two or more days did on the last one.

        Validate on the last but one of users with three or more, train on the rest. For baskets: where times are days,
        the order within one is not known. Here it is random, so that no system can learn the order of the file,
        and times are those when days begin.

        Args:
            seed: of the order within a day.

        Raises:
            NotAvailable: there are no times, or no user has two days.
        """
        if not self.timed:
            raise NotAvailable(f"{self.name} has orders, not times, so it has no last days.")
        day = self.interactions["time"] // 86_400
        frame = self.interactions.assign(time=86_400 * day)  # or rows within a day would not be sorted by time
        days = frame.groupby("user")["time"]
        num_days, from_end = days.transform("nunique"), days.rank(method="dense", ascending=False) - 1
        is_valid, is_test = (from_end == 1) & (num_days > 2), (from_end == 0) & (num_days > 1)
        part = np.where(is_test, TEST, np.where(is_valid, VALID, TRAIN))
        if not (part == TEST).any():
            raise NotAvailable(f"{self.name} has no user with interactions on two days.")
        return Split(replace(self, interactions=frame), part, "next day", has_tie_order=False).shuffle_ties(seed)


def _encoded(value: object) -> bytes:
    """A field as bytes: equal for all string types, different for None and the text "None"."""
    return repr(str(value) if isinstance(value, str) else value).encode()


def _renumbered(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes that occur, sorted, and the position of each entry among them: np.unique without its sort."""
    occurs = np.bincount(codes) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


def k_core_mask(user: np.ndarray, item: np.ndarray, users: int, items: int | None = None) -> np.ndarray:
    """Mask of the interactions in the k-core, which may be empty: drop users and items of too few until none is left.

    ``user`` and ``item`` are the numbers of each interaction; a user needs ``users`` interactions, an item ``items``,
    or as many as a user if None.
    """
    items = users if items is None else items
    keep = np.ones(len(user), bool)
    per_user, per_item = np.bincount(user), np.bincount(item)
    while True:
        drop = keep & ((per_user < users)[user] | (per_item < items)[item])
        if not drop.any():
            return keep
        keep &= ~drop
        per_user -= np.bincount(user[drop], minlength=len(per_user))
        per_item -= np.bincount(item[drop], minlength=len(per_item))


@dataclass(frozen=True, eq=False)
class Queries:
    """N queries: a user's history at a time of prediction, and the items that the user interacted with next.

    Attributes:
        users: (N,) user numbers.
        histories: (N, T) the last T items before the query, oldest first, padded with 0 at the left.
        targets: (N, M) the items of the user's interactions in the part, in order, padded with 0 at the right; column 0
            is the next item.
        times: (N,) time of the next item, in seconds.
    """

    users: np.ndarray
    histories: np.ndarray
    targets: np.ndarray
    times: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray | slice) -> "Queries":
        """Some of the queries."""
        return Queries(self.users[rows], self.histories[rows], self.targets[rows], self.times[rows])

    def subsample(self, max_queries: int) -> "Queries":
        """Every k-th query, with the smallest k that leaves at most ``max_queries``.

        Raises:
            NotAvailable: there is no query.
        """
        if not len(self):
            raise NotAvailable("No user has enough interactions to be tested on.")
        return self.take(slice(None, None, -(-len(self) // max_queries)))


@dataclass(frozen=True, eq=False)
class Split:
    """The part of each interaction of a data set.

    Attributes:
        part: (number of interactions,) TRAIN, VALID, TEST, CONTEXT or UNUSED.
        name: the protocol.
        has_tie_order: False where nothing may learn from the order of a user's interactions with equal times; systems
            that train on sequences then see it shuffled anew in each epoch.
    """

    dataset: RecDataset
    part: np.ndarray
    name: str
    has_tie_order: bool = True

    def interactions(self, part: str) -> pd.DataFrame:
        """The interactions of a part: train, valid, test, context or unused."""
        return self.dataset.interactions[self.part == PARTS.index(part)]

    def shuffle_ties(self, seed: int | list[int]) -> "Split":
        """The same split with interactions of the same user and time in random order."""
        rng, frame = np.random.default_rng(seed), self.dataset.interactions.reset_index(drop=True)
        frame = frame.sample(frac=1, random_state=rng).sort_values(["user", "time"], kind="stable")
        dataset = replace(self.dataset, interactions=frame.reset_index(drop=True))
        return replace(self, dataset=dataset, part=self.part[frame.index])

    def counts(self) -> dict[str, int]:
        """Part -> number of interactions, without the empty parts."""
        counts = np.bincount(self.part, minlength=len(PARTS))
        return {name: int(count) for name, count in zip(PARTS, counts, strict=True) if count}

    def queries(self, part: str, max_len: int = 50) -> Queries:
        """One query for each user of a part: the prediction of the user's first interaction in it.

        Args:
            part: ``valid`` or ``test``.
            max_len: T, the length of the longest history.

        Raises:
            ValueError: the part is not one to predict, or ``max_len`` is not positive.
        """
        if part not in ("valid", "test"):
            raise ValueError(f"queries are of 'valid' or 'test', not of {part!r}")
        if max_len < 1:
            raise ValueError(f"a history is at least 1 item long, not {max_len}")
        next_rows, query, history_items = self._histories(part)
        end = np.cumsum(np.bincount(query, minlength=len(next_rows)))
        begin = np.append(0, end)[: len(end)]
        histories = _pad_left(history_items, np.maximum(begin, end - max_len), end)
        user, item, time = (self.dataset.interactions[column].to_numpy() for column in ("user", "item", "time"))
        rows = np.flatnonzero(self.part == PARTS.index(part))
        begin = np.searchsorted(rows, next_rows)
        end = np.append(begin, len(rows))[1:]
        targets = _pad_left(item[rows][::-1], len(rows) - end, len(rows) - begin)[:, ::-1]
        return Queries(user[next_rows], histories, targets, time[next_rows])

    def interacted(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """All items in the histories of ``queries(part)``, however long these are.

        Returns:
            (P,) rows of the queries, in rising order, and (P,) items; no pair is repeated.
        """
        _, query, item = self._histories(part)
        return np.divmod(np.unique(query * (self.dataset.num_items + 1) + item), self.dataset.num_items + 1)

    def _histories(self, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(N,) row of each query's next item; (H,) query and (H,) item of the interactions in all histories."""
        user, item = (self.dataset.interactions[column].to_numpy() for column in ("user", "item"))
        rows = np.flatnonzero(self.part == PARTS.index(part))
        users, first = np.unique(user[rows], return_index=True)
        next_row = np.zeros(self.dataset.num_users, int)
        next_row[users] = rows[first]
        earlier = np.arange(len(user)) < next_row[user]
        shown = np.flatnonzero(earlier & (self.part != UNUSED) & (self.part != PARTS.index(part)))
        return rows[first], np.searchsorted(users, user[shown]), item[shown]


def _pad_left(item: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N, longest) the runs ``item[begin:end]``, padded with 0 at the left."""
    longest = max(int((end - begin).max(initial=0)), 1)
    position = end[:, None] - np.arange(longest, 0, -1)
    inside = position >= begin[:, None]
    padded = np.zeros(position.shape, np.int64)
    padded[inside] = item[position[inside]]
    return padded

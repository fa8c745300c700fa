"""RecDataset: items, interactions and images in one form for synthetic and real shops; its splits and histories."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from PIL import Image

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
"""What a split does with an interaction: learn from it, choose by it, test on it, only show it as history, drop it."""
PARTS = ("train", "valid", "test", "context", "unused")


class NotAvailable(ValueError):
    """A split, core or statistic that this data set cannot have; the message is a sentence for the reader."""


@dataclass(frozen=True, eq=False)
class RecDataset:
    """A shop's items, interactions and images.

    Items are numbered 1..I; item 0 is padding everywhere, and has no row in ``items``. Users are numbered 0..U-1.

    Attributes:
        name: what the data set is called in tables.
        items: a ``datasets.Dataset`` with the columns ITEM_FEATURES; row ``i - 1`` holds item ``i``. ``image`` is an
            ``Image`` feature, None where the item has none.
        interactions: one row an interaction with the columns INTERACTION_COLUMNS, sorted by user and time; what
            happened at the same time keeps the order of its source. ``time`` is Unix time in seconds.
        user_ids: (U,) the source's own name of each user.
        timed: False where the source tells the order of each user's interactions and no moments; ``time`` is then the
            place in that order, and cannot be compared between users.
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
        counts = f"{self.num_users:,} users, {self.num_items:,} items, {self.num_interactions:,} interactions"
        return f"RecDataset({self.name}: {counts})"

    # Items ------------------------------------------------------------------------------------------------------

    def item(self, item: int) -> dict:
        """All fields of item 1..I.

        Raises:
            IndexError: there is no such item; 0 is padding.
        """
        if not 1 <= item <= self.num_items:
            raise IndexError(f"item {item} does not exist in {self.name}: items are 1..{self.num_items}, 0 is padding")
        return self.items[int(item) - 1]

    def image(self, item: int) -> Image.Image | None:
        """The picture of item 1..I, None where it has none."""
        return self.item(item)["image"]

    def column(self, name: str) -> np.ndarray:
        """(I + 1,) a field of every item, indexed by item number; entry 0, the padding, is None."""
        return np.array([None, *self.items[name][:]], dtype=object)

    @cached_property
    def has_image(self) -> np.ndarray:
        """(I + 1,) bool, indexed by item number."""
        encoded = self.items.cast_column("image", datasets.Image(decode=False))["image"][:]
        return np.array([False, *(picture is not None for picture in encoded)])

    def span(self, least: float = 0) -> float:
        """Days between the first and the last interaction.

        Args:
            least: the days that a statistic needs.

        Raises:
            NotAvailable: there are no times, or they span fewer days.
        """
        if not self.timed:
            raise NotAvailable(f"{self.name} has orders, not times.")
        days = np.ptp(self.interactions["time"].to_numpy()) / 86400
        if days < least:
            raise NotAvailable(f"The times of {self.name} span {days:.0f} days, fewer than the {least} needed here.")
        return float(days)

    # Integrity --------------------------------------------------------------------------------------------------

    def validate(self) -> "RecDataset":
        """Check every contract named above; return self.

        Raises:
            ValueError: the first fault, with the row where it is.
        """
        frame = self.interactions
        for kind, wanted, found in (
            ("interactions", INTERACTION_COLUMNS, frame.columns),
            ("items", ITEM_FEATURES, self.items.column_names),
        ):
            missing = [column for column in wanted if column not in found]
            if missing:
                raise ValueError(f"{self.name}: {kind} lack the columns {', '.join(missing)}")
        for column, kind in ITEM_FEATURES.items():
            if self.items.features[column] != kind:
                raise ValueError(f"{self.name}: the items' {column} is {self.items.features[column]}, not {kind}")
        for kind, names in (("user_ids", self.user_ids), ("item_id", self.items["item_id"][:])):
            if len(set(names)) < len(names):
                raise ValueError(f"{self.name}: {kind} are not all different")
        user, item, time = (frame[column].to_numpy() for column in ("user", "item", "time"))
        rating = frame["rating"].to_numpy()
        order = (np.diff(user) < 0) | ((np.diff(user) == 0) & (np.diff(time) < 0))
        for fault, bad in (
            (f"the user is not in 0..{self.num_users - 1}", ~((user >= 0) & (user < self.num_users) & (user % 1 == 0))),
            (f"the item is not in 1..{self.num_items}", ~((item >= 1) & (item <= self.num_items) & (item % 1 == 0))),
            ("the time is not a whole number of seconds since 1970", ~((time >= 0) & (time == np.floor(time)))),
            ("the rating is negative or not a number", ~(rating >= 0)),
            ("rows are not sorted by user and time", np.concatenate([[False], order])),
        ):
            if bad.any():
                row = int(bad.argmax())
                raise ValueError(f"{self.name}: interactions, row {row}: {fault} ({frame.iloc[row].to_dict()})")
        return self

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any item, picture or interaction, and with nothing else."""
        sha = hashlib.sha256()
        for column in ("user", "item", "time"):
            sha.update(np.ascontiguousarray(self.interactions[column].to_numpy(np.int64)).tobytes())
        sha.update(np.ascontiguousarray(self.interactions["rating"].to_numpy(np.float32)).tobytes())
        for text in (*self.interactions["review"], *self.user_ids):
            sha.update(_spelt(text) + b"\0")
        raw = self.items.cast_column("image", datasets.Image(decode=False))
        for column in sorted(raw.column_names):
            sha.update(column.encode() + b"\0")
            for value in raw[column][:]:  # at once: row by row takes several times as long
                if isinstance(value, dict):  # a picture, in the table or in a file
                    value = value["bytes"] or Path(value["path"]).read_bytes()
                sha.update((value if isinstance(value, bytes) else _spelt(value)) + b"\0")
        return sha.hexdigest()[:16]

    # Filters ----------------------------------------------------------------------------------------------------

    def keep(self, rows: np.ndarray) -> "RecDataset":
        """The data set of some interactions (bool mask), with the users and items that are left renumbered."""
        frame = self.interactions[rows]
        (users, user), (items, item) = (_numbered(frame[column].to_numpy(int)) for column in ("user", "item"))
        frame = frame.assign(user=user.astype(np.int32), item=(item + 1).astype(np.int32)).reset_index(drop=True)
        return replace(self, items=self.items.select(items - 1), interactions=frame, user_ids=self.user_ids[users])

    def k_core(self, k: int = 5) -> "RecDataset":
        """The largest part in which every user and every item has at least ``k`` interactions."""
        return self.keep(k_core_mask(self.interactions["user"].to_numpy(), self.interactions["item"].to_numpy(), k))

    # Splits -----------------------------------------------------------------------------------------------------

    @cached_property
    def _from_end(self) -> np.ndarray:
        """Per interaction: how many of the same user follow it."""
        user = self.interactions["user"].to_numpy()
        ends = np.cumsum(np.bincount(user, minlength=self.num_users))  # (U,)
        return ends[user] - 1 - np.arange(len(user))

    def leave_one_out(self) -> "Split":
        """Test on each user's last interaction, choose on the one before, learn from the rest.

        Users of fewer than three interactions are only learnt from. Beware: other users' training interactions may lie
        after a user's test interaction in time.
        """
        length = np.bincount(self.interactions["user"], minlength=self.num_users)[self.interactions["user"]]
        part = np.where(self._from_end == 0, TEST, np.where(self._from_end == 1, VALID, TRAIN))
        return Split(self, np.where(length < 3, TRAIN, part), "leave-one-out")

    def temporal_split(self, train: float = 0.75, valid: float = 0.15) -> "Split":
        """Cut all interactions at two moments that are the same for everybody: shares ``train``, ``valid``, the rest.

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

    def by_user_folds(self, num_folds: int = 5, seed: int = 0) -> list["Split"]:
        """Cut the users into folds. Split f tests on the last interaction of fold f, chooses on that of fold f + 1.

        The earlier interactions of both are context: shown as history, never learnt from.

        Raises:
            ValueError: fewer than three folds leave nobody to learn from.
        """
        if num_folds < 3:
            raise ValueError(f"{num_folds} folds leave nobody to learn from: one tests, one chooses; take 3 or more")
        order = np.random.default_rng(seed).permutation(self.num_users)
        fold_of = np.empty(self.num_users, int)
        fold_of[order] = np.arange(self.num_users) % num_folds
        fold = fold_of[self.interactions["user"]]
        splits = []
        for test in range(num_folds):
            valid = (test + 1) % num_folds
            part = np.full(self.num_interactions, TRAIN)
            for held, name in ((test, TEST), (valid, VALID)):
                part[fold == held] = np.where(self._from_end[fold == held] == 0, name, CONTEXT)
            splits.append(Split(self, part, f"fold {test + 1} of {num_folds}"))
        return splits

    def hold_out_category(self, category: str) -> "Split":
        """Test on a category that is never learnt from.

        Tests on each user's first interaction with the category; the rows after it are unused, so that the future
        stays unseen. Chooses on the last interaction of the users who never meet the category.

        Raises:
            ValueError: the category does not exist.
        """
        known = self.column("category")
        if category not in known[1:]:
            names = ", ".join(sorted({str(name) for name in known[1:]}))
            raise ValueError(f"{self.name} has no category {category!r}; it has {names}")
        user = self.interactions["user"].to_numpy()
        held = known[self.interactions["item"].to_numpy()] == category
        row = np.arange(len(user))
        first = np.full(self.num_users, len(user))
        np.minimum.at(first, user[held], row[held])
        part = np.where(row < first[user], TRAIN, UNUSED)
        part[first[first < len(user)]] = TEST
        part[(first[user] == len(user)) & (self._from_end == 0)] = VALID
        return Split(self, part, f"unseen category {category}")


def _spelt(value: object) -> bytes:
    """A field as bytes: the same for all string types, another for None than for the text "None"."""
    return repr(str(value) if isinstance(value, str) else value).encode()


def _numbered(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes that occur, sorted, and the place of each entry among them: np.unique without its sort."""
    occurs = np.bincount(codes) > 0
    return np.flatnonzero(occurs), (np.cumsum(occurs) - 1)[codes]


def k_core_mask(user: np.ndarray, item: np.ndarray, k: int) -> np.ndarray:
    """Mask of the interactions in the k-core: drop users and items of fewer than ``k`` until none is left."""
    keep = np.ones(len(user), bool)
    users, items = np.bincount(user), np.bincount(item)
    while True:
        drop = keep & ((users < k)[user] | (items < k)[item])
        if not drop.any():
            return keep
        keep &= ~drop
        users -= np.bincount(user[drop], minlength=len(users))
        items -= np.bincount(item[drop], minlength=len(items))


@dataclass(frozen=True, eq=False)
class Queries:
    """N queries: at a time of prediction, what a user had interacted with, and what the user then interacted with.

    Attributes:
        users: (N,) user numbers.
        histories: (N, T) the last T items before the query, oldest first, padded with 0 at the left.
        targets: (N, M) the items of the user's interactions from the query on, within the part, in order, padded with
            0 at the right; column 0 is the next item.
        times: (N,) Unix time of the next item.
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

    def at_most(self, most: int) -> "Queries":
        """Every k-th query, with the smallest k that leaves at most ``most``.

        Raises:
            NotAvailable: there is no query.
        """
        if not len(self):
            raise NotAvailable("No user has interactions enough to be tested on.")
        return self.take(slice(None, None, -(-len(self) // most)))


@dataclass(frozen=True, eq=False)
class Split:
    """What each interaction of a data set is for.

    Attributes:
        part: (number of interactions,) TRAIN, VALID, TEST, CONTEXT or UNUSED.
        name: the protocol.
    """

    dataset: RecDataset
    part: np.ndarray
    name: str

    def interactions(self, part: str) -> pd.DataFrame:
        """The interactions of a part: train, valid, test, context or unused."""
        return self.dataset.interactions[self.part == PARTS.index(part)]

    def counts(self) -> dict[str, int]:
        """Part -> number of interactions, of the parts that have any."""
        counts = np.bincount(self.part, minlength=len(PARTS))
        return {name: int(count) for name, count in zip(PARTS, counts, strict=True) if count}

    def queries(self, part: str, length: int = 50) -> Queries:
        """One moment a user of ``valid`` or ``test``: before the first of their interactions in the part.

        Args:
            length: T, the longest history shown.

        Raises:
            ValueError: the part is not one to predict, or the length is not positive.
        """
        if part not in ("valid", "test"):
            raise ValueError(f"histories are of 'valid' or 'test', not of {part!r}")
        if length < 1:
            raise ValueError(f"a history is at least 1 item long, not {length}")
        code = PARTS.index(part)
        frame = self.dataset.interactions
        user, item = frame["user"].to_numpy(), frame["item"].to_numpy()
        rows = np.flatnonzero(self.part == code)
        users, first, count = np.unique(user[rows], return_index=True, return_counts=True)
        starts = rows[first]  # (N,) row of the next item
        known, begin, end = self._known(users, starts, code)
        items = _pad_left(item[known], np.maximum(begin, end - length), end)
        targets = _pad_left(item[rows][::-1], len(rows) - first - count, len(rows) - first)[:, ::-1]
        return Queries(users, items, targets, frame["time"].to_numpy()[starts])

    def seen(self, part: str) -> tuple[np.ndarray, np.ndarray]:
        """All that the users of ``queries(part)`` have before their moment, however long ago.

        Returns:
            (P,) rows of the histories, in rising order, and (P,) items; no pair stands twice.
        """
        user, item = (self.dataset.interactions[column].to_numpy() for column in ("user", "item"))
        code = PARTS.index(part)
        rows = np.flatnonzero(self.part == code)
        users, first = np.unique(user[rows], return_index=True)
        known, begin, end = self._known(users, rows[first], code)
        row = np.repeat(np.arange(len(users)), end - begin)
        within = np.arange(len(row)) - np.repeat(np.cumsum(end - begin) - (end - begin), end - begin)
        pairs = np.unique(row * (self.dataset.num_items + 1) + item[known[begin[row] + within]])
        return np.divmod(pairs, self.dataset.num_items + 1)

    def _known(self, users: np.ndarray, starts: np.ndarray, code: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that may be shown as history, and from which to which of them each user's history reaches."""
        known = np.flatnonzero((self.part != UNUSED) & (self.part != code))
        begins = np.searchsorted(self.dataset.interactions["user"].to_numpy(), users)  # (N,) the user's first row
        return known, np.searchsorted(known, begins), np.searchsorted(known, starts)

    def train_sequences(self, length: int = 50) -> np.ndarray:
        """(U', T) the training items of each user who has any, oldest first, padded with 0 at the left."""
        rows = np.flatnonzero(self.part == TRAIN)
        user = self.dataset.interactions["user"].to_numpy()[rows]
        item = self.dataset.interactions["item"].to_numpy()[rows]
        ends = np.append(np.flatnonzero(np.diff(user)) + 1, len(rows))[: len(rows)]
        begins = np.append(0, ends)[: len(ends)]
        return _pad_left(item, np.maximum(begins, ends - length), ends)


def _pad_left(item: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(N, longest) the runs ``item[begin:end]``, padded with 0 at the left."""
    width = max(int((end - begin).max(initial=0)), 1)
    place = end[:, None] - np.arange(width, 0, -1)
    return np.where(place >= begin[:, None], item[np.maximum(place, 0)], 0).astype(np.int64)

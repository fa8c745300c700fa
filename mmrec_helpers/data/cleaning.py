"""From raw columns to a validated RecDataset. The cleaning rules are the same for all sources.

- Times are Unix seconds. A time of 1e11 or more (the year 5138 in seconds, 1973 in milliseconds) is read as
  milliseconds, from 1e14 on as microseconds, from 1e17 on as nanoseconds; fractions of a second are cut off.
- An interaction is dropped where its user, item, time or rating is missing, its rating is negative or infinite in
  float32, or its time is not between 1970 and 5138. Of the same user, item and second, the first in file order is kept.
- Ids stay as they are; those that a reader takes for others (a space at the end, two Unicode forms of é) are noted.
- An item is an id with an interaction. Rows of other ids are dropped; an item without a row has empty fields.
- A price is an amount such as 12, $12.00 or 1,200.50. Anything else is left empty; 1.200 is read as 1.2, and noted.
- A file that is no image, is damaged, or has more than MAX_PIXELS pixels counts as a missing image.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa

from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset
from mmrec_helpers.data.images import TooLargeError, open_image
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.progress import progress

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP")
TEXT_FIELDS = ("title", "description", "category", "brand")
EARLY = 631_152_000  # 1990: no shop has older logs, but a date written as 20240501 is read as a second of 1970
LAST_SECOND = 1e11
LARGEST = float(np.finfo(np.float32).max)
TIME_UNITS = {"milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}


def build_dataset(
    interactions: pd.DataFrame, items: pd.DataFrame, images: Path, report: CleaningReport, timed: bool = True
) -> tuple[RecDataset, CleaningReport]:
    """Clean raw columns and number their users and items in order of first appearance.

    Args:
        interactions: one row an interaction in file order, with the columns ``user``, ``item`` (text), ``time``,
            ``rating`` (float64, NaN where missing) and ``review`` (text). Without the column, ratings are 1 and
            reviews are empty.
        items: one row an item as read, with ``item``, any of TEXT_FIELDS, ``price`` and further columns, all text.
        images: folder of the files ``<item id>.(jpg|jpeg|png|webp)``; need not exist.
        report: the report to add to; its source becomes the data set's name.
        timed: whether ``time`` is a time, not a position in the user's order.

    Returns:
        The data set (its ``items`` have the further columns, too) and the report.

    Raises:
        ValueError: no interaction is left.
    """
    frame = _complete_rows(interactions, report)
    user, user_ids = pd.factorize(frame["user"])
    item, item_ids = pd.factorize(frame["item"])
    user_ids, item_ids = user_ids.to_numpy(object), item_ids.to_numpy(object)
    time = frame["time"].to_numpy(np.int64)
    user_time = user * (time.max() + 1) + time  # fits, for the times allowed, up to 92 million users
    order = np.argsort(user_time, kind="stable")  # the same second keeps its file order
    order = order[~_repeated(user_time[order], item[order])]
    report.add("the same user, item and second stands before", len(frame) - len(order))
    numbered = pd.DataFrame(
        {
            "user": user[order].astype(np.int32),
            "item": (item[order] + 1).astype(np.int32),
            "time": time[order],
            "rating": frame["rating"].to_numpy(np.float32)[order],
            "review": frame["review"].astype("str").array.take(order),
        },
        copy=False,
    )
    report.add("", len(numbered), action="kept")

    if timed:
        report.add("the time lies before 1990: is it in seconds?", (time < EARLY).sum(), action="noted")
    dropped = np.ones(len(interactions), bool)
    dropped[frame.index] = False
    lost = len(set(interactions["user"][dropped]).difference(user_ids, {""}))
    report.add("", len(user_ids) + lost, of="users", action="read")
    report.add("no interaction of the user is left", lost, of="users")
    report.add("the user has one interaction", (np.bincount(numbered["user"]) == 1).sum(), of="users", action="noted")
    report.add("", len(user_ids), of="users", action="kept")
    _note_ids(user_ids, "users", report)

    table = _items(items, item_ids, images, report)
    dataset = RecDataset(report.source, table, numbered, user_ids, timed)
    return dataset.validate(), report.check()


def _complete_rows(raw: pd.DataFrame, report: CleaningReport) -> pd.DataFrame:
    """The rows with valid users, items, times and ratings, with their index in ``raw``."""
    report.add("", len(raw), action="read")
    frame = pd.DataFrame(
        {
            "user": raw["user"],
            "item": raw["item"],
            "time": _seconds(raw["time"].to_numpy(np.float64), report),
            "rating": raw.get("rating", 1.0),
            "review": raw.get("review", ""),
        },
        copy=False,
    )
    keep = np.ones(len(frame), bool)
    for reason, bad in (
        ("the user id is missing", frame["user"] == ""),
        ("the item id is missing", frame["item"] == ""),
        ("the time is missing", frame["time"].isna()),
        ("the time is not between 1970 and 5138", ~frame["time"].between(0, LAST_SECOND, inclusive="left")),
        ("the rating is missing", frame["rating"].isna()),
        ("the rating is negative or infinite", ~frame["rating"].between(0, LARGEST)),
    ):
        report.add(reason, (keep & bad).sum())
        keep &= ~bad.to_numpy()
    if not keep.any():
        raise ValueError(f"no interaction is left; correct the files by these counts\n{report}")
    return frame if keep.all() else frame[keep]


def _note_ids(ids: Iterable[str], of: str, report: CleaningReport) -> None:
    """Note different ids that a reader takes for the same, and those that are not what they seem."""
    odd = [name for name in ids if not name.isprintable() or name != name.strip()]
    report.add("the id has a space at an end, or invisible characters", len(odd), of=of, action="noted")
    forms = [name if name.isascii() else unicodedata.normalize("NFKC", name) for name in ids]
    plain = {name.strip() if name.isprintable() else "".join(filter(str.isprintable, name)).strip() for name in forms}
    reason = "another id differs only in spaces, invisible characters or the Unicode form"
    report.add(reason, len(forms) - len(plain), of=of, action="noted")


def _repeated(user_time: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Mask of the rows, sorted by user and second, that repeat an earlier one; only ties are compared."""
    same = user_time[1:] == user_time[:-1]
    tied = np.append(same, False) | np.append(False, same)
    repeated = np.zeros(len(user_time), bool)
    repeated[tied] = pd.DataFrame({"user_time": user_time[tied], "item": item[tied]}).duplicated()
    return repeated


def _seconds(time: np.ndarray, report: CleaningReport) -> np.ndarray:
    """Times in whole seconds."""
    seconds = np.floor(time)
    for unit, per_second in TIME_UNITS.items():
        in_unit = (time >= LAST_SECOND * per_second / 1e3) & (time < LAST_SECOND * per_second)
        report.add(f"the time was in {unit}", in_unit.sum(), action="repaired")
        seconds[in_unit] = np.floor(time[in_unit] / per_second)
    fraction = (time < LAST_SECOND) & (time != seconds)
    report.add("a fraction of a second was cut off", fraction.sum(), action="repaired")
    return seconds


def _items(raw: pd.DataFrame, ids: np.ndarray, images: Path, report: CleaningReport) -> datasets.Dataset:
    """The table of the items ``ids``, in their order."""
    report.add("", len(raw), of="item rows", action="read")
    rows = raw[raw["item"] != ""]
    report.add("the item id is missing", len(raw) - len(rows), of="item rows")
    for reason, repeated in (
        ("the whole row stands before", rows.duplicated()),
        ("another row of the item stands before", rows.duplicated("item") & ~rows.duplicated()),
    ):
        report.add(reason, repeated.sum(), of="item rows")
    rows = rows.drop_duplicates("item").set_index("item")
    _note_ids(rows.index.union(ids, sort=False), "items", report)
    used = (rows.index.get_indexer(ids) >= 0).sum()
    report.add("nobody interacted with the item", len(rows) - used, of="item rows")
    report.add("", used, of="item rows", action="kept")
    report.add("the item has no row: its fields are empty", len(ids) - used, of="items", action="repaired")

    fields = dict.fromkeys([*TEXT_FIELDS, *rows.columns, "price"])
    texts = rows.reindex(ids, fill_value="").reindex(columns=list(fields), fill_value="")
    price_texts = texts.pop("price")
    prices = [_price(text) for text in price_texts]
    invalid = sum(price is None for price in prices) - (price_texts == "").sum()
    report.add("the price is no amount: left empty", invalid, of="items", action="repaired")
    thousands = sum(re.fullmatch(r"\$?\s*[1-9]\d{0,2}\.\d{3}", text.strip()) is not None for text in price_texts)
    report.add("the price has three decimals: is 1.200 a thousand?", thousands, of="items", action="noted")
    for field in TEXT_FIELDS:
        report.add(f"the {field} is empty", (texts[field] == "").sum(), of="items", action="noted")
    report.add("the price is empty", sum(price is None for price in prices), of="items", action="noted")
    paths = _image_paths(images, set(ids), report)
    report.add("the image is missing", len(ids) - len(paths), of="items", action="noted")
    references = [{"path": paths[item], "bytes": None} if item in paths else None for item in ids]
    columns = {"item_id": ids, **texts, "price": prices, "image": references}
    extra = {name: datasets.Value("string") for name in texts if name not in ITEM_FEATURES}
    features = datasets.Features({**ITEM_FEATURES, **extra})
    return datasets.Dataset(pa.table({name: columns[name] for name in features}, features.arrow_schema))


def _price(text: str) -> float | None:
    """The amount in a text such as $1,200.50; None where it is something else, or infinite in float32."""
    amount = re.fullmatch(r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)", text.strip())
    value = float(amount[1].replace(",", "")) if amount else None
    return None if value is None or value > LARGEST else value


def _image_paths(folder: Path, ids: set[str], report: CleaningReport) -> dict[str, str]:
    """Item id -> path of its image.

    Ids are only compared with the names of existing files: no id, whatever it contains, becomes part of a path.
    """
    if not folder.is_dir():
        report.add(f"there is no folder {folder.name}", 1, of="folders", action="noted")
        return {}
    root = folder.resolve()
    if root.parent != folder.parent.resolve():
        report.add(f"the folder {folder.name} is a link that leads to {root}", 1, of="folders", action="noted")
    files = sorted(root.iterdir(), key=lambda path: (path.stem, path.suffix))
    report.add("", len(files), of="images", action="read")
    paths: dict[str, str] = {}
    for path in progress(files, desc="checking images", delay=3):
        fault = _path_fault(path, root) or ("" if path.stem in ids else "there is no item of this name")
        fault = fault or ("another image of the item stands before" if path.stem in paths else "") or _image_fault(path)
        if fault:
            report.add(fault, 1, of="images")
        else:
            paths[path.stem] = str(path)
    report.add("", len(paths), of="images", action="kept")
    return paths


def _path_fault(path: Path, root: Path) -> str:
    """Why a path is not one of an image, empty where it is."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
        return f"not a file that ends in {', '.join(IMAGE_SUFFIXES)}"
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        return "the file is a link that leads out of the folder"
    return ""


def _image_fault(path: Path) -> str:
    """Why an image cannot be used, empty where it can."""
    try:
        open_image(str(path), 32, IMAGE_FORMATS)
    except TooLargeError as error:
        return str(error)
    except Exception:  # a hostile file can make a decoder raise anything
        return f"the file is no whole {', '.join(IMAGE_FORMATS)} image"
    return ""

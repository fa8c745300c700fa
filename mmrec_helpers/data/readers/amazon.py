"""Amazon Review Data of 2018 (gzip JSON lines, 5-core or whole) and Amazon Reviews 2023 (JSON lines, gzip or not).

Both publish a file of reviews and one of metadata for each category, which must lie in one folder. The path of the
reviews opens a category, that of the folder joins all categories in it::

    Gift_Cards_5.json.gz    meta_Gift_Cards.json.gz       2018; also Gift_Cards.json.gz
    Gift_Cards.jsonl.gz     meta_Gift_Cards.jsonl.gz      2023; also .jsonl
    images/                 <item>.jpg, .jpeg, .png or .webp, optional; the item is the asin (2018) or parent_asin

The address of an item's main image is kept in the items' extra column ``image_url`` (empty where there is none).
HTML entities and tags in titles, descriptions and reviews stay as they are: noisy text is part of the lesson. The one
change to text is that half a Unicode character (a lone surrogate, which cannot be stored) becomes a question mark.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmrec_helpers.data.cleaning import build_dataset
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.readers.files import existing, json_lines, names_faults, to_number
from mmrec_helpers.data.report import CleaningReport

ITEM_FIELDS = ("parent_asin", "asin")
"""Fields of an item's id, the first that there is; the edition of 2018 has only ``asin``."""
FIELDS = {
    2018: {"user": "reviewerID", "time": "unixReviewTime", "rating": "overall", "review": "reviewText"},
    2023: {"user": "user_id", "time": "timestamp", "rating": "rating", "review": "text"},
}
"""Edition -> our names of the other fields of a review -> the file's."""
REVIEWS = re.compile(r"(?!meta_|columns\.json)(?P<category>.+?)(_5)?(?P<ending>\.jsonl?(\.gz)?)")


@names_faults
def read_amazon(path: Path | str) -> tuple[RecDataset, CleaningReport]:
    """Read the reviews and metadata of one category, or of several that share users.

    Args:
        path: the file of reviews; or a folder, of which all files of reviews are joined.

    Returns:
        The data set, named after the only file of reviews or after the folder of several, and the cleaning report.

    Raises:
        FileNotFoundError: the reviews or their metadata are not there.
        ValueError: a file is faulty, or the folder holds a category twice or categories of both editions.
    """
    path = Path(path)
    files = _files(path)
    source = path.resolve().name if len(files) > 1 else files[0][0].name.partition(".json")[0]
    reviews, metadata = zip(*files, strict=True)
    report = CleaningReport(source)
    interactions, items = _reviews(reviews, report), _metadata(metadata, report)
    return build_dataset(interactions, items, reviews[0].parent / "images", report)


def _files(path: Path) -> list[tuple[Path, Path]]:
    """Reviews and metadata of the category whose reviews the path is, or of all categories in a folder."""
    is_folder = path.is_dir()
    reviews = sorted(file for file in path.iterdir() if REVIEWS.fullmatch(file.name)) if is_folder else [existing(path)]
    if not reviews:
        raise FileNotFoundError(f"{path} has no file of reviews (*_5.json.gz, *.jsonl, *.jsonl.gz); put one there")
    files: dict[str, tuple[Path, Path]] = {}
    for file in reviews:
        name = REVIEWS.fullmatch(file.name)
        if not name:
            raise ValueError(
                f"{file}: not named like a file of reviews; call it CATEGORY.jsonl, .jsonl.gz or _5.json.gz"
            )
        if other := files.get(name["category"]):
            raise ValueError(f"{path} holds one category as {other[0].name} and as {file.name}; name one of them")
        files[name["category"]] = file, existing(file.with_name(f"meta_{name['category']}{name['ending']}"))
    return list(files.values())


def _reviews(files: Sequence[Path], report: CleaningReport) -> pd.DataFrame:
    """The interactions as ``build_dataset`` takes them, of files of one edition."""
    columns: dict[str, list[Any]] = {name: [] for name in ("user", "item", "time", "rating", "review")}
    fields: dict[str, str] = {}
    for path in files:
        for number, (line, row) in enumerate(json_lines(path, report)):
            if number == 0:
                fields = fields or FIELDS[2018 if "reviewerID" in row else 2023]
                needed = (fields["user"], "asin", fields["time"], fields["rating"])
                if missing := [name for name in needed if name not in row]:
                    others = "" if path == files[0] else f", of the same edition as {files[0].name}"
                    fix = f"is it the file of reviews as published{others}?"
                    raise ValueError(f"{path}, line {line}: no field {missing[0]!r}; {fix}")
            try:
                columns["user"].append(_text(row.get(fields["user"])))
                columns["item"].append(_first(row, ITEM_FIELDS))
                columns["review"].append(_text(row.get(fields["review"])))
            except (TypeError, RecursionError) as error:
                raise ValueError(f"{path}, line {line}: {error}; correct it, or delete the line") from error
            for name in ("time", "rating"):
                columns[name].append(to_number(row.get(fields[name]), path, line, fields[name]))
    return pd.DataFrame(columns).astype({"user": object, "item": object, "time": float, "rating": float})


def _metadata(files: Sequence[Path], report: CleaningReport) -> pd.DataFrame:
    """The items as ``build_dataset`` takes them."""
    names = ("item", "title", "description", "category", "brand", "price", "image_url")
    columns: dict[str, list[str]] = {name: [] for name in names}
    for path in files:
        for number, (line, row) in enumerate(json_lines(path, report)):
            if number == 0 and not any(name in row for name in ITEM_FIELDS):
                raise ValueError(
                    f"{path}, line {line}: no field 'asin' or 'parent_asin'; is it the metadata as published?"
                )
            try:
                columns["item"].append(_first(row, ITEM_FIELDS))
                for name in ("title", "description", "price"):
                    columns[name].append(_text(row.get(name)))
                columns["brand"].append(_first(row, ("brand", "store")))
                columns["category"].append(_category(row))
                columns["image_url"].append(_image_url(row))
            except (TypeError, RecursionError) as error:
                raise ValueError(f"{path}, line {line}: {error}; correct it, or delete the line") from error
    return pd.DataFrame(columns, dtype=object)


def _text(value: object) -> str:
    """A field as text: the entries of a list as lines, without the empty ones."""
    if isinstance(value, list):
        return "\n".join(text for text in map(_text, value) if text)
    if isinstance(value, dict | bool):
        raise TypeError(f"{value!r:.80} where text is expected")
    return "" if value is None else str(value).encode("utf-8", "replace").decode("utf-8")


def _first(row: dict, names: Iterable[str]) -> str:
    """The first of some fields that is not empty, as text."""
    return next((text for text in (_text(row.get(name)) for name in names) if text), "")


def _category(row: dict) -> str:
    """The second level of the path (the first is the file's own), else the first, else the main category."""
    path = row.get("category") or row.get("categories")
    if isinstance(path, list) and path:
        return _text(path[:2][-1])
    return _first(row, ("main_cat", "main_category"))


def _image_url(row: dict) -> str:
    """The address of the main image in its largest size; empty where there is none."""
    for name in ("imageURLHighRes", "imageURL", "images"):
        images = row.get(name)
        if isinstance(images, list) and images:
            main = [image for image in images if isinstance(image, dict) and image.get("variant") == "MAIN"]
            image = (main or images)[0]
            return _first(image, ("hi_res", "large", "thumb")) if isinstance(image, dict) else _text(image)
    return ""

"""Bring your own shop: CSV files and images in one folder.

Layout, every CSV in UTF-8 with a header::

    interactions.csv   user,item,time[,rating,review]                     time in Unix seconds (or milliseconds)
    items.csv          item,title[,description,category,brand,price,...]
    images/            <item>.jpg, .jpeg, .png or .webp                   optional
    columns.json       optional: the files' own names, as COLUMNS below

Further columns of items, such as a colour, become text columns of the data set's items; those of interactions are not
read. ``mmrec_helpers.data.cleaning`` has the rules by which rows are cleaned. A folder of MovieLens as published needs
no columns.json: MOVIELENS is used.
"""

import json
import os
from pathlib import Path, PurePath
from typing import Any

import pandas as pd

from mmrec_helpers.data.cleaning import TEXT_FIELDS, build_dataset
from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset
from mmrec_helpers.data.readers.files import csv_header, existing, names_faults, read_csv, unique_keys
from mmrec_helpers.data.report import CleaningReport

COLUMNS: dict[str, Any] = {
    "interactions": {"file": "interactions.csv"},
    "items": {"file": "items.csv"},
    "images": "images",
}
"""The layout that ``columns`` may change: for ``interactions`` and ``items`` the file, and our name -> the file's name
of columns with other names, and under ``skip`` the file's columns not to be read; ``items`` may be a list of such
tables, joined by ``item`` (a column is taken from the first table that has it); ``images`` is their folder's name."""
FIELDS = {"interactions": ("user", "item", "time", "rating", "review"), "items": ("item", *TEXT_FIELDS, "price")}
REQUIRED = {"interactions": ("user", "item", "time"), "items": ("item",)}
MAX_FURTHER_COLUMNS = 100
"""Of a table of items: each is kept in memory as text."""
MOVIELENS: dict[str, Any] = {
    "interactions": {"file": "ratings.csv", "user": "userId", "item": "movieId", "time": "timestamp"},
    "items": [
        {"file": "movies.csv", "item": "movieId", "category": "genres"},
        {"file": "overviews.csv", "item": "movieId", "description": "overview", "skip": ["tmdbId"]},
    ],
}
"""MovieLens; ``overviews.csv`` (and ``images``) are not part of it, but read where they were added."""


@names_faults
def read_folder(path: Path | str, columns: dict | None = None) -> tuple[RecDataset, CleaningReport]:
    """Read a shop's folder, in the layout of this module's head.

    Args:
        path: the folder; its name becomes the data set's.
        columns: the files' own names, as COLUMNS; by default those in the folder's ``columns.json``, if there is one,
            and MOVIELENS where ``ratings.csv`` is there in place of ``interactions.csv``.

    Returns:
        The data set and the cleaning report.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: a file is faulty, ``columns`` names something unknown, or no interaction is left.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; correct the path")
    if columns is None:
        columns = _columns_of(path)
    layout = _layout(columns, path / "columns.json")
    images = path / layout["images"]
    if "images" in columns and not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder; put it there, or correct images in columns.json")
    report = CleaningReport(path.resolve().name)
    interactions = _read_table(path, layout["interactions"], "interactions", report)
    items = _read_table(path, layout["items"][0], "items", report)
    for table in layout["items"][1:]:
        items = _join(items, _read_table(path, table, "items", report), path / table["file"])
    if "title" not in items:
        file = path / layout["items"][0]["file"]
        raise ValueError(f"{file}, line 1: no column 'title'; rename it in the file, or map it in columns.json")
    return build_dataset(interactions, items, images, report)


def _columns_of(path: Path) -> dict:
    """The files' own names in a folder that has ``columns.json`` or is MovieLens; empty in other folders."""
    file = path / "columns.json"
    if os.path.lexists(file):
        try:
            return json.loads(existing(file).read_text("utf-8-sig"), object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file}: not JSON in UTF-8 ({error}); correct it, or delete it") from error
    if (path / "ratings.csv").is_file() and not (path / "interactions.csv").exists():
        movies, overviews = MOVIELENS["items"]
        tables = [movies, overviews] if (path / overviews["file"]).exists() else [movies]
        return MOVIELENS | {"items": tables}
    return {}


def _layout(columns: dict, source: Path) -> dict[str, Any]:
    """COLUMNS with the changes of ``columns``, ``items`` as a list of tables; ``source`` is named in errors."""

    def require(holds: bool, rule: str) -> None:
        if not holds:
            raise ValueError(f"{source}, or the argument columns: {rule}; see COLUMNS in data/readers/folder.py")

    def inside(name: object) -> bool:
        path = PurePath(name if isinstance(name, str) else "")
        return bool(path.parts) and not path.is_absolute() and ".." not in path.parts

    require(isinstance(columns, dict) and set(columns) <= set(COLUMNS), f"name only {', '.join(COLUMNS)}")
    layout = COLUMNS | columns
    require(inside(layout["images"]), f"images is {layout['images']!r}, not the name of a folder within the folder")
    items = layout["items"] if isinstance(layout["items"], list) else [layout["items"]]
    require(bool(items), "items must name a table")
    for kind, table in [("interactions", layout["interactions"]), *(("items", table) for table in items)]:
        valid = isinstance(table, dict) and "file" in table and set(table) <= {"file", "skip", *FIELDS[kind]}
        require(valid, f"a table of {kind} names its file, and else only {', '.join(FIELDS[kind])}, skip")
        require(inside(table["file"]), f"{table['file']!r} is not the name of a file within the folder")
        skip, needed = table.get("skip", []), {*REQUIRED[kind], *table} & set(FIELDS[kind])
        names = [table.get(name, name) for name in needed]
        require(all(isinstance(name, str) for name in names), f"columns of {kind} are texts, not {names!r:.80}")
        require(len({*names}) == len(names), f"one column of {kind} has two roles among {', '.join(sorted(needed))}")
        valid = isinstance(skip, list) and all(isinstance(name, str) for name in skip)
        valid = valid and not set(names) & set(skip)
        require(valid, f"skip is {skip!r:.80}, not a list of columns that are neither mapped nor required")
    return {**layout, "items": items}


def _read_table(path: Path, table: dict[str, Any], kind: str, report: CleaningReport) -> pd.DataFrame:
    """One CSV file, with our names of its columns, and the further columns of items."""
    file, skip = path / table["file"], table.get("skip", [])
    mapped = [table[name] for name in FIELDS[kind] if name in table]
    columns = {name: table.get(name, name) for name in FIELDS[kind] if name in table or name not in mapped}
    optional = [name for name in FIELDS[kind] if name not in REQUIRED[kind] and name not in table]
    others = {*columns.values(), *skip}
    if kind == "items":
        columns |= {name: name for name in _further_columns(file, others)}
    else:  # one of them may be misspelt
        skipped = [name for name in csv_header(file) if name.strip() and name not in others]
        report.add(f"not read: {', '.join(skipped):.200}", len(skipped), of="columns", action="noted")
    columns = {name: column for name, column in columns.items() if column not in skip}
    numbers = ("time", "rating") if kind == "interactions" else ()
    return read_csv(file, columns, report, numbers, tuple(optional))


def _further_columns(file: Path, others: set[str]) -> list[str]:
    """The named columns of a table of items that are not among ``others``, which are mapped or skipped."""
    names = [name for name in csv_header(file) if name.strip() and name not in others]
    fix = "rename it in the file, or list it under skip in columns.json"
    if taken := [name for name in names if name in {*FIELDS["items"], *ITEM_FEATURES}]:
        raise ValueError(f"{file}, line 1: a further column has the name {taken[0]!r} of the data set's own; {fix}")
    if len(names) > MAX_FURTHER_COLUMNS:
        raise ValueError(
            f"{file}, line 1: {len(names)} further columns, of which {MAX_FURTHER_COLUMNS} can be kept; "
            f"delete some in the file, or list them under skip in columns.json"
        )
    return names


def _join(items: pd.DataFrame, other: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The table of items with the columns that only another table, read from ``file``, has."""
    if other["item"].duplicated().any():
        item = other["item"][other["item"].duplicated()].iloc[0]
        raise ValueError(f"{file}: item {item!r:.80} has several rows; a table that is joined must have one an item")
    new = ["item", *(name for name in other if name not in items)]
    return items.merge(other[new], on="item", how="outer", sort=False).fillna("")

"""Bring your own shop: CSV files and images in one folder.

Layout, every CSV in UTF-8 with a header::

    interactions.csv   user,item,time[,rating,review]                     time in Unix seconds (or milliseconds)
    items.csv          item,title[,description,category,brand,price]
    images/            <item>.jpg, .jpeg, .png or .webp                   optional
    columns.json       optional: the files' own names, as COLUMNS below

Other columns are not read. How rows are cleaned up stands in ``build``. A folder of MovieLens as published needs no
columns.json: MOVIELENS stands for it.
"""

import json
from pathlib import Path, PurePath

import pandas as pd

from mmrec_helpers.data.cleaning import TEXT_FIELDS, build
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.readers.files import read_csv
from mmrec_helpers.data.report import CleaningReport

COLUMNS = {"interactions": {"file": "interactions.csv"}, "items": {"file": "items.csv"}, "images": "images"}
"""What ``columns`` may say: for ``interactions`` and ``items`` the file and our name -> the file's name of columns that
are called otherwise; ``items`` may be a list of such tables, joined by ``item`` (the first table that has a field
gives it); ``images`` is the name of their folder."""
FIELDS = {"interactions": ("user", "item", "time", "rating", "review"), "items": ("item", *TEXT_FIELDS, "price")}
REQUIRED = {"interactions": ("user", "item", "time"), "items": ("item",)}
MOVIELENS = {
    "interactions": {"file": "ratings.csv", "user": "userId", "item": "movieId", "time": "timestamp"},
    "items": [
        {"file": "movies.csv", "item": "movieId", "category": "genres"},
        {"file": "overviews.csv", "item": "movieId", "description": "overview"},
    ],
}
"""MovieLens; ``overviews.csv`` (and ``images``) are not part of it, but read where somebody added them."""


def read_folder(path: Path | str, columns: dict | None = None) -> tuple[RecDataset, CleaningReport]:
    """Read a shop's folder, laid out as told above.

    Args:
        path: the folder; its name becomes the data set's.
        columns: the files' own names, as COLUMNS; default is what ``columns.json`` in the folder says, if there, and
            MOVIELENS where ``ratings.csv`` stands in place of ``interactions.csv``.

    Returns:
        The data set and the report of the clean-up.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: a file is faulty, ``columns`` names something unknown, or no interaction is left.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; correct the path")
    told = path / "columns.json"
    if columns is None and told.is_file():
        try:
            columns = json.loads(told.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{told}: not JSON in UTF-8 ({error}); correct it, or delete it") from error
    elif columns is None and (path / "ratings.csv").is_file() and not (path / "interactions.csv").exists():
        present = [
            table for table in MOVIELENS["items"] if table["file"] == "movies.csv" or (path / table["file"]).exists()
        ]
        columns = MOVIELENS | {"items": present}
    layout = _layout({} if columns is None else columns, told)
    interactions = _read_table(path, layout["interactions"], "interactions")
    tables = [_read_table(path, table, "items") for table in layout["items"]]
    items = tables[0]
    for table, told_table in zip(tables[1:], layout["items"][1:], strict=True):
        items = _join(items, table, path / told_table["file"])
    if "title" not in items:
        file = path / layout["items"][0]["file"]
        raise ValueError(f"{file}, line 1: no column 'title'; rename it in the file, or map it in columns.json")
    return build(interactions, items, path / layout["images"], CleaningReport(path.resolve().name))


def _layout(columns: dict, told: Path) -> dict:
    """COLUMNS with what ``columns`` says instead, ``items`` as a list of tables."""

    def demand(held: bool, rule: str) -> None:
        if not held:
            raise ValueError(f"{told}, or the argument columns: {rule}; see COLUMNS in sources/folder.py")

    def inside(name: object) -> bool:
        return isinstance(name, str) and not PurePath(name).is_absolute() and ".." not in PurePath(name).parts

    demand(isinstance(columns, dict) and set(columns) <= set(COLUMNS), f"say only {', '.join(COLUMNS)}")
    layout = COLUMNS | columns
    demand(inside(layout["images"]), f"images is {layout['images']!r}, not the name of a folder within the folder")
    items = layout["items"] if isinstance(layout["items"], list) else [layout["items"]]
    demand(bool(items), "items must name a table")
    for kind, table in [("interactions", layout["interactions"]), *(("items", table) for table in items)]:
        known = ("file", *FIELDS[kind])
        named = isinstance(table, dict) and "file" in table and set(table) <= set(known)
        demand(named, f"a table of {kind} names its file, and else only {', '.join(known[1:])}")
        demand(inside(table["file"]), f"{table['file']!r} is not the name of a file within the folder")
    return {**layout, "items": items}


def _read_table(path: Path, table: dict, kind: str) -> pd.DataFrame:
    named = {name: table.get(name, name) for name in FIELDS[kind]}
    optional = [name for name in FIELDS[kind] if name not in REQUIRED[kind] and name not in table]
    return read_csv(path / table["file"], named, numbers=("time", "rating"), optional=tuple(optional))


def _join(items: pd.DataFrame, other: pd.DataFrame, file: Path) -> pd.DataFrame:
    if other["item"].duplicated().any():
        item = other["item"][other["item"].duplicated()].iloc[0]
        raise ValueError(f"{file}: item {item!r:.80} has several rows; a table that is joined must have one an item")
    new = ["item", *(name for name in other if name not in items)]
    return items.merge(other[new], on="item", how="outer", sort=False).fillna("")

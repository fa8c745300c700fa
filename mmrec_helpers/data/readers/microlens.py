"""MicroLens: ``*_pairs.tsv``, ``*_titles.csv`` and, where there, ``covers/<item>.jpg`` in one folder.

A line of pairs is: user, TAB, the user's items in time order, separated by spaces. There are no timestamps, so ``time``
is the position in the user's line, from 0, and the data set is not ``timed``: it has no temporal split. Ratings are 1.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from mmrec_helpers.data.cleaning import build_dataset
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.readers.files import names_faults, read_csv, text_lines
from mmrec_helpers.data.report import CleaningReport


@names_faults
def read_microlens(path: Path | str) -> tuple[RecDataset, CleaningReport]:
    """Read a folder of MicroLens.

    Returns:
        The data set, named after the pairs' file, and the cleaning report.

    Raises:
        FileNotFoundError: the folder or a file is not there.
        ValueError: a file is faulty, or the folder holds several of a kind.
    """
    path = Path(path)
    pairs, titles = (_only(path, pattern) for pattern in ("*_pairs.tsv", "*_titles.csv"))
    report = CleaningReport(pairs.name.removesuffix("_pairs.tsv"))
    columns: dict[str, list[Any]] = {"user": [], "item": [], "time": []}
    line_of: dict[str, int] = {}
    for number, line in text_lines(pairs, report):
        if not line.strip():
            continue
        user, tab, rest = line.rstrip("\r\n").partition("\t")
        if not tab:
            raise ValueError(f"{pairs}, line {number}: no TAB between the user and the items; separate them by one")
        if user in line_of:  # positions are times: two lines of one user would be interleaved
            raise ValueError(
                f"{pairs}, line {number}: user {user!r:.80} has line {line_of[user]} too; join the two in time order"
            )
        line_of[user] = number
        items = [item for item in rest.split(" ") if item]
        report.add("the user's line names no item", not items, of="users", action="noted")
        columns["user"] += [user] * len(items)
        columns["item"] += items
        columns["time"] += range(len(items))
    items = read_csv(titles, {"item": "item", "title": "title"}, report)
    return build_dataset(pd.DataFrame(columns), items, path / "covers", report, timed=False)


def _only(folder: Path, pattern: str) -> Path:
    """The one file of a pattern."""
    files = sorted(file for file in folder.iterdir() if file.match(pattern)) if folder.is_dir() else []
    if not files:
        raise FileNotFoundError(f"{folder} has no file {pattern}; put it there, or correct the path")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ValueError(f"{folder} has several files {pattern} ({names}); leave one in it")
    return files[0]

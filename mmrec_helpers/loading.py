"""Open the data that MMREC_DATA names: the Pocket Shop with its truth, or real files with their clean-up's report."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from mmrec_helpers.data.dataset import NotAvailable, RecDataset
from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.data.readers.microlens import read_microlens
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.settings import Settings

T = TypeVar("T")
LEAST = 200
"""Users, and items outside the longest history, that chapters which train and sample negatives need."""
READERS = {"folder": read_folder, "amazon": read_amazon, "microlens": read_microlens}


def load_data(settings: Settings) -> tuple[RecDataset, Truth | None, CleaningReport | None]:
    """Open the data of ``settings.data``.

    Returns:
        The data set; the truth, which only the Pocket Shop has; the report of the clean-up, which only real data have.

    Raises:
        FileNotFoundError: the path, or a file that belongs to it, does not exist.
        ValueError: a file is faulty (the message names file, line and mend).
    """
    if settings.data == "pocket":
        return *load_shop(settings.seed, settings.shop_size), None
    source, _, path = settings.data.partition(":")
    dataset, report = READERS[source](Path(path).expanduser())
    return dataset, None, report


def open_large_enough(settings: Settings) -> tuple[RecDataset, Truth | None]:
    """``load_data`` for chapters that train: print what was opened, and how it was cleaned up.

    Where there are fewer than LEAST users, or items outside the longest history, the Pocket Shop takes its place, with
    a sentence; another sentence tells where there are no pictures.
    """
    dataset, truth, report = load_data(settings)
    print(dataset)
    if report:
        print(report)
    longest = np.bincount(dataset.interactions["user"]).max()
    if min(dataset.num_users, dataset.num_items - longest) < LEAST:
        print("Too few items or users to sample a hundred other items for everybody.")
        print("The chapter goes on with the Pocket Shop.")
        return load_shop(settings.seed, settings.shop_size)
    if not dataset.has_image.any():
        print(f"{dataset.name} has no pictures: its items are described by their texts alone.")
    return dataset, truth


def if_available(make: Callable[[], T]) -> T | None:
    """What ``make`` returns; where the data set cannot have it, print why and return None.

    Args:
        make: does all the work of a cell, and raises NotAvailable where the data set lacks what it needs.
    """
    try:
        return make()
    except NotAvailable as reason:
        print(reason)
        return None

"""Open the data that MMREC_DATA names: the Pocket Shop with its truth, or real files with their cleaning report."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import NotAvailable, RecDataset
from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.data.readers.microlens import read_microlens
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.settings import Settings

T = TypeVar("T")
MIN_SIZE = 200
"""Users, and items outside the longest history, that chapters need which train and sample negatives."""
MIN_PAIRS = 100
"""Items with both an image and a description that the chapter on their overlap needs."""
READERS = {"folder": read_folder, "amazon": read_amazon, "microlens": read_microlens}


def load_data(settings: Settings) -> tuple[RecDataset, Truth | None, CleaningReport | None]:
    """Open the data of ``settings.data``.

    Returns:
        The data set; the truth, which only the Pocket Shop has; the cleaning report, which only real data have.

    Raises:
        FileNotFoundError: the path, or a file that belongs to it, does not exist.
        ValueError: a file is faulty (the message names file, line and fix).
    """
    if settings.data == "pocket":
        return *load_shop(settings.seed, settings.shop_size), None
    source, _, path = settings.data.partition(":")
    pd.options.display.html.use_mathjax = False  # tables of texts of others: a $ is a price
    dataset, report = READERS[source](os.path.expanduser(path))  # which leaves ~name where there is no such user
    return dataset, None, report


def load_data_for_training(
    settings: Settings, needed: Sequence[str] = (), max_users: int = 0
) -> tuple[RecDataset, Truth | None]:
    """``load_data`` for chapters that train: prints the data set and its cleaning report.

    Data with fewer than MIN_SIZE users, or items outside the longest history, are replaced by the Pocket Shop, and so
    are those with fewer than MIN_SIZE items that have what the chapter needs. A sentence is printed then, and where
    there are no images.

    Args:
        settings: whose data.
        needed: fields of an item that the chapter cannot do without, such as ``image`` or ``category``.
        max_users: of real data, a random sample of more users; 0 is all.
    """
    dataset, truth = _load_and_print(settings)
    longest, reason = np.bincount(dataset.interactions["user"]).max(), ""
    if min(dataset.num_users, dataset.num_items - longest) < MIN_SIZE:
        reason = "Too few items or users to sample a hundred other items for each user."
    elif _have(dataset, needed).sum() < MIN_SIZE:
        reason = f"Fewer than {MIN_SIZE} items have {' and '.join(needed)}, which this chapter needs."
    if reason:
        print(reason, "The chapter goes on with the Pocket Shop.", sep="\n")
        return load_shop(settings.seed, settings.shop_size)
    if truth is None and 0 < max_users < dataset.num_users:
        users = np.random.default_rng(settings.seed).permutation(dataset.num_users)[:max_users]
        dataset = dataset.select_interactions(np.isin(dataset.interactions["user"], users))
        print(f"The chapter takes a sample of {max_users:,} users, and their {dataset.num_items:,} items.")
    if not dataset.has_image.any():
        print(f"{dataset.name} has no images: its items are described by their texts alone.")
    return dataset, truth


def load_paired_data(settings: Settings) -> tuple[RecDataset, Truth | None]:
    """``load_data`` for chapters that compare images with descriptions: prints the data set and its cleaning report.

    Data with fewer than MIN_PAIRS items that have both are replaced by the Pocket Shop; a sentence is printed then.
    """
    dataset, truth = _load_and_print(settings)
    if _have(dataset, ["image", "description"]).sum() < MIN_PAIRS:
        print(f"Fewer than {MIN_PAIRS} items have both an image and a description, too few to compare them.")
        print("The chapter goes on with the Pocket Shop.")
        return load_shop(settings.seed, settings.shop_size)
    return dataset, truth


def _have(dataset: RecDataset, names: Sequence[str]) -> np.ndarray:
    """(I,) bool, whether an item has all of these: an ``image``, or a text in a field of this name."""
    have = np.ones(dataset.num_items, bool)
    for name in names:
        is_text = name != "image"
        have &= [bool((text or "").strip()) for text in dataset.items[name][:]] if is_text else dataset.has_image[1:]
    return have


def _load_and_print(settings: Settings) -> tuple[RecDataset, Truth | None]:
    dataset, truth, report = load_data(settings)
    print(dataset)
    if report:
        print(report)
    return dataset, truth


def require_truth(truth: Truth | None) -> Truth:
    """The ground truth.

    Raises:
        NotAvailable: there is none, because the data are real.
    """
    if truth is None:
        raise NotAvailable("Only the Pocket Shop has a ground truth.")
    return truth


def if_available(make: Callable[[], T]) -> T | None:
    """The result of ``make``; where the data set cannot have it, print why and return None.

    Args:
        make: does all the work of a cell, and raises NotAvailable where the data set lacks what it needs.
    """
    try:
        return make()
    except NotAvailable as reason:
        print(reason)
        return None

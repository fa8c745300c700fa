"""Small data sets that several tests build."""

import datasets
import numpy as np
import pandas as pd
from PIL import Image

from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset

CATEGORIES = ("mug", "lamp", "desk")


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (3, 2), (shade, 10, 200))


def catalogue(num: int, **changes: list) -> datasets.Dataset:
    """A table of items; item i has the title "thing i", and every third item lacks a picture."""
    numbers = range(1, num + 1)
    columns = {
        "item_id": [f"id-{i}" for i in numbers],
        "title": [f"thing {i}" for i in numbers],
        "description": [f"about thing {i}" for i in numbers],
        "category": [CATEGORIES[i % 3] for i in numbers],
        "brand": [f"brand {i % 4}" for i in numbers],
        "price": [float(i) for i in numbers],
        "image": [picture(i) if i % 3 else None for i in numbers],
    }
    return datasets.Dataset.from_dict(columns | changes, features=ITEM_FEATURES)


def rec_dataset(rows: list[tuple[int, int, int]], num_users: int | None = None, **items: list) -> RecDataset:
    """A data set of (user, item, time), in this order; ratings and reviews are made up."""
    user, item, time = (np.array([row[column] for row in rows], int) for column in range(3))
    interactions = pd.DataFrame(
        {
            "user": user.astype(np.int32),
            "item": item.astype(np.int32),
            "time": time,
            "rating": (1 + np.arange(len(rows)) % 5).astype(np.float32),
            "review": [f"review {row}" for row in range(len(rows))],
        }
    )
    num_users = num_users or int(user.max(initial=0)) + 1
    names = np.array([f"user-{number}" for number in range(num_users)])
    return RecDataset("test", catalogue(max(int(item.max(initial=1)), 1), **items), interactions, names)


SEEDS = range(5)


def random_dataset(seed: int, num_users: int = 14, num_items: int = 12, last_day: int = 40) -> RecDataset:
    """Random histories with many ties in time; users 0 to 3 have as many interactions, the others up to 9."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(num_users):
        length = user if user < 4 else rng.integers(1, 10)
        times = np.sort(rng.integers(0, last_day, length))
        rows += [(user, int(rng.integers(1, num_items + 1)), int(time)) for time in times]
    rows.append((num_users, num_items, last_day))  # so that every number up to the last exists
    return rec_dataset(rows)


def rows_of(dataset: RecDataset) -> list[list[int]]:
    """Each user's row numbers, in order."""
    rows = [[] for _ in range(dataset.num_users)]
    for row, user in enumerate(dataset.interactions["user"].tolist()):
        rows[user].append(row)
    return rows

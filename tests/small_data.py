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

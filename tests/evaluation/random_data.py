"""Random data and systems with known scores, for the tests of evaluation."""

import datasets
import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset, Split

NUM_USERS, NUM_ITEMS = 60, 40


def random_split(seed: int, num_items: int = NUM_ITEMS) -> Split:
    """Leave-one-out of 60 users with 3 to 14 items; the first items are the most popular, some are repeated."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(NUM_USERS):
        items = 1 + (num_items * rng.random(rng.integers(3, 15)) ** 2).astype(int)
        rows += [(user, item, time, 5.0, None) for time, item in enumerate(items)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * num_items for name in ITEM_FEATURES} | {"item_id": [f"i{n}" for n in range(num_items)]}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"u{user}" for user in range(NUM_USERS)])
    return RecDataset("random", items, frame, names).validate().leave_one_out()


class Scores:
    """Fixed scores for every user."""

    def __init__(self, scores: np.ndarray, name: str = "scores"):
        self.scores, self.name = scores, name

    def score(self, queries, candidates=None):
        scores = self.scores[queries.users]
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)


def random_scores(seed: int = 0, num_items: int = NUM_ITEMS, levels: int = 10**6) -> np.ndarray:
    """(U, I + 1) with ties when there are few levels."""
    return np.random.default_rng(seed).integers(levels, size=(NUM_USERS, num_items + 1)).astype(np.float32)

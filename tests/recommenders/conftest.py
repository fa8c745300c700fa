"""A small world whose answer is known: two groups of users buy two groups of items, round a circle."""

import datasets
import numpy as np
import pandas as pd
import pytest

from mmrec_helpers.data.dataset import ITEM_FEATURES, RecDataset, Split

USERS, CIRCLE, BOUGHT, DAY = 40, 12, 8, 86_400
WORDS = (("soft", "warm", "woollen", "cosy", "knitted"), ("hard", "cold", "steel", "shiny", "welded"))
COMMON = ("nice", "thing", "for", "the", "house", "and", "more")


def sentence(group: int, rng: np.random.Generator) -> str:
    """Six words, of which two tell the group."""
    words = [*rng.choice(WORDS[group], 2, replace=False), *rng.choice(COMMON, 4)]
    return " ".join(words[place] for place in rng.permutation(6))


@pytest.fixture(scope="session")
def planted_group() -> np.ndarray:
    """(I + 1,) the group, 0 or 1, of each item; -1 for the padding, and for item 26, of which nothing is known.

    Items 25 and 26 are bought by nobody; the texts and features of item 25 tell its group.
    """
    return np.array([-1, *(item % 2 for item in range(1, 2 * CIRCLE + 2)), -1])


@pytest.fixture(scope="session")
def planted_features(planted_group) -> np.ndarray:
    """(I + 1, 4) vectors that tell the group, and have other lengths and some noise; zeros where nothing is known."""
    rng = np.random.default_rng(1)
    features = np.eye(2)[planted_group] @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(len(planted_group), 4))
    return features * rng.uniform(0.5, 2, size=(len(features), 1)) * (planted_group >= 0)[:, None]


@pytest.fixture(scope="session")
def planted(planted_group) -> Split:
    """Leave-one-out of 40 users, who each take 8 items in a row from the circle of their group's 12.

    User u is of group u % 2; the item after item i in its circle is i + 2, and item 1 or 2 after the last. Reviews and
    items' texts tell the group; some reviews are blank.
    """
    rng = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        group, start = user % 2, rng.integers(CIRCLE)
        times = np.sort(rng.choice(100, BOUGHT, replace=False)) * DAY
        for step, time in enumerate(times):
            item = 2 * ((start + step) % CIRCLE) + (group or 2)
            review = "" if rng.random() < 0.1 else sentence(group, rng)
            rows.append((user, item, int(time), float(rng.integers(3, 6)), review))
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    known = planted_group[1:].tolist()
    texts = [sentence(group, rng) if group >= 0 else "" for group in known for _ in range(2)]
    columns = {
        "item_id": [f"id-{item}" for item in range(1, len(known) + 1)],
        "title": texts[::2],
        "description": texts[1::2],
        "category": [None] * len(known),
        "brand": [None] * len(known),
        "price": [1.0] * len(known),
        "image": [None] * len(known),
    }
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"user-{user}" for user in range(USERS)])
    return RecDataset("planted", items, frame, names).validate().leave_one_out()


@pytest.fixture(scope="module")
def fitted(make, planted):
    """Options -> the system that the module's ``make`` builds with them, fitted once."""
    systems = {}

    def fit(**options):
        key = str(options)
        if key not in systems:
            systems[key] = make(**options).fit(planted)
        return systems[key]

    return fit

"""neighbors.py, against loops that spell each formula out."""

from math import sqrt

import numpy as np
import pytest

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN


def baskets(split: Split) -> dict[int, set[int]]:
    """User -> training items."""
    frame = split.interactions("train")
    return frame.groupby("user")["item"].agg(set).to_dict()


@pytest.mark.parametrize(("num_neighbors", "shrinkage"), [(3, 0.0), (5, 4.0), (100, 20.0)])
def test_item_knn_is_the_formula(planted, num_neighbors, shrinkage):
    moments, num_items = planted.queries("test"), planted.dataset.num_items
    buyers = planted.interactions("train").groupby("item")["user"].agg(set).to_dict()
    expected = np.zeros((len(moments), num_items + 1))
    for row, history in zip(expected, moments.histories, strict=True):
        for item in history[history > 0]:
            alike = {}
            for other in range(1, num_items + 1):
                both = buyers.get(item, set()) & buyers.get(other, set())
                if other != item and both:
                    alike[other] = len(both) / (sqrt(len(buyers[item]) * len(buyers[other])) + shrinkage)
            for other in sorted(alike, key=lambda other: (-round(alike[other], 6), other))[:num_neighbors]:
                row[other] += alike[other]
    assert np.allclose(ItemKNN(num_neighbors, shrinkage).fit(planted).score(moments), expected, atol=1e-5)


@pytest.mark.parametrize(("num_neighbors", "shrinkage"), [(1, 0.0), (6, 3.0), (100, 10.0)])
def test_user_knn_is_the_formula(planted, num_neighbors, shrinkage):
    moments, taken = planted.queries("test"), baskets(planted)
    expected = np.zeros((len(moments), planted.dataset.num_items + 1))
    for row, user, history in zip(expected, moments.users, moments.histories, strict=True):
        own, alike = set(history[history > 0]), {}
        for other, items in taken.items():
            if other != user and own & items:
                alike[other] = len(own & items) / (sqrt(len(own) * len(items)) + shrinkage)
        for other in sorted(alike, key=lambda other: (-round(alike[other], 6), other))[:num_neighbors]:
            row[list(taken[other])] += alike[other]
    assert np.allclose(UserKNN(num_neighbors, shrinkage).fit(planted).score(moments), expected, atol=1e-5)

"""ch07.py: a drawing in the item's own colour is its image, and pairs differ by the colour alone."""

import numpy as np
import pytest

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch07 import colour_pairs, redrawn


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")


def test_an_item_in_its_own_colour_is_its_image(shop):
    dataset, truth = shop
    for item in np.flatnonzero(dataset.has_image)[:5]:
        fields = dataset.item(int(item))
        own = redrawn(truth, fields["item_id"], truth.facts(fields["item_id"])["colour"])
        assert own.tobytes() == fields["image"].convert("RGB").tobytes()


def test_pairs_are_of_users_with_a_preferred_colour_and_of_items_that_mention_none(shop):
    dataset, truth = shop
    queries = dataset.leave_one_out().queries("test", 200)
    chosen, items, (liked, others) = colour_pairs(dataset, truth, queries, 40)
    assert len(np.unique(chosen.users)) == len(items) == len(liked) == len(others) == 40
    assert not truth.mentions[items - 1, 0].any()
    assert dataset.has_image[items].all()
    for row in range(10):
        item, step = dataset.item(int(items[row]))["item_id"], int((chosen.histories[row] > 0).sum())
        preferred = truth.taste(dataset.user_ids[chosen.users[row]], step)["colour"]
        assert liked[row].tobytes() == redrawn(truth, item, preferred).tobytes() != others[row].tobytes()
    again = colour_pairs(dataset, truth, queries, 40)
    assert np.array_equal(again[1], items)

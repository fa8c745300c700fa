"""oracle.py: the omniscient oracle gives the choice model's probabilities; histories end before the query."""

import numpy as np
from micro_shop import micro_model, micro_shop

from mmrec_helpers.pocket_shop.choice_model import Purchases
from mmrec_helpers.pocket_shop.oracle import Histories, omniscient


def test_the_omniscient_oracle_gives_the_world_s_chances_under_the_taste_that_holds_now():
    model = micro_model()
    tastes, histories = micro_shop(0.2, (0, 1, 3, 4, 8), 6)
    found = omniscient(model, tastes, histories)
    changed = 0
    for shopper, length in enumerate(histories.lengths):
        history = histories.rows[shopper, :length]
        after = length >= tastes.change[shopper]
        changed += after
        taste = (tastes.after if after else tastes.before)[[shopper]]
        bought = np.isin(np.arange(model.catalogue.num_items), history)[None]
        last = model.catalogue.category[history[-1:]] if length else np.array([-1])
        wanted = model.next_item_probabilities(
            tastes.favourites[[shopper]], taste, last, histories.query_days[[shopper]], bought
        )[0]
        np.testing.assert_allclose(found[shopper], wanted)
    assert changed >= 5


def test_histories_hold_what_was_bought_before_and_the_day_of_what_comes():
    purchases = Purchases(np.array([[4, 2, 7, -1], [1, 3, 5, 6]]), np.array([[1.0, 2, 3, 730], [5, 6, 7, 8]]))
    histories = Histories.before(purchases, np.array([1, 0, 1]), np.array([3, 1, 0]))
    assert histories.rows.tolist() == [[1, 3, 5], [4, -1, -1], [-1, -1, -1]]
    assert histories.query_days.tolist() == [8, 2, 5]
    assert histories.lengths.tolist() == [3, 1, 0]
    assert histories.last_category(np.arange(8) * 10).tolist() == [50, 40, -1]
    assert [np.flatnonzero(row).tolist() for row in histories.bought(8)] == [[1, 3, 5], [4], []]
    for row in (0, 1):
        assert histories.days[row, : histories.lengths[row]].tolist() == [[5, 6, 7], [1]][row]

"""The omniscient oracle of the Pocket Shop: P(next item | the user's true taste, history).

No recommender sees tastes.
"""

from dataclasses import dataclass

import numpy as np

from mmrec_helpers.pocket_shop.choice_model import ChoiceModel, Purchases, Tastes


@dataclass(frozen=True)
class Histories:
    """The histories of N users, before the purchases to predict."""

    rows: np.ndarray
    """(N, T) catalogue rows, -1 after the last."""
    days: np.ndarray
    """(N, T) days of these purchases."""
    query_days: np.ndarray
    """(N,) day of the purchase to predict."""

    @classmethod
    def before(cls, purchases: Purchases, users: np.ndarray, steps: np.ndarray) -> "Histories":
        """The histories before purchase ``steps`` (N,), counted from 0, of ``users`` (N,)."""
        max_len = max(int(steps.max(initial=0)), 1)
        rows = np.where(np.arange(max_len) < steps[:, None], purchases.rows[users, :max_len], -1)
        return cls(rows, purchases.days[users, :max_len], purchases.days[users, steps])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) number of purchases."""
        return (self.rows >= 0).sum(axis=1)

    def last_category(self, category: np.ndarray) -> np.ndarray:
        """(N,) category of the last purchase, -1 where there is none."""
        last = self.rows[np.arange(len(self.rows)), np.maximum(self.lengths - 1, 0)]
        return np.where(last >= 0, category[last], -1)

    def bought(self, num_items: int) -> np.ndarray:
        """(N, I) bool, True for the items of each history."""
        bought = np.zeros((len(self.rows), num_items + 1), bool)
        np.put_along_axis(bought, self.rows, True, axis=1)  # row -1 falls into the last, dropped, column
        return bought[:, :-1]


def omniscient(model: ChoiceModel, tastes: Tastes, histories: Histories) -> np.ndarray:
    """P(next item | taste, history), (N, I), for the tastes of the N users."""
    catalogue = model.catalogue
    last, bought = histories.last_category(catalogue.category), histories.bought(catalogue.num_items)
    taste = tastes.at(histories.lengths)
    return model.next_item_probabilities(tastes.favourites, taste, last, histories.query_days, bought)

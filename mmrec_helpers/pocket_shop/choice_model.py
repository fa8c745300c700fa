"""The choice model of the Pocket Shop's users, and the simulation of their purchases.

A purchase has two steps. First a category: with probability ``COMPLEMENT_PROBABILITY`` the complement of the previous
category, otherwise one of the user's favourites. Then an item of the category that is on sale and that the user has
not bought yet, by a softmax over utilities:

    utility(i) = POPULARITY_UTILITY * popularity(i) + FASHION_UTILITY * exp(-((t - peak(i)) / FASHION_DAYS)^2 / 2)
               + TASTE_UTILITY * (number of attribute values of i that match the user's taste)

Both steps are mixed with a uniform distribution. A user's taste has at most one change point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmrec_helpers.pocket_shop.catalogue import (
    CATEGORIES,
    COMPLEMENTS,
    DAY,
    DAYS,
    NUM_VALUES,
    Catalogue,
    random_stream,
    uniform_index,
)

COMPLEMENT_PROBABILITY = 0.4
"""Probability that the next category is the complement of the previous one."""
NUM_FAVOURITES = 2
"""Favourite categories of a user."""
CATEGORY_NOISE = 0.12
"""Probability that a category is sampled uniformly."""
ITEM_NOISE = 0.05
"""Probability that an item is sampled uniformly from the category."""
TASTE_PROBABILITY = (0.5, 0.4, 0.4, 0.7, 0.7, 0.25, 0.25)
"""Probability that a user has a preferred value of each of TASTE_ATTRIBUTES."""
TASTE_UTILITY = 3.5
"""Utility of a preferred attribute value."""
POPULARITY_UTILITY = 1.1
"""Utility of one standard deviation of popularity."""
FASHION_UTILITY = 3.0
"""Utility of an item on the day of its fashion peak."""
FASHION_DAYS = 15.0
"""Standard deviation of the fashion peak in days."""
FIRST_CHANGE = 3
"""Purchases before a taste can change."""
MEAN_EXTRA = 12.5
"""Mean number of purchases beyond the first MIN_PURCHASES."""
MIN_PURCHASES = 3
MAX_PURCHASES = 60
CHUNK_SIZE = 4096
"""Users that are simulated at once, which bounds memory. Each chunk has its own random streams."""

COMPLEMENT_OF = np.array([CATEGORIES.index(COMPLEMENTS[name]) for name in CATEGORIES])


@dataclass(frozen=True)
class Tastes:
    """The users' preferences, which no recommender sees."""

    favourites: np.ndarray
    """(U, NUM_FAVOURITES) favourite categories in ascending order."""
    before: np.ndarray
    """(U, A) preferred value of each attribute before the change point, -1 for none."""
    after: np.ndarray
    """(U, A) the same after it."""
    change: np.ndarray
    """(U,) change point: the purchase, counted from 0, from which on ``after`` holds; MAX_PURCHASES if never."""

    def __len__(self) -> int:
        return len(self.change)

    def at(self, step: int | np.ndarray) -> np.ndarray:
        """(U, A) the tastes that hold at a purchase, counted from 0."""
        return np.where((self.change <= step)[:, None], self.after, self.before)

    def take(self, users: np.ndarray) -> "Tastes":
        """The tastes of some users."""
        return Tastes(self.favourites[users], self.before[users], self.after[users], self.change[users])


def category_probabilities(favourites: np.ndarray, last: np.ndarray) -> np.ndarray:
    """P(next category), (N, C), for (N, NUM_FAVOURITES) favourites and (N,) last categories, -1 where there is none."""
    num, rows = len(CATEGORIES), np.arange(len(last))
    probabilities = np.full((len(last), num), CATEGORY_NOISE / num)
    np.add.at(probabilities, (rows[:, None], favourites), (1 - CATEGORY_NOISE) / favourites.shape[1])
    has_last = last >= 0
    probabilities[has_last] *= 1 - COMPLEMENT_PROBABILITY
    probabilities[rows[has_last], COMPLEMENT_OF[last[has_last]]] += COMPLEMENT_PROBABILITY
    return probabilities


def common_utility(catalogue: Catalogue, rows: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(N, len(rows)) the part of the utility that all users share, on (N,) days; -inf before an item's launch."""
    gap = (days[:, None] - catalogue.peak[rows]) / FASHION_DAYS
    utility = POPULARITY_UTILITY * catalogue.popularity[rows] + FASHION_UTILITY * np.exp(-0.5 * gap**2)
    return np.where(days[:, None] >= catalogue.launch[rows], utility, -np.inf)


def choice_probabilities(utility: np.ndarray) -> np.ndarray:
    """P(item | category) from (N, I_c) utilities, -inf for unavailable items; a row without available items is 0."""
    available = np.isfinite(utility)
    weight = np.exp(utility - np.max(utility, axis=1, keepdims=True, initial=-1e9))
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    num_available = np.maximum(available.sum(axis=1, keepdims=True), 1)
    return (1 - ITEM_NOISE) * weight / total + ITEM_NOISE * available / num_available


def one_hot(values: np.ndarray, num_values: np.ndarray) -> np.ndarray:
    """(N, sum of num_values) one-hot encoding of each attribute's value; -1 gives zeros."""
    return np.concatenate([values[:, [a]] == np.arange(num) for a, num in enumerate(num_values)], axis=1).astype(float)


class ChoiceModel:
    """P(next item) given a user's taste and history, over one catalogue.

    Args:
        catalogue: The items.
        num_values: (A,) number of values of each attribute.
        taste_probability: (A,) probability that a user has a preferred value of each attribute.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        num_values: Sequence[int] = NUM_VALUES,
        taste_probability: Sequence[float] = TASTE_PROBABILITY,
    ) -> None:
        self.catalogue = catalogue
        self.num_values, self.taste_probability = np.array(num_values), np.array(taste_probability)
        self.items_of = [np.flatnonzero(catalogue.category == c) for c in range(len(CATEGORIES))]
        """Catalogue rows of each category."""
        self.one_hot = one_hot(catalogue.attributes, self.num_values)
        """(I, sum of num_values) attribute values of each item."""

    def tastes_from(self, uniforms: np.ndarray) -> np.ndarray:
        """(N, A) tastes from (N, A, 2) uniform samples: -1 for no preference, else a uniformly sampled value."""
        return np.where(uniforms[..., 0] < self.taste_probability, uniform_index(uniforms[..., 1], self.num_values), -1)

    def item_probabilities(self, category: int, tastes: np.ndarray, days: np.ndarray, bought: np.ndarray) -> np.ndarray:
        """P(item | category), (N, I_c), for tastes (N, A), days (N,) and bought (N, I) bool."""
        rows = self.items_of[category]
        utility = common_utility(self.catalogue, rows, days)
        utility += TASTE_UTILITY * (one_hot(tastes, self.num_values) @ self.one_hot[rows].T)
        utility[bought[:, rows]] = -np.inf
        return choice_probabilities(utility)

    def next_item_probabilities(
        self, favourites: np.ndarray, tastes: np.ndarray, last: np.ndarray, days: np.ndarray, bought: np.ndarray
    ) -> np.ndarray:
        """P(next item), (N, I); arguments as of ``category_probabilities`` and ``item_probabilities``."""
        categories = category_probabilities(favourites, last)
        probabilities = np.zeros((len(days), self.catalogue.num_items))
        for category, rows in enumerate(self.items_of):
            within = self.item_probabilities(category, tastes, days, bought)
            probabilities[:, rows] = categories[:, [category]] * within
        return probabilities


@dataclass(frozen=True)
class Purchases:
    """The simulated histories; one row per user, one column per purchase, in order of time."""

    rows: np.ndarray
    """(U, T) catalogue rows, -1 after the last purchase."""
    days: np.ndarray
    """(U, T) days since the opening, ascending."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """(U,) number of purchases."""
        return (self.rows >= 0).sum(axis=1)


def sample_tastes(model: ChoiceModel, seed: int, part: int, num: int, drift: float) -> Tastes:
    """The tastes of ``num`` users, chunk number ``part`` of a shop's; ``drift`` as in ``ShopParameters``."""
    uniforms = random_stream(seed, "tastes", part).random((num, 2, len(model.num_values), 2))
    order = np.argsort(random_stream(seed, "favourites", part).random((num, len(CATEGORIES))), axis=1, kind="stable")
    changes = random_stream(seed, "changes", part).random((num, MAX_PURCHASES)) < drift
    changes[:, :FIRST_CHANGE] = False
    return Tastes(
        favourites=np.sort(order[:, :NUM_FAVOURITES], axis=1),
        before=model.tastes_from(uniforms[:, 0]),
        after=model.tastes_from(uniforms[:, 1]),
        change=np.where(changes.any(axis=1), changes.argmax(axis=1), MAX_PURCHASES),
    )


def sample_visit_days(seed: int, part: int, num: int) -> np.ndarray:
    """(U, MAX_PURCHASES) days of ``num`` users' purchases; DAYS or later means no purchase.

    Purchases are bursty: nearly half follow the previous one within minutes, the others after days or weeks.
    """
    rng = random_stream(seed, "visits", part)
    arrival, pace, extra = rng.random((3, num))
    waits = -np.log1p(-rng.random((num, MAX_PURCHASES)))
    same_visit = rng.random((num, MAX_PURCHASES)) < 0.45
    minutes = waits * 8 / (24 * 60)
    gaps = np.where(same_visit, minutes, waits * (4 + 16 * pace[:, None]))
    gaps[:, 0] = 0
    lengths = MIN_PURCHASES + np.floor(-MEAN_EXTRA * np.log1p(-extra))
    days = arrival[:, None] * 0.96 * DAYS + np.cumsum(gaps, axis=1)
    days = np.floor(days * DAY) / DAY  # whole seconds, as the data set stores them
    return np.where(np.arange(MAX_PURCHASES) < lengths[:, None], days, DAYS)


def sample_categorical(probabilities: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """(N,) columns sampled by (N, K) probabilities, normalised or not, from (N,) uniforms; -1 for rows of zeros."""
    total = np.cumsum(probabilities, axis=1)
    column = (total <= uniforms[:, None] * total[:, -1:]).sum(axis=1)
    return np.where(total[:, -1] > 0, np.minimum(column, probabilities.shape[1] - 1), -1)


def simulate_purchases(model: ChoiceModel, tastes: Tastes, days: np.ndarray, uniforms: np.ndarray) -> Purchases:
    """Simulate the purchases of U users.

    The visits have (U, T) days, where DAYS or later means no purchase, and (U, T, 2) uniforms, for category and item.
    """
    rows, purchase_days = np.full(days.shape, -1), np.full(days.shape, float(DAYS))
    count = np.zeros(len(days), int)  # purchases so far: a visit without available items has none
    bought = np.zeros((len(days), model.catalogue.num_items), bool)
    last = np.full(len(days), -1)
    for step in range(days.shape[1]):
        active = np.flatnonzero(days[:, step] < DAYS)
        if not len(active):
            break
        probabilities = category_probabilities(tastes.favourites[active], last[active])
        categories = sample_categorical(probabilities, uniforms[active, step, 0])
        taste = tastes.at(count)
        for category in np.unique(categories):
            users = active[categories == category]
            probabilities = model.item_probabilities(category, taste[users], days[users, step], bought[users])
            column = sample_categorical(probabilities, uniforms[users, step, 1])
            users, items = users[column >= 0], model.items_of[category][column[column >= 0]]
            rows[users, count[users]] = items
            purchase_days[users, count[users]] = days[users, step]
            bought[users, items] = True
            last[users] = category
            count[users] += 1
    return Purchases(rows, purchase_days)

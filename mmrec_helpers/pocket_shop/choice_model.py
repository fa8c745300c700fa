"""The shoppers of the Pocket Shop: how they choose, and the choices they made.

A purchase has two steps. First a category: with chance ``COMPLEMENT`` the complement of the category bought last,
otherwise one of the shopper's favourites. Then an item of the category that is on sale and not yet bought by the
shopper, by a softmax over utilities:

    utility(i) = POPULARITY * popularity(i) + FASHION * bump(t - peak(i)) + CARE * (values of i that the shopper likes)

Both steps have a noise floor. Once in their life, shoppers may change what they care for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COMPLEMENTS, DAY, DAYS, NUM_VALUES, Catalogue, pick, stream

COMPLEMENT = 0.4
"""Chance that the next category is the complement of the last."""
NUM_FAVOURITES = 2
"""Favourite categories of a shopper."""
CATEGORY_NOISE = 0.12
"""Chance of a category from all of them, by no taste."""
ITEM_NOISE = 0.05
"""Chance of an item from all of the category, by no taste."""
CARING = (0.5, 0.4, 0.4, 0.7, 0.7, 0.25, 0.25)
"""Chance that a shopper cares for each of TASTE_ATTRIBUTES at all."""
CARE = 3.5
"""Utility of an attribute value that the shopper cares for."""
POPULARITY = 1.1
"""Utility of one standard deviation of popularity."""
FASHION = 3.0
"""Utility of an item on its day of fashion."""
FASHION_DAYS = 15.0
"""Days before and after the peak at which fashion's utility has fallen to exp(-1/2) of that."""
FIRST_CHANGE = 3
"""Purchases before a taste can change."""
MEAN_EXTRA = 12.5
"""Mean number of purchases beyond the first MIN_PURCHASES."""
MIN_PURCHASES = 3
MAX_PURCHASES = 60
CHUNK = 4096
"""Shoppers simulated at once, which bounds memory. Each chunk has random streams of its own."""

COMPLEMENT_OF = np.array([CATEGORIES.index(COMPLEMENTS[name]) for name in CATEGORIES])


@dataclass(frozen=True)
class Tastes:
    """What shoppers like; never seen by a recommender."""

    favourites: np.ndarray
    """(U, NUM_FAVOURITES) favourite categories, rising."""
    before: np.ndarray
    """(U, A) cared-for value of each attribute before the change, -1 for none."""
    after: np.ndarray
    """(U, A) the same after it."""
    change: np.ndarray
    """(U,) the purchase, counted from 0, from which on ``after`` holds; MAX_PURCHASES if never."""

    def __len__(self) -> int:
        return len(self.change)

    def at(self, step: int | np.ndarray) -> np.ndarray:
        """(U, A) the tastes that hold at a purchase."""
        return np.where((self.change <= step)[:, None], self.after, self.before)

    def take(self, users: np.ndarray) -> "Tastes":
        """The tastes of some shoppers."""
        return Tastes(self.favourites[users], self.before[users], self.after[users], self.change[users])


def category_chances(favourites: np.ndarray, last: np.ndarray) -> np.ndarray:
    """P(next category), (N, C).

    Args:
        favourites: (N, NUM_FAVOURITES) categories.
        last: (N,) the category bought last, -1 before the first purchase.
    """
    num, rows = len(CATEGORIES), np.arange(len(last))
    chances = np.full((len(last), num), CATEGORY_NOISE / num)
    np.add.at(chances, (rows[:, None], favourites), (1 - CATEGORY_NOISE) / favourites.shape[1])
    follows = last >= 0
    chances[follows] *= 1 - COMPLEMENT
    chances[rows[follows], COMPLEMENT_OF[last[follows]]] += COMPLEMENT
    return chances


def common_utility(catalogue: Catalogue, rows: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(N, len(rows)) what items are worth to everybody on given days; -inf before their launch."""
    gap = (days[:, None] - catalogue.peak[rows]) / FASHION_DAYS
    utility = POPULARITY * catalogue.popularity[rows] + FASHION * np.exp(-0.5 * gap**2)
    return np.where(days[:, None] >= catalogue.launch[rows], utility, -np.inf)


def item_chances(utility: np.ndarray) -> np.ndarray:
    """P(item | category) from (N, I_c) utilities, -inf for what cannot be bought; rows of nothing to buy are zero."""
    on_sale = np.isfinite(utility)
    top = np.max(utility, axis=1, keepdims=True, initial=-1e9)
    weight = np.exp(utility - top)
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return (1 - ITEM_NOISE) * weight / total + ITEM_NOISE * on_sale / np.maximum(on_sale.sum(axis=1, keepdims=True), 1)


def draw_tastes(world: "World", seed: int, part: int, num: int, drift: float) -> Tastes:
    """Tastes of ``num`` shoppers.

    Args:
        drift: chance at each purchase, from the fourth on, that the taste changes, if it has not yet.
    """
    draws = stream(seed, "tastes", part).random((num, 2, len(world.num_values), 2))
    favourites = np.argsort(stream(seed, "favourites", part).random((num, len(CATEGORIES))), axis=1, kind="stable")
    steps = stream(seed, "changes", part).random((num, MAX_PURCHASES)) < drift
    steps[:, :FIRST_CHANGE] = False
    return Tastes(
        favourites=np.sort(favourites[:, :NUM_FAVOURITES], axis=1),
        before=world.taste_from(draws[:, 0]),
        after=world.taste_from(draws[:, 1]),
        change=np.where(steps.any(axis=1), steps.argmax(axis=1), MAX_PURCHASES),
    )


def one_hot(values: np.ndarray, num_values: np.ndarray) -> np.ndarray:
    """(N, sum of num_values) indicator of each attribute's value; -1 gives zeros."""
    return np.concatenate([values[:, [a]] == np.arange(num) for a, num in enumerate(num_values)], axis=1).astype(float)


class World:
    """The rules of choice over one catalogue: whoever knows them and a shopper's taste knows P(next item).

    Args:
        num_values: (A,) how many values each attribute has.
        caring: (A,) chance that a shopper cares for each attribute.
    """

    def __init__(self, catalogue: Catalogue, num_values: Sequence[int] = NUM_VALUES, caring: Sequence[float] = CARING):
        self.catalogue = catalogue
        self.num_values, self.caring = np.array(num_values), np.array(caring)
        self.members = [np.flatnonzero(catalogue.category == c) for c in range(len(CATEGORIES))]
        """Rows of each category."""
        self.hot = one_hot(catalogue.attributes, self.num_values)
        """(I, sum of num_values) attribute values of each item."""

    def taste_from(self, draws: np.ndarray) -> np.ndarray:
        """(N, A) tastes from (N, A, 2) uniform draws: -1 where a shopper does not care, else any value alike."""
        return np.where(draws[..., 0] < self.caring, pick(draws[..., 1], self.num_values), -1)

    def within(self, category: int, tastes: np.ndarray, days: np.ndarray, bought: np.ndarray) -> np.ndarray:
        """P(item | category), (N, I_c), for tastes (N, A), days (N,) and bought (N, I) bool."""
        rows = self.members[category]
        utility = common_utility(self.catalogue, rows, days)
        utility += CARE * (one_hot(tastes, self.num_values) @ self.hot[rows].T)
        utility[bought[:, rows]] = -np.inf
        return item_chances(utility)

    def chances(
        self, favourites: np.ndarray, tastes: np.ndarray, last: np.ndarray, days: np.ndarray, bought: np.ndarray
    ) -> np.ndarray:
        """P(next item), (N, I)."""
        categories = category_chances(favourites, last)
        chances = np.zeros((len(days), self.catalogue.num_items))
        for category, rows in enumerate(self.members):
            chances[:, rows] = categories[:, [category]] * self.within(category, tastes, days, bought)
        return chances


@dataclass(frozen=True)
class Purchases:
    """Who bought what and when; one row a shopper, one column a purchase, in order of time."""

    rows: np.ndarray
    """(U, T) catalogue rows, -1 after the last purchase."""
    days: np.ndarray
    """(U, T) days since the opening, rising."""

    @property
    def lengths(self) -> np.ndarray:
        """(U,) number of purchases."""
        return (self.rows >= 0).sum(axis=1)


def visit_days(seed: int, part: int, num: int) -> np.ndarray:
    """(U, MAX_PURCHASES) days at which shoppers buy; DAYS or later means not any more.

    Purchases come in bursts: nearly half follow the one before within minutes, the others after days or weeks.
    """
    rng = stream(seed, "visits", part)
    arrival, pace, extra = rng.random((3, num))
    waits = -np.log1p(-rng.random((num, MAX_PURCHASES)))
    same_visit = rng.random((num, MAX_PURCHASES)) < 0.45
    minutes = waits * 8 / (24 * 60)
    gaps = np.where(same_visit, minutes, waits * (4 + 16 * pace[:, None]))
    gaps[:, 0] = 0
    lengths = MIN_PURCHASES + np.floor(-MEAN_EXTRA * np.log1p(-extra))
    days = arrival[:, None] * 0.96 * DAYS + np.cumsum(gaps, axis=1)
    days = np.floor(days * DAY) / DAY  # whole seconds, as the data set holds them
    return np.where(np.arange(MAX_PURCHASES) < lengths[:, None], days, DAYS)


def choose(chances: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(N,) column drawn from each row of chances (N, K) by its uniform draw; -1 where a row is all zero."""
    total = np.cumsum(chances, axis=1)
    column = (total <= draws[:, None] * total[:, -1:]).sum(axis=1)
    return np.where(total[:, -1] > 0, np.minimum(column, chances.shape[1] - 1), -1)


def shop(world: World, tastes: Tastes, days: np.ndarray, draws: np.ndarray) -> Purchases:
    """Let shoppers buy.

    Args:
        days: (U, T) when; DAYS or later means no purchase.
        draws: (U, T, 2) uniform, for category and item.
    """
    catalogue = world.catalogue
    rows, when = np.full(days.shape, -1), np.full(days.shape, float(DAYS))
    count = np.zeros(len(days), int)  # purchases so far: a visit with nothing to buy is none
    bought = np.zeros((len(days), catalogue.num_items), bool)
    last = np.full(len(days), -1)
    for step in range(days.shape[1]):
        active = np.flatnonzero(days[:, step] < DAYS)
        if not len(active):
            break
        category = choose(category_chances(tastes.favourites[active], last[active]), draws[active, step, 0])
        taste = tastes.at(count)
        for kind in np.unique(category):
            users = active[category == kind]
            chances = world.within(kind, taste[users], days[users, step], bought[users])
            place = choose(chances, draws[users, step, 1])
            done, place = users[place >= 0], place[place >= 0]
            rows[done, count[done]] = world.members[kind][place]
            when[done, count[done]] = days[done, step]
            bought[done, world.members[kind][place]] = True
            last[done] = kind
            count[done] += 1
    return Purchases(rows, when)

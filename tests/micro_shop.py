"""A choice model small enough to enumerate, and shoppers who choose by it."""

from functools import cache
from itertools import product

import numpy as np

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, Catalogue
from mmrec_helpers.pocket_shop.choice_model import ChoiceModel, Tastes, sample_tastes, simulate_purchases
from mmrec_helpers.pocket_shop.oracle import Histories

C = len(CATEGORIES)
PER_CATEGORY = (5, 4, 3, 2, 3, 2, 4, 2, 3, 2, 2, 4)
NUM_VALUES, TASTE_PROBABILITY = (3, 2), (0.6, 0.4)
ALL_TASTES = np.array(list(product(range(-1, NUM_VALUES[0]), range(-1, NUM_VALUES[1]))))
"""Every taste there is in the micro model."""


@cache
def micro_model() -> ChoiceModel:
    """36 items of two attributes; some are launched while the shoppers are about, some are in fashion once."""
    rng = np.random.default_rng(11)
    category = rng.permutation(np.repeat(np.arange(C), PER_CATEGORY))
    num = len(category)
    launch = np.where(rng.random(num) < 0.3, rng.random(num) * 40, 0.0)
    catalogue = Catalogue(
        category=category,
        attributes=np.stack([rng.integers(0, values, num) for values in NUM_VALUES], axis=1),
        price=np.ones(num),
        launch=launch,
        popularity=0.7 * rng.normal(size=num),
        peak=np.where(rng.random(num) < 0.4, launch + rng.random(num) * 40, np.inf),
        image_seed=np.arange(num),
        brands=("a", "b"),
        marks=((0, 0), (0, 1)),
    )
    return ChoiceModel(catalogue, NUM_VALUES, TASTE_PROBABILITY)


@cache
def micro_shop(drift: float, lengths: tuple[int, ...], per_length: int) -> tuple[Tastes, Histories]:
    """Shoppers of the micro model just before their purchases number ``lengths``, counted from 0."""
    model, num, width = micro_model(), 1_000, max(lengths) + 1
    rng = np.random.default_rng(5)
    tastes = sample_tastes(model, 0, 0, num, drift)
    days = np.sort(rng.random((num, width)) * 80, axis=1)
    purchases = simulate_purchases(model, tastes, days, rng.random((num, width, 2)))
    users = []
    for length in lengths:  # other shoppers for every length, and only such as never found a shelf empty
        able = np.flatnonzero((purchases.rows[:, : length + 1] >= 0).all(axis=1))
        fresh = np.setdiff1d(able, users)
        # where tastes change: half of those whose taste has changed among the purchases before
        changed = fresh[tastes.change[fresh] < length][: per_length // 2]
        rest = np.setdiff1d(fresh, changed)[: per_length - len(changed)]
        users += [*changed.tolist(), *rest.tolist()]
    steps = np.repeat(lengths, per_length)
    assert len(users) == len(steps)
    return tastes.take(np.array(users)), Histories.before(purchases, np.array(users), steps)

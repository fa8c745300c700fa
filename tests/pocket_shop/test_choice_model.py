"""choice_model.py: the probabilities are those of its docstring, and simulated users follow them."""

from math import exp

import numpy as np
import pytest

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COMPLEMENTS, DAY, DAYS, Catalogue
from mmrec_helpers.pocket_shop.choice_model import (
    CATEGORY_NOISE,
    COMPLEMENT_PROBABILITY,
    FASHION_DAYS,
    FASHION_UTILITY,
    FIRST_CHANGE,
    ITEM_NOISE,
    MAX_PURCHASES,
    MEAN_EXTRA,
    MIN_PURCHASES,
    NUM_FAVOURITES,
    POPULARITY_UTILITY,
    TASTE_UTILITY,
    ChoiceModel,
    Tastes,
    category_probabilities,
    choice_probabilities,
    common_utility,
    sample_categorical,
    sample_tastes,
    sample_visit_days,
    simulate_purchases,
)

C = len(CATEGORIES)
NUM_VALUES, TASTE_PROBABILITY = (3, 2), (0.6, 0.3)
NOISE = CATEGORY_NOISE / C
FAVOURITE = NOISE + (1 - CATEGORY_NOISE) / NUM_FAVOURITES


def index(*names: str) -> list[int]:
    return [CATEGORIES.index(name) for name in names]


def micro_model(per_category: int = 10, seed: int = 3, launch: float = 0.0, late: float = 0.0) -> ChoiceModel:
    """Few items of two attributes; a share ``late`` of them is launched during the first 200 days."""
    rng = np.random.default_rng(seed)
    num = C * per_category
    return ChoiceModel(
        Catalogue(
            category=rng.permutation(np.arange(num) % C),
            attributes=np.stack([rng.integers(0, values, num) for values in NUM_VALUES], axis=1),
            price=np.ones(num),
            launch=np.where(rng.random(num) < late, rng.random(num) * 200, launch),
            popularity=rng.normal(size=num),
            peak=np.where(rng.random(num) < 0.5, rng.random(num) * 200, np.inf),
            image_seed=np.arange(num),
            brands=("a", "b"),
            marks=((0, 0), (0, 1)),
        ),
        NUM_VALUES,
        TASTE_PROBABILITY,
    )


def same_tastes(num: int, favourites: list[int], before: list[int], after=None, change: int = MAX_PURCHASES) -> Tastes:
    rows = (np.tile(row, (num, 1)) for row in (favourites, before, after or before))
    return Tastes(*rows, np.full(num, change))


def slow_probabilities(model: ChoiceModel, favourites, taste, last: int, day: float, bought: set[int]) -> list[float]:
    """P(next item) by the docstring of choice_model.py, one item after another."""
    goods, probabilities = model.catalogue, []
    for item in range(goods.num_items):
        kind = int(goods.category[item])
        category = (1 - CATEGORY_NOISE) * (kind in favourites) / NUM_FAVOURITES + CATEGORY_NOISE / C
        if last >= 0:
            category = (1 - COMPLEMENT_PROBABILITY) * category + COMPLEMENT_PROBABILITY * (
                COMPLEMENTS[CATEGORIES[last]] == CATEGORIES[kind]
            )
        weights = {}
        for other in range(goods.num_items):
            if goods.category[other] == kind and goods.launch[other] <= day and other not in bought:
                bump = exp(-0.5 * ((day - goods.peak[other]) / FASHION_DAYS) ** 2)
                liked = sum(
                    value >= 0 and value == has for value, has in zip(taste, goods.attributes[other], strict=True)
                )
                weights[other] = exp(
                    POPULARITY_UTILITY * goods.popularity[other] + FASHION_UTILITY * bump + TASTE_UTILITY * liked
                )
        if item in weights:
            softmax = weights[item] / sum(weights.values())
            probabilities.append(category * ((1 - ITEM_NOISE) * softmax + ITEM_NOISE / len(weights)))
        else:
            probabilities.append(0.0)
    return probabilities


def assert_sampled_from(counts: np.ndarray, probabilities: np.ndarray) -> None:
    """Chi-square of the counts is within five standard deviations of its mean."""
    assert counts[probabilities == 0].sum() == 0
    counts, probabilities = counts[probabilities > 0], probabilities[probabilities > 0]
    wanted = counts.sum() * probabilities / probabilities.sum()
    assert wanted.min() > 2
    free = len(wanted) - 1
    assert ((counts - wanted) ** 2 / wanted).sum() < free + 5 * np.sqrt(2 * free)


# Categories -----------------------------------------------------------------------------------------------------


def test_the_first_category_is_a_favourite_but_for_the_noise():
    probabilities = category_probabilities(np.array([index("mug", "desk")]), np.array([-1]))[0]
    for name, probability in zip(CATEGORIES, probabilities, strict=True):
        assert probability == pytest.approx(FAVOURITE if name in ("mug", "desk") else NOISE)


@pytest.mark.parametrize(
    ("favourites", "last", "complement"),
    [(("mug", "desk"), "mug", "teapot"), (("mug", "desk"), "lamp", "desk"), (("cap", "lamp"), "umbrella", "t-shirt")],
)
def test_the_next_category_is_the_complement_of_the_last_or_as_if_there_was_none(favourites, last, complement):
    probabilities = category_probabilities(np.array([sorted(index(*favourites))]), np.array(index(last)))[0]
    for name, probability in zip(CATEGORIES, probabilities, strict=True):
        anyway = FAVOURITE if name in favourites else NOISE
        assert probability == pytest.approx(
            (1 - COMPLEMENT_PROBABILITY) * anyway + COMPLEMENT_PROBABILITY * (name == complement)
        )


def test_category_chances_sum_to_one():
    rng = np.random.default_rng(0)
    favourites = np.sort(rng.permuted(np.tile(np.arange(C), (200, 1)), axis=1)[:, :NUM_FAVOURITES], axis=1)
    probabilities = category_probabilities(favourites, rng.integers(-1, C, 200))
    assert probabilities.shape == (200, C)
    assert (probabilities > 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


# Items ----------------------------------------------------------------------------------------------------------


def test_item_chances_are_a_softmax_with_a_floor_over_what_is_for_sale():
    utility = np.array([[0.0, np.log(3), -np.inf, 0.0]])
    floor = ITEM_NOISE / 3
    wanted = [(1 - ITEM_NOISE) / 5 + floor, (1 - ITEM_NOISE) * 3 / 5 + floor, 0, (1 - ITEM_NOISE) / 5 + floor]
    np.testing.assert_allclose(choice_probabilities(utility), [wanted])
    np.testing.assert_allclose(choice_probabilities(utility - 1000), [wanted])


def test_item_chances_sum_to_one_and_are_zero_only_on_what_is_not_for_sale():
    rng = np.random.default_rng(1)
    utility = np.where(rng.random((300, 9)) < 0.3, -np.inf, rng.normal(size=(300, 9)) * 10)
    utility[:, 4] = 0
    probabilities = choice_probabilities(utility)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert ((probabilities > 0) == np.isfinite(utility)).all()


def test_item_chances_in_the_limits():
    nothing = choice_probabilities(np.full((1, 3), -np.inf))
    assert nothing.tolist() == [[0, 0, 0]]
    assert choice_probabilities(np.zeros((2, 0))).shape == (2, 0)
    np.testing.assert_allclose(choice_probabilities(np.array([[-np.inf, -800.0]])), [[0, 1]])
    np.testing.assert_allclose(choice_probabilities(np.full((1, 4), 700.0)), np.full((1, 4), 0.25))
    np.testing.assert_allclose(choice_probabilities(np.array([[900.0, 0.0]])), [[1 - ITEM_NOISE / 2, ITEM_NOISE / 2]])


def test_the_common_utility_is_popularity_and_fashion_from_the_launch_on():
    model = micro_model(late=0.5)
    goods = model.catalogue
    late = int(np.flatnonzero((goods.launch > 50) & np.isfinite(goods.peak))[0])
    never = int(np.flatnonzero(~np.isfinite(goods.peak))[0])
    goods.peak[late] = goods.launch[late] + 20
    launch, peak = goods.launch[late], goods.peak[late]
    days = np.array([launch - 1e-6, launch, peak, peak + FASHION_DAYS, peak + 100 * FASHION_DAYS])
    popular = POPULARITY_UTILITY * goods.popularity
    bumps = np.array([exp(-0.5 * (20 / FASHION_DAYS) ** 2), 1, exp(-0.5), 0])
    found = common_utility(goods, np.array([late, never]), days)
    np.testing.assert_allclose(found[:, 0], [-np.inf, *(popular[late] + FASHION_UTILITY * bumps)])
    np.testing.assert_allclose(found[days >= goods.launch[never], 1], popular[never])


def test_chances_equal_the_rules_written_out_slowly():
    model, rng = micro_model(4, late=0.6), np.random.default_rng(2)
    num = 8
    favourites = np.sort(rng.permuted(np.tile(np.arange(C), (num, 1)), axis=1)[:, :NUM_FAVOURITES], axis=1)
    tastes = np.stack([rng.integers(-1, values, num) for values in NUM_VALUES], axis=1)
    last, days = rng.integers(-1, C, num), rng.random(num) * 300
    bought = rng.random((num, model.catalogue.num_items)) < 0.2
    bought[0, model.items_of[5]] = True  # nothing of this category is left
    found = model.next_item_probabilities(favourites, tastes, last, days, bought)
    for shopper in range(num):
        mine = set(np.flatnonzero(bought[shopper]).tolist())
        wanted = slow_probabilities(
            model, favourites[shopper], tastes[shopper], int(last[shopper]), days[shopper], mine
        )
        np.testing.assert_allclose(found[shopper], wanted, atol=1e-15)
    assert found[0].sum() < 1 - NOISE * (1 - COMPLEMENT_PROBABILITY) / 2
    assert found[0, model.items_of[5]].sum() == 0


# Draws ----------------------------------------------------------------------------------------------------------


def test_choose_draws_columns_as_often_as_their_chances_say():
    probabilities = np.array([0.0, 0.1, 0.0, 0.5, 0.15, 0.25, 0.0])
    draws = np.random.default_rng(5).random(40_000)
    drawn = sample_categorical(np.tile(probabilities, (len(draws), 1)), draws)
    assert_sampled_from(np.bincount(drawn, minlength=7), probabilities)
    unnormalised = sample_categorical(np.tile(probabilities * 40, (len(draws), 1)), draws)
    assert (drawn == unnormalised).mean() > 0.999  # a draw on an edge may fall to either side


def test_choose_never_takes_a_column_of_no_chance_at_the_ends_of_the_draw():
    probabilities = np.array([[0.0, 0.3, 0.7, 0.0]] * 2)
    assert sample_categorical(probabilities, np.array([0.0, 1 - 2**-53])).tolist() == [1, 2]


def test_choose_gives_minus_one_where_nothing_can_be_drawn():
    assert sample_categorical(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), np.array([0.5, 0.5, 0.0])).tolist() == [
        -1,
        1,
        -1,
    ]


def test_tastes_are_drawn_by_the_world_s_chances_of_caring():
    tastes = sample_tastes(micro_model(), seed=0, part=0, num=20_000, drift=0.2)
    assert (np.diff(tastes.favourites, axis=1) > 0).all()
    assert_sampled_from(np.bincount(tastes.favourites.ravel(), minlength=C), np.full(C, 1 / C))
    for taste in (tastes.before, tastes.after):
        for column, (values, caring) in enumerate(zip(NUM_VALUES, TASTE_PROBABILITY, strict=True)):
            counts = np.bincount(taste[:, column] + 1, minlength=values + 1)
            assert_sampled_from(counts, np.array([1 - caring] + [caring / values] * values))
    alike = [
        (1 - caring) ** 2 + caring**2 / values for values, caring in zip(NUM_VALUES, TASTE_PROBABILITY, strict=True)
    ]
    same = (tastes.before == tastes.after).all(axis=1).mean()
    assert abs(same - np.prod(alike)) < 0.01  # before and after are independent


def test_tastes_change_once_at_a_constant_hazard_from_the_fourth_purchase_on():
    changes = {}
    for drift in (0.0, 0.2, 1.0):
        changes[drift] = sample_tastes(micro_model(), seed=0, part=0, num=20_000, drift=drift).change
    assert (changes[0.0] == MAX_PURCHASES).all()
    assert (changes[1.0] == FIRST_CHANGE).all()
    counts = np.bincount(changes[0.2] - FIRST_CHANGE, minlength=40)[:25]
    assert changes[0.2].min() == FIRST_CHANGE
    assert_sampled_from(counts, 0.2 * 0.8 ** np.arange(25))


def test_parts_and_seeds_of_tastes_and_visits_differ():
    def sample(seed, part):
        tastes = sample_tastes(micro_model(), seed, part, 50, 0.2)
        return [tastes.favourites, tastes.before, tastes.after, tastes.change, sample_visit_days(seed, part, 50)]

    for one, two, same in zip(sample(0, 0), sample(0, 1), sample(0, 0), strict=True):
        assert (one != two).any()
        assert (one == same).all()
    assert all((one != two).any() for one, two in zip(sample(0, 0), sample(1, 0), strict=True))


def test_tastes_at_a_purchase_are_the_later_ones_from_the_change_on():
    tastes = Tastes(np.zeros((3, 2), int), np.full((3, 1), 7), np.full((3, 1), 8), np.array([4, 5, MAX_PURCHASES]))
    assert tastes.at(4).ravel().tolist() == [8, 7, 7]
    assert tastes.at(np.array([3, 5, 59])).ravel().tolist() == [7, 8, 7]
    assert tastes.take(np.array([2, 0])).change.tolist() == [MAX_PURCHASES, 4]


def test_visits_rise_come_in_bursts_and_are_as_many_as_said():
    days = sample_visit_days(seed=0, part=0, num=8_000)
    assert days.shape == (8_000, MAX_PURCHASES)
    comes = days < DAYS
    assert (comes[:, 1:] <= comes[:, :-1]).all()
    early = days[:, 0] < 100  # who starts late is cut by the last day
    counts = comes[early].sum(axis=1)
    assert counts.min() == MIN_PURCHASES
    assert abs(counts.mean() - MIN_PURCHASES - MEAN_EXTRA) < 0.1 * MEAN_EXTRA
    gaps = np.diff(days, axis=1)[comes[:, 1:]]
    assert (gaps >= 0).all()
    assert 0.4 < (gaps < 1 / 12).mean() < 0.5
    assert 9 < gaps[gaps > 1 / 12].mean() < 13
    np.testing.assert_allclose(days[comes] * DAY, np.round(days[comes] * DAY), atol=1e-5)  # whole seconds


# Shopping -------------------------------------------------------------------------------------------------------


def uniform(num: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((num, width, 2))


def test_shoppers_buy_items_as_often_as_the_chances_say():
    model, num = micro_model(), 100_000
    tastes = same_tastes(num, [2, 7], [1, -1])
    bought = simulate_purchases(model, tastes, np.full((num, 1), 100.0), uniform(num, 1)).rows[:, 0]
    nothing = np.zeros((1, model.catalogue.num_items), bool)
    probabilities = model.next_item_probabilities(
        tastes.favourites[:1], tastes.before[:1], np.array([-1]), np.array([100.0]), nothing
    )[0]
    assert_sampled_from(np.bincount(bought, minlength=len(probabilities)), probabilities)


def test_shoppers_follow_the_transitions_between_categories():
    model, num, width = micro_model(), 30_000, 5
    tastes = same_tastes(num, [0, 4], [-1, -1])
    rows = simulate_purchases(model, tastes, np.tile(np.linspace(10, 50, width), (num, 1)), uniform(num, width)).rows
    category = model.catalogue.category[rows]
    assert (rows >= 0).all()
    probabilities = category_probabilities(np.tile([0, 4], (C + 1, 1)), np.arange(-1, C))
    assert_sampled_from(np.bincount(category[:, 0], minlength=C), probabilities[0])
    for last in range(C):
        follows = category[:, 1:][category[:, :-1] == last]
        assert_sampled_from(np.bincount(follows, minlength=C), probabilities[last + 1])


def test_shoppers_choose_by_the_later_taste_from_the_change_on():
    model, num, width = micro_model(40), 2_000, 6
    tastes = same_tastes(num, [1, 6], [0, -1], [2, -1], change=4)
    rows = simulate_purchases(model, tastes, np.tile(np.linspace(10, 50, width), (num, 1)), uniform(num, width)).rows
    value = model.catalogue.attributes[rows, 0]
    assert ((value == 0).mean(axis=0)[:4] > 0.75).all()
    assert ((value == 2).mean(axis=0)[:4] < 0.15).all()
    assert ((value == 0).mean(axis=0)[4:] < 0.15).all()
    assert ((value == 2).mean(axis=0)[4:] > 0.75).all()


def test_shoppers_buy_nothing_twice_nothing_before_its_launch_and_nothing_after_the_last_day():
    model, num, width = micro_model(3, late=0.5), 500, 12
    days = np.sort(np.random.default_rng(4).random((num, width)) ** 2 * 1.2 * DAYS, axis=1)
    assert (days[:, 0] < 50).any()
    assert (days[:, -1] > DAYS).any()
    purchases = simulate_purchases(model, sample_tastes(model, 0, 0, num, 0.2), days, uniform(num, width))
    for rows, when in zip(purchases.rows, purchases.days, strict=True):
        mine = rows[rows >= 0]
        assert len(set(mine)) == len(mine)
        assert (when[rows >= 0] >= model.catalogue.launch[mine]).all()
        assert (when[rows >= 0] < DAYS).all()
    assert (model.catalogue.launch > 100).any()


def test_a_visit_with_nothing_to_buy_leaves_no_hole_among_the_purchases():
    # One item a category, and favourites soon have nothing left.
    model, num, width = micro_model(1), 300, 10
    days = np.tile(np.linspace(10, 50, width), (num, 1))
    purchases = simulate_purchases(model, same_tastes(num, [0, 1], [0, 0]), days, uniform(num, width))
    bought = purchases.rows >= 0
    assert bought.sum() < num * width / 2
    assert (bought[:, 1:] <= bought[:, :-1]).all()
    assert (np.diff(purchases.days, axis=1)[bought[:, 1:]] > 0).all()
    assert np.isin(purchases.days[bought], days[0]).all()


def test_a_change_counts_purchases_and_not_visits_with_nothing_to_buy():
    # Nothing is for sale at the first two visits: purchase 2, counted from 0, is made at visit 4.
    model, num = micro_model(40, launch=20.0), 2_000
    days = np.tile([5.0, 6.0, 30.0, 31.0, 32.0, 33.0], (num, 1))
    purchases = simulate_purchases(model, same_tastes(num, [1, 6], [0, -1], [2, -1], change=2), days, uniform(num, 6))
    rows = purchases.rows[purchases.rows >= 0].reshape(num, 4)
    liked = (model.catalogue.attributes[rows, 0] == 0).mean(axis=0)
    assert (liked[:2] > 0.75).all()
    assert (liked[2:] < 0.15).all()

"""bayes_ceiling.py: against exact enumeration on a model small enough to enumerate; as a system, on the shop."""

from itertools import combinations, product

import numpy as np
import pytest
from micro_shop import ALL_TASTES, NUM_VALUES, TASTE_PROBABILITY, C, micro_model, micro_shop

from experiments.bayes_ceiling import BayesCeiling, bayes_ceiling, change_log_prior, next_category
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COMPLEMENTS
from mmrec_helpers.pocket_shop.choice_model import (
    CATEGORY_NOISE,
    COMPLEMENT_PROBABILITY,
    FIRST_CHANGE,
    MAX_PURCHASES,
    NUM_FAVOURITES,
    ChoiceModel,
)
from mmrec_helpers.pocket_shop.oracle import Histories, omniscient
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.ceilings import Oracle
from mmrec_helpers.recommenders.popularity import Popularity


def category_chance(favourites: tuple[int, ...], last: int, category: int) -> float:
    """P(category) by the rules, in plain Python."""
    probability = CATEGORY_NOISE / C + (1 - CATEGORY_NOISE) * (category in favourites) / NUM_FAVOURITES
    if last < 0:
        return probability
    return (1 - COMPLEMENT_PROBABILITY) * probability + COMPLEMENT_PROBABILITY * (
        COMPLEMENTS[CATEGORIES[last]] == CATEGORIES[category]
    )


def exact_next_category(history: list[int]) -> list[float]:
    """P(next category | categories bought), every pair of favourites weighed by what it says of the history."""
    weights, probabilities = 0.0, [0.0] * C
    for favourites in combinations(range(C), NUM_FAVOURITES):
        weight = 1.0
        for last, category in zip([-1, *history][:-1], history, strict=True):
            weight *= category_chance(favourites, last, category)
        weights += weight
        for category in range(C):
            probabilities[category] += weight * category_chance(favourites, history[-1] if history else -1, category)
    return [probability / weights for probability in probabilities]


def taste_prior(taste: np.ndarray) -> float:
    caring = zip(taste, NUM_VALUES, TASTE_PROBABILITY, strict=True)
    return float(np.prod([1 - cares if value < 0 else cares / values for value, values, cares in caring]))


def exact_next_item(model: ChoiceModel, drift: float, histories: Histories, shopper: int) -> np.ndarray:
    """P(next item | history): every taste before and after, and every step of the change, weighed."""
    goods, num = model.catalogue, len(ALL_TASTES)
    length = int(histories.lengths[shopper])
    history = histories.rows[shopper, :length].tolist()
    bought = np.zeros((num, goods.num_items), bool)
    likelihood = np.ones((num, length))  # of each purchase under each taste
    for step, row in enumerate(history):
        category = int(goods.category[row])
        probabilities = model.item_probabilities(
            category, ALL_TASTES, np.full(num, histories.days[shopper, step]), bought
        )
        likelihood[:, step] = probabilities[:, model.items_of[category].tolist().index(row)]
        bought[:, row] = True
    prior = [taste_prior(taste) for taste in ALL_TASTES]
    posterior = np.zeros(num)  # of the taste that holds at the next purchase
    for change in [*range(FIRST_CHANGE, length + 1), None]:  # at a past purchase, right at the next one, not yet
        if change is None:
            probability = (1 - drift) ** max(length + 1 - FIRST_CHANGE, 0)
        else:
            probability = drift * (1 - drift) ** (change - FIRST_CHANGE)
        for before, after in product(range(num), repeat=2):
            told = likelihood[before, :change].prod()
            told *= 1 if change is None else likelihood[after, change:].prod()
            posterior[before if change is None else after] += probability * prior[before] * prior[after] * told
    posterior /= posterior.sum()
    categories = exact_next_category([int(goods.category[row]) for row in history])
    wanted = np.zeros(goods.num_items)
    for category, rows in enumerate(model.items_of):
        within = model.item_probabilities(category, ALL_TASTES, np.full(num, histories.query_days[shopper]), bought)
        wanted[rows] = categories[category] * (posterior @ within)
    return wanted


def distances(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """(N,) total variation."""
    return 0.5 * np.abs(one - two).sum(axis=1)


# Inferring ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_the_inferring_ceiling_is_the_exact_posterior_where_it_can_be_enumerated(drift):
    model = micro_model()
    tastes, histories = micro_shop(drift, (1, 2, 3, 4, 5, 6, 7, 8), 6)
    exact = np.array([exact_next_item(model, drift, histories, shopper) for shopper in range(len(histories.rows))])
    found = bayes_ceiling(model, drift, histories, sweeps=400, chains=8)
    distance = distances(found, exact)
    assert distance.mean() < 0.01, distance
    assert distance.max() < 0.03, distance
    # The bounds are tight enough to tell the posterior from its neighbours.
    for other in (
        bayes_ceiling(model, drift, histories, sweeps=3, chains=1),
        omniscient(model, tastes, histories),
    ):
        assert distances(other, exact).mean() > 0.05
    if drift:
        assert (tastes.change < histories.lengths).sum() >= 10
        still = np.array([exact_next_item(model, 0.0, histories, shopper) for shopper in range(len(histories.rows))])
        long = histories.lengths > FIRST_CHANGE
        assert distances(still, exact)[long].mean() > 0.03


def test_a_taste_that_never_changes_is_inferred_at_drift_zero_and_one_that_surely_did_at_drift_one():
    model = micro_model()
    _, histories = micro_shop(0.2, (2, 3, 5), 6)
    for drift in (0.0, 1.0):
        exact = np.array([exact_next_item(model, drift, histories, shopper) for shopper in range(len(histories.rows))])
        found = bayes_ceiling(model, drift, histories, sweeps=400, chains=8)
        assert distances(found, exact).max() < 0.03


def test_inferring_asks_the_prior_where_nothing_was_bought():
    model = micro_model()
    _, histories = micro_shop(0.2, (0,), 3)
    assert (histories.rows == -1).all()
    exact = np.array([exact_next_item(model, 0.2, histories, shopper) for shopper in range(3)])
    found = bayes_ceiling(model, 0.2, histories, sweeps=400, chains=8)
    assert distances(found, exact).max() < 0.03


def test_inferring_serves_shoppers_without_and_with_a_history_together():
    model = micro_model()
    _, histories = micro_shop(0.2, (0, 4), 3)
    exact = np.array([exact_next_item(model, 0.2, histories, shopper) for shopper in range(6)])
    found = bayes_ceiling(model, 0.2, histories, sweeps=400, chains=8)
    assert distances(found, exact).max() < 0.03


def test_inferred_chances_sum_to_one_but_for_the_categories_that_are_sold_out():
    model = micro_model()
    _, histories = micro_shop(0.2, (1, 2, 3, 4, 5, 6, 7, 8), 6)
    found = bayes_ceiling(model, 0.2, histories, sweeps=3, chains=2)
    sold = ~histories.bought(model.catalogue.num_items) & (model.catalogue.launch <= histories.query_days[:, None])
    some = np.stack([sold[:, rows].any(axis=1) for rows in model.items_of], axis=1)
    np.testing.assert_allclose(found.sum(axis=1), (next_category(model, histories) * some).sum(axis=1))
    assert some.all(axis=1).any()
    assert not some.all()
    assert ((found > 0) == sold).all()


def test_inferring_is_repeatable_and_another_seed_agrees_within_the_sampler_s_error():
    _, histories = micro_shop(0.2, (3, 6), 6)
    model = micro_model()
    one, again, other = (bayes_ceiling(model, 0.2, histories, sweeps=60, chains=8, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert 0 < distances(one, other).mean() < 0.04


# Categories -----------------------------------------------------------------------------------------------------


def test_the_next_category_weighs_every_pair_of_favourites():
    model = micro_model()
    _, histories = micro_shop(0.2, (0, 1, 2, 4, 8), 6)
    found = next_category(model, histories)
    for shopper, length in enumerate(histories.lengths):
        history = model.catalogue.category[histories.rows[shopper, :length]].tolist()
        np.testing.assert_allclose(found[shopper], exact_next_category(history))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[histories.lengths == 0], 1 / C)


@pytest.mark.parametrize("drift", [0.0, 0.06, 0.5, 1.0])
def test_the_prior_of_a_change_sums_to_one_and_is_the_hazard_of_the_draw(drift):
    lengths = np.array([0, 1, FIRST_CHANGE, FIRST_CHANGE + 1, 12, MAX_PURCHASES])
    prior = np.exp(change_log_prior(drift, lengths))
    assert prior.shape == (len(lengths), MAX_PURCHASES + 1)
    np.testing.assert_allclose(prior.sum(axis=1), 1)
    for length, probabilities in zip(lengths, prior, strict=True):
        left = 1.0
        for step in range(MAX_PURCHASES):
            wanted = left * drift if FIRST_CHANGE <= step < length else 0.0
            assert probabilities[step] == pytest.approx(wanted)
            left -= wanted
        assert probabilities[-1] == pytest.approx(left)


# As a system ----------------------------------------------------------------------------------------------------


def test_ceilings_are_above_popularity_and_give_the_same_scores_again():
    dataset, truth = load_shop(0, "tiny")
    split = dataset.leave_one_out()
    some = split.queries("test").take(slice(60))
    reached = {}
    for system in (Oracle(truth), BayesCeiling(truth, sweeps=60, chains=2), Popularity()):
        scores = system.fit(split).score(some)
        assert scores.shape == (60, dataset.num_items + 1)
        reached[system.name] = ndcg(TargetRanks.of(scores, some.targets[:, :1], some.histories), 10).mean()
    assert reached["omniscient oracle"] > reached["Bayes ceiling"] > 2 * reached["popularity"]
    few, system = some.take(slice(15)), BayesCeiling(truth, sweeps=9, chains=2).fit(split)
    scores, bought = system.score(few), few.histories
    assert (scores.sum(axis=1) <= 1 + 1e-6).all()
    assert (np.take_along_axis(scores, bought, axis=1) == 0).all()
    np.testing.assert_array_equal(scores, system.score(few))

"""The Bayes ceiling of the Pocket Shop, a bound for every table of results on it that only records hold.

It knows the choice model but not the users, and ranks by the posterior predictive P(next item | items and times of the
history). No recommender that learns from purchases alone can be better on average; ratings and reviews hold information
on tastes that it does not use. The posterior over the favourite categories is exact: there are few sets of them. Tastes
and change points are sampled from their posterior by Gibbs sampling {cite}`geman1984gibbs`: one variable at a time,
given all others.
"""

from itertools import combinations

import numpy as np

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, random_stream
from mmrec_helpers.pocket_shop.choice_model import (
    FIRST_CHANGE,
    ITEM_NOISE,
    MAX_PURCHASES,
    NUM_FAVOURITES,
    TASTE_UTILITY,
    ChoiceModel,
    category_probabilities,
    common_utility,
    one_hot,
    sample_categorical,
)
from mmrec_helpers.pocket_shop.oracle import Histories
from mmrec_helpers.pocket_shop.shop import Truth
from mmrec_helpers.progress import progress
from mmrec_helpers.recommenders.ceilings import Oracle


class BayesCeiling(Oracle):
    """The ceiling that knows the shop's rules, and must infer the shopper's taste from the history.

    Args:
        truth: Of the shop.
        **options: Of ``bayes_ceiling``.
    """

    name = "Bayes ceiling"

    def __init__(self, truth: Truth, **options: int) -> None:
        super().__init__(truth)
        self.options = options

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) P(next item | history)."""
        truth = self.truth
        histories = truth.histories(self.dataset, queries)[1]
        found = bayes_ceiling(truth.choice_model, truth.parameters.drift, histories, **self.options)
        return truth.columns(self.dataset, found).astype(np.float32)


def bayes_ceiling(
    model: ChoiceModel, drift: float, histories: Histories, sweeps: int = 120, chains: int = 4, seed: int = 0
) -> np.ndarray:
    """P(next item | history), (N, I).

    Args:
        model: The choice model.
        drift: Probability at each purchase that the taste changes.
        histories: Of N users.
        sweeps: Passes of the Gibbs sampler over all variables; the first third is burn-in.
        chains: Independent samplers per user, averaged.
        seed: Seed of the samplers.
    """
    catalogue, num_samples = model.catalogue, 0
    probabilities = np.zeros((len(histories.rows), catalogue.num_items))
    sampler = _TasteSampler(model, drift, histories, chains, seed)
    bought = np.repeat(histories.bought(catalogue.num_items), chains, axis=0)
    days = np.repeat(histories.query_days, chains)
    for sweep in progress(range(sweeps), desc="sampling tastes"):
        sampler.sweep()
        if sweep < sweeps // 3 or sweep % 2:  # burn-in; thinning, since successive sweeps are correlated
            continue
        num_samples += 1
        taste = sampler.next_taste()
        for category, rows in enumerate(model.items_of):
            within = model.item_probabilities(category, taste, days, bought)
            probabilities[:, rows] += within.reshape(-1, chains, len(rows)).mean(axis=1)
    return probabilities / num_samples * next_category(model, histories)[:, catalogue.category]


def next_category(model: ChoiceModel, histories: Histories) -> np.ndarray:
    """P(next category | history), (N, C): exact, by the likelihood of every set of favourites."""
    category = model.catalogue.category
    favourites = np.array(list(combinations(range(len(CATEGORIES)), NUM_FAVOURITES)))  # (S, NUM_FAVOURITES)
    current = np.where(histories.rows >= 0, category[histories.rows], -1)  # (N, T)
    previous = np.concatenate([np.full((len(current), 1), -1), current[:, :-1]], axis=1)
    num, every_last = len(CATEGORIES), np.arange(-1, len(CATEGORIES))
    # (S, C + 1, C): P(category | last, favourites) for every last category, -1 among them
    table = category_probabilities(np.repeat(favourites, num + 1, axis=0), np.tile(every_last, len(favourites)))
    table = table.reshape(len(favourites), num + 1, num)
    log_likelihood = np.where(current >= 0, np.log(table)[:, previous + 1, current], 0.0).sum(axis=2)  # (S, N)
    posterior = np.exp(log_likelihood - log_likelihood.max(axis=0))
    posterior /= posterior.sum(axis=0)
    return np.einsum("sn,snc->nc", posterior, table[:, histories.last_category(category) + 1])


class _TasteSampler:
    """Gibbs sampler of tastes before and after the change point, and of the change point.

    The S past purchases of all N users are one axis; M is the size of the largest category. Each user has K chains.
    """

    def __init__(self, model: ChoiceModel, drift: float, histories: Histories, chains: int, seed: int) -> None:
        self.num_values, self.taste_probability = model.num_values, model.taste_probability
        self.drift, self.chains = drift, chains
        self.rng = random_stream(seed, "inference")
        self.lengths = histories.lengths
        self.user, self.step = np.nonzero(histories.rows >= 0)  # (S,) user and number of each purchase
        rows = histories.rows[self.user, self.step]
        category = model.catalogue.category[rows]
        self.values = model.catalogue.attributes[rows]  # (S, A) of the item bought
        # (S,) column of the item bought among the items of its category
        columns = [np.searchsorted(model.items_of[c], row) for c, row in zip(category, rows, strict=True)]
        self.column = np.array(columns, int)
        self.purchases_of = [np.flatnonzero(category == c) for c in range(len(CATEGORIES))]
        self.common_weight = self._common_weight(model, histories)  # (S, M) exp(common utility), 0 if unavailable
        self.noise = ITEM_NOISE / (self.common_weight > 0).sum(axis=1)[:, None, None]  # (S, 1, 1)
        # (C, M, sum of num_values): attribute values of the items of each category
        self.one_hot = np.zeros((len(CATEGORIES), self.common_weight.shape[1], model.one_hot.shape[1]), np.float32)
        for c, items in enumerate(model.items_of):
            self.one_hot[c, : len(items)] = model.one_hot[items]
        self.offsets = np.concatenate([[0], np.cumsum(self.num_values)])
        num_users, num_attributes = len(histories.rows), len(self.num_values)
        prior = model.tastes_from(self.rng.random((2 * num_users * chains, num_attributes, 2)))
        self.tastes = prior.reshape(2, num_users, chains, -1)  # before and after
        self.change = np.full((num_users, chains), MAX_PURCHASES)

    def _common_weight(self, model: ChoiceModel, histories: Histories) -> np.ndarray:
        weight = np.zeros((len(self.user), max(len(items) for items in model.items_of)), np.float32)
        for items, purchases in zip(model.items_of, self.purchases_of, strict=True):
            if not len(purchases):
                continue
            user, step = self.user[purchases], self.step[purchases]
            utility = common_utility(model.catalogue, items, histories.days[user, step])
            earlier = histories.rows[user]  # (S_c, T), of which only the purchases before this one count
            earlier = np.where(np.arange(earlier.shape[1]) < step[:, None], earlier, -1)
            utility[(earlier[:, :, None] == items).any(axis=1)] = -np.inf
            weight[purchases, : len(items)] = np.exp(utility)
        return weight

    def sweep(self) -> None:
        """Sample every variable once, given all others."""
        is_after = self.step[:, None] >= self.change[self.user]  # (S, K)
        taste = np.where(is_after[..., None], self.tastes[1][self.user], self.tastes[0][self.user])  # (S, K, A)
        weight = self._weights(taste)
        for attribute in range(len(self.num_values)):
            taste[..., attribute] = self._sample_attribute(attribute, taste[..., attribute], weight, is_after)
        self._sample_change()

    def _weights(self, taste: np.ndarray) -> np.ndarray:
        """(S, K, M) exp(utility) of the items of each purchase's category under tastes (S, K, A)."""
        weight = np.empty((*taste.shape[:2], self.common_weight.shape[1]), np.float32)
        preferred = np.stack([one_hot(taste[:, k], self.num_values) for k in range(self.chains)], axis=1)
        for category, purchases in enumerate(self.purchases_of):
            matches = preferred[purchases].astype(np.float32) @ self.one_hot[category].T
            weight[purchases] = self.common_weight[purchases, None] * np.exp(np.float32(TASTE_UTILITY) * matches)
        return weight

    def _sample_attribute(
        self, attribute: int, current: np.ndarray, weight: np.ndarray, is_after: np.ndarray
    ) -> np.ndarray:
        """Sample one attribute of both tastes, and update ``weight`` (S, K, M) in place.

        Returns:
            (S, K) the new value that holds at each purchase.
        """
        num, gain = self.num_values[attribute], np.float32(np.exp(TASTE_UTILITY))
        columns = slice(self.offsets[attribute], self.offsets[attribute + 1])
        by_value = np.empty((*current.shape, num), np.float32)  # (S, K, V) weight of the items with each value
        for category, purchases in enumerate(self.purchases_of):
            by_value[purchases] = weight[purchases] @ self.one_hot[category][:, columns]
        is_current = current[..., None] == np.arange(num)
        by_value /= np.where(is_current, gain, 1)  # as if there were no preference for this attribute
        total = by_value.sum(axis=2, keepdims=True)
        bought = self.values[:, attribute]
        chosen = self._chosen_weight(weight)[..., None] / np.where(current == bought[:, None], gain, 1)[..., None]
        matches = (bought[:, None] == np.arange(num))[:, None]
        preferred = (1 - ITEM_NOISE) * chosen * np.where(matches, gain, 1) / (total + (gain - 1) * by_value)
        indifferent = (1 - ITEM_NOISE) * chosen / total
        log_likelihood = np.log(np.concatenate([indifferent + self.noise, preferred + self.noise], axis=2))
        probability = self.taste_probability[attribute]
        log_prior = np.log(np.concatenate([[1 - probability], np.full(num, probability / num)]))
        for after in (0, 1):
            evidence = np.zeros((len(self.lengths), *log_likelihood.shape[1:]))  # (N, K, 1 + V)
            np.add.at(evidence, self.user, np.where(is_after[..., None] == after, log_likelihood, 0))
            self.tastes[after, ..., attribute] = self._sample(evidence + log_prior) - 1
        before, after = self.tastes[..., attribute][:, self.user]
        new = np.where(is_after, after, before)
        factor = np.where(new[..., None] == np.arange(num), gain, 1) / np.where(is_current, gain, 1)
        for category, purchases in enumerate(self.purchases_of):
            # each item has one value of the attribute: its factor is that of the value
            weight[purchases] *= factor[purchases].astype(np.float32) @ self.one_hot[category][:, columns].T
        return new

    def _chosen_weight(self, weight: np.ndarray) -> np.ndarray:
        """(S, K) the weight of the item that was bought."""
        return np.take_along_axis(weight, self.column[:, None, None], axis=2)[..., 0]

    def _sample_change(self) -> None:
        """Sample the change point."""
        log_likelihood = np.zeros((2, *self.change.shape, MAX_PURCHASES))  # under the taste before and after
        for taste, by_step in zip(self.tastes, log_likelihood, strict=True):
            weight = self._weights(taste[self.user])
            probability = (1 - ITEM_NOISE) * self._chosen_weight(weight) / weight.sum(axis=2) + self.noise[..., 0]
            by_step[self.user, :, self.step] = np.log(probability)
        # a change point at s: the taste before it explains the purchases before s, the one after it the rest
        before, after = np.pad(np.cumsum(log_likelihood, axis=3), ((0, 0), (0, 0), (0, 0), (1, 0)))
        evidence = before + after[..., -1:] - after  # (N, K, MAX_PURCHASES + 1)
        self.change = self._sample(evidence + change_log_prior(self.drift, self.lengths)[:, None])

    def _sample(self, log_weight: np.ndarray) -> np.ndarray:
        """Sample an index along the last axis, by unnormalised log probabilities."""
        weight = np.exp(log_weight - log_weight.max(axis=-1, keepdims=True))
        uniforms = self.rng.random(weight[..., 0].size)
        return sample_categorical(weight.reshape(-1, weight.shape[-1]), uniforms).reshape(weight.shape[:-1])

    def next_taste(self) -> np.ndarray:
        """(N * K, A) the taste that holds at the purchase to predict, at which it may change."""
        can_change = (self.lengths >= FIRST_CHANGE)[:, None]
        changes_now = (self.change == MAX_PURCHASES) & can_change & (self.rng.random(self.change.shape) < self.drift)
        changed = (self.change < MAX_PURCHASES) | changes_now
        return np.where(changed[..., None], self.tastes[1], self.tastes[0]).reshape(-1, len(self.num_values))


def change_log_prior(drift: float, lengths: np.ndarray) -> np.ndarray:
    """(N, MAX_PURCHASES + 1) log P(change point at a past purchase); the last column: at none of them.

    Args:
        drift: Probability of a change at each purchase from FIRST_CHANGE on.
        lengths: (N,) number of past purchases.
    """
    steps = np.arange(MAX_PURCHASES)
    with np.errstate(divide="ignore"):
        log_stay = max(np.log1p(-drift), -1e9)  # finite, so that 0 times it is 0
        log_change = np.log(drift) + (steps - FIRST_CHANGE) * log_stay
    is_past = (steps >= FIRST_CHANGE) & (steps < lengths[:, None])
    log_never = np.maximum(lengths - FIRST_CHANGE, 0) * log_stay
    return np.concatenate([np.where(is_past, log_change, -np.inf), log_never[:, None]], axis=1)

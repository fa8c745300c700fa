"""Two ceilings for every table: the best that can be known of a shopper's next purchase.

``Oracle.omniscient`` ranks by P(next item | the shopper's true taste, history). No recommender sees tastes.

``Oracle.inferring`` knows the world's rules but not the shopper, and ranks by P(next item | items and times bought). It
is the best that any recommender can do from purchases alone, however many it learns from; ratings and reviews tell more
of a taste than it uses. The favourites are few enough to weigh every set of
them. The tastes before and after the change, and the purchase of the change, are sampled from their posterior by
Gibbs sampling {cite}`geman1984gibbs`: draw one attribute's value at a time, given everything else.
"""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, stream
from mmrec_helpers.pocket_shop.choice_model import (
    CARE,
    FIRST_CHANGE,
    ITEM_NOISE,
    MAX_PURCHASES,
    NUM_FAVOURITES,
    Purchases,
    Tastes,
    World,
    category_chances,
    choose,
    common_utility,
    one_hot,
)
from mmrec_helpers.progress import progress


@dataclass(frozen=True)
class Moment:
    """Shoppers, each just before one of their purchases."""

    rows: np.ndarray
    """(N, T) catalogue rows bought before, -1 after the last."""
    days: np.ndarray
    """(N, T) the days of these purchases."""
    now: np.ndarray
    """(N,) the day of the purchase to predict."""

    @classmethod
    def before(cls, purchases: Purchases, users: np.ndarray, steps: np.ndarray) -> "Moment":
        """The moments just before purchase ``steps`` (N,), counted from 0, of ``users`` (N,)."""
        width = max(int(steps.max(initial=0)), 1)
        rows = np.where(np.arange(width) < steps[:, None], purchases.rows[users, :width], -1)
        return cls(rows, purchases.days[users, :width], purchases.days[users, steps])

    @property
    def lengths(self) -> np.ndarray:
        """(N,) purchases before."""
        return (self.rows >= 0).sum(axis=1)

    def last_category(self, category: np.ndarray) -> np.ndarray:
        """(N,) the category bought last, -1 where nothing was."""
        last = self.rows[np.arange(len(self.now)), np.maximum(self.lengths - 1, 0)]
        return np.where(last >= 0, category[last], -1)

    def bought(self, num_items: int) -> np.ndarray:
        """(N, I) bool: bought before."""
        bought = np.zeros((len(self.now), num_items + 1), bool)
        np.put_along_axis(bought, self.rows, True, axis=1)  # row -1 falls into the last, dropped, column
        return bought[:, :-1]


class Oracle:
    """Ranks by the world's own rules.

    Args:
        world: the rules of choice.
        drift: chance at each purchase that the taste changes.
    """

    def __init__(self, world: World, drift: float):
        self.world, self.drift = world, drift

    def omniscient(self, tastes: Tastes, moment: Moment) -> np.ndarray:
        """P(next item | taste, history), (N, I), for the tastes of the moment's N shoppers."""
        return self._chances(tastes.favourites, tastes.at(moment.lengths), moment)

    def _chances(self, favourites: np.ndarray, taste: np.ndarray, moment: Moment) -> np.ndarray:
        catalogue = self.world.catalogue
        last, bought = moment.last_category(catalogue.category), moment.bought(catalogue.num_items)
        return self.world.chances(favourites, taste, last, moment.now, bought)

    def inferring(self, moment: Moment, sweeps: int = 120, chains: int = 4, seed: int = 0) -> np.ndarray:
        """P(next item | history), (N, I).

        Args:
            sweeps: passes of the Gibbs sampler over all variables; the first third is thrown away.
            chains: samplers started apart, averaged.
        """
        members = self.world.members
        within = np.zeros((len(moment.now), self.world.catalogue.num_items))
        kept = 0
        sampler = _TasteSampler(self.world, self.drift, moment, chains, seed)
        bought, again = moment.bought(within.shape[1]), np.repeat(np.arange(len(moment.now)), chains)
        for sweep in progress(range(sweeps), desc="inferring tastes"):
            sampler.sweep()
            if sweep < sweeps // 3 or sweep % 2:  # neighbouring sweeps are much alike: look at every other one
                continue
            kept += 1
            taste = sampler.next_taste()
            for category, rows in enumerate(members):
                chances = self.world.within(category, taste, moment.now[again], bought[again])
                within[:, rows] += chances.reshape(-1, chains, len(rows)).mean(axis=1)
        categories = self.next_category(moment)
        return within / kept * categories[:, self.world.catalogue.category]

    def next_category(self, moment: Moment) -> np.ndarray:
        """P(next category | history), (N, C), exactly: every set of favourites, weighed by its likelihood."""
        category = self.world.catalogue.category
        sets = np.array(list(combinations(range(len(CATEGORIES)), NUM_FAVOURITES)))  # (S, NUM_FAVOURITES)
        steps = np.where(moment.rows >= 0, category[moment.rows], -1)  # (N, T)
        before = np.concatenate([np.full((len(steps), 1), -1), steps[:, :-1]], axis=1)
        num, everything = len(CATEGORIES), np.arange(-1, len(CATEGORIES))
        # P(c | last, set) for every last category, -1 among them: (S, C + 1, C)
        table = category_chances(np.repeat(sets, num + 1, axis=0), np.tile(everything, len(sets)))
        table = table.reshape(len(sets), num + 1, num)
        log = np.log(table)[:, before + 1, steps]  # (S, N, T)
        weight = np.where(steps >= 0, log, 0.0).sum(axis=2)  # (S, N)
        weight = np.exp(weight - weight.max(axis=0))
        weight /= weight.sum(axis=0)
        return np.einsum("sn,snc->nc", weight, table[:, moment.last_category(category) + 1])


class _TasteSampler:
    """Gibbs sampler of what shoppers care for, before and after a change, and of when it changed.

    A step is one past purchase: which items of its category could have been bought, and which one was. S steps of
    all N shoppers lie one after another; each shopper has K chains.
    """

    def __init__(self, world: World, drift: float, moment: Moment, chains: int, seed: int):
        self.num_values, self.caring, self.drift, self.chains = world.num_values, world.caring, drift, chains
        self.rng = stream(seed, "inference")
        self.lengths = moment.lengths
        self.owner, self.place = np.nonzero(moment.rows >= 0)  # (S,) shopper and number of each step
        rows = moment.rows[self.owner, self.place]
        # (S,) the place of what was bought among the alternatives of its category
        self.bought = np.array(
            [np.searchsorted(world.members[world.catalogue.category[row]], row) for row in rows], int
        )
        self.category = world.catalogue.category[rows]
        self.values = world.catalogue.attributes[rows]  # (S, A) of what was bought
        self.worth = self._alternatives(world, moment, rows)  # (S, M) exp(utility to everybody), 0 if not for sale
        self.floor = ITEM_NOISE / (self.worth > 0).sum(axis=1)[:, None, None]  # (S, 1, 1)
        self.steps_of = [np.flatnonzero(self.category == c) for c in range(len(CATEGORIES))]
        width = self.worth.shape[1]
        # (C, M, sum of num_values): which values each alternative has
        self.hot = np.zeros((len(CATEGORIES), width, world.hot.shape[1]), np.float32)
        for category, members in enumerate(world.members):
            self.hot[category, : len(members)] = world.hot[members]
        self.offsets = np.concatenate([[0], np.cumsum(self.num_values)])
        num = len(moment.now)
        prior = world.taste_from(self.rng.random((2 * num * chains, len(self.num_values), 2)))
        self.tastes = prior.reshape(2, num, chains, -1)  # before and after
        self.change = np.full((num, chains), MAX_PURCHASES)

    @staticmethod
    def _alternatives(world: World, moment: Moment, rows: np.ndarray) -> np.ndarray:
        owner, place = np.nonzero(moment.rows >= 0)
        category = world.catalogue.category[rows]
        worth = np.zeros((len(rows), max(len(members) for members in world.members)), np.float32)
        for kind, members in enumerate(world.members):
            steps = np.flatnonzero(category == kind)
            if not len(steps):
                continue
            utility = common_utility(world.catalogue, members, moment.days[owner[steps], place[steps]])
            earlier = moment.rows[owner[steps]]  # (S_c, T) what the shopper bought, of which only before this step:
            earlier = np.where(np.arange(earlier.shape[1]) < place[steps, None], earlier, -1)
            utility[(earlier[:, :, None] == members).any(axis=1)] = -np.inf
            worth[steps, : len(members)] = np.exp(utility)
        return worth

    def sweep(self) -> None:
        """Draw every variable once, given all others."""
        later = self.place[:, None] >= self.change[self.owner]  # (S, K) the step lies after the change
        taste = np.where(later[..., None], self.tastes[1][self.owner], self.tastes[0][self.owner])  # (S, K, A)
        weight = self._weights(taste)
        for attribute in range(len(self.num_values)):
            taste[..., attribute] = self._draw_attribute(attribute, taste[..., attribute], weight, later)
        self._draw_change()

    def _weights(self, taste: np.ndarray) -> np.ndarray:
        """(S, K, M) exp(utility) of each alternative under tastes (S, K, A)."""
        weight = np.empty((*taste.shape[:2], self.worth.shape[1]), np.float32)
        cared = np.stack([one_hot(taste[:, k], self.num_values) for k in range(self.chains)], axis=1)
        for category, steps in enumerate(self.steps_of):
            matches = cared[steps].astype(np.float32) @ self.hot[category].T
            weight[steps] = self.worth[steps, None] * np.exp(np.float32(CARE) * matches)
        return weight

    def _draw_attribute(self, attribute: int, current: np.ndarray, weight: np.ndarray, later: np.ndarray) -> np.ndarray:
        """Draw one attribute of both tastes; keep ``weight`` (S, K, M) true; return the steps' new values (S, K)."""
        num, gain = self.num_values[attribute], np.float32(np.exp(CARE))
        columns = slice(self.offsets[attribute], self.offsets[attribute + 1])
        by_value = np.empty((*current.shape, num), np.float32)  # (S, K, V) weight of the alternatives with a value
        for category, steps in enumerate(self.steps_of):
            by_value[steps] = weight[steps] @ self.hot[category][:, columns]
        held = current[..., None] == np.arange(num)
        by_value /= np.where(held, gain, 1)  # as if nobody cared for this attribute
        total = by_value.sum(axis=2, keepdims=True)
        bought = self.values[:, attribute]
        mine = self._bought_weight(weight)[..., None] / np.where(current == bought[:, None], gain, 1)[..., None]
        match = (bought[:, None] == np.arange(num))[:, None]
        cares = (1 - ITEM_NOISE) * mine * np.where(match, gain, 1) / (total + (gain - 1) * by_value) + self.floor
        not_at_all = (1 - ITEM_NOISE) * mine / total + self.floor
        log = np.log(np.concatenate([not_at_all, cares], axis=2))  # (S, K, 1 + V)
        prior = np.log(np.concatenate([[1 - self.caring[attribute]], np.full(num, self.caring[attribute] / num)]))
        for after in (0, 1):
            evidence = np.zeros((len(self.lengths), *log.shape[1:]))
            np.add.at(evidence, self.owner, np.where(later[..., None] == after, log, 0))
            self.tastes[after, ..., attribute] = self._draw(evidence + prior) - 1
        chosen = np.where(later, self.tastes[1][self.owner, :, attribute], self.tastes[0][self.owner, :, attribute])
        factor = np.where(chosen[..., None] == np.arange(num), gain, 1) / np.where(held, gain, 1)
        for category, steps in enumerate(self.steps_of):
            # each alternative has one value: its factor is the one of that value
            weight[steps] *= factor[steps].astype(np.float32) @ self.hot[category][:, columns].T
        return chosen

    def _bought_weight(self, weight: np.ndarray) -> np.ndarray:
        return np.take_along_axis(weight, self.bought[:, None, None], axis=2)[..., 0]

    def _draw_change(self) -> None:
        """Draw the purchase from which on the later taste holds."""
        log = []
        for taste in self.tastes:
            weight = self._weights(taste[self.owner])
            chance = (1 - ITEM_NOISE) * self._bought_weight(weight) / weight.sum(axis=2) + self.floor[..., 0]
            by_step = np.zeros((*self.change.shape, MAX_PURCHASES))
            by_step[self.owner, :, self.place] = np.log(chance)
            log.append(by_step)
        # a change at s: the earlier taste explains the steps before s, the later one the rest
        before = np.concatenate([np.zeros((*self.change.shape, 1)), np.cumsum(log[0], axis=2)], axis=2)
        after = np.concatenate([np.zeros((*self.change.shape, 1)), np.cumsum(log[1], axis=2)], axis=2)
        evidence = before + after[..., -1:] - after  # (N, K, MAX_PURCHASES + 1)
        self.change = self._draw(evidence + change_log_prior(self.drift, self.lengths)[:, None])

    def _draw(self, log: np.ndarray) -> np.ndarray:
        """Draw from unnormalised log chances along the last axis."""
        chances = np.exp(log - log.max(axis=-1, keepdims=True))
        flat = choose(chances.reshape(-1, log.shape[-1]), self.rng.random(log[..., 0].size))
        return flat.reshape(log.shape[:-1])

    def next_taste(self) -> np.ndarray:
        """(N * K, A) the taste that holds at the purchase to predict: it may change right there."""
        can_change = (self.lengths >= FIRST_CHANGE)[:, None]
        now = (self.change == MAX_PURCHASES) & can_change & (self.rng.random(self.change.shape) < self.drift)
        changed = (self.change < MAX_PURCHASES) | now
        return np.where(changed[..., None], self.tastes[1], self.tastes[0]).reshape(-1, len(self.num_values))


def change_log_prior(drift: float, lengths: np.ndarray) -> np.ndarray:
    """(N, MAX_PURCHASES + 1) log P(change at a past purchase); the last column is no change among the past ones."""
    steps = np.arange(MAX_PURCHASES)
    with np.errstate(divide="ignore"):
        stay = max(np.log1p(-drift), -1e9)  # finite, so that no step of it is none
        change = np.log(drift) + (steps - FIRST_CHANGE) * stay
        past = (steps >= FIRST_CHANGE) & (steps < lengths[:, None])
        never = np.maximum(lengths - FIRST_CHANGE, 0) * stay
        return np.concatenate([np.where(past, change, -np.inf), never[:, None]], axis=1)

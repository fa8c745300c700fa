"""Metrics of recommendation: N users at once, several targets, expected values over ties.

A ranking is judged by where it puts a user's targets, the items that the user then took; a ``TargetRanks`` holds these
places. A recommender that gives many items the same score has not ordered them: each metric here is the mean of its
values over all orders of each group of equal scores, computed exactly {cite}`mcsherry2008tied`. No system gains or
loses by the order in which a sort happens to leave its ties.

Metrics of accuracy take a placing and return (N,) float64, one number a user, larger = better; mean over users is the
caller's. Metrics beyond accuracy take lists of items, (N, K), in which 0 means that nothing was listed. Padding never
counts: more of it changes nothing.

In the formulas, a user has T targets, and C candidates were ranked; rel(r) is 1 where place r holds a target, else 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

BATCH = 1024
"""Lists whose vectors are gathered at a time, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class TargetRanks:
    """Where the targets of N users stand among the candidates that were ranked for them.

    A target that was not among the candidates, because it lies in the excluded history, cannot be reached: it is
    written as better = candidates, equal = 1. It is a miss at every k and in reciprocal rank, it loses all its pairs in
    AUC, and it still counts as one of the user's T targets. It stands in nobody's way.

    Attributes:
        better: (N, M) int, how many candidates score strictly higher than target m, other targets included.
        equal: (N, M) int, how many candidates have the very score of target m, itself included; 0 is padding,
            of which ``better`` may be any number from 0 to C.
        candidates: (N,) int, C, how many were ranked.

    Raises:
        ValueError: shapes or numbers that no ranking gives, or a user without any target, to whom no metric applies:
            leave such users out before ranking.
    """

    better: np.ndarray
    equal: np.ndarray
    candidates: np.ndarray

    def __post_init__(self) -> None:
        better, equal, candidates = self.better, self.equal, self.candidates
        for name, counts in vars(self).items():
            if counts.dtype.kind != "i":
                raise ValueError(f"{name} must hold signed whole numbers, not {counts.dtype}")
        if better.ndim != 2 or equal.shape != better.shape or candidates.shape != better.shape[:1]:
            shapes = f"{better.shape}, {equal.shape} and {candidates.shape}"
            raise ValueError(f"better, equal and candidates must be (N, M), (N, M) and (N,), not {shapes}")
        most = candidates[:, None]
        lost = (better == most) & (equal == 1)
        for fault, bad in (
            ("it has no target: leave users without targets out", self.num_targets == 0),
            ("numbers are negative", ((better < 0) | (equal < 0)).any(axis=1)),
            ("better and equal are more than the candidates", ((better + equal > most) & ~lost).any(axis=1)),
            ("more targets share a score than candidates do", (self.reachable & (self.beside > equal)).any(axis=1)),
        ):
            if bad.any():
                raise ValueError(f"row {int(bad.argmax())} of the placing: {fault}")

    @classmethod
    def of(cls, scores: np.ndarray, targets: np.ndarray, excluded: np.ndarray | None = None) -> "TargetRanks":
        """Count where targets stand in a dense array of scores.

        Args:
            scores: (N, I + 1), larger = better; column 0, the padding, and excluded items are never looked at.
            targets: (N, M) items 1..I, all different within a row, 0 is padding.
            excluded: (N, T) items that are no candidates, 0 is padding.

        Raises:
            ValueError: shapes disagree, scores of candidates are not finite, items do not exist, targets repeat, or a
                user has none.
        """
        scores, targets = np.asarray(scores), np.asarray(targets)
        excluded = np.zeros((len(scores), 0), int) if excluded is None else np.asarray(excluded)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(f"scores must be (N, I + 1) with one item or more, not {scores.shape}")
        for name, items in (("targets", targets), ("excluded", excluded)):
            _check_items(items, name, scores.shape[1] - 1)
            if len(items) != len(scores):
                raise ValueError(f"{name} are of {len(items)} users, scores of {len(scores)}")
        _check_different(targets, "targets")
        candidate = np.ones(scores.shape, bool)
        candidate[:, 0] = False
        np.put_along_axis(candidate, excluded, False, axis=1)
        bad = candidate & ~np.isfinite(scores)
        if bad.any():
            row, item = np.argwhere(bad)[0]
            raise ValueError(f"the score of item {item} in row {row} is {scores[row, item]}: scores must be finite")
        candidates = candidate.sum(axis=1)
        better = np.zeros(targets.shape, int)
        equal = np.zeros(targets.shape, int)
        for column, target in enumerate(targets.T):
            own = np.take_along_axis(scores, target[:, None], axis=1)
            reached = candidate[np.arange(len(scores)), target]
            better[:, column] = np.where(reached, ((scores > own) & candidate).sum(axis=1), candidates)
            equal[:, column] = np.where(reached, ((scores == own) & candidate).sum(axis=1), target > 0)
        return cls(better, equal, candidates)

    @cached_property
    def num_targets(self) -> np.ndarray:
        """(N,) T, the targets that cannot be reached included."""
        return (self.equal > 0).sum(axis=1)

    @cached_property
    def reachable(self) -> np.ndarray:
        """(N, M) bool, whether there is a target m, and it was among the candidates."""
        return (self.equal > 0) & (self.better < self.candidates[:, None])

    @cached_property
    def ahead(self) -> np.ndarray:
        """(N, M) how many of the user's targets score strictly higher than target m."""
        return self._count(np.less)

    @cached_property
    def beside(self) -> np.ndarray:
        """(N, M) how many of the user's targets have the score of target m, itself included."""
        return self._count(np.equal)

    def _count(self, relation: np.ufunc) -> np.ndarray:
        """(N, M) how many reachable targets have a ``better`` that stands in the relation to that of target m."""
        counts = np.zeros(self.better.shape, int)
        for column in range(self.better.shape[1]):
            other = slice(column, column + 1)
            counts += self.reachable[:, other] & relation(self.better[:, other], self.better)
        return counts


def _check_items(items: np.ndarray, name: str, num_items: int | None = None) -> None:
    """Raise unless (N, M) integers 0..I."""
    if items.ndim != 2 or items.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a table of item numbers, one row a user, not {items.dtype} {items.shape}")
    bad = (items < 0) if num_items is None else (items < 0) | (items > num_items)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        known = "start at 1" if num_items is None else f"are 1..{num_items}"
        raise ValueError(f"{name}, row {row}: item {items[row, column]} does not exist: items {known}, 0 is padding")


def _check_different(items: np.ndarray, name: str) -> None:
    """Raise if a row of (N, M) items holds one twice."""
    ordered = np.sort(items, axis=1)
    bad = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(f"{name}, row {row}: item {ordered[row, column]} stands there twice; keep the first")


def _check_cut(k: int) -> None:
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"k, the length of the list, must be a whole number from 1 on, not {k!r}")


# Accuracy: the first k places -----------------------------------------------------------------------------------------


def hit_rate(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) chance that at least one target is among the first k: HR@k.

    HR = 1 if rel(1) + ... + rel(k) > 0, else 0. No unit, 0..1; min(k, C) / C for one target in
    random order. Where t targets share their score with e - t others, and s of these e places lie within the first k,
    the chance is that of drawing at least one of t among e in s draws without replacement.
    """
    return _any_hit(ranks, ranks.reachable, k)


def satisfaction(ranks: TargetRanks, liked: np.ndarray, k: int) -> np.ndarray:
    """(N,) chance that one of the first k is a target that the user went on to like: this book's proxy.

    {cite}`thiyagarajan2025mllm` report a user satisfaction score in per cent, from dwell time, repeated visits and
    conversions, without a formula. What they had, public data lack, so this is **ours**: HR@k that counts only liked
    targets, while the others keep their places. Liked is what the user rated at least as high as their own mean rating.
    It is no calibrated probability that anybody is satisfied, and cannot be compared with the paper's numbers. No unit,
    0..1, at most HR@k; 0 for a user who liked none of their targets.

    Args:
        ranks: of the targets.
        liked: (N, M) bool; what it says of padding never counts.
        k: length of the list.

    Raises:
        ValueError: ``liked`` is not bool or has another shape than the targets.
    """
    liked = np.asarray(liked)
    if liked.dtype != bool or liked.shape != ranks.better.shape:
        raise ValueError(f"liked must be bool {ranks.better.shape} as the targets, not {liked.dtype} {liked.shape}")
    return _any_hit(ranks, ranks.reachable & liked, k)


def _any_hit(ranks: TargetRanks, wanted: np.ndarray, k: int) -> np.ndarray:
    """(N,) chance that one of some of the reachable targets, (N, M) bool, is among the first k."""
    _check_cut(k)
    end = ranks.better + ranks.equal
    cut = wanted & (ranks.better < k) & (end > k)  # (N, M) those of the one group of ties that the cut goes through
    number = cut.sum(axis=1)
    slots = np.where(cut, k - ranks.better, 0).max(axis=1, initial=0)
    places = np.where(cut, ranks.equal, 0).max(axis=1, initial=0)
    missed = 1.0 - (wanted & (end <= k)).any(axis=1)
    hit = 1.0 - missed
    for drawn in range(number.max(initial=0)):  # the chance that this one hits, and those before it did not
        chance = np.where(drawn < number, slots / np.maximum(places - drawn, 1), 0.0)
        hit += missed * chance
        missed = missed * (1 - chance)
    return hit


def _mean_gain(ranks: TargetRanks, gains: np.ndarray) -> np.ndarray:
    """(N, M) what target m earns on average, if place r earns ``gains[r - 1]``, and places beyond them nothing."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(ranks.better, len(gains))
    last = np.minimum(ranks.better + ranks.equal, len(gains))
    return np.where(ranks.reachable, (total[last] - total[first]) / np.maximum(ranks.equal, 1), 0.0)


def _hits(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) expected number of targets among the first k."""
    _check_cut(k)
    return _mean_gain(ranks, np.ones(k)).sum(axis=1)


def precision(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) share of the first k places that hold a target: P@k.

    P = (rel(1) + ... + rel(k)) / k. No unit, 0..min(T, k) / k: with one target it is HR@k / k. The divisor is k even
    where fewer candidates were ranked.
    """
    return _hits(ranks, k) / k


def recall(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) share of the targets that are among the first k: R@k.

    R = (rel(1) + ... + rel(k)) / T. No unit, 0..min(T, k) / T: with one target it is HR@k, with k targets P@k. Targets
    that cannot be reached count in T.
    """
    return _hits(ranks, k) / ranks.num_targets


def ndcg(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) discounted gain of the first k over that of the best list there could be: NDCG@k.

    DCG = sum over r = 1..k of rel(r) / log2(r + 1); NDCG divides it by the DCG of min(T, k) targets at the top. Targets
    that cannot be reached count in T. No unit, 0..1, at most HR@k. Source: {cite}`jarvelin2002cumulated`, with the
    discount of today's use, that of place 1 being 1.
    """
    _check_cut(k)
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(ranks.num_targets, k) - 1]
    return _mean_gain(ranks, gains).sum(axis=1) / ideal


def average_precision(ranks: TargetRanks, k: int, over: Literal["possible", "targets"] = "possible") -> np.ndarray:
    """(N,) precision at each target's place, averaged: AP@k, whose mean over users is MAP@k.

    AP = (sum over r = 1..k of rel(r) P@r) / divisor. No unit. Papers and packages divide by either of two numbers, and
    often do not say by which:

    - ``"possible"``: min(T, k), the most that k places can hold. 0..1, at most HR@k. That some of them may be excluded
      from the candidates does not lessen it.
    - ``"targets"``: T, as ``ranx`` and trec_eval do. 0..min(T, k) / T, the smaller of the two.

    Raises:
        ValueError: ``over`` is neither.
    """
    _check_cut(k)
    if over not in ("possible", "targets"):
        raise ValueError(f"average precision is over 'possible' or 'targets', not {over!r}")
    most = np.minimum(ranks.num_targets, k) if over == "possible" else ranks.num_targets
    # Of e equal scores after b candidates and h targets, t are targets. If one stands at place b + j, the expected hits
    # up to there are h + 1 + (j - 1) (t - 1) / (e - 1): a line in the place r = b + j, and P@r is the line over r.
    slope = (ranks.beside - 1) / np.maximum(ranks.equal - 1, 1)
    level = ranks.ahead + 1 - slope * (ranks.better + 1)
    found = level * _mean_gain(ranks, 1 / np.arange(1, k + 1)) + slope * _mean_gain(ranks, np.ones(k))
    return found.sum(axis=1) / most


def reciprocal_rank(ranks: TargetRanks, k: int | None = None) -> np.ndarray:
    """(N,) one over the place of the first target: RR@k, whose mean over users is MRR@k; MRR without k.

    RR = 1 / min(r : rel(r) = 1), with k 0 where that place is beyond k, 0 where no target can be reached. No unit,
    0..1: 1/2 says that the first target stands second. HR@k / k <= RR@k <= HR@k.
    """
    if k is None:
        k = max(int(ranks.candidates.max(initial=1)), 1)
    _check_cut(k)
    first = np.where(ranks.reachable, ranks.better, ranks.candidates[:, None]).argmin(axis=1)[:, None]
    rank = np.take_along_axis(_mean_gain(ranks, 1 / np.arange(1, k + 1)), first, axis=1)[:, 0]
    better, equal, number = (
        np.take_along_axis(counts, first, axis=1)[:, 0] for counts in (ranks.better, ranks.equal, ranks.beside)
    )
    several = (number > 1) & (better < k) & ranks.reachable.any(axis=1)
    if several.any():
        rank[several] = _first_of_several(better[several], equal[several], number[several], k)
    return rank


def _first_of_several(better: np.ndarray, equal: np.ndarray, number: np.ndarray, k: int) -> np.ndarray:
    """(N,) expected 1 / place of the first of ``number`` targets among ``equal`` places after ``better`` others.

    The first is at place j of e with chance C(e - j, t - 1) / C(e, t). The sum has no closed form for t > 1; users of
    the same three numbers share it.
    """
    sizes = tuple(int(counts.max()) + 1 for counts in (better, equal, number))
    cases, case = np.unique(np.ravel_multi_index((better, equal, number), sizes), return_inverse=True)
    better, equal, number = np.unravel_index(cases, sizes)
    last = np.minimum(equal - number + 1, k - better)
    order = np.argsort(-last)  # those with the most places first: the others drop out at the end
    better, equal, number, last = (counts[order] for counts in (better, equal, number, last))
    chance = number / equal
    rank = np.zeros(len(cases))
    for place in range(1, int(last[0]) + 1):
        left = slice(np.searchsorted(-last, -place, side="right"))
        rank[left] += chance[left] / (better[left] + place)
        chance[left] *= (equal[left] - number[left] - place + 1) / np.maximum(equal[left] - place, 1)
    found = np.empty(len(cases))
    found[order] = rank
    return found[case]


# Accuracy: the whole ranking ------------------------------------------------------------------------------------------


def auc(ranks: TargetRanks) -> np.ndarray:
    """(N,) share of the pairs of a target and a candidate that is none in which the target scores higher: AUC per user.

    With R targets among the C candidates there are T (C - R) pairs; a tie is half a pair won, all pairs of a target
    that cannot be reached are lost. No unit, 0..1, random 1/2; nan where all candidates are targets. Every place weighs
    the same: going from place 10,000 to 9,999 gains as much as from 2 to 1. Source: {cite}`hanley1982auc`.
    """
    reached = ranks.reachable.sum(axis=1)
    beaten = ranks.candidates[:, None] - ranks.better - (ranks.equal + 1) / 2
    won = np.where(ranks.reachable, beaten, 0.0).sum(axis=1) - reached * (reached - 1) / 2  # less target over target
    pairs = ranks.num_targets * (ranks.candidates - reached)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def pooled_auc(scores: np.ndarray, is_target: np.ndarray) -> float:
    """The AUC of all users' scores in one pot: pairs are made across users too.

    Share of all (target, other candidate) pairs in which the target scores higher, ties half; 0..1, no unit. The public
    code of {cite}`ye2025mllmmsr` computes it. It asks also whether scores of different users can be compared, which no
    ranking needs: adding a constant to one user's scores changes it, and leaves that user's list as it was. Mean
    ``auc`` is the per-user form.

    Args:
        scores: (N, C) of the candidates, larger = better.
        is_target: (N, C) bool.

    Raises:
        ValueError: shapes disagree, scores are not finite, or there are no targets or nothing but targets.
    """
    scores, is_target = np.asarray(scores), np.asarray(is_target)
    if is_target.dtype != bool or is_target.shape != scores.shape:
        raise ValueError(f"is_target must be bool {scores.shape} as scores, not {is_target.dtype} {is_target.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: pool the candidates only")
    if is_target.all() or not is_target.any():
        raise ValueError("AUC compares targets with other candidates, and one of the two kinds is missing")
    hits, misses = np.sort(scores[is_target]), np.sort(scores[~is_target])
    beaten = sum(np.searchsorted(misses, hits, side).sum() for side in ("left", "right"))  # a tie counts in one of them
    return float(beaten / (2 * len(hits) * len(misses)))


# Beyond accuracy ------------------------------------------------------------------------------------------------------


def _check_lists(lists: np.ndarray, num_items: int | None = None) -> np.ndarray:
    """The lists, (N, K), of different items 0..I."""
    lists = np.asarray(lists)
    _check_items(lists, "lists", num_items)
    _check_different(lists, "lists")
    return lists


def _check_counts(counts: np.ndarray) -> np.ndarray:
    """The (I + 1,) counts, in float64."""
    counts = np.asarray(counts, float)
    if counts.ndim != 1 or not (counts >= 0).all():
        raise ValueError("counts must be (I + 1,), one number from 0 on for each item, entry 0 being the padding's")
    return counts


def _listed_mean(values: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """(N,) mean of the items' (I + 1,) values over each list, nan over an empty one."""
    listed = lists > 0
    number = listed.sum(axis=1)
    total = np.where(listed, values[lists], 0.0).sum(axis=1)
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that appears in at least one of N lists.

    (different items in all lists) / I. No unit, 0..min(1, N K / I), so it grows with the number of users: compare it at
    equal N only. Larger = more of the catalogue is shown, which is not better by itself: random lists cover it all.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        num_items: I.
    """
    lists = _check_lists(lists, num_items)
    return int((np.bincount(lists.ravel(), minlength=num_items + 1)[1:] > 0).sum()) / num_items


def intra_list_diversity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(N,) how unlike the items of a list are: mean of 1 - cosine over all pairs of its items.

    (sum over pairs i < j of 1 - cos(v_i, v_j)) / (number of pairs). No unit, 0 (all point the same way) to 2, and 1
    where all are at right angles; larger = more varied. It says as much about the vectors as about the lists. An item
    whose vector is zero has nothing to compare, and is left out as if it was not listed; nan where fewer than two are
    left. Source: the intra-list similarity of {cite}`ziegler2005topic`, made a mean and taken from 1.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        vectors: (I + 1, D); row 0 is never looked at.

    Raises:
        ValueError: items without a row, or vectors that are not finite.
    """
    vectors = np.array(vectors, float)
    if vectors.ndim != 2 or not np.isfinite(vectors[1:]).all():
        raise ValueError("vectors must be (I + 1, D) finite numbers, one row an item, row 0 being the padding's")
    lists = _check_lists(lists, len(vectors) - 1)
    vectors[0] = 0
    length = np.linalg.norm(vectors, axis=1)
    vectors /= np.where(length > 0, length, 1)[:, None]
    number = (length > 0)[lists].sum(axis=1)
    total = np.empty(len(lists))  # the cosines of all ordered pairs, and of each item to itself
    for start in range(0, len(lists), BATCH):
        summed = vectors[lists[start : start + BATCH]].sum(axis=1)
        total[start : start + BATCH] = (summed**2).sum(axis=1)
    pairs = number * (number - 1)
    likeness = np.divide(total - number, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)
    return 1 - np.minimum(likeness, 1)  # rounding goes beyond 1


def inter_list_diversity(lists: np.ndarray) -> float:
    """How unlike the lists of two users are: mean over pairs of users of 1 - shared items / K. Also personalisation.

    With c_i lists that hold item i: 1 - (sum over i of c_i (c_i - 1)) / (N (N - 1) K), K the length of the longest
    list. No unit, 0 (all N users get the same K items, as from a popularity list that excludes nothing) to 1 (no two
    users share an item); larger = more personal. nan with fewer than two users or no items. The "diversity" of
    {cite}`olaniyi_mmgpt2rec`, which comes without a formula and is 0.000 for popularity, can only be this kind. Source:
    {cite}`zhou2010dilemma`.

    Args:
        lists: (N, K) items, 0 is padding.
    """
    lists = _check_lists(lists)
    longest = int((lists > 0).sum(axis=1).max(initial=0))
    pairs = len(lists) * (len(lists) - 1)
    if not pairs or not longest:
        return float("nan")
    holders = np.unique(lists[lists > 0], return_counts=True)[1]
    return 1 - int((holders * (holders - 1)).sum()) / (pairs * longest)


def novelty(lists: np.ndarray, counts: np.ndarray, num_users: int) -> np.ndarray:
    """(N,) how rare the items of a list are: their mean self-information.

    Mean over the list's items of -log2 p_i, with p_i = (counts_i + 1) / (num_users + 1), the share of users who have
    the item if one more user had them all; that keeps the value finite for an item that nobody has. In **bits**, 0
    (everybody has them) to log2(num_users + 1) (nobody has), never negative, larger = rarer; one bit more is half as
    popular. No list of its length is less novel than that of the most popular items. nan for an empty list. Source:
    {cite}`zhou2010dilemma`, without the added user. Beware of the sign: {cite}`olaniyi_mmgpt2rec` print negative
    novelties without a formula, among which popularity is neither the largest nor the smallest.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        counts: (I + 1,) how many users have each item in the training part.
        num_users: how many users the training part has.

    Raises:
        ValueError: more users have an item than there are.
    """
    counts = _check_counts(counts)
    lists = _check_lists(lists, len(counts) - 1)
    if counts[1:].max(initial=0) > num_users:
        item = int(counts[1:].argmax()) + 1
        raise ValueError(f"item {item} counts {counts[item]:.0f} users of {num_users}: count each user once")
    return _listed_mean(np.log2((num_users + 1) / (counts + 1)), lists)


def popularity_bias(lists: np.ndarray, counts: np.ndarray, histories: np.ndarray) -> np.ndarray:
    """(N,) how much more popular than the user's own history a list is: popularity lift, user by user.

    (mean count of the list's items) / (mean count of the history's items) - 1. No unit: 0 = as popular as what the user
    takes, 1 = twice as popular, -0.5 = half; -1 or more, larger = more bias towards the popular. In a history, an item
    taken twice counts twice. nan where a list or history is empty, or nobody has any of the history's items. Source:
    {cite}`abdollahpouri2020connection`, who take the lift of a group's mean popularities; this is that of groups of one
    user.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        counts: (I + 1,) how often each item was taken in the training part; a common factor cancels out.
        histories: (N, T) items 1..I, 0 is padding.

    Raises:
        ValueError: lists and histories are of different numbers of users.
    """
    counts = _check_counts(counts)
    lists, histories = _check_lists(lists, len(counts) - 1), np.asarray(histories)
    _check_items(histories, "histories", len(counts) - 1)
    if len(histories) != len(lists):
        raise ValueError(f"histories are of {len(histories)} users, lists of {len(lists)}")
    shown, own = _listed_mean(counts, lists), _listed_mean(counts, histories)
    return np.divide(shown, own, out=np.full(len(lists), np.nan), where=own > 0) - 1

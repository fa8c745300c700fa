"""Metrics of recommendation: N users at once, several targets, expected values over ties.

A ranking is judged by the ranks of a user's targets, the items that the user interacted with next; ``TargetRanks``
holds them. Items with equal scores have no order: each metric here is its mean over all orders of each group of tied
items, computed exactly {cite}`mcsherry2008tied`. So no system gains or loses by how a sort happens to order ties.

Accuracy metrics take ``TargetRanks`` and return (N,) float64, one number a user, larger = better; the mean over users
is the caller's. Metrics beyond accuracy take recommendation lists, (N, K) items, 0 where there is none. Padding never
counts.

In the formulas, a user has T targets among C candidates; rel(r) is 1 if rank r holds a target, else 0.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from mmrec_helpers.lessons import overlap

BATCH = 1024
"""Lists whose vectors are gathered at a time, which bounds the memory."""


@dataclass(frozen=True, eq=False)
class TargetRanks:
    """The ranks of N users' targets among the candidates.

    A target that is no candidate, because it lies in the excluded history, is unreachable: it has num_higher =
    num_candidates and num_tied = 1. It is a miss at every k and in reciprocal rank, it loses all its pairs in AUC, and
    it still counts as one of the user's T targets. The ranks of other targets do not depend on it.

    Attributes:
        num_higher: (N, M) int, how many candidates score strictly higher than target m, other targets included.
        num_tied: (N, M) int, how many candidates have the score of target m, itself included; 0 is padding, for which
            ``num_higher`` may be any number from 0 to C.
        num_candidates: (N,) int, C.

    Raises:
        ValueError: shapes or numbers that no ranking gives, or a user without targets, for whom no metric is defined.
    """

    num_higher: np.ndarray
    num_tied: np.ndarray
    num_candidates: np.ndarray

    def __post_init__(self) -> None:
        higher, tied, candidates = self.num_higher, self.num_tied, self.num_candidates
        for name, counts in vars(self).items():
            if counts.dtype.kind != "i":
                raise ValueError(f"{name} must hold signed integers, not {counts.dtype}")
        if higher.ndim != 2 or tied.shape != higher.shape or candidates.shape != higher.shape[:1]:
            shapes = f"{higher.shape}, {tied.shape} and {candidates.shape}"
            raise ValueError(f"num_higher, num_tied and num_candidates must be (N, M), (N, M) and (N,), not {shapes}")
        limit = candidates[:, None]
        unreachable = (higher == limit) & (tied == 1)
        for fault, bad in (
            ("the user has no target: leave users without targets out", self.num_targets == 0),
            ("numbers are negative", ((higher < 0) | (tied < 0)).any(axis=1)),
            ("num_higher + num_tied exceeds num_candidates", ((higher + tied > limit) & ~unreachable).any(axis=1)),
            ("more targets than candidates are tied", (self.reachable & (self.num_targets_tied > tied)).any(axis=1)),
        ):
            if bad.any():
                raise ValueError(f"row {int(bad.argmax())} of the target ranks: {fault}")

    @classmethod
    def of(cls, scores: np.ndarray, targets: np.ndarray, excluded: np.ndarray | None = None) -> "TargetRanks":
        """The ranks of targets in a dense array of scores.

        Args:
            scores: (N, I + 1), larger = better; column 0, the padding, and excluded items are ignored.
            targets: (N, M) items 1..I, all different within a row, 0 is padding.
            excluded: (N, T) items that are no candidates, 0 is padding.

        Raises:
            ValueError: shapes disagree, scores of candidates are not finite, items do not exist, targets repeat, or a
                user has none.
        """
        scores, targets = np.asarray(scores), np.asarray(targets)
        excluded = np.zeros((len(scores), 0), int) if excluded is None else np.asarray(excluded)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(f"scores must be (N, I + 1) with at least one item, not {scores.shape}")
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
        num_candidates = candidate.sum(axis=1)
        num_higher, num_tied = np.zeros((2, *targets.shape), int)
        for column, target in enumerate(targets.T):
            own = np.take_along_axis(scores, target[:, None], axis=1)
            reachable = candidate[np.arange(len(scores)), target]
            num_higher[:, column] = np.where(reachable, ((scores > own) & candidate).sum(axis=1), num_candidates)
            num_tied[:, column] = np.where(reachable, ((scores == own) & candidate).sum(axis=1), target > 0)
        return cls(num_higher, num_tied, num_candidates)

    @cached_property
    def num_targets(self) -> np.ndarray:
        """(N,) T, unreachable targets included."""
        return (self.num_tied > 0).sum(axis=1)

    @cached_property
    def reachable(self) -> np.ndarray:
        """(N, M) bool, whether target m exists and is a candidate."""
        return (self.num_tied > 0) & (self.num_higher < self.num_candidates[:, None])

    @cached_property
    def num_targets_higher(self) -> np.ndarray:
        """(N, M) how many of the user's targets score strictly higher than target m."""
        return self._count_targets(np.less)

    @cached_property
    def num_targets_tied(self) -> np.ndarray:
        """(N, M) how many of the user's targets have the score of target m, itself included."""
        return self._count_targets(np.equal)

    def _count_targets(self, compare: np.ufunc) -> np.ndarray:
        """(N, M) how many reachable targets have a ``num_higher`` for which ``compare(it, that of target m)`` holds."""
        counts = np.zeros(self.num_higher.shape, int)
        for column in range(self.num_higher.shape[1]):
            other = slice(column, column + 1)
            counts += self.reachable[:, other] & compare(self.num_higher[:, other], self.num_higher)
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
    """Raise if a row of (N, M) items contains one twice."""
    ordered = np.sort(items, axis=1)
    bad = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(f"{name}, row {row}: item {ordered[row, column]} occurs twice; keep the first")


def _check_cutoff(k: int) -> None:
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"the cut-off k must be an integer of at least 1, not {k!r}")


# Accuracy: the first k positions --------------------------------------------------------------------------------------


def hit_rate(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) probability that at least one target is among the first k: HR@k.

    HR = 1 if rel(1) + ... + rel(k) > 0, else 0. No unit, 0..1; min(k, C) / C for one target in random order. If t
    targets are tied with e - t other items, and s of these e positions are within the first k, it is the probability
    to draw at least one of t among e in s draws without replacement.
    """
    return _any_hit(ranks, ranks.reachable, k)


def satisfaction(ranks: TargetRanks, liked: np.ndarray, k: int) -> np.ndarray:
    """(N,) probability that one of the first k is a target that the user then liked: this book's proxy.

    {cite}`thiyagarajan2025mllm` report a user satisfaction score in per cent, from dwell time, repeated visits and
    conversions, without a formula. Public data lack these, so this is **ours**: HR@k that counts only liked targets,
    while the others keep their ranks. A target is liked if its rating is at least the user's own mean rating. It is no
    calibrated probability of satisfaction, and cannot be compared with the paper's numbers. No unit, 0..1, at most
    HR@k; 0 for a user who liked no target.

    Args:
        ranks: of the targets.
        liked: (N, M) bool; its value at padding does not matter.
        k: cut-off.

    Raises:
        ValueError: ``liked`` is not bool or has another shape than the targets.
    """
    liked = np.asarray(liked)
    if liked.dtype != bool or liked.shape != ranks.num_higher.shape:
        raise ValueError(f"liked must be bool {ranks.num_higher.shape} as the targets, not {liked.dtype} {liked.shape}")
    return _any_hit(ranks, ranks.reachable & liked, k)


def _any_hit(ranks: TargetRanks, counted: np.ndarray, k: int) -> np.ndarray:
    """(N,) probability that one of the counted reachable targets, (N, M) bool, is among the first k."""
    _check_cutoff(k)
    last = ranks.num_higher + ranks.num_tied
    split = counted & (ranks.num_higher < k) & (last > k)  # (N, M) targets of the one group of ties that k divides
    num_split = split.sum(axis=1)
    inside = np.where(split, k - ranks.num_higher, 0).max(axis=1, initial=0)
    group_size = np.where(split, ranks.num_tied, 0).max(axis=1, initial=0)
    miss = 1.0 - (counted & (last <= k)).any(axis=1)
    hit = 1.0 - miss
    for index in range(num_split.max(initial=0)):  # probability that this one is a hit, and those before it are not
        probability = np.where(index < num_split, inside / np.maximum(group_size - index, 1), 0.0)
        hit += miss * probability
        miss = miss * (1 - probability)
    return hit


def _mean_gain(ranks: TargetRanks, gains: np.ndarray) -> np.ndarray:
    """(N, M) expected gain of target m, if rank r has the gain ``gains[r - 1]``, and ranks beyond them none."""
    total = np.concatenate([[0.0], np.cumsum(gains)])
    first = np.minimum(ranks.num_higher, len(gains))
    last = np.minimum(ranks.num_higher + ranks.num_tied, len(gains))
    return np.where(ranks.reachable, (total[last] - total[first]) / np.maximum(ranks.num_tied, 1), 0.0)


def _num_hits(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) expected number of targets among the first k."""
    _check_cutoff(k)
    return _mean_gain(ranks, np.ones(k)).sum(axis=1)


def precision(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) share of the first k positions that hold a target: P@k.

    P = (rel(1) + ... + rel(k)) / k. No unit, 0..min(T, k) / k; with one target it is HR@k / k. The divisor is k even
    if there are fewer candidates.
    """
    return _num_hits(ranks, k) / k


def recall(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) share of the targets that are among the first k: R@k.

    R = (rel(1) + ... + rel(k)) / T. No unit, 0..min(T, k) / T; with one target it is HR@k, with k targets P@k.
    Unreachable targets count in T.
    """
    return _num_hits(ranks, k) / ranks.num_targets


def ndcg(ranks: TargetRanks, k: int) -> np.ndarray:
    """(N,) discounted cumulative gain of the first k over that of the ideal list: NDCG@k.

    DCG = sum over r = 1..k of rel(r) / log2(r + 1); NDCG divides it by the DCG of min(T, k) targets at the top.
    Unreachable targets count in T. No unit, 0..1, at most HR@k. Source: {cite}`jarvelin2002cumulated`, with today's
    usual discount, which is 1 at rank 1.
    """
    _check_cutoff(k)
    gains = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(gains)[np.minimum(ranks.num_targets, k) - 1]
    return _mean_gain(ranks, gains).sum(axis=1) / ideal


def average_precision(ranks: TargetRanks, k: int, over: Literal["possible", "targets"] = "possible") -> np.ndarray:
    """(N,) precision at each target's rank, averaged: AP@k, whose mean over users is MAP@k.

    AP = (sum over r = 1..k of rel(r) P@r) / divisor. No unit. Papers and packages use either of two divisors, often
    without naming it:

    - ``"possible"``: min(T, k), the most hits that k positions can hold. 0..1, at most HR@k. Unreachable targets count.
    - ``"targets"``: T, as ``ranx`` and trec_eval do. 0..min(T, k) / T, the smaller of the two.

    Raises:
        ValueError: ``over`` is neither.
    """
    _check_cutoff(k)
    if over not in ("possible", "targets"):
        raise ValueError(f"average precision is over 'possible' or 'targets', not {over!r}")
    divisor = np.minimum(ranks.num_targets, k) if over == "possible" else ranks.num_targets
    # Of e tied items after b candidates and h targets, t are targets. If one has rank b + j, the expected hits up to
    # there are h + 1 + (j - 1) (t - 1) / (e - 1): linear in the rank r = b + j, and P@r is this line over r.
    slope = (ranks.num_targets_tied - 1) / np.maximum(ranks.num_tied - 1, 1)
    intercept = ranks.num_targets_higher + 1 - slope * (ranks.num_higher + 1)
    sums = intercept * _mean_gain(ranks, 1 / np.arange(1, k + 1)) + slope * _mean_gain(ranks, np.ones(k))
    return sums.sum(axis=1) / divisor


def reciprocal_rank(ranks: TargetRanks, k: int | None = None) -> np.ndarray:
    """(N,) one over the rank of the first target: RR@k, whose mean over users is MRR@k; MRR without k.

    RR = 1 / min(r : rel(r) = 1); 0 if that rank is beyond k or no target is reachable. No unit, 0..1: 1/2 means that
    the first target has rank 2. HR@k / k <= RR@k <= HR@k.
    """
    if k is None:
        k = max(int(ranks.num_candidates.max(initial=1)), 1)
    _check_cutoff(k)
    first = np.where(ranks.reachable, ranks.num_higher, ranks.num_candidates[:, None]).argmin(axis=1)[:, None]
    values = np.take_along_axis(_mean_gain(ranks, 1 / np.arange(1, k + 1)), first, axis=1)[:, 0]
    higher, tied, targets = (
        np.take_along_axis(counts, first, axis=1)[:, 0]
        for counts in (ranks.num_higher, ranks.num_tied, ranks.num_targets_tied)
    )
    several = (targets > 1) & (higher < k) & ranks.reachable.any(axis=1)
    if several.any():
        values[several] = _first_of_several(higher[several], tied[several], targets[several], k)
    return values


def _first_of_several(higher: np.ndarray, tied: np.ndarray, targets: np.ndarray, k: int) -> np.ndarray:
    """(N,) expected 1 / rank of the first of several targets in one group of ties.

    Of e tied items, t are targets; the first of these is at position j of e with probability C(e - j, t - 1) / C(e, t).
    The sum has no closed form for t > 1; users with the same three numbers share it.
    """
    sizes = tuple(int(counts.max()) + 1 for counts in (higher, tied, targets))
    cases, case = np.unique(np.ravel_multi_index((higher, tied, targets), sizes), return_inverse=True)
    higher, tied, targets = np.unravel_index(cases, sizes)
    last = np.minimum(tied - targets + 1, k - higher)
    order = np.argsort(-last)  # longest sums first: the others end earlier
    higher, tied, targets, last = (counts[order] for counts in (higher, tied, targets, last))
    probability = targets / tied
    sums = np.zeros(len(cases))
    for position in range(1, int(last[0]) + 1):
        left = slice(np.searchsorted(-last, -position, side="right"))
        sums[left] += probability[left] / (higher[left] + position)
        probability[left] *= (tied[left] - targets[left] - position + 1) / np.maximum(tied[left] - position, 1)
    values = np.empty(len(cases))
    values[order] = sums
    return values[case]


# Accuracy: the whole ranking ------------------------------------------------------------------------------------------


def auc(ranks: TargetRanks) -> np.ndarray:
    """(N,) share of the pairs of a target and another candidate in which the target scores higher: AUC per user.

    With R targets among the C candidates there are T (C - R) pairs; a tie counts half, all pairs of an unreachable
    target are lost. No unit, 0..1, random 1/2; nan if all candidates are targets. All ranks have the same weight: a
    change from rank 10,000 to 9,999 gains as much as one from 2 to 1. Source: {cite}`hanley1982auc`.
    """
    num_reachable = ranks.reachable.sum(axis=1)
    beaten = ranks.num_candidates[:, None] - ranks.num_higher - (ranks.num_tied + 1) / 2
    won = np.where(ranks.reachable, beaten, 0.0).sum(axis=1)
    won -= num_reachable * (num_reachable - 1) / 2  # pairs of two targets
    pairs = ranks.num_targets * (ranks.num_candidates - num_reachable)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def pooled_auc(scores: np.ndarray, is_target: np.ndarray) -> float:
    """The AUC of all users' scores in one pool: pairs are formed across users too.

    Share of all (target, other candidate) pairs in which the target scores higher, ties half; 0..1, no unit. The public
    code of {cite}`ye2025mllmmsr` computes it. It requires that scores of different users are comparable, which no
    ranking needs: a constant added to one user's scores changes it, but not that user's list. Mean ``auc`` is the
    per-user form.

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
    return float(overlap.auc(scores[is_target], scores[~is_target]))


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
        raise ValueError("counts must be (I + 1,), a number from 0 on for each item; entry 0 is the padding's")
    return counts


def _list_mean(values: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """(N,) mean of the items' (I + 1,) values over each list, nan over an empty one."""
    listed = lists > 0
    number = listed.sum(axis=1)
    total = np.where(listed, values[lists], 0.0).sum(axis=1)
    return np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)


def coverage(lists: np.ndarray, num_items: int) -> float:
    """Share of the catalogue that appears in at least one of N lists.

    (different items in all lists) / I. No unit, 0..min(1, N K / I), so it grows with the number of users: compare it at
    equal N only. Larger is not better by itself: random lists cover everything.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        num_items: I.
    """
    lists = _check_lists(lists, num_items)
    return int((np.bincount(lists.ravel(), minlength=num_items + 1)[1:] > 0).sum()) / num_items


def intra_list_diversity(lists: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(N,) how dissimilar the items of a list are: mean of 1 - cosine over all pairs of its items.

    (sum over pairs i < j of 1 - cos(v_i, v_j)) / (number of pairs). No unit, 0 (all have one direction) to 2, and 1
    if all are orthogonal; larger = more varied. It depends on the vectors as much as on the lists. Items with a zero
    vector are left out; nan where fewer than two are left. Source: the intra-list similarity of
    {cite}`ziegler2005topic`, as a mean and subtracted from 1.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        vectors: (I + 1, D); row 0 is ignored.

    Raises:
        ValueError: items without a row, or vectors that are not finite.
    """
    vectors = np.array(vectors, float)
    if vectors.ndim != 2 or not np.isfinite(vectors[1:]).all():
        raise ValueError("vectors must be (I + 1, D) finite numbers, one row an item; row 0 is the padding's")
    lists = _check_lists(lists, len(vectors) - 1)
    vectors[0] = 0
    norms = np.linalg.norm(vectors, axis=1)
    vectors /= np.where(norms > 0, norms, 1)[:, None]
    number = (norms > 0)[lists].sum(axis=1)
    total = np.empty(len(lists))  # the cosines of all ordered pairs, and of each item with itself
    for start in range(0, len(lists), BATCH):
        summed = vectors[lists[start : start + BATCH]].sum(axis=1)
        total[start : start + BATCH] = (summed**2).sum(axis=1)
    pairs = number * (number - 1)
    similarity = np.divide(total - number, pairs, out=np.full(len(lists), np.nan), where=pairs > 0)
    return 1 - np.minimum(similarity, 1)  # rounding can exceed 1


def inter_list_diversity(lists: np.ndarray) -> float:
    """How dissimilar the lists of two users are: mean over pairs of users of 1 - shared items / K (personalisation).

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
    num_lists = np.unique(lists[lists > 0], return_counts=True)[1]
    return 1 - int((num_lists * (num_lists - 1)).sum()) / (pairs * longest)


def novelty(lists: np.ndarray, counts: np.ndarray, num_users: int) -> np.ndarray:
    """(N,) how rare the items of a list are: their mean self-information.

    Mean over the list's items of -log2 p_i, with p_i = (counts_i + 1) / (num_users + 1), the share of users who have
    the item if one more user had them all; so it is finite for an item that nobody has. In **bits**, 0 (everybody has
    them) to log2(num_users + 1) (nobody has), never negative, larger = rarer; one bit more is half as popular. No list
    of its length is less novel than that of the most popular items. nan for an empty list. Source:
    {cite}`zhou2010dilemma`, without the added user. Mind the sign: {cite}`olaniyi_mmgpt2rec` print negative novelties
    without a formula, among which popularity is neither the largest nor the smallest.

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
    return _list_mean(np.log2((num_users + 1) / (counts + 1)), lists)


def popularity_bias(lists: np.ndarray, counts: np.ndarray, histories: np.ndarray) -> np.ndarray:
    """(N,) how much more popular a list is than the user's own history: popularity lift, user by user.

    (mean count of the list's items) / (mean count of the history's items) - 1. No unit: 0 = as popular as the history,
    1 = twice as popular, -0.5 = half; at least -1, larger = more biased towards the popular. A repeated item of a
    history counts as often as it occurs. nan where a list or history is empty, or nobody has any of the history's
    items. Source: {cite}`abdollahpouri2020connection`, who take the lift of a group's mean popularities; this is that
    of groups of one user.

    Args:
        lists: (N, K) items 1..I, 0 is padding.
        counts: (I + 1,) training interactions of each item; a common factor cancels out.
        histories: (N, T) items 1..I, 0 is padding.

    Raises:
        ValueError: lists and histories are of different numbers of users.
    """
    counts = _check_counts(counts)
    lists, histories = _check_lists(lists, len(counts) - 1), np.asarray(histories)
    _check_items(histories, "histories", len(counts) - 1)
    if len(histories) != len(lists):
        raise ValueError(f"histories are of {len(histories)} users, lists of {len(lists)}")
    recommended, own = _list_mean(counts, lists), _list_mean(counts, histories)
    return np.divide(recommended, own, out=np.full(len(lists), np.nan), where=own > 0) - 1

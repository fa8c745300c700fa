"""Fidelity of preference summaries: their attributes beside a user's true taste, and beside the items they are of.

An attribute is a pair such as ("colour", "red"). A summary's attributes are those that it mentions; categories, brands
and price tiers are not among them.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.pocket_shop.shop import Truth
from mmrec_helpers.pocket_shop.text_templates import mentioned_attributes

Attributes = set[tuple[str, str]]
ATTRIBUTES = ("colour", "pattern", "style", "material", "occasion")
"""Attributes of a taste that a summary can mention by a word of its own."""
UNCERTAIN = re.compile(r"[\w-]+ maybe\b")
COUNTED_SHARE = 0.4
"""Share of the items from which on ``counted`` takes an attribute for a preference, and pocket-lm's training, too."""


def attributes_in(text: str) -> Attributes:
    """The attributes that a text mentions."""
    mentioned = mentioned_attributes(text)
    return {(name, value) for name in ATTRIBUTES for value in mentioned.get(name, ())}


def asserted_in(text: str) -> Attributes:
    """The attributes that a preference asserts: those that pocket-instruct marks by "maybe" are left out."""
    return attributes_in(UNCERTAIN.sub("", text))


def attributes_of(
    preferences: Iterable[Sequence[str]], parse: Callable[[str], Attributes] = attributes_in
) -> list[list[Attributes]]:
    """The attributes of each user's preferences, one a block: those mentioned, or by ``asserted_in`` those asserted."""
    return [[parse(text) for text in own] for own in preferences]


def true_attributes(truth: Truth, user_id: str, step: int) -> Attributes:
    """The attributes of a user's true taste at a purchase, counted from 0."""
    return {(name, value) for name, value in truth.taste(user_id, step).items() if name in ATTRIBUTES}


def counted(texts: Sequence[str]) -> Attributes:
    """A summary without a language model: for each attribute the most frequent value, if enough items mention it.

    Enough are two items, and the share COUNTED_SHARE.
    """
    counts = Counter(pair for text in texts for pair in sorted(attributes_in(text)))
    best: dict[str, tuple[str, str]] = {}
    for pair, count in counts.most_common():
        if count >= max(2, COUNTED_SHARE * len(texts)):
            best.setdefault(pair[0], pair)
    return set(best.values())


def described(texts: Sequence[str], facts: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """How N texts describe N items: of each attribute, the share of the texts that mention the true value, and another.

    The facts are attribute -> true value of each item.
    """
    mentioned = [mentioned_attributes(text) for text in texts]
    rows = {}
    for name in ("category", *ATTRIBUTES):
        pairs = [(own.get(name, set()), {item[name]}) for own, item in zip(mentioned, facts, strict=True)]
        rows[name] = {
            "correct": np.mean([true <= values for values, true in pairs]),
            "wrong": np.mean([bool(values - true) for values, true in pairs]),
        }
    return pd.DataFrame(rows).T


def users_by_change(
    dataset: RecDataset, truth: Truth, length: int, change: range, num: int
) -> tuple[list[int], list[int], dict[int, int]]:
    """Users with a longer history than ``length``: some whose taste changes in ``change``, some whose taste does not.

    Args:
        dataset: the shop.
        truth: of the shop.
        length: interactions of a user that count, the first ones.
        change: interactions, counted from 0, one of which is the change-point of the first group.
        num: users of each group, at most.

    Returns:
        The first group, the second one, and the change-point of each user in them; ``length`` where there is none.
    """
    lengths = np.bincount(dataset.interactions["user"], minlength=dataset.num_users)
    long = np.flatnonzero(lengths > length).tolist()
    points = {user: truth.change_point(dataset.user_ids[user]) or length for user in long}
    changed = [user for user, point in points.items() if point in change][:num]
    stable = [user for user, point in points.items() if point >= length][:num]
    return changed, stable, {user: min(points[user], length) for user in (*changed, *stable)}


def fidelity(mentioned: Sequence[Attributes], true: Sequence[Attributes]) -> pd.DataFrame:
    """Precision, recall and F1 of N summaries against N true tastes, one row each.

    Precision is not a number for a summary without attributes, recall for a taste without. F1 is 1 if both have none.
    """
    pairs = list(zip(mentioned, true, strict=True))
    correct = np.array([len(summary & taste) for summary, taste in pairs], float)
    num_mentioned, num_true = (np.array([*map(len, sets)], float) for sets in (mentioned, true))
    with np.errstate(invalid="ignore"):
        precision, recall = correct / num_mentioned, correct / num_true
    total = num_mentioned + num_true
    f1 = np.where(total, 2 * correct / np.maximum(total, 1), 1.0)
    return pd.DataFrame({"precision": precision, "recall": recall, "F1": f1})


def fidelity_table(summaries: Mapping[str, Sequence[Attributes]], true: Sequence[Attributes]) -> pd.DataFrame:
    """The means of ``fidelity`` for several summarisers, one row each.

    Precision is the mean over the users whose summary has an attribute, and ``users`` their share.
    """
    rows = {}
    for name, mentioned in summaries.items():
        values = fidelity(mentioned, true)
        rows[name] = {"users": values["precision"].notna().mean(), **values.mean()}
    return pd.DataFrame(rows).T


def hallucinated(mentioned: Sequence[Attributes], histories: Sequence[Sequence[str]]) -> float:
    """Share of the attributes of N summaries that no text of the history mentions from which each is written."""
    invented = [
        len(summary - set().union(*map(attributes_in, texts)))
        for summary, texts in zip(mentioned, histories, strict=True)
    ]
    return sum(invented) / max(sum(map(len, mentioned)), 1)


def survival(steps: Sequence[Sequence[Attributes]], true: Sequence[Sequence[Attributes]]) -> pd.Series:
    """Share of the attributes of a summary that the next one mentions again, correct and false ones apart.

    ``steps`` are the attributes of each user's summaries, one a block, ``true`` those of the tastes at the same times.
    """
    kept: dict[str, list[bool]] = {"correct": [], "false": []}
    for summaries, tastes in zip(steps, true, strict=True):
        for now, following, taste in zip(summaries, summaries[1:], tastes, strict=False):
            for pair in now:
                kept["correct" if pair in taste else "false"].append(pair in following)
    return pd.Series({name: float(np.mean(again)) for name, again in kept.items()})


def persistence(attributes: Sequence[Attributes], steps: Sequence[Sequence[Attributes]]) -> list[float]:
    """Share of N users' attributes that their S summaries, one a block, mention: after each block.

    The attributes are such as those of a wrong preference, one of them at least.
    """
    total = sum(map(len, attributes))
    by_block = zip(*steps, strict=True)
    return [sum(len(own & now) for own, now in zip(attributes, block, strict=True)) / total for block in by_block]


def agreement(one: Sequence[Attributes], other: Sequence[Attributes]) -> np.ndarray:
    """(N,) Jaccard similarity of the attributes of two summaries of each user; 1 where both have none."""
    pairs = list(zip(one, other, strict=True))
    return np.array([len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs])


def drift_curve(
    steps: Sequence[Sequence[Attributes]], before: Sequence[Attributes], after: Sequence[Attributes], passed: np.ndarray
) -> pd.DataFrame:
    """How summaries follow a change of taste: by interactions since the change-point, rounded up to whole blocks.

    Args:
        steps: the attributes of each of N users' S summaries, one a block.
        before: of the tastes before the change-points; a preference that did not change counts on neither side.
        after: of the tastes after them.
        passed: (N, S) interactions of a user's summary since the change-point, at most 0 before it.

    Returns:
        Interactions -> mean share of the new preferences that are mentioned, and of the old ones that still are.
    """
    block = int(np.diff(passed, axis=1)[0, 0])
    rows = [
        (int(np.ceil(count / block)) * block, len(summary & gained) / len(gained), len(summary & lost) / len(lost))
        for own, old, new, counts in zip(steps, before, after, passed, strict=True)
        for summary, count in zip(own, counts, strict=True)
        if (gained := new - old) and (lost := old - new)
    ]
    return pd.DataFrame(rows, columns=["interactions", "new", "old"]).groupby("interactions").mean()


def delays(
    steps: Sequence[Sequence[Attributes]], before: Sequence[Attributes], after: Sequence[Attributes], passed: np.ndarray
) -> np.ndarray:
    """(N,) interactions from a change-point to the first summary that is nearer to the new taste than to the old one.

    Nearer by F1. Infinite where no summary is; arguments as of ``drift_curve``.
    """
    found = np.full(len(steps), np.inf)
    for row, own in enumerate(steps):
        to_old, to_new = (fidelity(own, [taste] * len(own))["F1"] for taste in (before[row], after[row]))
        nearer = passed[row][((to_new > to_old) & (passed[row] > 0)).to_numpy()]
        found[row] = nearer.min() if len(nearer) else np.inf
    return found

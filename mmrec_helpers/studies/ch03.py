"""Chapter 3's protocol lab: what its cells do for one shop, measured on several data sets; published rows, pictures.

A protocol is what a system is asked: whom it is tested on, what the truth is, what it is ranked against. The lab holds
the system still and turns the protocol.
"""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes

from mmrec_helpers.data.dataset import NotAvailable, RecDataset, Split
from mmrec_helpers.display.cards import STYLE, data_uri
from mmrec_helpers.evaluation.intervals import bootstrap_means
from mmrec_helpers.evaluation.metrics import TargetRanks, auc, hit_rate, reciprocal_rank
from mmrec_helpers.evaluation.protocols import FullRanking, Recommender, SampledNegatives, evaluate
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.features import image_features
from mmrec_helpers.recommenders.sequential import SASRec
from mmrec_helpers.settings import load_settings

DRAWN = 20
"""Negatives of MLLM-MSR's evaluation, one of whose 21 candidates is the target."""
KEPT = 6
"""Items that MLLM-MSR's released preprocessing of MicroLens keeps of each user."""
HEADING = "background:#fff;color:#1f2328;font-weight:bold;padding:2px 6px"
"""Style of a list's name: as the cards below it, whatever the page's theme."""
ASKED = {
    "full ranking": FullRanking(),
    "100 uniform": SampledNegatives(100),
    "100 by popularity": SampledNegatives(100, "popularity"),
    "20 uniform": SampledNegatives(DRAWN),
}
"""Protocols that the lab compares."""


# Full and sampled -----------------------------------------------------------------------------------------------------


def by_protocol(systems: Sequence[Recommender], split: Split, metric: str = "NDCG@10") -> pd.DataFrame:
    """Fitted systems (rows) by ASKED's protocols (columns): mean of a metric."""
    found = {
        system.name: {
            name: evaluate(system, split, protocol=protocol).metric(metric).mean() for name, protocol in ASKED.items()
        }
        for system in systems
    }
    return pd.DataFrame(found).T


def rank_reversals(one: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs of systems (better, worse) by one protocol's means that stand the other way round by the other's."""
    one, other = dict(one), dict(other)
    pairs = combinations(sorted(one, key=one.get, reverse=True), 2)
    return [(best, next_) for best, next_ in pairs if one[best] > one[next_] and other[best] < other[next_]]


# Whose history, which truth -------------------------------------------------------------------------------------------


def mixed_core(dataset: RecDataset, users: int = 7, items: int = 5) -> RecDataset:
    """The largest part in which users have at least ``users`` interactions and items at least ``items``.

    Raises:
        NotAvailable: nothing is left.
    """
    name = dataset.name
    while True:
        frame = dataset.interactions
        keep = np.ones(len(frame), bool)
        for column, least in (("user", users), ("item", items)):
            keep &= np.bincount(frame[column])[frame[column]] >= least
        if not keep.any():
            raise NotAvailable(
                f"{name} has no part in which each user has {users} interactions or more and each item {items}."
            )
        if keep.all():
            return dataset
        dataset = dataset.keep(keep)


def sequences_of(dataset: RecDataset) -> np.ndarray:
    """(U, T) each user's items, oldest first, padded with 0 at the right."""
    frame = dataset.interactions
    place = frame.groupby("user").cumcount().to_numpy()
    items = np.zeros((dataset.num_users, place.max() + 1), np.int64)
    items[frame["user"].to_numpy(), place] = frame["item"].to_numpy()
    return items


def popular_part(sequences: np.ndarray, keep: int = KEPT) -> np.ndarray:
    """(U, keep) of each user's items those that most users have, in the order of time.

    So MLLM-MSR's released preprocessing makes the histories of MicroLens; the last one is what it asks for. Of equally
    popular items the earlier are kept. Users need at least ``keep`` items.
    """
    counts = np.bincount(sequences.ravel()).astype(float)
    counts[0] = -1  # padding
    best = np.sort(np.argsort(-counts[sequences], axis=1, kind="stable")[:, :keep], axis=1)
    return np.take_along_axis(sequences, best, axis=1)


def popularity_among(sequences: np.ndarray, targets: np.ndarray, num_items: int, seed: int = 0) -> TargetRanks:
    """Where popularity places (U,) targets among DRAWN items that the users never had, all such items equally likely.

    Popularity is how often all *other* users have an item, so that no user's own truth is counted.

    Raises:
        NotAvailable: a user has fewer items left to draw from.
    """
    most = (sequences > 0).sum(axis=1).max()
    if num_items - most < DRAWN:
        raise NotAvailable(f"A user has {most} of the {num_items} items, so {DRAWN} others cannot be sampled.")
    rng, drawn = np.random.default_rng(seed), []
    for items in np.array_split(sequences, len(sequences) // 1000 + 1):  # bounds memory
        order = rng.random((len(items), num_items + 1))
        np.put_along_axis(order, items, 2.0, axis=1)
        order[:, 0] = 2.0
        drawn.append(np.argpartition(order, DRAWN, axis=1)[:, :DRAWN])
    drawn = np.concatenate(drawn)  # (U, DRAWN)
    counts = np.bincount(sequences.ravel(), minlength=num_items + 1)
    mine = counts[targets][:, None] - 1
    better, equal = (counts[drawn] > mine).sum(axis=1), (counts[drawn] == mine).sum(axis=1) + 1
    return TargetRanks(better[:, None], equal[:, None], np.full(len(targets), DRAWN + 1))


def study_rule(dataset: RecDataset, users: int = 7, items: int = 5) -> dict:
    """What popularity alone reaches among 21 candidates under MLLM-MSR's released rule, and on the true last item.

    Args:
        dataset: all of it.
        users: interactions that a user must have, as the released code asks.
        items: interactions that an item must have.

    Returns:
        ``users`` that were left, ``same target``: the share of them whose two targets are one; and for ``released`` and
        ``last item``: AUC, HR@5 and MRR@5 as [mean, low, high] with 95 % intervals.

    Raises:
        NotAvailable: no such part is left, or it has too few items.
    """
    dataset = mixed_core(dataset, users, items)
    sequences = sequences_of(dataset)
    last = sequences[np.arange(len(sequences)), (sequences > 0).sum(axis=1) - 1]
    kept = popular_part(sequences)[:, -1]
    found = {"users": dataset.num_users, "items": dataset.num_items, "same target": float((kept == last).mean())}
    for name, targets in (("released", kept), ("last item", last)):
        target_ranks = popularity_among(sequences, targets, dataset.num_items)
        values = {
            "AUC": auc(target_ranks),
            "HR@5": hit_rate(target_ranks, 5),
            "MRR@5": reciprocal_rank(target_ranks, 5),
        }
        found[name] = {metric: with_interval(value) for metric, value in values.items()}
    return found


def rule_table(studies: Mapping[str, dict | None]) -> pd.DataFrame:
    """What ``study_rule`` found on each data set, two rows each; none where it is None."""
    return pd.DataFrame(
        {
            f"{name}: {kind}": {metric: format_interval(value) for metric, value in found[kind].items()}
            for name, found in studies.items()
            if found is not None
            for kind in ("released", "last item")
        }
    ).T


def next_items(dataset: RecDataset, num: int = 5) -> np.ndarray:
    """(interactions, num) what the same user took next after each interaction, padded with 0 at the right."""
    user, item = dataset.interactions["user"].to_numpy(), dataset.interactions["item"].to_numpy()
    ahead = np.zeros((len(user), num), np.int64)
    for step in range(1, num + 1):
        same = user[step:] == user[:-step]
        ahead[:-step, step - 1] = np.where(same, item[step:], 0)
    return ahead


def with_interval(values: np.ndarray) -> list[float]:
    """Mean of (N,) numbers and its 95 % interval."""
    return [float(values.mean()), *np.percentile(bootstrap_means(values[:, None]), [2.5, 97.5]).tolist()]


def format_interval(found: Sequence[float]) -> str:
    """A mean and its interval, as a table shows them."""
    return "{:.3f} ({:.3f} to {:.3f})".format(*found)


# Records --------------------------------------------------------------------------------------------------------------


def confidence(system: SASRec, split: Split) -> dict[str, float]:
    """How likely a SASRec says its first item is to come next, and how often it does, on the test part.

    Full cross-entropy says a softmax over the catalogue, the binary losses a sigmoid of the item's own score.
    """
    test = split.queries("test")
    said, right = [], []
    for start in range(0, len(test), 1000):  # bounds memory
        some = test.take(slice(start, start + 1000))
        scores = system.score(some).astype(float)
        first = scores[:, 1:].argmax(axis=1)
        best = scores[np.arange(len(first)), first + 1]
        if system.loss == "ce":
            said.append(1 / np.exp(scores[:, 1:] - best[:, None]).sum(axis=1))
        else:
            said.append(1 / (1 + np.exp(-best)))
        right.append(first + 1 == some.targets[:, 0])
    return {
        "says of its first": float(np.concatenate(said).mean()),
        "and it is right": float(np.concatenate(right).mean()),
    }


def prepare() -> None:
    """Make and keep what the chapter's first run would make with progress bars."""
    settings = load_settings()
    load_shop(0, "tiny")
    image_features(load_shop(settings.seed, settings.shop_size)[0], settings.clip)


# To be seen -----------------------------------------------------------------------------------------------------------


def plot_attention(panel: Axes, weights: np.ndarray, labels: Sequence[str]) -> None:
    """(T, T) attention weights as a map: rows look at columns."""
    panel.imshow(weights, vmin=0)
    panel.set_xticks(range(len(labels)), labels, rotation=90)
    panel.set_yticks(range(len(labels)), labels)
    panel.grid(False)


def plot_leaderboard(rows: Mapping[str, Sequence[float]], metric: str) -> None:
    """A mark for each system (row, best mean first) and each of its recorded means."""
    order = sorted(rows, key=lambda system: np.mean(rows[system]))
    _, axes = plt.subplots(figsize=(7, 0.8 + 0.22 * len(rows)))
    for place, system in enumerate(order):
        axes.plot(rows[system], [place] * len(rows[system]), "|", color="C0", markersize=9, markeredgewidth=1.6)
    axes.set_yticks(range(len(order)), order)
    axes.set(xlabel=metric, xlim=(0, None))


def gallery(dataset: RecDataset, runs: Sequence[Run], user: int, shown: int = 10) -> HTML:
    """One shopper: what was bought last, what came next, and the first items of each system's list, as pictures.

    Args:
        dataset: whose items are shown.
        runs: of the same users; the next item is marked where a list has it.
        user: user number.
        shown: items of each list.
    """
    row = int(np.flatnonzero(runs[0].users == user)[0])
    target = int(runs[0].targets[row, 0])
    bought = dataset.interactions.query("user == @user")["item"].tolist()
    before = bought[: len(bought) - bought[::-1].index(target) - 1][-shown:]
    lists = {"bought before": before, "next": [target]}
    lists |= {run.system: run.lists[row, :shown].tolist() for run in runs}
    strips = [
        f"<div style='{HEADING}'>{escape(name)}</div><div class='cards'>"
        + "".join(_thumbnail(dataset, item, name != "next" and item == target) for item in items if item)
        + "</div>"
        for name, items in lists.items()
    ]
    return HTML(STYLE + "".join(strips))


def _thumbnail(dataset: RecDataset, item: int, found: bool) -> str:
    """A picture without words, but for readers who hear the page; marked if it is what was to be found."""
    fields = dataset.item(item)
    title, mark = escape(fields["title"] or fields["item_id"], quote=True), " changed" if found else ""
    inside = f'<span class="no-image">{title}</span>'
    if fields["image"] is not None:
        inside = f'<img src="{data_uri(fields["image"])}" alt="{title}" title="{title}">'
    return f'<div class="card{mark}" style="flex:0 1 76px;padding:4px">{inside}{"<b>found</b>" if found else ""}</div>'

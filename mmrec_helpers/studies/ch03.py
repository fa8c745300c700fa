"""Chapter 3's studies: evaluation protocols, MLLM-MSR's preprocessing; its plots."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import combinations

import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML
from matplotlib.axes import Axes

from mmrec_helpers.data.dataset import NotAvailable, RecDataset, Split
from mmrec_helpers.display.cards import STYLE, data_uri, item_card, plain, titled_rows
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.protocols import FullRanking, Recommender, SampledNegatives, evaluate_protocols
from mmrec_helpers.evaluation.runs import Run

NUM_NEGATIVES = 20
"""Negatives of MLLM-MSR's evaluation, which ranks one target among 21 candidates."""
NUM_KEPT = 6
"""Items of each user that MLLM-MSR's released preprocessing of MicroLens keeps."""
HEADING_STYLE = "background:#fff;color:#1f2328;font-weight:bold;padding:2px 6px"
"""Colours of the cards below, on light and dark pages."""
PROTOCOLS: dict[str, FullRanking | SampledNegatives] = {
    "full ranking": FullRanking(),
    "100 uniform": SampledNegatives(100),
    "100 by popularity": SampledNegatives(100, "popularity"),
    "20 uniform": SampledNegatives(NUM_NEGATIVES),
}
"""The protocols that the chapter compares."""


# Full ranking and sampled negatives -----------------------------------------------------------------------------------


def by_protocol(systems: Sequence[Recommender], split: Split, metric: str = "NDCG@10") -> dict[str, pd.DataFrame]:
    """Protocol of PROTOCOLS -> (N, S) values of a metric of fitted systems."""
    runs = evaluate_protocols(systems, split, list(PROTOCOLS.values()))
    by_name = {system.name: own for system, own in zip(systems, runs, strict=True)}
    return {p: pd.DataFrame({k: own[n].metric(metric) for k, own in by_name.items()}) for n, p in enumerate(PROTOCOLS)}


def rank_reversals(one: Mapping[str, float], other: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs of systems (better, worse) by one protocol's means that are in reverse order by the other's."""
    one, other = dict(one), dict(other)
    pairs = combinations(sorted(one, key=one.__getitem__, reverse=True), 2)
    return [(better, worse) for better, worse in pairs if one[better] > one[worse] and other[better] < other[worse]]


# MLLM-MSR's preprocessing ---------------------------------------------------------------------------------------------


def item_sequences(dataset: RecDataset) -> np.ndarray:
    """(U, T) each user's items, oldest first, padded with 0 at the right.

    Raises:
        NotAvailable: there are none, as in an empty k-core.
    """
    if not dataset.num_interactions:
        raise NotAvailable(f"{dataset.name} has no users and items with enough interactions.")
    frame = dataset.interactions
    position = frame.groupby("user").cumcount().to_numpy()
    sequences = np.zeros((dataset.num_users, position.max() + 1), np.int64)
    sequences[frame["user"].to_numpy(), position] = frame["item"].to_numpy()
    return sequences


def most_popular_items(sequences: np.ndarray, num: int = NUM_KEPT) -> np.ndarray:
    """(U, num) the items of each user that most users have, in the order of time.

    MLLM-MSR's released preprocessing makes the histories of MicroLens in this way; the last item is the target. Of
    equally popular items the earlier are kept. Users need at least ``num`` items.
    """
    counts = np.bincount(sequences.ravel()).astype(float)
    counts[0] = -1  # padding
    positions = np.sort(np.argsort(-counts[sequences], axis=1, kind="stable")[:, :num], axis=1)
    return np.take_along_axis(sequences, positions, axis=1)


def popularity_ranks(sequences: np.ndarray, targets: np.ndarray, num_items: int, seed: int = 0) -> TargetRanks:
    """Ranks of (U,) targets by popularity among NUM_NEGATIVES uniformly sampled items that the users do not have.

    Popularity is the number of *other* users who have an item, so that the user's own target is not counted.

    Raises:
        NotAvailable: a user has too few other items to sample from.
    """
    longest = (sequences > 0).sum(axis=1).max()
    if num_items - longest < NUM_NEGATIVES:
        raise NotAvailable(
            f"A user has {longest} of the {num_items} items, so {NUM_NEGATIVES} others cannot be sampled."
        )
    rng, batches = np.random.default_rng(seed), []
    for items in np.array_split(sequences, len(sequences) // 1000 + 1):  # bounds memory
        order = rng.random((len(items), num_items + 1))
        np.put_along_axis(order, items, 2.0, axis=1)
        order[:, 0] = 2.0
        batches.append(np.argpartition(order, NUM_NEGATIVES, axis=1)[:, :NUM_NEGATIVES])
    counts = np.bincount(sequences.ravel(), minlength=num_items + 1)
    negatives = counts[np.concatenate(batches)]  # (U, NUM_NEGATIVES)
    own = counts[targets][:, None] - 1
    num_higher, num_tied = (negatives > own).sum(axis=1), (negatives == own).sum(axis=1) + 1
    return TargetRanks(num_higher[:, None], num_tied[:, None], np.full(len(targets), NUM_NEGATIVES + 1))


def preprocessing_runs(dataset: RecDataset, users: int = 7, items: int = 5) -> list[Run]:
    """Popularity's ranks among 21 candidates after MLLM-MSR's released preprocessing, and on the true last item.

    The users and items have as many interactions at least as in the released code.

    Returns:
        The runs of ``popularity, released target`` and ``popularity, last item``. Their scalars are the ``users`` and
        ``items`` that remain and ``same target``, the share of users for whom both targets are one item.

    Raises:
        NotAvailable: no users and items remain, or too few items.
    """
    core = dataset.k_core(users, items)
    sequences = item_sequences(core)
    last = sequences[np.arange(len(sequences)), (sequences > 0).sum(axis=1) - 1]
    released = most_popular_items(sequences)[:, -1]
    scalars = {"users": core.num_users, "items": core.num_items, "same target": float((released == last).mean())}
    stamp = {"dataset": dataset.name, "fingerprint": dataset.fingerprint, "split": "", "part": "", "targets": 1}
    stamp |= {"protocol": "released preprocessing", "protocol options": {}}
    return [
        Run(
            users=np.arange(core.num_users),
            lists=np.zeros((core.num_users, 0), np.int64),
            targets=targets[:, None],
            target_ranks=popularity_ranks(sequences, targets, core.num_items),
            stamp=stamp | {"system": f"popularity, {name}"},
            scalars=scalars,
        )
        for name, targets in (("released target", released), ("last item", last))
    ]


def next_items(dataset: RecDataset, num: int = 5) -> np.ndarray:
    """(number of interactions, num) the same user's next items after each interaction, padded with 0 at the right."""
    user, item = dataset.interactions["user"].to_numpy(), dataset.interactions["item"].to_numpy()
    following = np.zeros((len(user), num), np.int64)
    for step in range(1, num + 1):
        following[:-step, step - 1] = np.where(user[step:] == user[:-step], item[step:], 0)
    return following


# Plots ----------------------------------------------------------------------------------------------------------------


def plot_attention(axes: Axes, weights: np.ndarray, labels: Sequence[str]) -> None:
    """(T, T) attention weights as a heatmap: each row is a query position, each column a key position."""
    masked = np.triu(np.ones(weights.shape, bool), 1)
    labels = [label.replace("$", r"\$") for label in labels]  # $$, a category of prices, would be mathematics
    cells = {"vmin": 0, "mask": masked, "square": True, "cmap": "cividis", "cbar": False}
    sns.heatmap(weights, xticklabels=labels, yticklabels=labels, ax=axes, **cells)
    axes.grid(visible=False)


def gallery(dataset: RecDataset, runs: Sequence[Run], user: int, length: int = 10) -> HTML:
    """One user's last items, the target, and the first items of each system's list, as images.

    The runs are of the same users; the target is marked where a list contains it.
    """
    row = int(np.flatnonzero(runs[0].users == user)[0])
    target = int(runs[0].targets[row, 0])
    items = dataset.interactions.query("user == @user")["item"].tolist()
    history = items[: len(items) - items[::-1].index(target) - 1][-length:]
    lists = {"history": history, "next": [target]}
    lists |= {run.system: run.lists[row, :length].tolist() for run in runs}
    strips = [
        f"<div style='{HEADING_STYLE}'>{escape(name)}</div><div class='cards'>"
        + "".join(_thumbnail(dataset, item, name != "next" and item == target) for item in items if item)
        + "</div>"
        for name, items in lists.items()
    ]
    return HTML(STYLE + "".join(strips))


def _thumbnail(dataset: RecDataset, item: int, hit: bool) -> str:
    """An image without text, except for screen readers; marked if it is a hit."""
    fields = dataset.item(item, small=True)
    title, mark = fields["title"] or fields["item_id"], " changed" if hit else ""
    image = f'<span class="no-image">{plain(title)}</span>'
    if fields["image"] is not None:
        image = f'<img src="{data_uri(fields["image"])}" alt="{escape(title)}" title="{escape(title)}">'
    return f'<div class="card{mark}" style="flex:0 1 76px;padding:4px">{image}{"<b>found</b>" if hit else ""}</div>'


def nearest_items(
    dataset: RecDataset, similarities: Mapping[str, Callable[[int], np.ndarray]], item: int, length: int = 6
) -> HTML:
    """An item's card, and below it those of the most similar items by each of several similarities.

    A similarity is a function from an item to the (I + 1,) similarities of all items to it.
    """
    rows = {"item": [item_card(dataset, item, width=92)]}
    for name, similarity_of in similarities.items():
        order = np.argsort(-similarity_of(item), kind="stable")
        near = order[(order > 0) & (order != item)][:length]
        rows[name] = [item_card(dataset, int(other), width=92) for other in near]
    return titled_rows(rows)

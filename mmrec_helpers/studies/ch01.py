"""Statistics of a data set: the numbers behind the figures of chapter 1, to compare data sets."""

from pathlib import Path

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.lessons.exploration import leaked_share, train_bpe

DAY = 86400
NEW_DAYS = 90
"""How long an item counts as new."""
MAX_LEN = 1024
"""Tokens of GPT-2's context."""
STEPS = np.linspace(0, 1, 41)
"""Quantiles of the curves of tail, history and gap."""

NAMES = {
    "pocket": "Pocket Shop",
    "movielens": "MovieLens",
    "gift-cards": "Gift Cards",
    "magazines": "Magazines",
    "microlens": "MicroLens",
    "hm-week": "H&M week",
}
"""Recorded data set -> its name in tables."""


def recorded_datasets(record: str | Path, dataset: RecDataset) -> dict[str, dict]:
    """Name -> ``statistics`` and ``curves`` of each recorded data set, and of the given one if it is none of them."""
    runs = {run.stamp["data"]: run for run in load_runs(record, data=tuple(NAMES), protocol="statistics")}
    entries = {name: runs[data].scalars for data, name in NAMES.items()}
    if dataset.fingerprint not in {run.stamp["fingerprint"] for run in runs.values()}:
        own = {"statistics": dataset_statistics(dataset), "curves": dataset_curves(dataset)}
        entries[f"{dataset.name} (this)"] = own
    return entries


def dataset_statistics(dataset: RecDataset) -> dict[str, float | None]:
    """Statistics by label, None where the data set lacks what they need; shares are between 0 and 1.

    - ``density``: of distinct (user, item) pairs.
    - ``category repeats``: how often an interaction has the category of the user's previous one; ``category in any
      order``: of a random other one of the user; ``category by chance``: of a random one of any user.
    - ``last decided by file order``: share of users whose last two interactions have the same time.
    - ``on new items, second half``: share of the interactions in the second half of the time whose item occurred first
      in the 90 days before; None where the data span fewer than 90 days, since all items are new then.
    - ``tests with later training``: share of leave-one-out's test queries with training interactions after them;
      ``training later, mean``: the mean share of the training interactions after a test query.
    - tokens: of a tokenizer trained on the data set's texts.
    """
    frame = dataset.interactions
    lengths, sales = _lengths(dataset), _sales(dataset)
    core = dataset.k_core(5)
    pairs = len(frame.drop_duplicates(["user", "item"]))
    return {
        "users": dataset.num_users,
        "items": dataset.num_items,
        "interactions": len(frame),
        "density": pairs / (dataset.num_users * dataset.num_items),
        "repeats of an item": 1 - pairs / len(frame),
        "share of the top fifth": _top_fifth(dataset),
        "share of the top fifth, 5-core": _top_fifth(core) if core.num_items else None,
        "items with under 5 interactions": (sales < 5).mean(),
        "history, median": np.median(lengths),
        "history, mean": lengths.mean(),
        **_repeats(dataset, "category"),
        **_repeats(dataset, "brand"),
        **_times(dataset),
        "users lost, 5-core": 1 - core.num_users / dataset.num_users,
        "items lost, 5-core": 1 - core.num_items / dataset.num_items,
        "interactions lost, 5-core": 1 - core.num_interactions / len(frame),
        **_content(dataset),
    }


def dataset_curves(dataset: RecDataset) -> dict[str, list[float | None] | None]:
    """The curves of the chapter's figures at few points.

    Returns:
        ``tail``: share of the interactions on the STEPS most popular items. ``history``: STEPS quantiles of the history
        lengths. ``gap``: STEPS quantiles of the seconds between two interactions of a user. ``fresh``: in each 24th of
        the time, the share of interactions on items that occurred first in the 90 days before, None for a part
        without interactions. ``gap`` and ``fresh`` are None without times, ``fresh`` also under 90 days.
    """
    sales, gap = _sales(dataset), _gaps(dataset)
    tail = np.interp(STEPS, np.linspace(0, 1, len(sales) + 1), np.r_[0, np.cumsum(sales)] / sales.sum())
    curves = {"tail": tail, "history": np.quantile(_lengths(dataset), STEPS), "gap": None, "fresh": None}
    if dataset.timed:
        time, fresh = dataset.interactions["time"].to_numpy(), _is_fresh(dataset)
        part = np.minimum((time - time.min()) * 24 // max(time.max() - time.min(), 1), 23)
        in_part = np.bincount(part, minlength=24)
        share = np.bincount(part, weights=fresh, minlength=24) / np.maximum(in_part, 1)
        curves["gap"] = np.quantile(gap, STEPS) if len(gap) else None
        if dataset.days_spanned() >= NEW_DAYS:
            curves["fresh"] = np.where(in_part > 0, share, np.nan)
    return {
        name: None if points is None else [None if np.isnan(point) else float(point) for point in points]
        for name, points in curves.items()
    }


def attribute_texts(dataset: RecDataset) -> list[str]:
    """Category and brand of each item as a text; empty if the data set has no categories."""
    categories, brands = dataset.items["category"][:], dataset.items["brand"][:]
    if not any(categories):
        return [""] * dataset.num_items
    return [f"category: {category}, brand: {brand}" for category, brand in zip(categories, brands, strict=True)]


def format_statistics(statistics: pd.DataFrame) -> pd.DataFrame:
    """Format a table with one column per data set: shares in per cent, a dash for None."""

    def format_row(label: str, row: pd.Series) -> list[str]:
        if label in ("users", "items", "interactions"):
            form = "{:,.0f}"
        elif label.startswith(("history,", "tokens", "characters")):
            form = "{:,.1f}"
        else:
            form = "{:.2%}" if row.between(0, 0.01, inclusive="neither").any() else "{:.1%}"
        return ["-" if np.isnan(number) else form.format(number) for number in row]

    rows = [format_row(str(label), row) for label, row in statistics.astype(float).iterrows()]
    labels = statistics.index.str.replace("by chance", "of random pairs").str.replace("gaps", "inter-purchase times")
    return pd.DataFrame(rows, labels.str.replace("a picture", "an image"), statistics.columns)


def _mean(values: np.ndarray) -> float | None:
    return values.mean() if len(values) else None


def _lengths(dataset: RecDataset) -> np.ndarray:
    """(U,) interactions of each user."""
    return np.bincount(dataset.interactions["user"], minlength=dataset.num_users)


def _sales(dataset: RecDataset) -> np.ndarray:
    """(I,) interactions of each item, most popular first."""
    return np.sort(np.bincount(dataset.interactions["item"], minlength=dataset.num_items + 1)[1:])[::-1]


def _top_fifth(dataset: RecDataset) -> float:
    """Share of the interactions on the most popular fifth of the items, at least one item."""
    return _sales(dataset)[: max(1, dataset.num_items // 5)].sum() / dataset.num_interactions


def _gaps(dataset: RecDataset) -> np.ndarray:
    """Seconds between each interaction and the same user's previous one."""
    user, time = (dataset.interactions[name].to_numpy() for name in ("user", "time"))
    return np.diff(time)[np.diff(user) == 0]


def _is_fresh(dataset: RecDataset) -> np.ndarray:
    """(N,) bool: the item occurred first in the 90 days before."""
    time = dataset.interactions["time"]
    return (time - dataset.interactions.groupby("item")["time"].transform("min") < NEW_DAYS * DAY).to_numpy()


def _repeats(dataset: RecDataset, field: str) -> dict[str, float | None]:
    """How often an interaction has the value of the previous one, and of a random other one; where both are known."""
    values = dataset.column(field)
    items = dataset.interactions["item"].to_numpy()
    user = dataset.interactions["user"].to_numpy()
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(items)
    within_user = items[np.lexsort((rng.random(len(items)), user))]  # each user's in random order
    has_previous = np.diff(user) == 0
    varies = len(set(values[1:]) - {""}) > 1
    shares: dict[str, float | None] = {}
    for name, current, other in (
        ("repeats", items[1:], items[:-1]),
        ("in any order", within_user[1:], within_user[:-1]),
        ("by chance", items[1:], shuffled[1:]),
    ):
        first, second = values[current[has_previous]], values[other[has_previous]]
        known = (first != "") & (second != "")
        shares[f"{field} {name}"] = _mean((first == second)[known]) if varies else None
    return shares


def _times(dataset: RecDataset) -> dict[str, float | None]:
    """Statistics of times and of leave-one-out's leakage."""
    names = (
        "gaps under an hour",
        "last decided by file order",
        "on new items, second half",
        "tests with later training",
        "training later, mean",
    )
    if not dataset.timed:
        return dict.fromkeys(names)
    time = dataset.interactions["time"].to_numpy()
    second_half = time > (time.min() + time.max()) / 2
    later = leaked_share(dataset.leave_one_out())
    last = np.flatnonzero(np.diff(dataset.interactions["user"], append=-1))
    last = last[_lengths(dataset) > 1]
    fresh = _is_fresh(dataset)[second_half] if dataset.days_spanned() >= NEW_DAYS else later[:0]
    means = map(_mean, (_gaps(dataset) < 3600, time[last] == time[last - 1], fresh, later > 0, later))
    return dict(zip(names, means, strict=True))


def _content(dataset: RecDataset) -> dict[str, float | None]:
    """Statistics of images and texts."""
    titles, descriptions = dataset.items["title"][:], dataset.items["description"][:]
    tokenizer = train_bpe(titles + descriptions, 4000)
    title, attribute, description = (
        np.array([0, *map(len, tokenizer.encode_batch(texts))])
        for texts in (titles, attribute_texts(dataset), descriptions)
    )  # (I + 1,) tokens
    history = np.bincount(dataset.interactions["user"], weights=description[dataset.interactions["item"]])
    has_text = description > 0
    return {
        "items with a picture": dataset.has_image[1:].mean(),
        "items with a description": has_text[1:].mean(),
        "characters of a title": np.mean([len(text) for text in titles]),
        "tokens of a title": title[1:].mean(),
        "tokens of the attributes": attribute[1:].mean() if attribute.any() else None,
        "tokens of a description, mean": _mean(description[has_text]),
        "tokens of a description, median": np.median(description[has_text]) if has_text.any() else None,
        "histories over 1,024 tokens": (history > MAX_LEN).mean() if has_text.any() else None,
    }

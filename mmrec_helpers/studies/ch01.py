"""A data set's portrait: the numbers behind the figures of chapter 1, to put data sets side by side."""

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import NotAvailable, RecDataset
from mmrec_helpers.lessons.exploration import later_share, learn_bpe

DAY = 86400
NEW_DAYS = 90
"""How long an item counts as new."""
CONTEXT = 1024
"""Tokens that GPT-2 reads at once."""
STEPS = np.linspace(0, 1, 41)
"""Where the curves of tail, history and gap are read off."""


def dataset_statistics(dataset: RecDataset) -> dict[str, float | None]:
    """The numbers by label, None where the data cannot tell; shares are of 1.

    ``density`` is of distinct (user, item) pairs. ``category repeats`` is how often an interaction has the category of
    the user's one before, ``category in any order`` that of another one of the user, ``category by chance`` that of
    anybody's. ``last decided by file order`` is the share of users whose last two interactions have the same time. ``on
    new items, second half`` is the share of
    the interactions in the second half of the time whose item was first seen in the 90 days before, None where the
    data span fewer than 90 days, since all items are new then. ``tests with later
    training`` is the share of leave-one-out's test cases that have training interactions after them, ``training later,
    mean`` what share of these that is. Tokens are those of a tokenizer learnt on the data set's own texts.
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
        "items taken under 5 times": (sales < 5).mean(),
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


def curves(dataset: RecDataset) -> dict[str, list[float | None] | None]:
    """The figures of the chapter as few points.

    Returns:
        ``tail``: share of the interactions on the best-selling STEPS of the items. ``history``: STEPS-quantiles of the
        history lengths. ``gap``: STEPS-quantiles of the seconds between two interactions of a user. ``fresh``: in each
        24th of the time, the share of interactions on items first seen in the 90 days before (None where nothing
        happened). The latter two are None where there are no times, the last also where they span fewer than 90 days.
    """
    sales, gap = _sales(dataset), _gaps(dataset)
    tail = np.interp(STEPS, np.linspace(0, 1, len(sales) + 1), np.r_[0, np.cumsum(sales)] / sales.sum())
    found = {"tail": tail, "history": np.quantile(_lengths(dataset), STEPS), "gap": None, "fresh": None}
    if dataset.timed:
        time, fresh = dataset.interactions["time"].to_numpy(), _is_fresh(dataset)
        part = np.minimum((time - time.min()) * 24 // max(time.max() - time.min(), 1), 23)
        in_part = np.bincount(part, minlength=24)
        share = np.bincount(part, weights=fresh, minlength=24) / np.maximum(in_part, 1)
        found["gap"] = np.quantile(gap, STEPS) if len(gap) else None
        if dataset.span() >= NEW_DAYS:
            found["fresh"] = np.where(in_part > 0, share, np.nan)
    return {
        name: None if points is None else [None if np.isnan(point) else float(point) for point in points]
        for name, points in found.items()
    }


def known_fields(values: pd.DataFrame) -> list[str]:
    """The columns of a table of items that tell items apart.

    Raises:
        NotAvailable: there is none.
    """
    known = [name for name in values if values[name].nunique() > 1]
    if not known:
        raise NotAvailable(f"The items have no {' or '.join(values)} to compare.")
    return known


def attribute_texts(dataset: RecDataset) -> list[str]:
    """Category and brand of each item as a text; empty where the data set has no categories."""
    categories, brands = dataset.items["category"][:], dataset.items["brand"][:]
    if not any(categories):
        return [""] * dataset.num_items
    return [f"category: {category}, brand: {brand}" for category, brand in zip(categories, brands, strict=True)]


def format_statistics(numbers: pd.DataFrame) -> pd.DataFrame:
    """Portraits, a column each, as text for readers: shares in per cent, a dash for what cannot be told."""

    def told(row: pd.Series) -> list[str]:
        if row.name in ("users", "items", "interactions"):
            form = "{:,.0f}"
        elif row.name.startswith(("history,", "tokens", "characters")):
            form = "{:,.1f}"
        else:
            form = "{:.2%}" if row.between(0, 0.01, inclusive="neither").any() else "{:.1%}"
        return ["-" if np.isnan(number) else form.format(number) for number in row]

    rows = [told(row) for _, row in numbers.astype(float).iterrows()]
    return pd.DataFrame(rows, numbers.index, numbers.columns)


def _mean(values: np.ndarray) -> float | None:
    return values.mean() if len(values) else None


def _lengths(dataset: RecDataset) -> np.ndarray:
    """(U,) interactions of each user."""
    return np.bincount(dataset.interactions["user"], minlength=dataset.num_users)


def _sales(dataset: RecDataset) -> np.ndarray:
    """(I,) interactions of each item, best seller first."""
    return np.sort(np.bincount(dataset.interactions["item"], minlength=dataset.num_items + 1)[1:])[::-1]


def _top_fifth(dataset: RecDataset) -> float:
    """Share of the interactions on the best-selling fifth of the items, on one item at least."""
    return _sales(dataset)[: max(1, dataset.num_items // 5)].sum() / dataset.num_interactions


def _gaps(dataset: RecDataset) -> np.ndarray:
    """Seconds between each interaction and the one before of the same user."""
    user, time = (dataset.interactions[name].to_numpy() for name in ("user", "time"))
    return np.diff(time)[np.diff(user) == 0]


def _is_fresh(dataset: RecDataset) -> np.ndarray:
    """(N,) bool: the item was first seen in the 90 days before."""
    time = dataset.interactions["time"]
    return (time - dataset.interactions.groupby("item")["time"].transform("min") < NEW_DAYS * DAY).to_numpy()


def _repeats(dataset: RecDataset, field: str) -> dict[str, float | None]:
    """How often an interaction has the value of the one before, and of a random other one; where both are known."""
    values = dataset.column(field)
    items = dataset.interactions["item"].to_numpy()
    user = dataset.interactions["user"].to_numpy()
    rng = np.random.default_rng(0)
    anyone = rng.permutation(items)
    own = items[np.lexsort((rng.random(len(items)), user))]  # each user's in any order
    follows = np.diff(user) == 0
    tells = len(set(values[1:]) - {""}) > 1
    shares = {}
    for name, now, other in (
        ("repeats", items[1:], items[:-1]),
        ("in any order", own[1:], own[:-1]),
        ("by chance", items[1:], anyone[1:]),
    ):
        first, second = values[now[follows]], values[other[follows]]
        known = (first != "") & (second != "")
        shares[f"{field} {name}"] = _mean((first == second)[known]) if tells else None
    return shares


def _times(dataset: RecDataset) -> dict[str, float | None]:
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
    later = later_share(dataset.leave_one_out())
    last = np.flatnonzero(np.diff(dataset.interactions["user"], append=-1))
    last = last[_lengths(dataset) > 1]
    fresh = _is_fresh(dataset)[second_half] if dataset.span() >= NEW_DAYS else later[:0]
    found = map(_mean, (_gaps(dataset) < 3600, time[last] == time[last - 1], fresh, later > 0, later))
    return dict(zip(names, found, strict=True))


def _content(dataset: RecDataset) -> dict[str, float | None]:
    """Pictures and texts."""
    titles, descriptions = dataset.items["title"][:], dataset.items["description"][:]
    tokenizer = learn_bpe(titles + descriptions, 4000)
    title, attribute, description = (
        np.array([0, *map(len, tokenizer.encode_batch(texts))])
        for texts in (titles, attribute_texts(dataset), descriptions)
    )  # (I + 1,) tokens
    history = np.bincount(dataset.interactions["user"], weights=description[dataset.interactions["item"]])
    described = description > 0
    return {
        "items with a picture": dataset.has_image[1:].mean(),
        "items with a description": described[1:].mean(),
        "characters of a title": np.mean([len(text) for text in titles]),
        "tokens of a title": title[1:].mean(),
        "tokens of the attributes": attribute[1:].mean() if attribute.any() else None,
        "tokens of a description, mean": _mean(description[described]),
        "tokens of a description, median": np.median(description[described]) if described.any() else None,
        "histories over 1,024 tokens": (history > CONTEXT).mean() if described.any() else None,
    }

"""What chapter 7's notebooks share: systems of chapter 3, items drawn again, twins, events as training examples."""

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from PIL import Image
from scipy import sparse

from mmrec_helpers.data.dataset import TRAIN, Queries, RecDataset, Split
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COLOURS, DAY, MENTIONABLE, TASTE_ATTRIBUTES, Catalogue
from mmrec_helpers.pocket_shop.events import DEVICES, HOUR, REGIONS, sample_events
from mmrec_helpers.pocket_shop.rendering import render_item
from mmrec_helpers.pocket_shop.shop import ShopParameters, Truth, changed_shop, load_shop
from mmrec_helpers.recommenders.registry import build_system, system_inputs

DAY_PARTS = ("night", "morning", "afternoon", "evening")
"""Six hours of the local day each, from midnight on."""
CONTEXT = (*DAY_PARTS, *DEVICES, "log of days since the visit before")
"""Columns of the context of a view."""

SENSES = {
    "grape": ("green", "purple"), "berry": ("blue", "red"), "citrus": ("orange", "yellow"), "quartz": ("grey", "pink"),
}  # fmt: skip
"""Ambiguous words, and the two colours that each can mean."""


def runs_of_chapter_3(names: Sequence[str], split: Split, truth: Truth | None, record: str, encoder: str) -> list[Run]:
    """Its systems on the test part, by full ranking: recorded on the Pocket Shop, trained here on other data."""
    if truth:
        where = {"data": "pocket", "split": "leave-one-out", "part": "test", "protocol": "full"}
        return load_runs(record, **where, seed=0, system=tuple(names))
    inputs = system_inputs(split.dataset, encoder)
    return [evaluate(build_system(name, inputs).fit(split), split) for name in names]


def redrawn(truth: Truth, item_id: str, colour: str = "", view: int = 0) -> Image.Image:
    """An item in a colour, with the same tilt and background, or in another view, with others; see ``render_item``."""
    catalogue, row = truth.catalogue, int(item_id.rpartition("-")[2])
    facts, brand = catalogue.facts(row), catalogue.attributes[row, TASTE_ATTRIBUTES.index("brand")]
    visible = facts["category"], colour or facts["colour"], facts["pattern"], facts["style"], catalogue.marks[brand]
    return render_item(*visible, int(catalogue.image_seed[row]) + view)


def colour_pairs(
    dataset: RecDataset, truth: Truth, queries: Queries, size: int, seed: int = 0
) -> tuple[Queries, np.ndarray, list[list[Image.Image]]]:
    """Items of the whole shop, drawn in the colour that a user prefers, and in another one.

    Returns:
        N of the queries, with whole histories, whose users have a preferred colour; (N,) items with an image whose
        descriptions mention no colour; the N images in the preferred colour, and the N in another one.
    """
    rng = np.random.default_rng(seed)
    users, steps = dataset.user_ids[queries.users], (queries.histories > 0).sum(axis=1)
    liked = [truth.taste(*pair).get("colour") for pair in zip(users, steps, strict=True)]
    chosen = np.sort(rng.choice(np.flatnonzero([colour is not None for colour in liked]), size, replace=False))
    is_silent = ~truth.mentions[:, MENTIONABLE.index("colour")] & dataset.has_image[1:]
    items = rng.choice(1 + np.flatnonzero(is_silent), size)
    colours = [str(liked[row]) for row in chosen]
    others = [str(rng.choice([other for other in COLOURS if other != colour])) for colour in colours]
    ids = dataset.column("item_id")[items]
    drawings = [[redrawn(truth, *pair) for pair in zip(ids, own, strict=True)] for own in (colours, others)]
    return queries.take(chosen), items, drawings


def ambiguous_shop(seed: int = 0, num_items: int = 600, num_users: int = 3_000) -> tuple[RecDataset, Truth, np.ndarray]:
    """A Pocket Shop in which half of the items are twins: one text, with a word of SENSES for the colour, two images.

    Twins differ in their colour and in nothing else, popularity and price included, and are on sale from the first day.

    Returns:
        The data set; its truth; (P, 2) the item numbers of the twins.
    """
    number, num = np.arange(num_items), len(CATEGORIES)
    first = number[number % (2 * num) < num][: num_items // 4]
    second, column = first + num, TASTE_ATTRIBUTES.index("colour")
    words = {colour: word for word, colours in SENSES.items() for colour in colours}

    def plant(catalogue: Catalogue, mentions: np.ndarray) -> None:
        for name in ("attributes", "price", "popularity", "peak", "image_seed"):
            values = getattr(catalogue, name)
            values[second] = values[first]
        catalogue.launch[np.append(first, second)] = 0
        colours = [COLOURS[colour] for colour in catalogue.attributes[first, column]]
        others = [next(other for other in SENSES[words[own]] if other != own) for own in colours]
        catalogue.attributes[second, column] = [COLOURS.index(other) for other in others]
        mentions[first, MENTIONABLE.index("colour")] = True
        mentions[second] = mentions[first]

    parameters = ShopParameters(noise=0, missing_images=0, cold_share=0)
    dataset, truth = changed_shop(plant, seed, (num_items, num_users), parameters)
    items, titles, texts = dataset.items, *(dataset.items[name][:] for name in ("title", "description"))
    for own, twin in zip(first, second, strict=True):
        colour = COLOURS[truth.catalogue.attributes[own, column]]
        text = re.sub(rf"\b{colour}\b", words[colour], texts[own].replace("an orange", "a orange"))
        titles[twin], texts[own], texts[twin] = titles[own], text, text
    items = items.remove_columns(["title", "description"]).add_column("title", titles).add_column("description", texts)
    return replace(dataset, name="ambiguous Pocket Shop", items=items), truth, 1 + np.column_stack([first, second])


def event_log(dataset: RecDataset, truth: Truth | None) -> pd.DataFrame:
    """The event log of the shop. Other data have their interactions as purchases; what they lack is printed."""
    if truth:
        return sample_events(truth)
    frame = dataset.interactions[["user", "item", "time"]].reset_index(drop=True)
    print(f"{dataset.name} has no searches, views, clicks, dwell times and devices: all events are purchases.")
    if not dataset.timed:
        print("It has orders, not times: all events of a user are one session.")
    elif not (frame["time"] % DAY).any():
        print("Its times are days: a session is what a user does on a day, whatever the gap.")
    return frame.assign(event="purchase", dwell=0)


def with_clicks(dataset: RecDataset, truth: Truth | None, log: pd.DataFrame) -> tuple[RecDataset, Truth, pd.DataFrame]:
    """The arguments, or the Pocket Shop and its log where there are no clicks, which is printed."""
    if truth:
        return dataset, truth, log
    print("What follows needs clicks and their context, so it goes on with the Pocket Shop.")
    dataset, truth = load_shop()
    return dataset, truth, sample_events(truth)


def history_means(dataset: RecDataset) -> sparse.csr_array:
    """(interactions, I + 1) times item vectors: means of the items before each interaction."""
    user, item = (dataset.interactions[name].to_numpy() for name in ("user", "item"))
    first = np.searchsorted(user, user)  # of the same user
    size = np.arange(len(user)) - first
    row = np.arange(len(user)).repeat(size)
    place = np.arange(len(row)) - (np.cumsum(size) - size)[row]
    weights = (1 / size[row]).astype(np.float32), (row, item[first[row] + place])
    return sparse.csr_array(weights, shape=(len(user), dataset.num_items + 1))


def view_examples(split: Split, log: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """The views of users who have purchased before, as examples of click prediction.

    Returns:
        A row a view before the user's last purchase: ``item``; ``row``, the interaction with the same history;
        ``clicked``; ``train``, whether its visit lies before those of the user's validation and test purchases. And its
        context, (N, len(CONTEXT)).
    """
    is_purchase, visit = (log["event"] == "purchase").to_numpy(), log["visit"].to_numpy()
    user = split.dataset.interactions["user"].to_numpy()
    ends, held_out = np.full(split.dataset.num_users, visit[-1] + 1), split.part != TRAIN
    np.minimum.at(ends, user[held_out], visit[is_purchase][held_out])
    begins = np.append(True, np.diff(visit) > 0)
    row = (is_purchase.cumsum() - is_purchase)[begins]  # purchases of all users before each visit
    bounds = log["time"].to_numpy()[begins], log["time"].to_numpy()[np.append(begins[1:], True)]
    owner = log["user"].to_numpy()[begins]
    gap = np.append(np.inf, bounds[0][1:] - bounds[1][:-1]) / DAY
    gap = np.clip(np.where(np.append(-1, owner[:-1]) == owner, gap, np.inf), 1 / 24, 30)
    views = log[log["event"] == "view"].reset_index(drop=True)
    views["row"] = row[views["visit"]]
    first, end = (np.searchsorted(user, views["user"], side=side) for side in ("left", "right"))
    views = views[(views["row"] > first) & (views["row"] < end)].reset_index(drop=True)
    pair = views["visit"] * (split.dataset.num_items + 1) + views["item"]
    clicks = log[log["event"] == "click"]
    views["clicked"] = pair.isin(clicks["visit"] * (split.dataset.num_items + 1) + clicks["item"])
    views["train"] = views["visit"] < ends[views["user"]]
    hour = (views["time"] // HOUR + views["region"].map(REGIONS).astype(int)) % 24
    parts = np.eye(len(DAY_PARTS))[hour // 6], np.eye(len(DEVICES))[views["device"].cat.codes]
    context = np.column_stack([*parts, np.log(gap)[views["visit"]]]).astype(np.float32)
    return views[["item", "row", "clicked", "train"]], context


def count_sessions(log: pd.DataFrame, session: np.ndarray) -> dict[str, float]:
    """Number of the sessions, share of those with a purchase; where true visits are known, what is split and merged."""
    buyers = session[(log["event"] == "purchase").to_numpy()]
    row = {"sessions": int(session[-1]) + 1, "with purchase": len(np.unique(buyers)) / (session[-1] + 1)}
    if "visit" in log:
        begins, true = (np.diff(own, prepend=-1) != 0 for own in (session, log["visit"]))
        row |= {"split": int((begins & ~true).sum()), "merged": int((true & ~begins).sum())}
    return row


def look_up_rate(acts: pd.DataFrame, part: np.ndarray, k: int = 10) -> float:
    """HR@k of a list of the items that a user has clicked and not purchased in part 0, the latest first.

    Args:
        acts: clicks and purchases, by user and time.
        part: of each; the purchases of part 2 are the targets.
        k: length of the list.
    """
    is_purchase = acts["event"] == "purchase"
    train, targets = acts[part == 0], acts[(part == 2) & is_purchase]
    bought = set(train[train["event"] == "purchase"][["user", "item"]].itertuples(index=False, name=None))
    clicks = train[train["event"] == "click"].drop_duplicates(["user", "item"], keep="last")
    latest: dict[int, list[int]] = {}
    for pair in clicks[["user", "item"]][::-1].itertuples(index=False, name=None):
        if pair not in bought:
            latest.setdefault(pair[0], []).append(pair[1])
    hits = [item in latest.get(user, [])[:k] for user, item in zip(targets["user"], targets["item"], strict=True)]
    return float(np.mean(hits))

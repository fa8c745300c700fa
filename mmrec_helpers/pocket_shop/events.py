"""The event log of the Pocket Shop: searches, views, clicks and purchases of the users whose interactions it has.

The purchases are those of the shop. Each ends an **episode**: a search in the item's category, a list of items of this
category, clicks on some of them, the last one on the item that is purchased. Other episodes are browsing, without a
purchase: soon after a visit, or days later. Lists are random, as if the shop tried them out. P(click | view) depends on
the attributes that match the user's taste, on the local time of day and on the device; the dwell time on the taste.

Nothing here changes the shop: the samples come from random streams of their own, and only who asks for events waits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec_helpers.files import atomic
from mmrec_helpers.pocket_shop.catalogue import (
    CATEGORIES,
    DAY,
    DAYS,
    OPENING,
    TASTE_ATTRIBUTES,
    Catalogue,
    random_stream,
    uniform_index,
)
from mmrec_helpers.pocket_shop.choice_model import CHUNK_SIZE, category_probabilities, sample_categorical
from mmrec_helpers.pocket_shop.shop import Truth

EVENTS = ("search", "view", "click", "purchase")
DEVICES, DEVICE_SHARES = ("phone", "tablet", "computer"), (0.55, 0.1, 0.35)
OTHER_DEVICE = 0.15
"""Probability that the device of a visit is sampled anew; otherwise it is the user's own."""
REGIONS = {"west": -6, "centre": 1, "east": 8}
"""Region -> hours that its clocks are ahead of UTC."""
NUM_VIEWS = 6
"""Items of a list; fewer where one was sampled twice."""
MINUTE, HOUR = 60, 3_600
VISIT_GAP = 2 * HOUR
"""Purchases that are further apart belong to different visits."""
RETURN_PROBABILITY = 0.4
"""Probability of coming back to browse, 20 minutes to 2.5 hours after the last purchase of a visit."""
BROWSE_PROBABILITY = 0.5
"""Probability of another visit without purchase before the next purchase."""
CLICK_LOGIT, CLICK_TASTE, CLICK_EVENING, CLICK_PHONE = -2.6, 1.5, 0.6, -0.5
"""Logit of a click on a view, and what a matching attribute, an evening and a phone add to it."""
EVENING = (18, 23)
"""Hours of the local day, the end excluded."""
READING = 6
"""Seconds between a search and the first click."""
DWELL, DWELL_MEAN, DWELL_TASTE, DWELL_MAX = 5, 15, 20, 300
"""Least seconds on an item's page, the mean of what is added to them, what each match adds to this mean, the most."""


@dataclass(frozen=True)
class _Episodes:
    """N episodes, by user and time: (N,) arrays."""

    user: np.ndarray
    time: np.ndarray
    """When it ends, seconds since the opening."""
    step: np.ndarray
    """Purchases of the user before."""
    row: np.ndarray
    """Catalogue row that is purchased, or -1."""
    visit: np.ndarray
    """True where a visit begins."""


def sample_events(truth: Truth) -> pd.DataFrame:
    """The event log of a shop, by user and time.

    Returns:
        One row an event. ``user`` and ``item`` as in the data set, item 0 for a search; ``time`` in Unix seconds;
        ``event`` one of EVENTS; ``dwell``, whole seconds on the item's page, of clicks; ``query`` of searches;
        ``device``; ``region``; and ``visit``, the number of the true visit, which a real log does not have.
    """
    parts = list(event_chunks(truth))
    queries = pd.concat([part.pop("query") for part in parts], ignore_index=True)
    return pd.concat(parts, ignore_index=True).assign(query=queries)


def event_chunks(truth: Truth) -> Iterator[pd.DataFrame]:
    """``sample_events``, CHUNK_SIZE users at a time: the log of a large shop may not fit into memory."""
    num_visits = 0
    for chunk, start in enumerate(range(0, len(truth.tastes), CHUNK_SIZE)):
        users = np.arange(start, min(start + CHUNK_SIZE, len(truth.tastes)))
        log = _log(truth, _episodes(truth, users, chunk), chunk)
        yield log.assign(visit=log["visit"] + num_visits)
        num_visits += int(log["visit"].iloc[-1]) + 1


def write_events(truth: Truth, path: Path) -> None:
    """``sample_events`` as a Parquet file, a row group a chunk of users: one chunk is in memory at a time."""
    chunks = (pa.Table.from_pandas(chunk, preserve_index=False) for chunk in event_chunks(truth))
    first = next(chunks)
    with atomic(path) as part, pq.ParquetWriter(part, first.schema) as writer:
        writer.write_table(first)
        for chunk in chunks:
            writer.write_table(chunk)


def _episodes(truth: Truth, users: np.ndarray, chunk: int) -> _Episodes:
    rows, end = truth.purchases.rows[users], DAYS * DAY
    is_purchase = rows >= 0  # (U, T)
    time = np.where(is_purchase, np.round(truth.purchases.days[users] * DAY), end).astype(np.int64)
    following = np.concatenate([time[:, 1:], np.full((len(users), 1), end)], axis=1)
    is_last = is_purchase & (following - time > VISIT_GAP)  # of its visit
    begins = np.concatenate([is_purchase[:, :1], is_last[:, :-1] & is_purchase[:, 1:]], axis=1)
    draws = random_stream(truth.seed, "browsing", chunk).random((*rows.shape, 4))
    waits = 20 * MINUTE - 40 * MINUTE * np.log1p(-draws[..., 1])
    soon = (time + np.minimum(waits, 150 * MINUTE)).astype(np.int64)
    comes_soon = is_last & (draws[..., 0] < RETURN_PROBABILITY) & (soon + HOUR <= following)
    room = np.minimum(following - HOUR, time + 30 * DAY) - (time + 4 * HOUR)
    later = (time + 4 * HOUR + draws[..., 3] * room).astype(np.int64)
    comes_later = is_last & (draws[..., 2] < BROWSE_PROBABILITY) & (room > 0)
    kinds = ((is_purchase, time, 0), (comes_soon, soon, 1), (comes_later, later, 1))
    parts = [(*np.nonzero(mask), own[mask], np.full(mask.sum(), browses)) for mask, own, browses in kinds]
    user, column, ends, browses = (np.concatenate(own) for own in zip(*parts, strict=True))
    order = np.lexsort((column, ends, user))
    user, column, ends, browses = user[order], column[order], ends[order], browses[order] > 0
    row = np.where(browses, -1, rows[user, column])
    return _Episodes(users[user], ends, column + browses, row, browses | begins[user, column])


def _log(truth: Truth, episodes: _Episodes, chunk: int) -> pd.DataFrame:
    """The events of some episodes."""
    catalogue, tastes, num = truth.catalogue, truth.tastes, len(episodes.user)
    rng = random_stream(truth.seed, "events", chunk)
    user, row, is_buyer = episodes.user, episodes.row, episodes.row >= 0
    taste = np.where((episodes.step >= tastes.change[user])[:, None], tastes.after[user], tastes.before[user])
    previous = np.where(episodes.step > 0, truth.purchases.rows[user, episodes.step - 1], -1)
    last = np.where(previous >= 0, catalogue.category[previous], -1)
    wanted = sample_categorical(category_probabilities(tastes.favourites[user], last), rng.random(num))
    category = np.where(is_buyer, catalogue.category[row], wanted)

    shown = _shown(catalogue, category, episodes.time / DAY, rng.random((num, NUM_VIEWS)))  # (N, NUM_VIEWS) rows
    place = uniform_index(rng.random(num), NUM_VIEWS)
    shown[is_buyer, place[is_buyer]] = row[is_buyer]
    earlier = np.tri(NUM_VIEWS, k=-1, dtype=bool)
    is_view = ~((shown[:, :, None] == shown[:, None]) & earlier).any(axis=2)
    is_bought = (shown == row[:, None]) & is_view

    device, region, is_evening = _contexts(episodes, rng)
    matches = ((taste >= 0)[:, None] & (catalogue.attributes[shown] == taste[:, None])).sum(axis=2)
    logit = CLICK_LOGIT + CLICK_TASTE * matches
    logit += (CLICK_EVENING * is_evening + CLICK_PHONE * (device == DEVICES.index("phone")))[:, None]
    is_click = ((rng.random(shown.shape) < 1 / (1 + np.exp(-logit))) | is_bought) & is_view
    extra = -np.log1p(-rng.random(shown.shape)) * (DWELL_MEAN + DWELL_TASTE * matches)
    dwell = np.minimum(DWELL + extra, DWELL_MAX) * is_click

    # An episode that has less time than it needs, because the one before ends so late, is shortened.
    total = READING + dwell.sum(axis=1)
    same = np.append(False, user[1:] == user[:-1])
    available = np.where(same, np.diff(episodes.time, prepend=0), np.inf)
    scale = np.minimum(1, available / total)
    dwell, reading = np.floor(dwell * scale[:, None]).astype(np.int64), np.floor(READING * scale).astype(np.int64)
    begin = OPENING + episodes.time - dwell.sum(axis=1) - reading
    in_turn = np.argsort(np.where(is_bought, NUM_VIEWS, np.arange(NUM_VIEWS)), axis=1)  # the purchased item at last
    clicked, seconds, pages = (np.take_along_axis(own, in_turn, axis=1) for own in (is_click, dwell, shown))
    opened = (begin + reading)[:, None] + seconds.cumsum(axis=1) - seconds

    views, clicks, buyers = np.nonzero(is_view), np.nonzero(clicked), np.flatnonzero(is_buyer)
    owner = np.concatenate([np.arange(num), views[0], clicks[0], buyers])
    event = np.arange(len(EVENTS)).repeat([num, len(views[0]), len(clicks[0]), len(buyers)])
    order = np.lexsort((event, owner))
    zeros = [np.zeros(size, np.int64) for size in (num, len(views[0]), len(buyers))]
    columns = {
        "user": user[owner],
        "item": np.concatenate([zeros[0], 1 + shown[views], 1 + pages[clicks], 1 + row[buyers]]),
        "time": np.concatenate([begin, begin[views[0]], opened[clicks], OPENING + episodes.time[buyers]]),
        "dwell": np.concatenate([*zeros[:2], seconds[clicks], zeros[2]]),
        "visit": (np.cumsum(episodes.visit) - 1)[owner],
    }
    log = pd.DataFrame({name: own[order] for name, own in columns.items()})
    for name, codes, names in (
        ("event", event, EVENTS),
        ("device", device[owner], DEVICES),
        ("region", region[owner], list(REGIONS)),
    ):
        log[name] = pd.Categorical.from_codes(codes[order], names)
    texts = np.full(len(owner), "", dtype=object)
    texts[:num] = _queries(catalogue, category, taste, rng.random((num, 2)))
    return log.assign(query=texts[order])


def _contexts(episodes: _Episodes, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) indices of DEVICES and of REGIONS, and whether it is evening there."""
    person, visit = episodes.user - episodes.user[0], np.cumsum(episodes.visit) - 1
    draws = rng.random((person[-1] + 1, 2))[person]
    usual, region = np.searchsorted(np.cumsum(DEVICE_SHARES), draws[:, 0]), uniform_index(draws[:, 1], len(REGIONS))
    draws = rng.random((visit[-1] + 1, 2))[visit]
    device = np.where(draws[:, 0] < OTHER_DEVICE, uniform_index(draws[:, 1], len(DEVICES)), usual)
    hour = (episodes.time // HOUR + np.array(list(REGIONS.values()))[region]) % 24
    return device, region, (hour >= EVENING[0]) & (hour < EVENING[1])


def _shown(catalogue: Catalogue, category: np.ndarray, days: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """(N, NUM_VIEWS) catalogue rows, uniform among the category's items that are on sale."""
    shown = np.zeros(uniforms.shape, np.int64)
    for number in range(len(CATEGORIES)):
        items = np.flatnonzero(catalogue.category == number)
        items = items[np.argsort(catalogue.launch[items], kind="stable")]
        own = category == number
        on_sale = np.searchsorted(catalogue.launch[items], days[own], side="right")
        shown[own] = items[uniform_index(uniforms[own], np.maximum(on_sale, 1)[:, None])]
    return shown


def _queries(catalogue: Catalogue, category: np.ndarray, taste: np.ndarray, uniforms: np.ndarray) -> list[str]:
    """(N,) search queries: the category, and in most of them one preferred value, never of the price."""
    preferred = taste[:, : TASTE_ATTRIBUTES.index("price_tier")] >= 0
    number = uniform_index(uniforms[:, 1], preferred.sum(axis=1)) + 1
    attribute = (np.cumsum(preferred, axis=1) == number[:, None]).argmax(axis=1)
    named = preferred.any(axis=1) & (uniforms[:, 0] < 0.7)
    values = [catalogue.values(name) for name in TASTE_ATTRIBUTES]
    return [
        f"{values[a][v]} {CATEGORIES[c]}" if is_named else CATEGORIES[c]
        for a, v, c, is_named in zip(attribute, taste[np.arange(len(taste)), attribute], category, named, strict=True)
    ]

"""Open the Pocket Shop: generate it once, keep it in the cache folder, hand out the data set and the truth."""

import hashlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from mmrec_helpers.data.dataset import ITEM_FEATURES, Queries, RecDataset
from mmrec_helpers.pocket_shop.catalogue import (
    DAY,
    MENTIONABLE,
    NUM_BRANDS,
    OPENING,
    TASTE_ATTRIBUTES,
    Catalogue,
    bell,
    make_catalogue,
    stream,
)
from mmrec_helpers.pocket_shop.choice_model import (
    CHUNK,
    MAX_PURCHASES,
    Purchases,
    Tastes,
    World,
    draw_tastes,
    shop,
    visit_days,
)
from mmrec_helpers.pocket_shop.oracle import Moment, Oracle
from mmrec_helpers.pocket_shop.rendering import RENDERING_VERSION, draw_item
from mmrec_helpers.pocket_shop.text_templates import (
    NUM_DRAWS_BRAND,
    NUM_DRAWS_DESCRIPTION,
    NUM_DRAWS_NOISE,
    NUM_DRAWS_REVIEW,
    NUM_DRAWS_TITLE,
    TEXT_VERSION,
    add_noise,
    brand_name,
    description,
    review,
    title,
)
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings

SHOP_VERSION = 1
"""Raise it when the same seed gives another catalogue, other shoppers or other files."""
SIZES = {"tiny": (240, 600), "laptop": (1_200, 3_000), "gpu": (20_000, 100_000)}
"""Items and shoppers."""
PIXELS = 64
"""Edge of the stored pictures."""


@dataclass(frozen=True)
class Knobs:
    """What can be turned in the shop's world. Each moves one thing and leaves every other draw as it was."""

    overlap: float = 0.5
    """Chance that the description mentions the colour, the pattern, the style that the picture shows; each alone."""
    noise: float = 0.15
    """Share of the descriptions with HTML and boilerplate."""
    missing_images: float = 0.02
    """Share of the items without a picture."""
    drift: float = 0.06
    """Chance at each purchase, from the fourth on, that a shopper's taste changes, once in their life."""
    cold_share: float = 0.08
    """Share of the items that are launched in the last tenth of the shop's days."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"the knob {name} goes from 0 to 1, not to {value}")


@dataclass(frozen=True)
class Truth:
    """What only the generator knows.

    Numbers of items and users are those of the whole shop; ``scores`` and ``bayes_scores`` translate, so that they
    also serve a data set that was filtered.
    """

    seed: int
    knobs: Knobs
    catalogue: Catalogue
    tastes: Tastes
    purchases: Purchases
    mentions: np.ndarray
    """(I, 3) bool: the description mentions each of MENTIONABLE."""

    @cached_property
    def oracle(self) -> Oracle:
        """Knows the rules of choice."""
        return Oracle(World(self.catalogue), self.knobs.drift)

    def facts(self, item_id: str) -> dict[str, str]:
        """Attribute name -> value name of an item."""
        return self.catalogue.facts(_number(item_id))

    def picture(self, item_id: str, size: int = 256) -> Image.Image:
        """An item's picture at any size; the data set holds it at 64 pixels."""
        return _draw(self.catalogue, _number(item_id), size)

    def change_of(self, user_id: str) -> int | None:
        """The purchase, counted from 0, from which on a shopper's second taste holds; None if it never came to that."""
        shopper = _number(user_id)
        change, length = int(self.tastes.change[shopper]), (self.purchases.rows[shopper] >= 0).sum()
        return change if change < length else None

    def taste_of(self, user_id: str, step: int) -> dict[str, str]:
        """What a shopper cares for at a purchase, counted from 0: attribute name -> value name."""
        values = self.tastes.take(np.array([_number(user_id)])).at(step)[0]
        pairs = zip(TASTE_ATTRIBUTES, values, strict=True)
        return {name: self.catalogue.values(name)[value] for name, value in pairs if value >= 0}

    def scores(self, dataset: RecDataset, queries: Queries) -> np.ndarray:
        """(N, I + 1) P(next item | true taste, history) for the items of ``dataset``; column 0, the padding, is 0.

        Takes a few arrays of 8 N I bytes: on a large shop ask for some thousand moments at once, by
        ``queries.take``.
        """
        shoppers, moment = self._moment(dataset, queries)
        return self._columns(dataset, self.oracle.omniscient(self.tastes.take(shoppers), moment))

    def bayes_scores(self, dataset: RecDataset, queries: Queries, **options) -> np.ndarray:
        """(N, I + 1) P(next item | history) for the items of ``dataset``; options as of ``Oracle.inferring``."""
        return self._columns(dataset, self.oracle.inferring(self._moment(dataset, queries)[1], **options))

    def _moment(self, dataset: RecDataset, queries: Queries) -> tuple[np.ndarray, Moment]:
        rows, shoppers = _numbers(dataset.items["item_id"]), _numbers(dataset.user_ids[queries.users])
        # Nobody buys an item twice, so the target says which purchase it is, whatever was filtered away before it.
        target = rows[queries.targets[:, 0] - 1]
        found = self.purchases.rows[shoppers] == target[:, None]
        if not found.any(axis=1).all():
            raise ValueError(f"the histories are not of this shop: {dataset.name}, seed {self.seed}")
        return shoppers, Moment.before(self.purchases, shoppers, found.argmax(axis=1))

    @staticmethod
    def _columns(dataset: RecDataset, scores: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros((len(scores), 1)), scores[:, _numbers(dataset.items["item_id"])]], axis=1)


def _number(name: str) -> int:
    """The number in a name like ``item-00012``."""
    return int(name.rsplit("-", 1)[1])


def _numbers(names: list[str] | np.ndarray) -> np.ndarray:
    return np.array([_number(name) for name in names], int)


def _draw(catalogue: Catalogue, row: int, size: int) -> Image.Image:
    facts = catalogue.facts(row)
    mark = catalogue.marks[catalogue.attributes[row, TASTE_ATTRIBUTES.index("brand")]]
    wanted = (facts[name] for name in ("category", "colour", "pattern", "style"))
    return draw_item(*wanted, mark, int(catalogue.look[row]), size)


def load_shop(
    seed: int = 0, size: str = "laptop", cache: Path | None = None, **knobs: float
) -> tuple[RecDataset, Truth]:
    """The Pocket Shop's data set and the truth behind it; generated at the first call, read from the cache later.

    Args:
        seed: another seed is another world: other brands, items, shoppers.
        size: ``tiny``, ``laptop`` or ``gpu``.
        cache: folder for generated shops; the settings' cache if None.
        knobs: see ``Knobs``.

    Raises:
        ValueError: unknown size, or a knob out of range.
    """
    if size not in SIZES:
        raise ValueError(f"there is no shop of size {size!r}; sizes are {', '.join(SIZES)}")
    set_knobs = Knobs(**knobs)
    key = {"seed": seed, "size": size, **{name: float(value) for name, value in asdict(set_knobs).items()}}
    key |= {"versions": [SHOP_VERSION, RENDERING_VERSION, TEXT_VERSION]}
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = (cache or load_settings().cache) / "pocket_shop" / f"{size}-seed{seed}-{name}"
    if not folder.exists():
        _generate(folder, seed, size, set_knobs)
    return _read(folder, seed, size, set_knobs)


def _catalogue(seed: int, size: str, knobs: Knobs) -> Catalogue:
    rng, brands = stream(seed, "brands"), []
    while len(brands) < NUM_BRANDS:
        name = brand_name(rng.random(NUM_DRAWS_BRAND))
        if name not in brands:
            brands.append(name)
    return make_catalogue(seed, SIZES[size][0], knobs.cold_share, tuple(brands))


def _mentions(seed: int, size: str, knobs: Knobs) -> np.ndarray:
    return stream(seed, "mentions").random((SIZES[size][0], len(MENTIONABLE))) < knobs.overlap


def _generate(folder: Path, seed: int, size: str, knobs: Knobs) -> None:
    """Write a shop's files to a folder of another name, then rename it: no half shop is ever found or left."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob("*.part*"):  # by processes that were killed
        if time.time() - left.stat().st_mtime > DAY:
            shutil.rmtree(left, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part", dir=folder.parent))
    try:
        _write(part, seed, size, knobs)
        try:
            part.rename(folder)
        except OSError:  # another process may have been first; its shop is the same, to the byte
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(part: Path, seed: int, size: str, knobs: Knobs) -> None:
    """Write a shop's files into a folder."""
    catalogue = _catalogue(seed, size, knobs)
    with ArrowWriter(path=str(part / "items.arrow"), features=ITEM_FEATURES, writer_batch_size=256) as writer:
        for item in _items(catalogue, seed, size, knobs):
            writer.write(item)
        writer.finalize()
    tastes, purchases = _purchases(catalogue, seed, size, knobs)
    np.savez(part / "truth.npz", **asdict(tastes), rows=purchases.rows, days=purchases.days)
    _interactions(catalogue, tastes, purchases, seed).to_parquet(part / "interactions.parquet", index=False)


def _read(folder: Path, seed: int, size: str, knobs: Knobs) -> tuple[RecDataset, Truth]:
    stored = np.load(folder / "truth.npz")
    tastes = Tastes(**{name: stored[name] for name in ("favourites", "before", "after", "change")})
    dataset = RecDataset(
        name=f"Pocket Shop ({size})",
        items=datasets.Dataset.from_file(str(folder / "items.arrow")),
        interactions=pd.read_parquet(folder / "interactions.parquet"),
        user_ids=np.array([f"shopper-{number:06d}" for number in range(len(tastes))]),
    )
    catalogue, purchases = _catalogue(seed, size, knobs), Purchases(stored["rows"], stored["days"])
    return dataset, Truth(seed, knobs, catalogue, tastes, purchases, _mentions(seed, size, knobs))


def _items(catalogue: Catalogue, seed: int, size: str, knobs: Knobs) -> Iterator[dict]:
    """The rows of the items' table, one after another: the pictures of a large shop never lie in memory together."""
    num = catalogue.num_items
    mentions = _mentions(seed, size, knobs)
    noisy = stream(seed, "noise").random(num) < knobs.noise
    without_image = stream(seed, "missing images").random(num) < knobs.missing_images
    for row in progress(range(num), desc="drawing the Pocket Shop's items"):
        facts = catalogue.facts(row)
        draws = stream(seed, "words", row).random(NUM_DRAWS_TITLE + NUM_DRAWS_DESCRIPTION + NUM_DRAWS_NOISE)
        for_title, for_text, for_noise = np.split(draws, np.cumsum([NUM_DRAWS_TITLE, NUM_DRAWS_DESCRIPTION]))
        told = {name for name, mentioned in zip(MENTIONABLE, mentions[row], strict=True) if mentioned}
        text = description(facts, told, for_text)
        yield {
            "item_id": f"item-{row:06d}",
            "title": title(facts, for_title),
            "description": add_noise(text, for_noise) if noisy[row] else text,
            "category": facts["category"],
            "brand": facts["brand"],
            "price": float(catalogue.price[row]),
            "image": None if without_image[row] else {"bytes": _bitmap(_draw(catalogue, row, PIXELS)), "path": None},
        }


def _bitmap(picture: Image.Image) -> bytes:
    """A picture as an uncompressed bitmap: compressors differ between machines, and the same seed is to give the same
    bytes on each."""
    buffer = io.BytesIO()
    picture.save(buffer, "BMP")
    return buffer.getvalue()


def _purchases(catalogue: Catalogue, seed: int, size: str, knobs: Knobs) -> tuple[Tastes, Purchases]:
    """Tastes and purchases, simulated CHUNK shoppers at a time."""
    world, total = World(catalogue), SIZES[size][1]
    tastes, rows, days = [], [], []
    for chunk, start in enumerate(range(0, total, CHUNK)):
        num = min(CHUNK, total - start)
        tastes.append(draw_tastes(world, seed, chunk, num, knobs.drift))
        visits = visit_days(seed, chunk, num)
        draws = stream(seed, "choices", chunk).random((num, MAX_PURCHASES, 2))
        purchases = shop(world, tastes[-1], visits, draws)
        rows.append(purchases.rows.astype(np.int32))
        days.append(purchases.days)
    fields = {name: np.concatenate([asdict(part)[name] for part in tastes]) for name in asdict(tastes[0])}
    return Tastes(**fields), Purchases(np.concatenate(rows), np.concatenate(days))


def _draws_of(purchases: Purchases, seed: int, purpose: str, width: int) -> np.ndarray:
    """(number of purchases, width) uniform draws that belong to shopper and step, whatever the others buy."""
    draws = []
    for chunk, start in enumerate(range(0, len(purchases.rows), CHUNK)):
        bought = purchases.rows[start : start + CHUNK] >= 0
        draws.append(stream(seed, purpose, chunk).random((*bought.shape, width))[bought])
    return np.concatenate(draws)


def _interactions(catalogue: Catalogue, tastes: Tastes, purchases: Purchases, seed: int) -> pd.DataFrame:
    """The table of interactions, with ratings and reviews that agree with the tastes."""
    user, step = np.nonzero(purchases.rows >= 0)
    row = purchases.rows[user, step]
    taste = np.where((step >= tastes.change[user])[:, None], tastes.after[user], tastes.before[user])
    cared = taste >= 0
    met = cared & (taste == catalogue.attributes[row])
    share = np.where(cared.any(axis=1), met.sum(axis=1) / np.maximum(cared.sum(axis=1), 1), 0.5)
    mood = bell(_draws_of(purchases, seed, "moods", 12))
    rating = np.clip(np.floor(2.4 + 3.0 * share + 0.7 * mood), 1, 5).astype(np.int64)

    draws = _draws_of(purchases, seed, "reviews", NUM_DRAWS_REVIEW + 1)
    # The review speaks of one attribute: one that was met where the shopper is happy, else one that was missed.
    speaks = np.where((rating >= 4)[:, None], met, cared & ~met)
    rank = np.floor(draws[:, -1] * speaks.sum(axis=1)).astype(int) + 1
    topic = np.where(speaks.any(axis=1), (np.cumsum(speaks, axis=1) == rank[:, None]).argmax(axis=1), -1)
    facts = [catalogue.facts(item) for item in range(catalogue.num_items)]
    names = (*TASTE_ATTRIBUTES, None)
    texts = [
        review(facts[item], stars, names[about] if stars >= 4 else None, names[about] if stars < 4 else None, words)
        for item, stars, about, words in zip(row, rating.tolist(), topic, draws[:, :-1].tolist(), strict=True)
    ]
    return pd.DataFrame(
        {
            "user": user.astype(np.int32),
            "item": (row + 1).astype(np.int32),
            "time": OPENING + np.round(purchases.days[user, step] * DAY).astype(np.int64),
            "rating": rating.astype(np.float32),
            "review": texts,
        }
    )

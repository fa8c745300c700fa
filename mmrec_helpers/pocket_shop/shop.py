"""Load the Pocket Shop: generated once, kept in the cache folder, with its data set and its ground truth."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
from datasets.arrow_writer import ArrowWriter
from PIL import Image

from mmrec_helpers.data.dataset import ITEM_FEATURES, Queries, RecDataset
from mmrec_helpers.files import DIGESTS, atomic, damaged, say_rebuilt, write_digests
from mmrec_helpers.pocket_shop import text_templates as texts
from mmrec_helpers.pocket_shop.catalogue import (
    DAY,
    MENTIONABLE,
    NUM_BRANDS,
    OPENING,
    TASTE_ATTRIBUTES,
    Catalogue,
    make_catalogue,
    random_stream,
    standard_normal,
)
from mmrec_helpers.pocket_shop.choice_model import (
    CHUNK_SIZE,
    MAX_PURCHASES,
    ChoiceModel,
    Purchases,
    Tastes,
    sample_tastes,
    sample_visit_days,
    simulate_purchases,
)
from mmrec_helpers.pocket_shop.oracle import Histories, omniscient
from mmrec_helpers.pocket_shop.rendering import RENDERING_VERSION, render_item
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings

SHOP_VERSION = 1
"""Raise it when the same seed gives another catalogue, other users or other files."""
SIZES = {"tiny": (240, 600), "laptop": (1_200, 3_000), "gpu": (20_000, 100_000)}
"""Items and users."""
PIXELS = 64
"""Edge of the stored images."""


@dataclass(frozen=True)
class ShopParameters:
    """The parameters of the shop. Each changes one thing and leaves every other sample unchanged."""

    overlap: float = 0.5
    """Probability that the description mentions the colour, pattern or style that the image shows; independent."""
    noise: float = 0.15
    """Share of noisy descriptions, with HTML and boilerplate."""
    missing_images: float = 0.02
    """Share of the items without an image."""
    drift: float = 0.06
    """Probability at each purchase, from the fourth on, that a user's taste changes, once per user."""
    cold_share: float = 0.08
    """Share of the items that are launched in the last tenth of the days."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"the parameter {name} must lie between 0 and 1, but is {value}")


@dataclass(frozen=True)
class Truth:
    """What only the generator knows.

    Arrays are over the items and users of the whole shop; the methods go by names, so that they also serve a data
    set that was filtered.
    """

    seed: int
    parameters: ShopParameters
    catalogue: Catalogue
    tastes: Tastes
    purchases: Purchases
    mentions: np.ndarray
    """(I, 3) bool: the description mentions each of MENTIONABLE."""

    @cached_property
    def choice_model(self) -> ChoiceModel:
        """By which purchases were simulated."""
        return ChoiceModel(self.catalogue)

    def facts(self, item_id: str) -> dict[str, str]:
        """Attribute name -> value name of an item."""
        return self.catalogue.facts(_number(item_id))

    def image(self, item_id: str, size: int = 256) -> Image.Image:
        """An item's image at any size; the data set stores PIXELS."""
        return _render(self.catalogue, _number(item_id), size)

    def change_point(self, user_id: str) -> int | None:
        """The purchase, counted from 0, from which on a user's second taste holds; None if they made no such one."""
        user = _number(user_id)
        change = int(self.tastes.change[user])
        return change if change < self.purchases.lengths[user] else None

    def taste(self, user_id: str, step: int) -> dict[str, str]:
        """Attribute name -> preferred value of a user at a purchase, counted from 0."""
        values = self.tastes.take(np.array([_number(user_id)])).at(step)[0]
        pairs = zip(TASTE_ATTRIBUTES, values, strict=True)
        return {name: self.catalogue.values(name)[value] for name, value in pairs if value >= 0}

    def scores(self, dataset: RecDataset, queries: Queries) -> np.ndarray:
        """(N, I + 1) P(next item | true taste, history) for the items of ``dataset``; column 0, the padding, is 0.

        Needs a few arrays of 8 N I bytes: on a large shop, score some thousand queries at once, by ``queries.take``.
        """
        users, histories = self.histories(dataset, queries)
        return self.columns(dataset, omniscient(self.choice_model, self.tastes.take(users), histories))

    def histories(self, dataset: RecDataset, queries: Queries) -> tuple[np.ndarray, Histories]:
        """(N,) users of the whole shop, and their histories before the queries of ``dataset``."""
        rows, users = _numbers(dataset.items["item_id"]), _numbers(dataset.user_ids[queries.users])
        # Nobody buys an item twice, so the target identifies the purchase, whatever was filtered out before it.
        is_target = self.purchases.rows[users] == rows[queries.targets[:, 0] - 1][:, None]
        if not is_target.any(axis=1).all():
            raise ValueError(f"the histories are not of this shop: {dataset.name}, seed {self.seed}")
        return users, Histories.before(self.purchases, users, is_target.argmax(axis=1))

    @staticmethod
    def columns(dataset: RecDataset, scores: np.ndarray) -> np.ndarray:
        """(N, I + 1) of the items of ``dataset``, out of (N, items of the whole shop)."""
        return np.concatenate([np.zeros((len(scores), 1)), scores[:, _numbers(dataset.items["item_id"])]], axis=1)


def _number(name: str) -> int:
    """The number in a name like ``item-00012``."""
    return int(name.rsplit("-", 1)[1])


def _numbers(names: list[str] | np.ndarray) -> np.ndarray:
    return np.array([_number(name) for name in names], int)


def _render(catalogue: Catalogue, row: int, size: int) -> Image.Image:
    facts = catalogue.facts(row)
    mark = catalogue.marks[catalogue.attributes[row, TASTE_ATTRIBUTES.index("brand")]]
    category, colour, pattern, style = (facts[name] for name in ("category", "colour", "pattern", "style"))
    return render_item(category, colour, pattern, style, mark, int(catalogue.image_seed[row]), size)


def load_shop(
    seed: int = 0, size: str = "laptop", cache: Path | None = None, **parameters: float
) -> tuple[RecDataset, Truth]:
    """Load the Pocket Shop; generated by the first call, read from the cache by later ones.

    Args:
        seed: Another seed gives other brands, items and users.
        size: ``tiny``, ``laptop`` or ``gpu``.
        cache: Folder for generated shops; the settings' cache if None.
        **parameters: See ``ShopParameters``.

    Returns:
        The data set and its ground truth.

    Raises:
        ValueError: The size is unknown, or a parameter is out of range.
    """
    if size not in SIZES:
        raise ValueError(f"there is no shop of size {size!r}; sizes are {', '.join(SIZES)}")
    values = ShopParameters(**parameters)
    key: dict[str, Any] = {"seed": seed, "size": size, **{name: float(value) for name, value in asdict(values).items()}}
    key["versions"] = [SHOP_VERSION, RENDERING_VERSION, texts.TEXT_VERSION]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    folder = (cache or load_settings().cache) / "pocket_shop" / f"{size}-seed{seed}-{digest}"
    num_items, num_users = SIZES[size]
    catalogue = make_catalogue(seed, num_items, values.cold_share, _brands(seed))
    mentions = random_stream(seed, "mentions").random((num_items, len(MENTIONABLE))) < values.overlap
    if damaged(folder):
        if (folder / DIGESTS).exists():  # earlier versions wrote none
            say_rebuilt(folder)
        with atomic(folder) as part:
            part.mkdir()
            _write_shop(part, catalogue, mentions, seed, num_users, values)
            write_digests(part)
    stored = np.load(folder / "truth.npz")
    tastes = Tastes(**{name: stored[name] for name in ("favourites", "before", "after", "change")})
    dataset = RecDataset(
        name=f"Pocket Shop ({size})",
        items=datasets.Dataset.from_file(str(folder / "items.arrow")),
        interactions=pd.read_parquet(folder / "interactions.parquet"),
        user_ids=_user_ids(num_users),
    )
    return dataset, Truth(seed, values, catalogue, tastes, Purchases(stored["rows"], stored["days"]), mentions)


def changed_shop(
    change: Callable[[Catalogue, np.ndarray], None], seed: int, size: tuple[int, int], parameters: ShopParameters
) -> tuple[RecDataset, Truth]:
    """A shop for an experiment, not kept in the cache; ``change`` works on its catalogue and on Truth.mentions."""
    catalogue = make_catalogue(seed, size[0], parameters.cold_share, _brands(seed))
    mentions = random_stream(seed, "mentions").random((size[0], len(MENTIONABLE))) < parameters.overlap
    change(catalogue, mentions)
    items = datasets.Dataset.from_list(list(_items(catalogue, mentions, seed, parameters)), features=ITEM_FEATURES)
    tastes, purchases = _simulate(catalogue, seed, size[1], parameters.drift)
    frame = _interactions(catalogue, tastes, purchases, seed)
    dataset = RecDataset("changed Pocket Shop", items, frame, _user_ids(size[1]))
    return dataset, Truth(seed, parameters, catalogue, tastes, purchases, mentions)


def _user_ids(num_users: int) -> np.ndarray:
    return np.array([f"shopper-{number:06d}" for number in range(num_users)])


def _brands(seed: int) -> tuple[str, ...]:
    rng, brands = random_stream(seed, "brands"), dict[str, None]()
    while len(brands) < NUM_BRANDS:
        brands[texts.brand_name(rng.random(texts.NUM_DRAWS_BRAND))] = None
    return tuple(brands)


def _write_shop(
    folder: Path, catalogue: Catalogue, mentions: np.ndarray, seed: int, num_users: int, parameters: ShopParameters
) -> None:
    with ArrowWriter(path=str(folder / "items.arrow"), features=ITEM_FEATURES, writer_batch_size=256) as writer:
        for item in _items(catalogue, mentions, seed, parameters):
            writer.write(item)
        writer.finalize()
    tastes, purchases = _simulate(catalogue, seed, num_users, parameters.drift)
    np.savez(folder / "truth.npz", **asdict(tastes), rows=purchases.rows, days=purchases.days)
    _interactions(catalogue, tastes, purchases, seed).to_parquet(folder / "interactions.parquet", index=False)


def _items(
    catalogue: Catalogue, mentions: np.ndarray, seed: int, parameters: ShopParameters
) -> Iterator[dict[str, Any]]:
    """The rows of the table of items, one at a time: the images of a large shop would not fit into memory."""
    num = catalogue.num_items
    is_noisy = random_stream(seed, "noise").random(num) < parameters.noise
    lacks_image = random_stream(seed, "missing images").random(num) < parameters.missing_images
    sizes = (texts.NUM_DRAWS_TITLE, texts.NUM_DRAWS_DESCRIPTION, texts.NUM_DRAWS_NOISE)
    for row in progress(range(num), desc="rendering the Pocket Shop's items"):
        facts = catalogue.facts(row)
        uniforms = random_stream(seed, "words", row).random(sum(sizes))
        for_title, for_text, for_noise = np.split(uniforms, np.cumsum(sizes[:2]))
        mentioned = {name for name, is_mentioned in zip(MENTIONABLE, mentions[row], strict=True) if is_mentioned}
        text = texts.description(facts, mentioned, for_text)
        yield {
            "item_id": f"item-{row:06d}",
            "title": texts.title(facts, for_title),
            "description": texts.add_noise(text, for_noise) if is_noisy[row] else text,
            "category": facts["category"],
            "brand": facts["brand"],
            "price": float(catalogue.price[row]),
            "image": None if lacks_image[row] else {"bytes": _bitmap(_render(catalogue, row, PIXELS)), "path": None},
        }


def _bitmap(image: Image.Image) -> bytes:
    """An image as an uncompressed bitmap: compressors differ between machines, the bytes must not."""
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    return buffer.getvalue()


def _simulate(catalogue: Catalogue, seed: int, num_users: int, drift: float) -> tuple[Tastes, Purchases]:
    """Tastes and purchases of all users, CHUNK_SIZE users at a time."""
    model, tastes, rows, days = ChoiceModel(catalogue), [], [], []
    for chunk, start in enumerate(range(0, num_users, CHUNK_SIZE)):
        num = min(CHUNK_SIZE, num_users - start)
        tastes.append(sample_tastes(model, seed, chunk, num, drift))
        uniforms = random_stream(seed, "choices", chunk).random((num, MAX_PURCHASES, 2))
        purchases = simulate_purchases(model, tastes[-1], sample_visit_days(seed, chunk, num), uniforms)
        rows.append(purchases.rows.astype(np.int32))
        days.append(purchases.days)
    fields = {name: np.concatenate([getattr(part, name) for part in tastes]) for name in asdict(tastes[0])}
    return Tastes(**fields), Purchases(np.concatenate(rows), np.concatenate(days))


def _purchase_uniforms(purchases: Purchases, seed: int, purpose: str, num: int) -> np.ndarray:
    """(number of purchases, num) uniform samples that depend on user and step only, not on other users' purchases."""
    uniforms = []
    for chunk, start in enumerate(range(0, len(purchases.rows), CHUNK_SIZE)):
        is_purchase = purchases.rows[start : start + CHUNK_SIZE] >= 0
        uniforms.append(random_stream(seed, purpose, chunk).random((*is_purchase.shape, num))[is_purchase])
    return np.concatenate(uniforms)


def _interactions(catalogue: Catalogue, tastes: Tastes, purchases: Purchases, seed: int) -> pd.DataFrame:
    """The table of interactions, with ratings and reviews that follow from the tastes."""
    user, step = np.nonzero(purchases.rows >= 0)
    row = purchases.rows[user, step]
    taste = np.where((step >= tastes.change[user])[:, None], tastes.after[user], tastes.before[user])
    is_preferred = taste >= 0  # (interactions, A)
    is_met = is_preferred & (taste == catalogue.attributes[row])
    share_met = is_met.sum(axis=1) / np.maximum(is_preferred.sum(axis=1), 1)
    share_met = np.where(is_preferred.any(axis=1), share_met, 0.5)
    deviation = standard_normal(_purchase_uniforms(purchases, seed, "moods", 12))
    rating = np.clip(np.floor(2.4 + 3.0 * share_met + 0.7 * deviation), 1, 5).astype(np.int64)

    uniforms = _purchase_uniforms(purchases, seed, "reviews", texts.NUM_DRAWS_REVIEW + 1)
    # A review mentions one attribute: one that was met at a high rating, one that was not met at a low one.
    candidates = np.where((rating >= 4)[:, None], is_met, is_preferred & ~is_met)
    rank = np.floor(uniforms[:, -1] * candidates.sum(axis=1)).astype(int) + 1
    is_topic = np.cumsum(candidates, axis=1) == rank[:, None]
    topic = np.where(candidates.any(axis=1), is_topic.argmax(axis=1), -1)
    facts = [catalogue.facts(item) for item in range(catalogue.num_items)]
    names = (*TASTE_ATTRIBUTES, None)
    reviews = []
    for item, stars, about, draws in zip(row, rating.tolist(), topic, uniforms[:, :-1].tolist(), strict=True):
        liked, missed = (names[about], None) if stars >= 4 else (None, names[about])
        reviews.append(texts.review(facts[item], stars, liked, missed, draws))
    return pd.DataFrame(
        {
            "user": user.astype(np.int32),
            "item": (row + 1).astype(np.int32),
            "time": OPENING + np.round(purchases.days[user, step] * DAY).astype(np.int64),
            "rating": rating.astype(np.float32),
            "review": reviews,
        }
    )

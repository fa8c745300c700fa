"""The catalogue of the Pocket Shop: what can be sold, by whom, from when on.

Every item is a tuple of attribute values. Which *channel* tells a value apart is the point of the shop:
the picture shows category, colour, pattern, style and the brand's mark; the description tells category, brand,
material and occasion, and mentions what the picture shows only as often as the ``overlap`` knob says; the price is
in neither.
"""

import zlib
from dataclasses import dataclass

import numpy as np

CATEGORIES = (
    "mug", "teapot", "vase", "lamp", "chair", "desk", "cushion", "t-shirt", "sneaker", "cap", "backpack", "umbrella",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey")
PATTERNS = ("plain", "striped", "dotted", "checked", "zigzag", "floral")
STYLES = ("modern", "classic", "rustic", "playful")
MATERIALS = ("ceramic", "glass", "steel", "oak", "bamboo", "cotton", "wool", "leather", "canvas", "plastic")
OCCASIONS = ("everyday", "office", "travel", "party", "outdoor", "gift")
PRICE_TIERS = ("budget", "fair", "premium", "luxury")
NUM_BRANDS = 12

# A mug of wool would make the shop silly: each category has the materials it could be made of.
MATERIALS_OF = {
    "mug": ("ceramic", "glass", "steel", "bamboo", "plastic"),
    "teapot": ("ceramic", "glass", "steel", "bamboo", "plastic"),
    "vase": ("ceramic", "glass", "steel", "oak", "bamboo"),
    "lamp": ("ceramic", "glass", "steel", "oak", "bamboo"),
    "chair": ("steel", "oak", "bamboo", "leather", "plastic"),
    "desk": ("glass", "steel", "oak", "bamboo", "plastic"),
    "cushion": ("cotton", "wool", "leather", "canvas", "bamboo"),
    "t-shirt": ("cotton", "wool", "canvas", "bamboo", "plastic"),
    "sneaker": ("cotton", "wool", "leather", "canvas", "plastic"),
    "cap": ("cotton", "wool", "leather", "canvas", "plastic"),
    "backpack": ("cotton", "wool", "leather", "canvas", "plastic"),
    "umbrella": ("steel", "oak", "bamboo", "canvas", "plastic"),
}

# What shoppers reach for next after buying from a category.
COMPLEMENTS = {
    "mug": "teapot", "teapot": "mug", "vase": "cushion", "cushion": "lamp", "lamp": "desk", "desk": "chair",
    "chair": "cushion", "t-shirt": "sneaker", "sneaker": "cap", "cap": "backpack", "backpack": "umbrella",
    "umbrella": "t-shirt",
}  # fmt: skip

# Tastes are about these; the order is the column order of every attribute matrix.
TASTE_ATTRIBUTES = ("colour", "pattern", "style", "material", "occasion", "brand", "price_tier")
VISIBLE = ("category", "colour", "pattern", "style", "brand")
"""What the picture shows."""
WRITTEN = ("category", "material", "occasion", "brand")
"""What every description tells."""
MENTIONABLE = ("colour", "pattern", "style")
"""What the picture shows and a description may mention: the overlap."""

MARK_GLYPHS = ("disc", "square", "triangle", "cross", "ring", "diamond", "bars", "star")
MARK_BADGES = ("black", "white")

OPENING = 1_672_531_200
"""Unix time of the shop's first day, 2023-01-01 00:00 UTC."""
DAYS = 730
"""Days the shop is watched."""
DAY = 86_400
"""Seconds in a day."""
FASHIONABLE = 0.15
"""Share of the items that are in fashion once."""


@dataclass(frozen=True)
class Catalogue:
    """What is sold. Arrays have one row an item; item ``i`` of a ``RecDataset`` is row ``i - 1`` here."""

    category: np.ndarray
    """(I,) index into CATEGORIES."""
    attributes: np.ndarray
    """(I, 7) value index of each of TASTE_ATTRIBUTES."""
    price: np.ndarray
    """(I,) in the shop's currency."""
    launch: np.ndarray
    """(I,) day from which the item can be bought."""
    popularity: np.ndarray
    """(I,) utility that the item has for everybody."""
    peak: np.ndarray
    """(I,) day on which the item is most in fashion; never in fashion where it is not finite."""
    look: np.ndarray
    """(I,) seed of the item's own picture and wording."""
    brands: tuple[str, ...]
    marks: tuple[tuple[int, int], ...]
    """Glyph and badge of each brand's mark."""

    @property
    def num_items(self) -> int:
        """Items in the catalogue."""
        return len(self.category)

    def values(self, attribute: str) -> tuple[str, ...]:
        """Names of an attribute's values, in the order of their indices."""
        return self.brands if attribute == "brand" else VALUES[attribute]

    def facts(self, row: int) -> dict[str, str]:
        """Attribute name -> value name of one item."""
        facts = {"category": CATEGORIES[self.category[row]]}
        for attribute, value in zip(TASTE_ATTRIBUTES, self.attributes[row], strict=True):
            facts[attribute] = self.values(attribute)[value]
        return facts


VALUES = {
    "category": CATEGORIES,
    "colour": COLOURS,
    "pattern": PATTERNS,
    "style": STYLES,
    "material": MATERIALS,
    "occasion": OCCASIONS,
    "price_tier": PRICE_TIERS,
}
NUM_VALUES = tuple(NUM_BRANDS if name == "brand" else len(VALUES[name]) for name in TASTE_ATTRIBUTES)
"""How many values each of TASTE_ATTRIBUTES has."""

# A budget mug costs about 8, a luxury desk about 1,400.
CATEGORY_PRICE = (12, 25, 22, 45, 90, 240, 18, 20, 60, 19, 55, 26)
TIER_FACTOR = (0.6, 1.0, 2.2, 5.0)


def stream(seed: int, purpose: str, part: int = 0) -> np.random.Generator:
    """A random stream of its own for each purpose, so that turning one knob leaves all other draws as they were."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), part])


def pick(draws: np.ndarray, num: int | np.ndarray) -> np.ndarray:
    """Index below ``num`` from uniform draws in [0, 1)."""
    return np.floor(draws * num).astype(np.int64)


def bell(draws: np.ndarray) -> np.ndarray:
    """(N,) values of mean 0 and variance 1, near enough normal, from (N, 12) uniform draws: no function of the
    machine's mathematics library is asked, so they are the same everywhere."""
    return draws.sum(axis=1) - 6.0


def make_catalogue(seed: int, num_items: int, cold_share: float, brands: tuple[str, ...]) -> Catalogue:
    """Draw a catalogue.

    Args:
        cold_share: share of the items that are launched in the last tenth of the shop's days.
        brands: their NUM_BRANDS names.
    """
    draws = stream(seed, "attributes").random((num_items, len(TASTE_ATTRIBUTES) + 1))
    category = np.arange(num_items) % len(CATEGORIES)  # as many of each, give or take one
    attributes = pick(draws[:, :-1], np.array(NUM_VALUES))
    material_of = np.array([[MATERIALS.index(name) for name in MATERIALS_OF[kind]] for kind in CATEGORIES])
    column = TASTE_ATTRIBUTES.index("material")
    attributes[:, column] = material_of[category, pick(draws[:, column], material_of.shape[1])]
    tier = attributes[:, TASTE_ATTRIBUTES.index("price_tier")]
    price = np.take(CATEGORY_PRICE, category) * np.take(TIER_FACTOR, tier) * (0.85 + 0.3 * draws[:, -1])

    times, fame = stream(seed, "launches").random((num_items, 3)), stream(seed, "fashion").random((num_items, 2))
    late = 0.9 * DAYS
    launch = np.where(times[:, 1] < 0.6, 0.0, times[:, 2] * late)
    launch = np.where(times[:, 0] < cold_share, late + times[:, 2] * (DAYS - late), launch)
    marks = [(glyph, badge) for glyph in range(len(MARK_GLYPHS)) for badge in range(len(MARK_BADGES))]
    order = np.argsort(stream(seed, "marks").random(len(marks)), kind="stable")
    return Catalogue(
        category=category,
        attributes=attributes,
        price=np.round(price, 2),
        launch=launch,
        popularity=bell(stream(seed, "popularity").random((num_items, 12))),
        peak=np.where(fame[:, 0] < FASHIONABLE, launch + fame[:, 1] * (DAYS - launch), np.inf),
        look=pick(stream(seed, "looks").random(num_items), 2**31),
        brands=brands,
        marks=tuple(marks[place] for place in order[:NUM_BRANDS]),
    )

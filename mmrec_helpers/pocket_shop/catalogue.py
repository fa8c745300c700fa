"""The catalogue of the Pocket Shop: items, their attributes, prices and launch days.

Every item is a tuple of attribute values, and each modality shows some of them. The image shows category, colour,
pattern, style and the brand's mark. The description mentions category, brand, material and occasion, and what the
image shows only with the probability ``overlap``. The price tier is in neither.
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

# The materials that an item of each category can be made of.
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

# The category that is bought more often right after each category.
COMPLEMENTS = {
    "mug": "teapot", "teapot": "mug", "vase": "cushion", "cushion": "lamp", "lamp": "desk", "desk": "chair",
    "chair": "cushion", "t-shirt": "sneaker", "sneaker": "cap", "cap": "backpack", "backpack": "umbrella",
    "umbrella": "t-shirt",
}  # fmt: skip

TASTE_ATTRIBUTES = ("colour", "pattern", "style", "material", "occasion", "brand", "price_tier")
"""What tastes are about, in the column order of every attribute matrix."""
VISIBLE = ("category", "colour", "pattern", "style", "brand")
"""Attributes that the image shows."""
WRITTEN = ("category", "material", "occasion", "brand")
"""Attributes that every description mentions."""
MENTIONABLE = ("colour", "pattern", "style")
"""Attributes that the image shows and a description may mention: the overlap."""

MARK_GLYPHS = ("disc", "square", "triangle", "cross", "ring", "diamond", "bars", "star")
MARK_BADGES = ("black", "white")

OPENING = 1_672_531_200
"""Unix time of the shop's first day, 2023-01-01 00:00 UTC."""
DAYS = 730
"""Days that the data span."""
DAY = 86_400
"""Seconds in a day."""
FASHION_SHARE = 0.15
"""Share of the items that have a fashion peak."""


@dataclass(frozen=True)
class Catalogue:
    """The items that are sold. Arrays have one row per item; item ``i`` of a ``RecDataset`` is row ``i - 1``."""

    category: np.ndarray
    """(I,) index into CATEGORIES."""
    attributes: np.ndarray
    """(I, 7) value index of each of TASTE_ATTRIBUTES."""
    price: np.ndarray
    """(I,) in the shop's currency."""
    launch: np.ndarray
    """(I,) day from which the item can be bought."""
    popularity: np.ndarray
    """(I,) standardised utility that the item has for all users."""
    peak: np.ndarray
    """(I,) day of the item's fashion peak; infinite where it has none."""
    image_seed: np.ndarray
    """(I,) seed of what distinguishes the images of items with equal attributes."""
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


def random_stream(seed: int, purpose: str, part: int = 0) -> np.random.Generator:
    """An independent generator for each purpose, so that changing one parameter leaves all other samples unchanged."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), part])


def uniform_index(uniforms: np.ndarray, num: int | np.ndarray) -> np.ndarray:
    """Indices below ``num`` from uniform samples in [0, 1)."""
    return np.floor(uniforms * num).astype(np.int64)


def standard_normal(uniforms: np.ndarray) -> np.ndarray:
    """(N,) approximately standard normal samples, each the sum of (N, 12) uniform ones minus 6.

    No function of the mathematics library is involved, so the samples are the same on every machine.
    """
    return uniforms.sum(axis=1) - 6.0


def make_catalogue(seed: int, num_items: int, cold_share: float, brands: tuple[str, ...]) -> Catalogue:
    """Sample a catalogue.

    Args:
        seed: Seed of the shop.
        num_items: Number of items, I.
        cold_share: Share of the items that are launched in the last tenth of the days.
        brands: NUM_BRANDS names.
    """
    uniforms = random_stream(seed, "attributes").random((num_items, len(TASTE_ATTRIBUTES) + 1))
    category = np.arange(num_items) % len(CATEGORIES)
    attributes = uniform_index(uniforms[:, :-1], np.array(NUM_VALUES))
    materials_of = np.array([[MATERIALS.index(material) for material in MATERIALS_OF[name]] for name in CATEGORIES])
    column = TASTE_ATTRIBUTES.index("material")
    attributes[:, column] = materials_of[category, uniform_index(uniforms[:, column], materials_of.shape[1])]
    tier = attributes[:, TASTE_ATTRIBUTES.index("price_tier")]
    price = np.take(CATEGORY_PRICE, category) * np.take(TIER_FACTOR, tier) * (0.85 + 0.3 * uniforms[:, -1])

    launches = random_stream(seed, "launches").random((num_items, 3))
    fashion = random_stream(seed, "fashion").random((num_items, 2))
    late = 0.9 * DAYS
    launch = np.where(launches[:, 1] < 0.6, 0.0, launches[:, 2] * late)
    launch = np.where(launches[:, 0] < cold_share, late + launches[:, 2] * (DAYS - late), launch)
    marks = [(glyph, badge) for glyph in range(len(MARK_GLYPHS)) for badge in range(len(MARK_BADGES))]
    order = np.argsort(random_stream(seed, "marks").random(len(marks)), kind="stable")
    return Catalogue(
        category=category,
        attributes=attributes,
        price=np.round(price, 2),
        launch=launch,
        popularity=standard_normal(random_stream(seed, "popularity").random((num_items, 12))),
        peak=np.where(fashion[:, 0] < FASHION_SHARE, launch + fashion[:, 1] * (DAYS - launch), np.inf),
        image_seed=uniform_index(random_stream(seed, "looks").random(num_items), 2**31),
        brands=brands,
        marks=tuple(marks[index] for index in order[:NUM_BRANDS]),
    )

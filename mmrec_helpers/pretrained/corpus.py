"""What the pocket models learn from: worlds of their own, drawn from other seeds than any shop of the book.

Kinds of things, colours, words and their combinations are those of every Pocket Shop; brands, items, pictures, texts
and shoppers are not those of the shops that the book measures on. What has the same text by chance can be left out.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmrec_helpers.pocket_shop.shop import open_shop

TRAINING_SEEDS = tuple(range(1000, 1020))
"""Worlds to learn from."""
HELD_OUT_SEEDS = (0, 1, 2)
"""Worlds to measure on, those of the book among them."""


@dataclass(frozen=True)
class Corpus:
    """N items.

    Attributes:
        pixels: (N, 64, 64, 3) uint8.
        facts: the true value of every attribute.
        descriptions: what the shop writes.
    """

    pixels: np.ndarray
    facts: list[dict[str, str]]
    descriptions: list[str]

    def __len__(self) -> int:
        return len(self.facts)


def draw_corpus(seeds: tuple[int, ...], size: str = "laptop", without: frozenset[str] = frozenset()) -> Corpus:
    """The items of some worlds, each with its picture, but for those whose description is in ``without``."""
    pixels, facts, descriptions = [], [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as cache:
            dataset, truth = open_shop(seed, size, cache=Path(cache), missing_images=0)
            for item in dataset.items:
                if item["description"] in without:
                    continue
                pixels.append(np.asarray(item["image"].convert("RGB")))
                facts.append(truth.facts(item["item_id"]))
                descriptions.append(item["description"])
    return Corpus(np.stack(pixels), facts, descriptions)

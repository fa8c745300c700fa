"""What the pocket models learn from: worlds of their own, drawn from other seeds than any shop of the book.

Kinds of things, colours, words and their combinations are those of every Pocket Shop; brands, items, pictures, texts
and shoppers are not those of the shops that the book measures on. What has the same text by chance can be left out.
"""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmrec_helpers.pocket_shop.shop import load_shop

TRAINING_SEEDS = tuple(range(1000, 1020))
"""Worlds to learn from."""
HELD_OUT_SEEDS = (0, 1, 2)
"""Worlds to measure on, those of the book among them."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """N items, and what U shoppers did with them.

    Attributes:
        pixels: (N, 64, 64, 3) uint8.
        facts: the true value of every attribute.
        titles, descriptions: what the shop writes.
        reviews: what shoppers wrote of each.
        histories: the rows of each shopper's items, in time.
    """

    pixels: np.ndarray
    facts: list[dict[str, str]]
    titles: list[str]
    descriptions: list[str]
    reviews: list[list[str]]
    histories: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.facts)


def draw_corpus(seeds: tuple[int, ...], size: str = "laptop", without: frozenset[str] = frozenset()) -> Corpus:
    """The items of some worlds, each with its picture, but for those whose description is in ``without``."""
    pixels, facts, titles, descriptions, reviews, histories = [], [], [], [], [], []
    for seed in seeds:
        with tempfile.TemporaryDirectory() as cache:
            dataset, truth = load_shop(seed, size, cache=Path(cache), missing_images=0)
            row_of = np.full(dataset.num_items + 1, -1)
            for number, item in enumerate(dataset.items, start=1):
                if item["description"] in without:
                    continue
                row_of[number] = len(facts)
                pixels.append(np.asarray(item["image"].convert("RGB")))
                facts.append(truth.facts(item["item_id"]))
                titles.append(item["title"])
                descriptions.append(item["description"])
                reviews.append([])
            rows = row_of[dataset.interactions["item"].to_numpy()]
            for row, review in zip(rows, dataset.interactions["review"], strict=True):
                if row >= 0 and review:
                    reviews[row].append(review)
            ends = np.flatnonzero(np.diff(dataset.interactions["user"].to_numpy())) + 1
            histories += [part[part >= 0] for part in np.split(rows, ends)]
    return Corpus(np.stack(pixels), facts, titles, descriptions, reviews, histories)


def caption(facts: dict[str, str], rng: np.random.Generator, told: float = 0.7) -> str:
    """A few words on what a picture shows, as people caption pictures.

    Args:
        facts: of the item.
        rng: what is told, and in which frame.
        told: chance of each of style, pattern and colour; the kind of thing is always told.
    """
    words = [facts[name] for name in ("style", "pattern", "colour") if rng.random() < told]
    frame = ("{}", "a {}", "a photo of a {}", "picture of a {}")[rng.integers(4)]
    return frame.format(" ".join([*words, facts["category"]]))


def sentences(text: str) -> list[str]:
    """A text's sentences."""
    return re.split(r"(?<=[.!?]) ", text)

"""Training data of the pocket models: worlds of their own, generated from other seeds than any shop of the book.

Categories, colours, words and their combinations are those of every Pocket Shop; brands, items, pictures, texts and
shoppers are not those of the shops that the book measures on. Items that happen to have the same text can be left out.
"""

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mmrec_helpers.pocket_shop.shop import load_shop

TRAINING_SEEDS = tuple(range(1000, 1020))
HELD_OUT_SEEDS = (0, 1, 2)
"""Worlds to measure on, those of the book among them."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """N items and the histories of U shoppers.

    Attributes:
        pixels: (N, 64, 64, 3) uint8.
        facts: the true value of every attribute.
        titles: of the items.
        descriptions: of the items.
        reviews: of each item.
        histories: the rows of each shopper's items, in order of time.
    """

    pixels: np.ndarray
    facts: list[dict[str, str]]
    titles: list[str]
    descriptions: list[str]
    reviews: list[list[str]]
    histories: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.facts)


def sample_corpus(seeds: tuple[int, ...], size: str = "laptop", without: frozenset[str] = frozenset()) -> Corpus:
    """The items of generated worlds, each with its picture, except those whose description is in ``without``."""
    pixels, titles, descriptions, histories = [], [], [], []
    facts: list[dict[str, str]] = []
    reviews: list[list[str]] = []
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
            histories += [history[history >= 0] for history in np.split(rows, ends)]
    return Corpus(np.stack(pixels), facts, titles, descriptions, reviews, histories)


@cache
def training_corpus() -> Corpus:
    """The training worlds, without items that have the text of an item of a held-out world."""
    held_out = sample_corpus(HELD_OUT_SEEDS)
    return sample_corpus(TRAINING_SEEDS, without=frozenset(held_out.descriptions))


def sample_caption(facts: dict[str, str], rng: np.random.Generator, probability: float = 0.7) -> str:
    """A short caption of a picture, as people write them.

    Args:
        facts: of the item.
        rng: chooses what is mentioned, and the template.
        probability: that style, pattern or colour is mentioned; the category always is.
    """
    words = [facts[name] for name in ("style", "pattern", "colour") if rng.random() < probability]
    template = ("{}", "a {}", "a photo of a {}", "picture of a {}")[rng.integers(4)]
    return template.format(" ".join([*words, facts["category"]]))


def split_sentences(text: str) -> list[str]:
    """A text's sentences."""
    return re.split(r"(?<=[.!?]) ", text)

"""The Pocket Shop's cells: how far it sets systems apart, from popularity to the oracle."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from experiments.cells import Cell
from experiments.ch03 import CEILINGS, ceiling_run
from experiments.datasets import LEAVE_ONE_OUT, POCKET, SEEDS
from experiments.systems import run_system
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, MENTIONABLE, NUM_VALUES, TASTE_ATTRIBUTES, VISIBLE, WRITTEN
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sasrec import SASRec

EVERYTHING = ("category", *TASTE_ATTRIBUTES)
KNOWN = {
    "SASRec on the image's attributes": VISIBLE,
    "SASRec on the text's attributes": WRITTEN + MENTIONABLE,
    "SASRec on both": tuple(name for name in EVERYTHING if name != "price_tier"),
    "SASRec on all true attributes": EVERYTHING,
}
"""System -> the attributes that are its item features; those of the text only where a description mentions them."""
SYSTEMS = ("popularity", "item-kNN", "SASRec", *KNOWN, *CEILINGS)


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cell = partial(Cell, study="shop", data=POCKET, split=LEAVE_ONE_OUT, part="test", protocol="full")
    return [cell(seed=seed, system=name) for seed in SEEDS for name in SYSTEMS]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    (cell,) = cells
    if cell.system in CEILINGS:
        yield cell, ceiling_run(cell)
    else:
        yield from run_system(partial(build, cell.system, cell.seed), cells, checkpoint)


def build(system: str, seed: int) -> Recommender:
    """One of SYSTEMS that learns, not yet fitted."""
    if system in KNOWN:
        return attribute_sasrec(load_shop(seed)[1], KNOWN[system], "text" in system, system)
    return {"popularity": Popularity, "item-kNN": ItemKNN, "SASRec": SASRec}[system]()


def attribute_sasrec(truth: Truth, names: tuple[str, ...], mentioned_only: bool = False, name: str = "") -> SASRec:
    """A sequence model whose only features are attributes; they need less regularization than ids."""
    features = attribute_features(truth, names, mentioned_only)
    return SASRec(features=features, use_ids=False, dropout=0.2, lr=4e-3, weight_decay=0.05, name=name)


def attribute_features(truth: Truth, names: tuple[str, ...], mentioned_only: bool = False) -> np.ndarray:
    """(I + 1, F) indicators of attribute values; row 0, the padding, is zero.

    Args:
        truth: of the shop.
        names: of the attributes.
        mentioned_only: leave a mentionable attribute out where the description does not mention it.
    """
    catalogue, blocks = truth.catalogue, []
    for name in names:
        if name == "category":
            values, num = catalogue.category, len(CATEGORIES)
        else:
            column = TASTE_ATTRIBUTES.index(name)
            values, num = catalogue.attributes[:, column], NUM_VALUES[column]
        block = (values[:, None] == np.arange(num)).astype(float)
        if mentioned_only and name in MENTIONABLE:
            block *= truth.mentions[:, [MENTIONABLE.index(name)]]
        blocks.append(block)
    features = np.concatenate(blocks, axis=1)
    return np.concatenate([np.zeros((1, features.shape[1])), features])

"""How far the Pocket Shop sets systems apart: NDCG@10 over the full catalogue, from popularity to the oracle."""

import numpy as np

from mmrec_helpers.data.dataset import Queries, RecDataset
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, MENTIONABLE, NUM_VALUES, TASTE_ATTRIBUTES, VISIBLE, WRITTEN
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sequential import SASRec

NUM_INFERRED = 600
"""Shoppers for whom the Bayes ceiling is computed: the first that have a test purchase."""


def attribute_features(truth: Truth, names: tuple[str, ...], told_only: bool = False) -> np.ndarray:
    """(I + 1, F) indicators of attribute values; row 0, the padding, is zero.

    Args:
        told_only: leave a mentionable attribute out where the description does not mention it.
    """
    catalogue, blocks = truth.catalogue, []
    for name in names:
        if name == "category":
            values, num = catalogue.category, len(CATEGORIES)
        else:
            column = TASTE_ATTRIBUTES.index(name)
            values, num = catalogue.attributes[:, column], NUM_VALUES[column]
        block = (values[:, None] == np.arange(num)).astype(float)
        if told_only and name in MENTIONABLE:
            block *= truth.mentions[:, [MENTIONABLE.index(name)]]
        blocks.append(block)
    features = np.concatenate(blocks, axis=1)
    return np.concatenate([np.zeros((1, features.shape[1])), features])


def measure(seed: int = 0) -> dict[str, np.ndarray]:
    """System -> (N,) NDCG@10 of each test case of the laptop shop under leave-one-out.

    The ceilings, and what is compared with them, cover the first NUM_INFERRED test cases.
    """
    dataset, truth = load_shop(seed)
    split, everything = dataset.leave_one_out(), ("category", *TASTE_ATTRIBUTES)
    systems = {
        "popularity": Popularity(),
        "item-kNN": ItemKNN(),
        "sequence model on ids": SASRec(),
        "on the image's attributes": on_attributes(truth, VISIBLE),
        "on the text's attributes": on_attributes(truth, WRITTEN + MENTIONABLE, told_only=True),
        "on both": on_attributes(truth, tuple(name for name in everything if name != "price_tier")),
        "on all true attributes": on_attributes(truth, everything),
    }
    ndcg = {name: evaluate(system.fit(split), split).metric("NDCG@10") for name, system in systems.items()}
    return ndcg | ceilings(dataset, truth, split.queries("test"))


def on_attributes(truth: Truth, names: tuple[str, ...], told_only: bool = False) -> SASRec:
    """A sequence model that knows items by their attributes alone; these want a lighter hand than ids."""
    features = attribute_features(truth, names, told_only)
    return SASRec(features=features, use_ids=False, dropout=0.2, lr=4e-3, weight_decay=0.05)


def ceilings(dataset: RecDataset, truth: Truth, test: Queries) -> dict[str, np.ndarray]:
    """NDCG@10 of the Bayes ceiling and of the omniscient oracle, for the first NUM_INFERRED test cases."""
    some = test.take(slice(NUM_INFERRED))
    scores = {
        "Bayes ceiling": truth.bayes_scores(dataset, some),
        "omniscient oracle": truth.scores(dataset, some),
    }
    return {name: ndcg(TargetRanks.of(values, some.targets, some.histories), 10) for name, values in scores.items()}

"""The Pocket Shop's run: how far it sets systems apart, from popularity to the oracle."""

import numpy as np

from experiments.benchmarks import SEEDS
from mmrec_helpers.data.dataset import Queries, RecDataset
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.evaluation.protocols import Recommender, evaluate
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, MENTIONABLE, NUM_VALUES, TASTE_ATTRIBUTES, VISIBLE, WRITTEN
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sasrec import SASRec

NUM_INFERRED = 600
"""Shoppers for whom the Bayes ceiling is computed: the first that have a test purchase."""


def separations() -> dict:
    """NDCG@10 of each system on three Pocket Shops."""
    rows: dict[str, list[float]] = {}
    for seed in SEEDS:
        for system, values in measure(seed).items():
            rows.setdefault(system, []).append(round(float(values.mean()), 4))
            print(f"seed {seed}: {system} {rows[system][-1]}", flush=True)
    fingerprints = [load_shop(seed)[0].fingerprint for seed in SEEDS]
    return {"metric": "NDCG@10", "seeds": SEEDS, "rows": rows, "fingerprints": fingerprints}


def measure(seed: int = 0) -> dict[str, np.ndarray]:
    """System -> (N,) NDCG@10 of each test query of the laptop shop under leave-one-out and full ranking.

    The ceilings, and what is compared with them, cover the first NUM_INFERRED test queries.
    """
    dataset, truth = load_shop(seed)
    split, everything = dataset.leave_one_out(), ("category", *TASTE_ATTRIBUTES)
    systems: dict[str, Recommender] = {
        "popularity": Popularity(),
        "item-kNN": ItemKNN(),
        "sequence model on ids": SASRec(),
        "on the image's attributes": attribute_sasrec(truth, VISIBLE),
        "on the text's attributes": attribute_sasrec(truth, WRITTEN + MENTIONABLE, mentioned_only=True),
        "on both": attribute_sasrec(truth, tuple(name for name in everything if name != "price_tier")),
        "on all true attributes": attribute_sasrec(truth, everything),
    }
    values = {name: evaluate(system.fit(split), split).metric("NDCG@10") for name, system in systems.items()}
    return values | ceilings(dataset, truth, split.queries("test"))


def attribute_sasrec(truth: Truth, names: tuple[str, ...], mentioned_only: bool = False) -> SASRec:
    """A sequence model whose only features are attributes; they need less regularization than ids."""
    features = attribute_features(truth, names, mentioned_only)
    return SASRec(features=features, use_ids=False, dropout=0.2, lr=4e-3, weight_decay=0.05)


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


def ceilings(dataset: RecDataset, truth: Truth, test: Queries) -> dict[str, np.ndarray]:
    """NDCG@10 of the Bayes ceiling and of the omniscient oracle, for the first NUM_INFERRED test queries."""
    queries = test.take(slice(NUM_INFERRED))
    scores = {
        "Bayes ceiling": truth.bayes_scores(dataset, queries),
        "omniscient oracle": truth.scores(dataset, queries),
    }
    return {
        name: ndcg(TargetRanks.of(values, queries.targets, queries.histories), 10) for name, values in scores.items()
    }

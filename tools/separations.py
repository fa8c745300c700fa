"""How far the Pocket Shop sets systems apart: NDCG@10 over the full catalogue, from popularity to the oracle."""

import numpy as np
from sequence_model import fit, ndcg_at_10, score

from mmrec_helpers.dataset import Histories, RecDataset
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, MENTIONABLE, NUM_VALUES, TASTE_ATTRIBUTES, VISIBLE, WRITTEN
from mmrec_helpers.pocket_shop.shop import Truth, open_shop

NUM_INFERRED = 600
"""Shoppers for whom the history-inferring ceiling is computed: the first that have a test purchase."""


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


def item_knn_scores(sequences: np.ndarray, histories: np.ndarray, num_items: int, shrink: float = 20.0) -> np.ndarray:
    """(N, I + 1) summed cosine between a history's items and every item, by the users who bought both."""
    together = np.zeros((num_items + 1, num_items + 1))
    for sequence in sequences:
        items = sequence[sequence > 0]
        together[np.ix_(items, items)] += 1
    count = np.diag(together).copy()
    np.fill_diagonal(together, 0)
    similarity = together / (np.sqrt(np.outer(count, count)) + shrink)
    return similarity[histories].sum(axis=1)


def measure(seed: int = 0) -> dict[str, np.ndarray]:
    """System -> (N,) NDCG@10 of each test case of the laptop shop under leave-one-out.

    The ceilings, and what is compared with them, cover the first NUM_INFERRED test cases.
    """
    dataset, truth = open_shop(seed)
    split = dataset.leave_one_out()
    test, sequences = split.histories("test"), split.train_sequences()
    target, everything = test.targets[:, 0], ("category", *TASTE_ATTRIBUTES)
    popularity = np.bincount(sequences.ravel(), minlength=dataset.num_items + 1)[None].repeat(len(test), axis=0)
    scores = {
        "popularity": popularity,
        "item-kNN": item_knn_scores(sequences, test.items, dataset.num_items),
    }
    inputs = {
        "sequence model on ids": (np.zeros((dataset.num_items + 1, 1)), True),
        "on the image's attributes": (attribute_features(truth, VISIBLE), False),
        "on the text's attributes": (attribute_features(truth, WRITTEN + MENTIONABLE, told_only=True), False),
        "on both": (attribute_features(truth, tuple(n for n in everything if n != "price_tier")), False),
        "on all true attributes": (attribute_features(truth, everything), False),
    }
    for name, (features, use_ids) in inputs.items():
        scores[name] = score(fit(features, use_ids, sequences), test.items)
    ndcg = {name: ndcg_at_10(values, test.items, target) for name, values in scores.items()}
    return ndcg | ceilings(dataset, truth, test)


def ceilings(dataset: RecDataset, truth: Truth, test: Histories) -> dict[str, np.ndarray]:
    """NDCG@10 of the history-inferring ceiling and of the omniscient oracle, for the first NUM_INFERRED test cases."""
    some = test.take(slice(NUM_INFERRED))
    return {
        "inferring ceiling": ndcg_at_10(truth.inferred_scores(dataset, some), some.items, some.targets[:, 0]),
        "omniscient oracle": ndcg_at_10(truth.scores(dataset, some), some.items, some.targets[:, 0]),
    }

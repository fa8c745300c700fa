"""The systems of chapter 3's league: which there are for a data set, and which settings of each are tried."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.evaluation.protocols import Recommender, evaluate
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.features import image_features, joined, text_features, tfidf
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews
from mmrec_helpers.recommenders.sequential import BERT4Rec, GRU4Rec, SASRec


def grid(**values: tuple) -> list[dict]:
    """Every combination."""
    return [dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())]


SETTINGS = {
    "recent popularity": grid(days=(7, 14, 30, 60, 90, 180)),
    "item-kNN": grid(num_neighbors=(20, 100, 300), shrinkage=(0.0, 10.0)),
    "user-kNN": grid(num_neighbors=(30, 100, 300), shrinkage=(0.0, 10.0)),
    "hybrid": grid(weights=((1, 0), (1, 0.25), (1, 0.5), (1, 1), (1, 2), (0, 1))),
    "matrix factorization": grid(dim=(16, 32, 64), regularization=(10.0, 30.0)),
    "BPR": grid(lr=(2e-3, 5e-3, 1e-2), weight_decay=(1.0, 3.0)),
    "VBPR": grid(lr=(2e-3, 5e-3, 1e-2), weight_decay=(1.0, 3.0)),
    "DeepCoNN": grid(lr=(2e-3, 3e-3, 5e-3), epochs=(6, 12), max_len=(200,)),
    "NRMF (our reading)": grid(lr=(3e-3, 1e-2, 2e-2), weight_decay=(1.0, 3.0)),
    "BERT4Rec": grid(lr=(2e-3, 4e-3), dropout=(0.2, 0.3, 0.4), epochs=(100,), patience=(10,)),
    "GRU4Rec": grid(lr=(2e-3, 4e-3, 8e-3), dropout=(0.2, 0.4)),
    "GRU4Rec_F": grid(lr=(2e-3, 4e-3, 8e-3), dropout=(0.2, 0.4)),
    "SASRec": grid(lr=(2e-3, 4e-3), dropout=(0.2, 0.3, 0.5)),
    "SASRec, BCE": grid(lr=(2e-3, 4e-3), dropout=(0.2, 0.3, 0.5)),
    "SASRec, gBCE": grid(lr=(2e-3, 4e-3), dropout=(0.2, 0.3, 0.5)),
    "SASRec_F": grid(lr=(2e-3, 4e-3), dropout=(0.2, 0.3, 0.5)),
}
"""Six settings for each family that has something to set: the same effort for all. The others are as they are."""


@dataclass(frozen=True)
class SystemSpec:
    """A system of the league before its settings are chosen.

    Attributes:
        name: of the system in tables.
        family: whose settings it takes, see SETTINGS; a family's last system is the one by which they are chosen.
        make: the system, given settings.
    """

    name: str
    family: str
    make: Callable[..., Recommender]


def benchmark_systems(dataset: RecDataset, encoder: str, seed: int = 0) -> list[SystemSpec]:
    """Every system of the book that a data set has what it takes for: times, pictures, reviews.

    Args:
        dataset: the data set.
        encoder: of the pictures.
        seed: of everything random.
    """
    words, features = tfidf(dataset), {"text": text_features(dataset)}
    known = {"text": words}
    if dataset.has_image.any():
        looks = image_features(dataset, encoder)
        features |= {"image": looks, "both": np.concatenate([features["text"], looks], axis=1)}
        known |= {"image": looks, "both": joined(words, looks)}

    found = {"random": partial(Random, seed), "popularity": Popularity, "item-kNN": ItemKNN, "user-kNN": UserKNN}
    if dataset.timed:
        found["recent popularity"] = Popularity
    found |= {f"content, {kind}": partial(ContentBased, part, f"content, {kind}") for kind, part in known.items()}
    best = list(known.values())[-1]
    found["hybrid"] = lambda **settings: Hybrid([ItemKNN(), ContentBased(best)], **settings)
    found |= {"matrix factorization": partial(MatrixFactorization, seed=seed), "BPR": partial(BPR, seed=seed)}
    found |= _fed("VBPR", VBPR, features, seed)
    if any(isinstance(review, str) and review.strip() for review in dataset.interactions["review"]):
        found |= {"DeepCoNN": partial(DeepCoNN, seed=seed), "NRMF (our reading)": partial(NeuralReviews, seed=seed)}
    found |= {"GRU4Rec": partial(GRU4Rec, seed=seed), "BERT4Rec": partial(BERT4Rec, seed=seed)}
    found["SASRec"] = partial(SASRec, seed=seed)
    for loss, name in (("bce", "SASRec, BCE"), ("gbce", "SASRec, gBCE")):
        found[name] = partial(SASRec, loss=loss, name=name, seed=seed)
    found |= _fed("GRU4Rec_F", GRU4Rec, features, seed) | _fed("SASRec_F", SASRec, features, seed)
    families = {name: name if name in SETTINGS else name.partition(",")[0] for name in found}
    return [SystemSpec(name, families[name], make) for name, make in found.items()]


def _fed(family: str, kind: type, features: Mapping[str, np.ndarray], seed: int) -> dict[str, Callable]:
    names = {f"{family}, {known}": part for known, part in features.items()}
    return {name: partial(kind, features=part, name=name, seed=seed) for name, part in names.items()}


def validated(system: Recommender, split: Split) -> float:
    """NDCG@10 of a fitted system on the valid part, over the full catalogue: that by which settings are chosen."""
    return float(evaluate(system, split, part="valid").metric("NDCG@10").mean())

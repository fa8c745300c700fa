"""The systems of the benchmark: which apply to a data set, and the grids by which their families are tuned."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.recommenders.bert4rec import BERT4Rec
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.features import concatenate_normalised, image_features, text_features, tfidf
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews
from mmrec_helpers.recommenders.sasrec import SASRec


def grid(**values: tuple) -> list[dict]:
    """Every combination of some hyperparameters' values."""
    return [dict(zip(values, combination, strict=True)) for combination in product(*values.values())]


GRIDS = {
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
"""Family -> six settings of its hyperparameters: the same tuning budget for all. Other families have none to tune."""


@dataclass(frozen=True)
class SystemSpec:
    """A system of the benchmark before its hyperparameters are chosen.

    Attributes:
        name: of the system in tables.
        family: whose grid it takes, see GRIDS. A family is tuned by its last system in ``benchmark_systems``.
        build: the system, given hyperparameters.
    """

    name: str
    family: str
    build: Callable[..., Recommender]


def benchmark_systems(dataset: RecDataset, encoder: str, seed: int = 0) -> list[SystemSpec]:
    """Every system of the book that a data set has the data for: times, images, reviews.

    Args:
        dataset: the data set.
        encoder: of the images.
        seed: of everything random.
    """
    words = tfidf(dataset)
    content, features = {"text": words}, {"text": text_features(dataset)}
    if dataset.has_image.any():
        images = image_features(dataset, encoder)
        content |= {"image": images, "both": concatenate_normalised(words, images)}
        features |= {"image": images, "both": np.concatenate([features["text"], images], axis=1)}

    def spec(name: str, build: Callable[..., Recommender], family: str = "", /, **fixed: object) -> SystemSpec:
        return SystemSpec(name, family or name, partial(build, **fixed))

    def with_features(family: str, build: Callable[..., Recommender]) -> list[SystemSpec]:
        named = {f"{family}, {modality}": columns for modality, columns in features.items()}
        return [spec(name, build, family, features=columns, name=name, seed=seed) for name, columns in named.items()]

    recent = [spec("recent popularity", Popularity)] if dataset.timed else []
    reviews = [spec("DeepCoNN", DeepCoNN, seed=seed), spec("NRMF (our reading)", NeuralReviews, seed=seed)]
    has_reviews = any(isinstance(review, str) and review.strip() for review in dataset.interactions["review"])
    richest = list(content.values())[-1]
    return [
        spec("random", Random, seed=seed),
        spec("popularity", Popularity),
        spec("item-kNN", ItemKNN),
        spec("user-kNN", UserKNN),
        *recent,
        *(
            spec(f"content, {modality}", ContentBased, "content", features=columns, name=f"content, {modality}")
            for modality, columns in content.items()
        ),
        spec("hybrid", lambda **weights: Hybrid([ItemKNN(), ContentBased(richest)], **weights)),
        spec("matrix factorization", MatrixFactorization, seed=seed),
        spec("BPR", BPR, seed=seed),
        *with_features("VBPR", VBPR),
        *(reviews if has_reviews else []),
        spec("GRU4Rec", GRU4Rec, seed=seed),
        spec("BERT4Rec", BERT4Rec, seed=seed),
        spec("SASRec", SASRec, seed=seed),
        spec("SASRec, BCE", SASRec, loss="bce", name="SASRec, BCE", seed=seed),
        spec("SASRec, gBCE", SASRec, loss="gbce", name="SASRec, gBCE", seed=seed),
        *with_features("GRU4Rec_F", GRU4Rec),
        *with_features("SASRec_F", SASRec),
    ]

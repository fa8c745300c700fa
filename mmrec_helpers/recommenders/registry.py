"""The systems of the benchmark: what each is built from, and which apply to a data set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.recommenders.bert4rec import BERT4Rec
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.features import concatenate_normalised, image_features, text_features, tfidf
from mmrec_helpers.recommenders.graph import MGAT, MMGCN, LightGCN
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.mmsr import MMSR
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.recommenders.trans2d import Trans2D

Inputs = Mapping[str, np.ndarray | sparse.sparray]
"""Name -> (I + 1, F) features of the items, see ``system_inputs``."""


@dataclass(frozen=True)
class SystemSpec:
    """A system of the benchmark before its hyperparameters are chosen.

    Attributes:
        name: of the system in tables.
        build: the system, from hyperparameters and, where they are named below, ``features`` and ``seed``.
        family: whose space of hyperparameters it has, see ``tuning.SPACES``. A family is tuned by its last system.
        features: its item features, a key of ``system_inputs``, or several for a mapping of them; none if empty.
        is_seeded: whether anything in it is random.
        needs: what the data set must have: ``times``, ``images``, ``reviews``.
    """

    name: str
    build: Callable[..., Recommender]
    family: str = ""
    features: str | tuple[str, ...] = ""
    is_seeded: bool = False
    needs: frozenset[str] = field(default_factory=frozenset)


def _hybrid(features: np.ndarray | sparse.sparray, weights: tuple[float, float] = (1, 1)) -> Hybrid:
    return Hybrid([ItemKNN(), ContentBased(features)], weights)


def _needs(modality: str) -> frozenset[str]:
    return frozenset() if modality == "text" else frozenset({"images"})


def _with_features(family: str, build: Callable[..., Recommender]) -> list[SystemSpec]:
    return [
        SystemSpec(name, partial(build, name=name), family, modality, True, _needs(modality))
        for modality, name in ((modality, f"{family}, {modality}") for modality in ("text", "image", "both"))
    ]


def _content(modality: str) -> SystemSpec:
    name = f"content, {modality}"
    return SystemSpec(name, partial(ContentBased, name=name), "content", f"content {modality}", needs=_needs(modality))


_REVIEWS = frozenset({"reviews"})
_BCE, _GBCE = (partial(SASRec, loss=loss, name=f"SASRec, {name}") for loss, name in (("bce", "BCE"), ("gbce", "gBCE")))
SYSTEMS = (
    SystemSpec("random", Random, is_seeded=True),
    SystemSpec("popularity", Popularity),
    SystemSpec("item-kNN", ItemKNN, "item-kNN"),
    SystemSpec("user-kNN", UserKNN, "user-kNN"),
    SystemSpec("recent popularity", Popularity, "recent popularity", needs=frozenset({"times"})),
    *(_content(modality) for modality in ("text", "image", "both")),
    SystemSpec("hybrid", _hybrid, "hybrid", "content richest"),
    SystemSpec("matrix factorization", MatrixFactorization, "matrix factorization", is_seeded=True),
    SystemSpec("BPR", BPR, "BPR", is_seeded=True),
    *_with_features("VBPR", VBPR),
    SystemSpec("DeepCoNN", partial(DeepCoNN, max_len=200), "DeepCoNN", is_seeded=True, needs=_REVIEWS),
    SystemSpec("NRMF (our reading)", NeuralReviews, "NRMF (our reading)", is_seeded=True, needs=_REVIEWS),
    SystemSpec("GRU4Rec", GRU4Rec, "GRU4Rec", is_seeded=True),
    SystemSpec("BERT4Rec", partial(BERT4Rec, epochs=100, patience=10), "BERT4Rec", is_seeded=True),
    SystemSpec("SASRec", SASRec, "SASRec", is_seeded=True),
    SystemSpec("SASRec, BCE", _BCE, "SASRec, BCE", is_seeded=True),
    SystemSpec("SASRec, gBCE", _GBCE, "SASRec, gBCE", is_seeded=True),
    *_with_features("GRU4Rec_F", GRU4Rec),
    *_with_features("SASRec_F", SASRec),
)
"""Every system of the benchmark, in the order of the tables."""
_MODALITIES, _IMAGES = ("text", "image"), frozenset({"images"})
GRAPHS = (
    SystemSpec("LightGCN", LightGCN, "LightGCN", is_seeded=True),
    SystemSpec("MMGCN", MMGCN, "MMGCN", _MODALITIES, True, _IMAGES),
    SystemSpec("MGAT", MGAT, "MGAT", _MODALITIES, True, _IMAGES),
    SystemSpec("Trans2D", Trans2D, "Trans2D", _MODALITIES, True, _IMAGES),
    SystemSpec("MMSR", MMSR, "MMSR", _MODALITIES, True, _IMAGES),
)
"""Chapter 7's systems on graphs, and those on the fields and modality codes of a history."""


def system_inputs(dataset: RecDataset, encoder: str) -> Inputs:
    """The item features of all systems.

    Args:
        dataset: the data set.
        encoder: of the images.

    Returns:
        ``text``, ``image``, ``both``: dense, to learn from; ``content text``, ..., of content-based systems, by words;
        ``content richest``: both, or only texts. Without images, those with images are missing.
    """
    words, text = tfidf(dataset), text_features(dataset)
    if not dataset.has_image.any():
        return {"text": text, "content text": words, "content richest": words}
    images = image_features(dataset, encoder)
    content = concatenate_normalised(words, images)
    learnt = {"text": text, "image": images, "both": np.concatenate([text, images], axis=1)}
    return learnt | {
        "content text": words,
        "content image": images,
        "content both": content,
        "content richest": content,
    }


def build_system(name: str, /, inputs: Inputs, seed: int = 0, **hyperparameters: Any) -> Recommender:  # noqa: ANN401
    """A system of the benchmark, not yet fitted.

    Args:
        name: of SYSTEMS or GRAPHS.
        inputs: of ``system_inputs``.
        seed: of everything random.
        hyperparameters: of the system; ``name`` gives it another one.
    """
    spec = next(system for system in (*SYSTEMS, *GRAPHS) if system.name == name)
    seeded = {"seed": seed} if spec.is_seeded else {}
    if not spec.features:
        return spec.build(**seeded, **hyperparameters)
    keys = spec.features
    features = inputs[keys] if isinstance(keys, str) else {key: inputs[key] for key in keys}
    return spec.build(features=features, **seeded, **hyperparameters)

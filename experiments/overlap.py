"""What chapter 2 records beside its pages' study: sigmoid similarities, linear probes, caption swaps, captions."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.special import expit

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.features import Features, embed_images, embed_texts
from mmrec_helpers.encoders.models import Encoder
from mmrec_helpers.lessons.exploration import bootstrap_interval
from mmrec_helpers.lessons.overlap import SWAPPED, caption_swap_accuracy, probe_correct, probe_predict
from mmrec_helpers.pocket_shop.shop import Truth
from mmrec_helpers.studies.ch02 import MAX_ITEMS, calibrated_bias, compared_pairs, facts_of, pair_similarities

ATTRIBUTES = ("category", "department", "colour", "pattern")
"""Columns of items that probes predict, where a data set has them."""
NUM_COMPONENTS = 128
"""Principal components of each side that probes are given: with all columns, the longer vector would hide the other."""
PENALTIES = (1.0, 10.0, 100.0, 1e3, 1e4)
"""From which each probe's penalty is chosen."""
MIN_ITEMS = 20
"""Items of a value, for probes to predict it."""


def study_sigmoid(
    images: Features, texts: Features, groups: Mapping[str, np.ndarray], scale: float, bias: float
) -> dict[str, Any]:
    """The sigmoid similarities of I-LLMRec's figure 10 (appendix D), and what they become when the bias is moved.

    Args:
        images: Of N items.
        texts: Of the same items.
        groups: Kind of control -> (N,) labels, see ``control_groups``.
        scale: That the encoder learned; the similarity is sigmoid(scale * cosine + bias).
        bias: That it learned.

    Returns:
        ``scale``; ``biases``: the ``learned`` one and ``calibrated_bias`` against each kind of control; ``table``: bias
        -> kind of pair -> mean similarity, 95 % interval, share above one half.
    """
    _, similarity, partners = compared_pairs(images, texts, groups)
    pairs = pair_similarities(similarity.astype(float), partners)
    matched, biases = pairs["matched"], {"learned": bias}
    biases |= {name: calibrated_bias(matched, pairs[name], scale) for name in partners}
    table: dict[str, dict[str, list[float]]] = {name: {} for name in biases}
    for name, moved in biases.items():
        for kind, cosines in pairs.items():
            values = expit(scale * cosines + moved)
            table[name][kind] = [values.mean(), *bootstrap_interval(values), (values > 0.5).mean()]
    return {"scale": scale, "biases": biases, "table": table}


def study_probes(images: Features, texts: Features, labels: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """What linear probes predict of N items from their image, their text and both; of values with MIN_ITEMS items.

    A probe is fitted to one half of the items, with the penalty that is best in cross-validation within that half, and
    predicts the other half. An attribute with fewer than two such values is left out.

    Args:
        images: Of the N items, all present.
        texts: Of the same items, all present.
        labels: Attribute -> (N,) values.

    Returns:
        Attribute -> accuracy and 95 % interval of ``image``, ``text``, ``both`` and ``majority``, which predicts the
        most frequent value; the gains ``both - image`` and ``both - text``, from paired differences, and their
        intervals; numbers of ``items`` predicted and of ``values``.
    """
    vectors = {"image": _components(images.vectors), "text": _components(texts.vectors)}
    vectors["both"] = torch.cat(list(vectors.values()), dim=1)
    studies: dict[str, dict[str, Any]] = {}
    for attribute, of_items in labels.items():
        values, counts = np.unique(of_items, return_counts=True)
        values = values[counts >= MIN_ITEMS]
        if len(values) < 2:
            continue
        rows = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(of_items, values)))
        fit, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        correct = {name: _probe_half(x, of_items, fit, test) for name, x in vectors.items()}
        correct["majority"] = of_items[test] == Counter(of_items[fit]).most_common(1)[0][0]
        measured = {name: hits.astype(float) for name, hits in correct.items()}
        measured |= {f"both - {side}": measured["both"] - measured[side] for side in ("image", "text")}
        studies[attribute] = {"items": len(test), "values": len(values)}
        studies[attribute] |= {name: [part.mean(), *bootstrap_interval(part)] for name, part in measured.items()}
    return studies


def _components(vectors: torch.Tensor) -> torch.Tensor:
    """(N, at most NUM_COMPONENTS) scores on the first principal components of the standardised columns of (N, D)."""
    scaled = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)
    return torch.linalg.svd(scaled.double(), full_matrices=False)[0][:, :NUM_COMPONENTS]


def _probe_half(features: torch.Tensor, labels: np.ndarray, fit: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(M,) bool whether a probe of the rows ``fit`` predicts the labels of the M rows ``test``."""
    X, y = features[fit], labels[fit]
    penalty = max(PENALTIES, key=lambda value: probe_correct(X, y, value).mean())
    return probe_predict(X, y, features[test], penalty) == labels[test]


def study_caption_swaps(dataset: RecDataset, truth: Truth, encoder: Encoder) -> dict[str, list[float]]:
    """Attribute -> ``caption_swap_accuracy`` and its 95 % interval."""
    items = dataset.items.select(np.flatnonzero(dataset.has_image[1:])[:MAX_ITEMS])
    images, facts = embed_images(items["image"], encoder).vectors, facts_of(items, truth)
    intervals = {}
    for attribute in SWAPPED:
        correct = caption_swap_accuracy(images, facts, attribute, lambda texts: embed_texts(texts, encoder).vectors)
        intervals[attribute] = [correct.mean(), *bootstrap_interval(correct)]
    return intervals


def embed_captions(folder: Path, encoder: Encoder) -> tuple[Features, Features]:
    """Images and texts of a folder of photographs with captions.csv (image, caption); one caption per image."""
    frame = pd.read_csv(folder / "captions.csv").drop_duplicates("image")
    images = embed_images([Image.open(folder / "images" / name) for name in frame["image"]], encoder)
    return images, embed_texts(list(frame["caption"]), encoder)

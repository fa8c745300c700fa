"""Pictures and texts as vectors of a pretrained encoder; those of a data set are kept on disk.

How an encoder is named stands in ``encoders.checkpoints``. Its config.json tells what it is: CLIP or SigLIP
(pictures and texts), a network of timm (pictures), or a transformer whose token vectors are pooled as
sentence-transformers does (texts). Weights are read from safetensors only; no code that comes with a model is run.
"""

import hashlib
import json
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.checkpoints import find_checkpoint, revision
from mmrec_helpers.encoders.models import Encoder, _load, load_encoder
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings

FEATURES_VERSION = 1
"""Raise it when the same model gives other vectors."""


BATCH = 64


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of N pictures or texts in the order in which they were given. Of a data set, row i - 1 is item i.

    Attributes:
        vectors: (N, D) float32 on the CPU; zeros where there was nothing to encode. Of unit length only where the
            encoder itself ends with that.
        present: (N,) bool, False where the picture is None or the text is None or blank.
        truncated: (N,) bool, True where a text is longer than the encoder reads, and its end was cut off.
    """

    vectors: torch.Tensor
    present: torch.Tensor
    truncated: torch.Tensor


def encode_images(dataset: RecDataset, encoder: str | Path) -> Features:
    """The vectors of all items' pictures, read from the settings' cache where they were made before.

    Raises:
        FileNotFoundError, ConnectionError: the model is not there, see ``find_checkpoint``.
        ValueError: the folder holds no model that can be used, or one that sees no pictures.
    """
    pictures = dataset.items.select_columns(["image"])["image"]
    return _kept(dataset, encoder, ["image"], lambda model: embed_pictures(pictures, model))


def encode_texts(
    dataset: RecDataset, encoder: str | Path, fields: str | Sequence[str] = ("title", "description")
) -> Features:
    """The vectors of all items' texts, read from the settings' cache where they were made before.

    Args:
        dataset: the items.
        encoder: the model's name or folder.
        fields: text columns of ``dataset.items``; what is not blank is joined by ``". "``.

    Raises:
        FileNotFoundError, ConnectionError: the model is not there, see ``find_checkpoint``.
        ValueError: there is no such field, the folder holds no model that can be used, or one that reads no texts.
    """
    fields = [fields] if isinstance(fields, str) else list(fields)
    known = [name for name, kind in dataset.items.features.items() if getattr(kind, "dtype", "") == "string"]
    if not fields or not set(fields) <= set(known):
        raise ValueError(f"{dataset.name}: no texts are in {fields}; they are in {', '.join(known)}")
    rows = zip(*(dataset.items[field] for field in fields), strict=True)
    texts = (". ".join(part.strip() for part in row if part and part.strip()) for row in rows)
    return _kept(dataset, encoder, fields, lambda model: embed_texts(list(texts), model))


def _kept(dataset: RecDataset, encoder: str | Path, what: list[str], make: Callable[["Encoder"], Features]) -> Features:
    """Read features, or make and write them; the model is loaded only to make them."""
    folder = find_checkpoint(encoder)
    key = json.dumps([FEATURES_VERSION, dataset.fingerprint, revision(folder), what])
    name = re.sub(r"[^\w.-]+", "-", str(encoder))[-60:] + "-" + hashlib.sha256(key.encode()).hexdigest()[:16]
    target = load_settings().cache / "features" / f"{name}.npz"
    if target.exists():
        try:
            with np.load(target) as stored:
                return Features(*(torch.from_numpy(stored[part]) for part in ("vectors", "present", "truncated")))
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
            pass  # damaged: made again
    features = make(_load(folder, str(encoder)))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{name}.part") as part:
        np.savez(Path(part) / target.name, **{name: tensor.numpy() for name, tensor in vars(features).items()})
        (Path(part) / target.name).replace(target)
    return features


def embed_pictures(pictures: Sequence[Image.Image | None], encoder: "str | Path | Encoder") -> Features:
    """The vectors of some pictures; errors as those of ``encode_images``."""
    model = load_encoder(encoder)
    vectors = torch.zeros(len(pictures), model.pictures([Image.new("RGB", (32, 32))]).shape[1])
    present = torch.zeros(len(pictures), dtype=torch.bool)
    for start in progress(
        range(0, len(pictures), BATCH), desc=f"pictures, {Path(model.name).name}", unit="batch", delay=3
    ):
        batch = enumerate(pictures[start : start + BATCH], start)
        batch = {row: picture.convert("RGB") for row, picture in batch if picture is not None}
        if batch:
            vectors[list(batch)] = model.pictures(list(batch.values()))
            present[list(batch)] = True
    return Features(vectors, present, torch.zeros_like(present))


def embed_texts(texts: Sequence[str | None], encoder: "str | Path | Encoder") -> Features:
    """The vectors of some texts; errors as those of ``encode_texts``."""
    model = load_encoder(encoder)
    texts = [(text or "").strip() for text in texts]
    vectors = torch.zeros(len(texts), model.texts(["a"])[0].shape[1])
    truncated = torch.zeros(len(texts), dtype=torch.bool)
    # Texts of like length share a batch, so that little of it is padding.
    order = sorted((row for row, text in enumerate(texts) if text), key=lambda row: -len(texts[row]))
    for start in progress(range(0, len(order), BATCH), desc=f"texts, {Path(model.name).name}", unit="batch", delay=3):
        rows = order[start : start + BATCH]
        vectors[rows], truncated[rows] = model.texts([texts[row] for row in rows])
    return Features(vectors, torch.tensor([bool(text) for text in texts], dtype=torch.bool), truncated)

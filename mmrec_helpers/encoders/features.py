"""Images and texts as vectors of a pretrained encoder; those of a data set are cached on disk.

How an encoder is named is described in ``encoders.checkpoints``. Its config.json determines its type: CLIP or SigLIP
(images and texts), a network of timm (images), or a transformer whose token vectors are pooled as in
sentence-transformers (texts). Weights are read from safetensors only; no code that comes with a model is run.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.images import to_rgb
from mmrec_helpers.encoders.checkpoints import find_checkpoint, revision
from mmrec_helpers.encoders.models import Encoder, load_encoder
from mmrec_helpers.files import atomic, say_rebuilt
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings

FEATURES_VERSION = 1
"""Raise it when the same model gives other vectors."""
BATCH_SIZE = 64


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of N images or texts in the order in which they were given. Of a data set, row i - 1 is item i.

    Attributes:
        vectors: (N, D) float32 on the CPU; zeros where there was nothing to encode. Of unit length only where the
            encoder itself ends with a normalisation.
        present: (N,) bool, False where the image is None or the text is None or blank.
        truncated: (N,) bool, True where a text is longer than the encoder's limit, and its end was dropped.
    """

    vectors: torch.Tensor
    present: torch.Tensor
    truncated: torch.Tensor


def encode_images(dataset: RecDataset, encoder: str | Path) -> Features:
    """The vectors of all items' images, from the settings' cache where they were computed before.

    Raises the errors of ``load_encoder``, and a ValueError if the model encodes no images.
    """
    images = dataset.items.select_columns(["image"])["image"]
    return _cached(dataset, encoder, ["image"], lambda model: embed_images(images, model))


def encode_patches(dataset: RecDataset, encoder: str | Path) -> Features:
    """As ``encode_images``, but with (N, P, D) vectors of the patches of each image."""
    images = dataset.items.select_columns(["image"])["image"]
    return _cached(dataset, encoder, ["patches"], lambda model: embed_images(images, model, model.patches))


def encode_tokens(dataset: RecDataset, encoder: str | Path, max_len: int) -> Features:
    """As ``encode_texts`` of titles and descriptions, but with (N, max_len, D) vectors of the tokens of each text."""
    fields = ["title", "description", f"{max_len} tokens"]

    def embed(model: Encoder) -> Features:
        return embed_texts(_texts(dataset, fields[:2]), model, lambda texts: (model.tokens(texts, max_len), False))

    return _cached(dataset, encoder, fields, embed)


def encode_texts(
    dataset: RecDataset, encoder: str | Path, fields: str | Sequence[str] = ("title", "description")
) -> Features:
    """The vectors of all items' texts, from the settings' cache where they were computed before.

    The fields are text columns of ``dataset.items``; those that are not blank are joined by ``". "``. Raises the errors
    of ``load_encoder``, and a ValueError if there is no such field or the model encodes no texts.
    """
    fields = [fields] if isinstance(fields, str) else list(fields)
    known = [name for name, column in dataset.items.features.items() if getattr(column, "dtype", "") == "string"]
    if not fields or not set(fields) <= set(known):
        raise ValueError(f"{dataset.name}: no texts are in {fields}; they are in {', '.join(known)}")
    return _cached(dataset, encoder, fields, lambda model: embed_texts(_texts(dataset, fields), model))


def _texts(dataset: RecDataset, fields: Sequence[str]) -> list[str]:
    """The fields of each item that are not blank, joined."""
    rows = zip(*(dataset.items[field] for field in fields), strict=True)
    return [". ".join(part.strip() for part in row if part and part.strip()) for row in rows]


def _cached(
    dataset: RecDataset, encoder: str | Path, fields: list[str], embed: Callable[[Encoder], Features]
) -> Features:
    """Read features from the cache, or compute and write them; the model is loaded only to compute them."""
    key = json.dumps([FEATURES_VERSION, dataset.fingerprint, revision(find_checkpoint(encoder)), fields])
    name = re.sub(r"[^\w.-]+", "-", str(encoder))[-60:] + "-" + hashlib.sha256(key.encode()).hexdigest()[:16]
    path = load_settings().cache / "features" / f"{name}.npz"
    if path.exists():
        try:
            with np.load(path) as stored:  # checks each array's checksum
                if stored.get("key") == key:  # earlier versions wrote none
                    return Features(*(torch.from_numpy(stored[part]) for part in ("vectors", "present", "truncated")))
        except Exception:  # a damaged header makes it raise anything
            say_rebuilt(path)
    features = embed(load_encoder(encoder))
    with atomic(path) as part:
        np.savez(part, key=np.array(key), **{name: tensor.numpy() for name, tensor in vars(features).items()})
    return features


def embed_images(
    images: Sequence[Image.Image | None], encoder: str | Path | Encoder, encode: Callable | None = None
) -> Features:
    """The vectors of some images, by a method of the encoder; raises the errors of ``encode_images``."""
    model = load_encoder(encoder)
    encode = encode or model.images
    vectors = torch.zeros(len(images), *encode([Image.new("RGB", (32, 32))]).shape[1:])
    present = torch.zeros(len(images), dtype=torch.bool)
    starts = range(0, len(images), BATCH_SIZE)
    for start in progress(starts, desc=f"images, {Path(model.name).name}", unit="batch", delay=3):
        rows = enumerate(images[start : start + BATCH_SIZE], start)
        batch = {row: to_rgb(image) for row, image in rows if image is not None}
        if batch:
            vectors[list(batch)] = encode(list(batch.values()))
            present[list(batch)] = True
    return Features(vectors, present, torch.zeros_like(present))


def embed_texts(texts: Sequence[str | None], encoder: str | Path | Encoder, encode: Callable | None = None) -> Features:
    """The vectors of some texts, by a method of the encoder; raises the errors of ``encode_texts``."""
    model = load_encoder(encoder)
    encode = encode or model.texts
    stripped = [(text or "").strip() for text in texts]
    vectors = torch.zeros(len(texts), *encode(["a"])[0].shape[1:])
    truncated = torch.zeros(len(texts), dtype=torch.bool)
    # Texts of similar length share a batch, so that little of it is padding.
    order = sorted((row for row, text in enumerate(stripped) if text), key=lambda row: -len(stripped[row]))
    starts = range(0, len(order), BATCH_SIZE)
    for start in progress(starts, desc=f"texts, {Path(model.name).name}", unit="batch", delay=3):
        rows = order[start : start + BATCH_SIZE]
        vectors[rows], truncated[rows] = encode([stripped[row] for row in rows])
    return Features(vectors, torch.tensor([bool(text) for text in stripped], dtype=torch.bool), truncated)

"""photo-clip and photo-siglip: Lite0 and MiniLM, both frozen, aligned on photographs and their texts.

The photographs are flickr8k-train (five captions each) and hm-products (names and descriptions), in the folder
``MMREC_DATA_HOME``. What is trained are two projections of vectors that are computed once.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch.nn.functional import normalize

from mmrec_helpers.data.readers.files import existing
from mmrec_helpers.encoders.checkpoints import WEIGHTS, digests_of
from mmrec_helpers.encoders.features import embed_texts
from mmrec_helpers.encoders.models import AlignedEncoder, Projections, load_encoder, randomly_initialised
from mmrec_helpers.files import atomic, write_digests
from mmrec_helpers.lessons.overlap import info_nce, recall_at_k, sigmoid_loss
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import train
from pretraining.train import OneCycleConfig

SOURCES = {
    "flickr8k-train": ("captions.csv", "image", ("caption",)),
    "hm-products": ("items.csv", "item", ("title", "description")),
}
"""Folder of photographs -> its table, the column that names a photograph, and the columns of its texts."""
HELD_OUT_SOURCES = {"flickr8k-captions": ("captions.csv", "caption"), "hm-week": ("items.csv", "description")}
"""Folder of photographs that the encoders are measured on -> its table, and the column of texts that are not trained
on: some products of hm-products have the description of one in hm-week."""
LOSSES = ("clip", "siglip")
RANDOM_IMAGES, SHUFFLED = "random image encoder", "shuffled pairs"
"""Controls: features of a randomly initialised Lite0; texts of other photographs of the same source."""
NUM_VIEWS = 3
"""Of each photograph that are encoded: the whole of it, and random crops that may be mirrored."""
MIN_CROP = 0.5
"""Smallest part of a photograph's area in a crop."""
HELD_OUT = 0.05
"""Part of a source's photographs on which training is validated."""
STEPS, BATCH_SIZE, LR, DROPOUT, WEIGHT_DECAY = 800, 512, 2e-3, 0.2, 0.1
LICENCE = """\
These projections are derived from Flickr8k (photographs and captions, offered for non-commercial research) and from
product data of H&M (offered for non-commercial use). Use them for non-commercial purposes only. The encoders that they
belong to, EfficientNet-Lite0 and all-MiniLM-L6-v2, are under the Apache License 2.0.
"""
SIZES = {"hidden_dim": 512, "dim": 256}


@dataclass(frozen=True, eq=False)
class Pairs:
    """The vectors of one source's photographs and texts.

    Attributes:
        images: (N, V, D) vectors of V views, the whole photograph first.
        texts: (M, D') vectors of texts.
        rows: (M,) the photograph of each text.
        keys: (M,) equal where texts are.
    """

    images: torch.Tensor
    texts: torch.Tensor
    rows: np.ndarray
    keys: np.ndarray


# Vectors --------------------------------------------------------------------------------------------------------------


@cache
def source_pairs(source: str, random_images: bool = False) -> Pairs:
    """The vectors of a source, from the cache where they were computed before: about 30 photographs a second and core.

    The control with random images has no crops, which could not make up for a network that was never trained.

    Raises:
        FileNotFoundError: the source, lite0 or minilm is not on this machine.
    """
    _, photograph, columns = SOURCES[source]
    texts = read_table(table_of(source)).melt(photograph, columns, value_name="text")
    texts = texts[texts["text"].str.strip() != ""]
    rows, names = pd.factorize(texts[photograph])
    files = [table_of(source).parent / "images" / (Path(name).stem + ".jpg") for name in names]
    name = f"{source}-{digest(table_of(source).read_bytes(), MIN_CROP)}"
    views = [
        _cached(f"{name}-view{view}{'-random' * random_images}", view_vectors, files, view, random_images)
        for view in range(1 if random_images else NUM_VIEWS)
    ]
    vectors = _cached(f"{name}-texts", text_vectors, list(texts["text"]))
    images = torch.stack([torch.from_numpy(view) for view in views], dim=1)
    kept = ~texts["text"].isin(held_out_texts()).to_numpy()
    return Pairs(images, torch.from_numpy(vectors[kept]), rows[kept], pd.factorize(texts["text"])[0][kept])


def table_of(source: str) -> Path:
    """The table of a source's photographs and texts."""
    return Path(os.environ.get("MMREC_DATA_HOME", "")) / source / SOURCES[source][0]


def digest(*parts: object) -> str:
    """What a name in the cache ends with, so that nothing is read that was made of other data, or in another way."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file's columns as texts."""
    return pd.read_csv(existing(path), dtype=str, keep_default_na=False)


def held_out_texts() -> set[str]:
    """The texts of HELD_OUT_SOURCES."""
    home = Path(os.environ.get("MMREC_DATA_HOME", ""))
    tables = (read_table(home / source / table)[column] for source, (table, column) in HELD_OUT_SOURCES.items())
    return set().union(*tables)


def _cached(name: str, compute: Callable[..., np.ndarray], *arguments: object) -> np.ndarray:
    """An array of the cache folder ``photo``, computed where it is missing."""
    path = load_settings().cache / "photo" / f"{name}.npy"
    if not path.exists():
        array = compute(*arguments)
        with atomic(path) as part:
            np.save(part, array)
    return np.load(path)


def view_vectors(files: list[Path], view: int, random_images: bool) -> np.ndarray:
    """(N, D) float16 vectors of one view of photographs by Lite0's stages."""
    encoder = randomly_initialised("lite0") if random_images else load_encoder("lite0")
    vectors, rng = [], np.random.default_rng(view)
    for start in progress(range(0, len(files), 64), desc=f"view {view}", unit="batch"):
        images = [Image.open(path).convert("RGB") for path in files[start : start + 64]]
        vectors.append(encoder.stages([crop(image, rng) if view else image for image in images]).half())
    return torch.cat(vectors).numpy()


def text_vectors(texts: list[str]) -> np.ndarray:
    """(M, D) float32 vectors of texts by MiniLM."""
    return embed_texts(texts, "minilm").vectors.numpy()


def crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random part of a photograph of the same proportions, mirrored or not."""
    side = np.sqrt(rng.uniform(MIN_CROP, 1))
    width, height = round(side * image.width), round(side * image.height)
    left, top = (int(rng.integers(room + 1)) for room in (image.width - width, image.height - height))
    part = image.crop((left, top, left + width, top + height))
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


# Training -------------------------------------------------------------------------------------------------------------


def train_projections(loss: str, seed: int, control: str = "") -> tuple[Projections, float]:
    """Align both encoders by the loss of matched pairs.

    A batch has one source only: between sources, pairs are too easy to tell apart. The step with the best mean recall@1
    among the held-out photographs of both sources is kept.

    Args:
        loss: ``clip`` (InfoNCE) or ``siglip`` (sigmoid loss).
        seed: of initialisation, held-out photographs, batches and views.
        control: RANDOM_IMAGES or SHUFFLED.

    Returns:
        The projections, and the minutes of training, without those of the vectors.
    """
    sources = [source_pairs(source, control == RANDOM_IMAGES) for source in SOURCES]
    rng = np.random.default_rng(seed)
    held_out = [rng.random(len(pairs.images)) < HELD_OUT for pairs in sources]
    if control == SHUFFLED:
        sources = [replace(pairs, rows=rng.permutation(pairs.rows)) for pairs in sources]
    torch.manual_seed(seed)
    model = Projections(sources[0].images.shape[2], sources[0].texts.shape[1], **SIZES, dropout=DROPOUT)
    torch.nn.init.constant_(model.logit_scale, np.log(10))
    torch.nn.init.constant_(model.logit_bias, -10 if loss == "siglip" else 0)
    training = [np.flatnonzero(~out[pairs.rows]) for pairs, out in zip(sources, held_out, strict=True)]
    share = np.array([len(texts) for texts in training]) / sum(map(len, training))

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng([seed, step])
        source = rng.choice(len(sources), p=share)
        images, texts = sample_batch(sources[source], training[source], rng)
        images, texts, scale = model.image(images), model.text(texts), model.logit_scale.exp()
        return (
            info_nce(images, texts, 1 / scale)
            if loss == "clip"
            else sigmoid_loss(images, texts, scale, model.logit_bias)
        )

    def validate() -> float:
        found = (recall_at_1(model, pairs, out) for pairs, out in zip(sources, held_out, strict=True))
        return float(np.mean(list(found)))

    config = OneCycleConfig(STEPS, LR, WEIGHT_DECAY, warmup_steps=0, validate_every=100, patience=STEPS, seed=seed)
    history = train(model, loss_of, config, validate, name=f"photo-{loss}")
    return model, history.seconds / 60


def sample_batch(pairs: Pairs, texts: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, D) vectors of photographs, each in one of its views, and (B, D') of their texts; no text occurs twice.

    Args:
        pairs: of a source.
        texts: rows of the texts among which B are sampled.
        rng: the only source of randomness.
    """
    sampled = rng.choice(texts, min(BATCH_SIZE, len(texts)), replace=False)
    sampled = sampled[np.unique(pairs.rows[sampled], return_index=True)[1]]  # other texts of it would be negatives
    sampled = sampled[np.unique(pairs.keys[sampled], return_index=True)[1]]
    views = rng.integers(pairs.images.shape[1], size=len(sampled))
    return pairs.images[pairs.rows[sampled], views].float(), pairs.texts[sampled]


@torch.inference_mode()
def recall_at_1(model: Projections, pairs: Pairs, chosen: np.ndarray) -> float:
    """Share of the chosen photographs, (N,) bool, whose last text is the most similar one of all last texts of them."""
    last = {row: text for text, row in enumerate(pairs.rows) if chosen[row]}
    images = normalize(model.image(pairs.images[list(last), 0].float()))
    return recall_at_k((images @ normalize(model.text(pairs.texts[list(last.values())])).T).numpy(), 1)


# Folders --------------------------------------------------------------------------------------------------------------


def photo_encoder(loss: str, seed: int, control: str = "") -> AlignedEncoder:
    """The encoder of a loss and a seed; trained where it is not in the cache.

    Args:
        loss: one of LOSSES.
        seed: of everything random.
        control: RANDOM_IMAGES or SHUFFLED.

    Raises:
        FileNotFoundError: the photographs, lite0 or minilm are not on this machine.
    """
    recipe = (SIZES, STEPS, BATCH_SIZE, LR, DROPOUT, WEIGHT_DECAY, NUM_VIEWS, MIN_CROP, HELD_OUT, control)
    made_of = digest(*recipe, *(existing(table_of(source)).read_bytes() for source in SOURCES))
    folder = load_settings().cache / "photo" / f"{loss}-{seed}-{made_of}"
    if not folder.exists():
        model, minutes = train_projections(loss, seed, control)
        save(folder, model, minutes)
    encoder = load_encoder(folder)
    assert isinstance(encoder, AlignedEncoder)
    if control == RANDOM_IMAGES:
        encoder.image_encoder = randomly_initialised("lite0")
    return encoder


def save(folder: Path, model: Projections, minutes: float) -> None:
    """Write a folder that ``load_encoder`` reads."""
    dims = {"image_dim": model.image[2].in_features, "text_dim": model.text[2].in_features, **SIZES}
    with atomic(folder) as part:
        part.mkdir()
        config = {"model_type": "aligned", "image": "lite0", "text": "minilm", **dims}
        (part / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        weights = {name: weight.half() if weight.ndim else weight for name, weight in model.state_dict().items()}
        save_file(weights, part / "model.safetensors")
        (part / "stamp.json").write_text(json.dumps({"minutes": round(minutes, 1)}, indent=1) + "\n")


def photo_model(name: str) -> None:
    """Train ``photo-clip`` or ``photo-siglip`` with seed 0, and write its folder among the pretrained ones."""
    loss = name.removeprefix("photo-")
    shutil.copytree(photo_encoder(loss, 0).folder, WEIGHTS / name, dirs_exist_ok=True)
    (WEIGHTS / name / "LICENCE.txt").write_text(LICENCE)
    write_digests(WEIGHTS / name, digests_of(name))

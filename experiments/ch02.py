"""Chapter 2's cells: how far image and description overlap."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from experiments.cells import Cell
from experiments.datasets import POCKET, SEEDS, Unavailable, data_home, open_data, stamp_of
from experiments.overlap import ATTRIBUTES, embed_captions, study_caption_swaps, study_probes, study_sigmoid
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.features import Features, embed_images, embed_texts
from mmrec_helpers.encoders.models import Encoder, load_encoder, randomly_initialised
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch02 import groups_of, study_features, study_overlap, subsample_items, sweep_parameter
from pretraining.photo import RANDOM_IMAGES, SHUFFLED, photo_encoder

STUDY, OVERLAP, SWAPS, FLICKR = "ch02", "overlap", "caption swaps", "flickr8k"
SWEEPS = {"overlap": (0.0, 0.25, 0.5, 0.75, 1.0), "noise": (0.0, 1.0)}
"""Parameter of the Pocket Shop -> its values."""
PHOTOS, PROBES = "photographs", "probes"
"""Protocols of encoders of photographs: overlap (by SigLIP with its sigmoid similarities), and linear probes."""
HM_WEEK, REAL = "hm-week", ("hm-week", "movielens", FLICKR)
LOSSES = {"photo-clip": "clip", "photo-siglip": "siglip"}
"""Encoder of photographs -> the loss that its projections are trained by; a cell's seed is that of this training."""
CONTROLS = {f"photo-clip, {control}": control for control in (RANDOM_IMAGES, SHUFFLED)}
"""photo-clip trained on what gives it nothing to align -> the control's name in its recipe."""
BACKBONES = "lite0 and minilm"
"""photo-clip without its projections."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``. The pocket models are trained on drawings only: on photographs they are negative controls."""
    models, cell = load_settings().models, partial(Cell, study=STUDY)
    clip, siglip = models["clip"], models["siglip"]
    cells = []
    for seed in SEEDS:
        shop = partial(cell, data=POCKET, seed=seed)
        cells += [shop(protocol=OVERLAP, system=encoder) for encoder in (clip, siglip)]
        cells += [
            shop(protocol=f"{name} sweep", system=clip, hyperparameters={name: value})
            for name, values in SWEEPS.items()
            for value in values
        ]
        cells.append(shop(protocol=SWAPS, system=clip))
    cells += [
        cell(data=name, protocol=OVERLAP, system=encoder)
        for name in ("movielens", FLICKR)
        for encoder in (clip, siglip)
    ]
    photo = [partial(cell, system=system, seed=seed) for system in LOSSES for seed in SEEDS]
    controls = [partial(cell, system=system) for system in CONTROLS]
    cells += [encoder(data=name, protocol=PHOTOS) for name in REAL for encoder in photo + controls]
    return cells + [encoder(data=HM_WEEK, protocol=PROBES) for encoder in [*photo, partial(cell, system=BACKBONES)]]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    for cell in cells:
        yield cell, study(cell)


def study(cell: Cell) -> Run:
    """What a cell has found."""
    if cell.protocol in (PHOTOS, PROBES):
        return study_photographs(cell)
    if cell.data == FLICKR:
        return Run.unranked({}, study_features(*photo_captions(load_encoder(cell.system))))
    dataset, truth, _ = open_data(cell.data, cell.seed)
    if cell.hyperparameters:  # of a shop that is generated for it
        ((name, value),) = cell.hyperparameters.items()
        (found,) = sweep_parameter(name, (value,), load_encoder(cell.system), cell.seed, "laptop").values()
        return Run.unranked({}, found)
    if cell.protocol == SWAPS:
        assert truth is not None
        return Run.unranked(stamp_of(dataset), study_caption_swaps(dataset, truth, load_encoder(cell.system)))
    return Run.unranked(stamp_of(dataset), study_overlap(dataset, truth, cell.system))


# Photographs ----------------------------------------------------------------------------------------------------------


def study_photographs(cell: Cell) -> Run:
    """What a cell with an encoder of photographs has found.

    Raises:
        Unavailable: the data or a model is not on this machine.
    """
    try:
        images, texts, groups = photo_features(cell.data, cell.system, cell.seed)
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error
    stamp = {} if cell.data == FLICKR else stamp_of(open_data(cell.data, 0)[0])
    if cell.protocol == PROBES:
        items = photo_items(cell.data).items
        labels = {name: np.array(items[name], str) for name in ATTRIBUTES}
        return Run.unranked(stamp, study_probes(images, texts, labels))
    found = study_features(images, texts, groups)
    if cell.system == "photo-siglip":
        model = load_photo(cell.system, cell.seed).model
        scale, bias = model.logit_scale.exp().item(), model.logit_bias.item()
        found["sigmoid"] = study_sigmoid(images, texts, groups, scale, bias)
    return Run.unranked(stamp, found)


@cache  # overlap and probes are of the same vectors
def photo_features(data: str, system: str, seed: int) -> tuple[Features, Features, dict[str, np.ndarray]]:
    """Images, texts and ``control_groups`` of a data set with photographs."""
    encoder = load_photo(system, seed)
    if data == FLICKR:
        return photo_captions(encoder)
    items = photo_items(data).items
    return embed_images(items["image"], encoder), embed_texts(items["description"], encoder), groups_of(items, None)


def photo_captions(encoder: Encoder) -> tuple[Features, Features, dict[str, np.ndarray]]:
    """The held-out photographs of Flickr8k, with one caption each; there are no categories."""
    images, texts = embed_captions(data_home() / "flickr8k-captions", encoder)
    return images, texts, {"random": np.zeros(len(images.vectors))}


@cache
def photo_items(data: str) -> RecDataset:
    """The items of a data set that are studied."""
    return subsample_items(open_data(data, 0)[0])


@lru_cache(maxsize=1)  # each has its own MiniLM
def load_photo(system: str, seed: int) -> Encoder:
    """An encoder of photographs, whose projections were trained with a seed."""
    control = CONTROLS.get(system, "")
    encoder = photo_encoder(LOSSES.get(system, "clip"), seed, control)
    encoder.image_encoder = lite0(control == RANDOM_IMAGES)
    if system == BACKBONES:
        encoder.model.image = encoder.model.text = torch.nn.Identity()
    return encoder


class StagesMemory(Encoder):
    """An image encoder that keeps the vectors of the images it has seen.

    Args:
        encoder: whose ``stages`` are kept.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder.folder, encoder.name)
        self.encoder = encoder
        self.vectors: dict[bytes, torch.Tensor] = {}

    def stages(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, D) as of the encoder."""
        keys = [hashlib.sha256(image.tobytes()).digest() for image in images]
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in self.vectors}
        if new:
            self.vectors.update(zip(new, self.encoder.stages(list(new.values())), strict=True))
        return torch.stack([self.vectors[key] for key in keys])


@cache
def lite0(is_random: bool) -> StagesMemory:
    """The frozen image encoder, which all encoders of photographs share."""
    return StagesMemory(randomly_initialised("lite0") if is_random else load_encoder("lite0"))

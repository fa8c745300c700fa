"""Chapter 8's cells: the best systems of chapters 3 and 4 where half of the images are missing or texts are noisy."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import datasets
import numpy as np

from experiments import ch03, ch04
from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, SEEDS, benchmark_data
from experiments.expressions import noisy_descriptions
from experiments.illm_variants import missing_images
from experiments.systems import chosen_settings, run_system
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.registry import build_system, system_inputs
from mmrec_helpers.recommenders.tuning import Settings
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import ABLATIONS, build_variant, decoder_inputs

STUDY, BEST, CONTENT = "ch08", "GRU4Rec_F, both", "content, both"
"""The best system of chapter 3 with images and texts, and one that learns nothing; beside chapter 4's decoder."""
MISSING, NOISY = "half of the images missing", "noisy descriptions"
"""What ends the name of a system: the images of the same items are missing as in chapter 5's system of this name; or
sentences of other items double the words of each description. Systems are trained and tested on such items."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    family = "GRU4Rec_F"
    chosen: dict[str, Settings | None] = {
        ch04.DECODER: chosen_settings(ch04.STUDY, runs, ch04.DECODER, ch04.DECODER),
        BEST: chosen_settings(ch03.STUDY, runs, ch03.TUNED[family], family),
        CONTENT: {},
    }
    return [
        Cell(
            study=STUDY, data=POCKET, seed=seed, split=LEAVE_ONE_OUT, part="test", protocol="full",
            system=f"{name}, {condition}", hyperparameters=settings,
        )
        for seed in SEEDS for name, settings in chosen.items() if settings is not None for condition in (MISSING, NOISY)
    ]  # fmt: skip


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    yield from run_system(partial(build, cells[0]), cells, checkpoint)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    name, _, condition = cell.system.rpartition(", ")
    dataset, settings = degraded(cell.seed, condition), replace(load_settings(), seed=cell.seed)
    if name == ch04.DECODER:
        inputs = decoder_inputs(dataset, settings)
        return build_variant(cell.system, ABLATIONS[name], inputs, settings, **cell.hyperparameters)
    features = system_inputs(dataset, settings.models["clip"])
    return build_system(name, features, cell.seed, name=cell.system, **cell.hyperparameters)


@cache
def degraded(seed: int, condition: str) -> RecDataset:
    """A shop under one of the conditions."""
    dataset = benchmark_data(POCKET, seed)
    if condition == NOISY:
        return noisy_descriptions(dataset, 1.0)
    missing = missing_images(dataset, np.random.default_rng(seed))
    images = dataset.items.cast_column("image", datasets.Image(decode=False))["image"][:]
    kept = [None if item in missing else image for item, image in enumerate(images, start=1)]
    items = dataset.items.remove_columns("image").add_column("image", kept, feature=dataset.items.features["image"])
    return replace(dataset, items=items)

"""Chapter 2's cells: how far image and description overlap."""

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from experiments.cells import Cell
from experiments.datasets import POCKET, SEEDS, Unavailable, open_data
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch02 import study_caption_swaps, study_captions, study_overlap, sweep_parameter

STUDY, OVERLAP, SWAPS, FLICKR = "ch02", "overlap", "caption swaps", "flickr8k"
SWEEPS = {"overlap": (0.0, 0.25, 0.5, 0.75, 1.0), "noise": (0.0, 1.0)}
"""Parameter of the Pocket Shop -> its values."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``. The pocket models know drawings only: on photographs theirs are negative controls."""
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
    return cells + [
        cell(data=name, protocol=OVERLAP, system=encoder)
        for name in ("movielens", FLICKR)
        for encoder in (clip, siglip)
    ]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    none = np.zeros(0, np.int64)
    for cell in cells:
        yield cell, Run(none, none[:, None], none[:, None], None, scalars=study(cell))


def study(cell: Cell) -> dict:
    """What a cell has found."""
    if cell.data == FLICKR:
        if "MMREC_DATA_HOME" not in os.environ:
            raise Unavailable("set MMREC_DATA_HOME to the folder that holds the real data sets")
        return study_captions(Path(os.environ["MMREC_DATA_HOME"]) / "flickr8k-captions", load_encoder(cell.system))
    if cell.hyperparameters:
        ((name, value),) = cell.hyperparameters.items()
        (found,) = sweep_parameter(name, (value,), load_encoder(cell.system), cell.seed, "laptop").values()
        return found
    dataset, truth, _ = open_data(cell.data, cell.seed)
    if cell.protocol == SWAPS:
        assert truth is not None
        return study_caption_swaps(dataset, truth, load_encoder(cell.system))
    return study_overlap(dataset, truth, cell.system)

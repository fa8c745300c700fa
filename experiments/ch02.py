"""Chapter 2's cells: how far image and description overlap."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from experiments.cells import Cell
from experiments.datasets import POCKET, SEEDS, data_home, open_data, stamp_of
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
    for cell in cells:
        yield cell, study(cell)


def study(cell: Cell) -> Run:
    """What a cell has found."""
    if cell.data == FLICKR:
        return Run.unranked({}, study_captions(data_home() / "flickr8k-captions", load_encoder(cell.system)))
    dataset, truth, _ = open_data(cell.data, cell.seed)
    if cell.hyperparameters:  # of a shop that is generated for it
        ((name, value),) = cell.hyperparameters.items()
        (found,) = sweep_parameter(name, (value,), load_encoder(cell.system), cell.seed, "laptop").values()
        return Run.unranked({}, found)
    if cell.protocol == SWAPS:
        assert truth is not None
        return Run.unranked(stamp_of(dataset), study_caption_swaps(dataset, truth, load_encoder(cell.system)))
    return Run.unranked(stamp_of(dataset), study_overlap(dataset, truth, cell.system))

"""Chapter 7's cells: recommenders on graphs and on the fields of items, with a control whose features are shuffled.

And those of modules of their own: a large event log.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from experiments import ch03, event_log
from experiments.cells import TIMING, Cell
from experiments.datasets import IMAGE_ENCODERS, LEAVE_ONE_OUT, POCKET, SEEDS, TEMPORAL, require_model
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.features import shuffled_items
from mmrec_helpers.recommenders.registry import GRAPHS, build_system
from mmrec_helpers.settings import load_settings

STUDY = "ch07"
SHUFFLED = ", shuffled features"
"""What the names of the controls end with: every item has the features of another one, the same in all modalities."""
TUNED = {spec.name: spec.family for spec in GRAPHS}
CONTROLS = tuple(spec.name + SHUFFLED for spec in GRAPHS if spec.features)
"""With the settings of the system whose control they are."""
PLACES = [
    *((POCKET, seed, split) for split in (LEAVE_ONE_OUT, TEMPORAL) for seed in SEEDS),
    ("movielens", 0, LEAVE_ONE_OUT),
]
"""Data, seed and split."""
SAMPLED = ("100 uniform", "20 uniform")
"""Protocols beside the full ranking, with leave-one-out: chapter 3's, and MLLM-MSR's 21 candidates."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = plan_tuning(STUDY, runs, TUNED)
    for name in (*TUNED, *CONTROLS):
        tuned = name.removesuffix(SHUFFLED)
        if (settings := chosen_settings(STUDY, runs, tuned, TUNED[tuned])) is None:
            continue
        for data, seed, split in PLACES:
            cell = partial(Cell, study=STUDY, data=data, seed=seed, split=split, system=name, hyperparameters=settings)
            protocols = ("full", *SAMPLED) if split == LEAVE_ONE_OUT else ("full",)
            cells += [cell(part="test", protocol=protocol) for protocol in protocols]
            if (data, seed, split) == PLACES[0] and name in TUNED:
                cells.append(cell(protocol=TIMING))
    return [*cells, event_log.CELL]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    if cells[0] == event_log.CELL:
        yield cells[0], event_log.run_event_log(cells[0])
        return
    yield from run_system(partial(build, cells[0]), cells, checkpoint)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    encoder = IMAGE_ENCODERS.get(cell.data, load_settings().models["clip"])
    require_model(encoder)
    name, features = cell.system.removesuffix(SHUFFLED), ch03.inputs(cell.data, cell.seed, encoder)
    if name == cell.system:
        return build_system(name, features, cell.seed, **cell.hyperparameters)
    shuffled = {
        key: shuffled_items(np.asarray(features[key]), np.random.default_rng(0))  # the same order in both
        for key in ("text", "image")
    }
    return build_system(name, shuffled, cell.seed, name=cell.system, **cell.hyperparameters)

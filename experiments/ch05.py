"""Chapter 5's cells: item expressions under one LLM and one head, controls without it, components, strategies."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, SEEDS, TEMPORAL, benchmark_split
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch05 import CONTROLS, EXPRESSED, VARIANTS, build_variant, collaborative_features

STUDY, FAMILY = "ch05", "I-LLMRec"
TUNED = ("I-LLMRec", "no LLM")
"""The two that are compared, each with a search of its own; all others take what is best for I-LLMRec."""
MAIN = (*EXPRESSED, *CONTROLS)
"""Systems on three shops, and on both splits of the first; the others are on the first shop's leave-one-out split."""
PROTOCOLS = ("full", "100 uniform")
TIMED = ("I-LLMRec", "TALLRec", "TRSR", "full description", "no LLM")


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = plan_tuning(STUDY, runs, dict.fromkeys(TUNED, FAMILY))
    chosen = {name: chosen_settings(STUDY, runs, name, FAMILY) for name in TUNED}
    for seed, split in [*((seed, LEAVE_ONE_OUT) for seed in SEEDS), (0, TEMPORAL)]:
        is_first = seed == 0 and split == LEAVE_ONE_OUT
        for name in VARIANTS if is_first else MAIN:
            if (settings := chosen[name if name in TUNED else FAMILY]) is None:
                continue
            tested = partial(Cell, study=STUDY, data=POCKET, seed=seed, split=split, system=name)
            protocols = PROTOCOLS if split == LEAVE_ONE_OUT else PROTOCOLS[:1]
            cells += [tested(part="test", protocol=protocol, hyperparameters=settings) for protocol in protocols]
            if is_first and name in TIMED:
                cells.append(tested(protocol=TIMING, hyperparameters=settings))
    return cells


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    yield from run_system(partial(build, cells[0]), cells, checkpoint)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    split = benchmark_split(cell.data, cell.seed, cell.split)
    settings, cf = replace(load_settings(), seed=cell.seed), collaborative(cell.data, cell.seed, cell.split)
    return build_variant(cell.system, VARIANTS[cell.system], split, cf, settings, **cell.hyperparameters)


@cache
def collaborative(data: str, seed: int, split: str) -> np.ndarray:
    """The collaborative features of the benchmark's items."""
    return collaborative_features(benchmark_split(data, seed, split), seed=seed)

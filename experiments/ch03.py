"""Chapter 3's cells: every system tuned and tested on all data sets and splits; the released preprocessing."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.bayes_ceiling import BayesCeiling
from experiments.cells import TIMING, Cell
from experiments.datasets import (
    IMAGE_ENCODERS,
    LEAVE_ONE_OUT,
    NEXT_DAY,
    POCKET,
    SEEDS,
    TEMPORAL,
    benchmark_data,
    benchmark_split,
    open_data,
    require_model,
    stamp_of,
)
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.data.dataset import Split
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.protocols import FullRanking, Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.ceilings import Oracle
from mmrec_helpers.recommenders.registry import SYSTEMS, Inputs, build_system, system_inputs
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.recommenders.tuning import SPACES
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch03 import preprocessing_runs

STUDY = "ch03"
SAMPLED = ("100 uniform", "100 by popularity", "20 uniform")
LACKS = {
    "movielens": {"reviews"},
    "gift-cards": {"images"},
    "microlens": {"images", "reviews", "times"},
    "hm-week": {"reviews"},
}
"""Real data set of the benchmark -> what of the systems' needs it lacks."""
BENCHMARKS = [
    *((POCKET, seed, split) for split in (LEAVE_ONE_OUT, TEMPORAL) for seed in SEEDS),
    *((name, 0, LEAVE_ONE_OUT) for name in LACKS if name != "hm-week"),
    ("hm-week", 0, NEXT_DAY),
]
"""Data, seed and split of the benchmark. The days of hm-week have no order, so it has baskets."""
BY_LITE0 = ", lite0"
"""What the names of systems end with that are also run on hm-week by image features of lite0."""
NUM_INFERRED = 600
"""Shoppers for whom the Bayes ceiling is computed: the first that have a test purchase."""
CEILINGS = (Oracle.name, BayesCeiling.name)
PREPROCESSING = "released preprocessing"
TUNED = {system.family: system.name for system in SYSTEMS if system.family in SPACES}
"""Family -> the system by which it is tuned, its last."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = plan_tuning(STUDY, runs, {system: family for family, system in TUNED.items()})
    chosen = {family: chosen_settings(STUDY, runs, system, family) for family, system in TUNED.items()}
    for data, seed, split in BENCHMARKS:
        place: dict[str, Any] = {"study": STUDY, "data": data, "seed": seed, "split": split}
        for system in SYSTEMS:
            settings = chosen.get(system.family, {})
            if settings is None or system.needs & LACKS.get(data, set()):
                continue
            tested = partial(Cell, **place, system=system.name, hyperparameters=settings)
            protocols = ("full", *SAMPLED) if split == LEAVE_ONE_OUT else ("full",)
            if split == NEXT_DAY:
                protocols = ("full, basket",)
                if "images" in system.needs:
                    cells.append(replace(tested(part="test", protocol=protocols[0]), system=system.name + BY_LITE0))
            cells += [tested(part="test", protocol=protocol) for protocol in protocols]
            if (data, seed, split) == BENCHMARKS[0]:
                cells.append(tested(protocol=TIMING))
        if data == POCKET:
            cells += [Cell(**place, part="test", protocol="full", system=name) for name in CEILINGS]
    sets = [(POCKET, seed) for seed in SEEDS] + [("movielens", 0), ("microlens", 0)]
    cells += [
        Cell(study=STUDY, data=data, seed=seed, protocol=PREPROCESSING, system=f"popularity, {target}")
        for data, seed in sets
        for target in ("released target", "last item")
    ]
    return cells


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    first = cells[0]
    if first.protocol == PREPROCESSING:
        (run,) = [run for run in preprocessing_runs(open_data(first.data, first.seed)[0]) if run.system == first.system]
        yield first, run
        return
    if first.system in CEILINGS:
        yield first, ceiling_run(first)
        return
    values_of = first_item_confidence if first.system.startswith("SASRec") else None
    yield from run_system(partial(build, first), cells, checkpoint, values_of)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    name = cell.system.removesuffix(BY_LITE0)
    encoder = "lite0" if name != cell.system else IMAGE_ENCODERS.get(cell.data, load_settings().models["clip"])
    require_model(encoder)
    return build_system(name, inputs(cell.data, cell.seed, encoder), cell.seed, **cell.hyperparameters)


def ceiling_run(cell: Cell, kind: type[Oracle] | None = None, num_queries: int | None = None) -> Run:
    """The run of a ceiling under full ranking; of the Bayes ceiling for the first NUM_INFERRED test queries.

    Args:
        cell: whose system is one of CEILINGS.
        kind: another ceiling.
        num_queries: for which that is computed; for all if None.
    """
    truth, split = open_data(cell.data, cell.seed)[1], benchmark_split(cell.data, cell.seed, cell.split)
    assert truth is not None
    if kind is None:
        kind, num_queries = (Oracle, None) if cell.system == Oracle.name else (BayesCeiling, NUM_INFERRED)
    queries = split.queries("test").take(slice(num_queries))
    whole = split.queries("test", split.dataset.num_interactions).take(slice(num_queries))
    ranks = TargetRanks.of(kind(truth).fit(split).score(queries), queries.targets[:, :1], whole.histories)
    stamp = stamp_of(split.dataset) | {"protocol options": asdict(FullRanking()), "targets": 1}
    none = np.zeros((len(queries), 0), np.int64)
    return Run(queries.users, none, queries.targets[:, :1], ranks, stamp)


@cache
def inputs(data: str, seed: int, encoder: str) -> Inputs:
    """The features of the benchmark's items, of their images by an encoder."""
    return system_inputs(benchmark_data(data, seed), encoder)


def first_item_confidence(system: SASRec, split: Split) -> dict[str, np.ndarray]:
    """What a SASRec says of its first item for each test query: (N,) ``confidence``, (N,) ``first is next`` (0 or 1).

    The confidence is a probability: with full cross-entropy a softmax over the catalogue, with the binary losses a
    sigmoid of the item's score.
    """
    queries = split.queries("test")
    probabilities, correct = [], []
    for start in range(0, len(queries), 1000):  # bounds memory
        batch = queries.take(slice(start, start + 1000))
        scores = np.asarray(system.score(batch))[:, 1:].astype(float)
        first = scores.argmax(axis=1)
        best = scores[np.arange(len(first)), first]
        inverse = np.exp(scores - best[:, None]).sum(axis=1) if system.loss == "ce" else 1 + np.exp(-best)
        probabilities.append(1 / inverse)
        correct.append(first + 1 == batch.targets[:, 0])
    return {
        "confidence": np.concatenate(probabilities).round(4),  # few digits, which records store in little space
        "first is next": np.concatenate(correct).astype(float),
    }

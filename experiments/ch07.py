"""Chapter 7's cells: recommenders on fused words and patches, on graphs and on fields, each with a shuffled control.

And those of modules of their own: a large event log.
"""

from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path

import numpy as np

from experiments import ch03, event_log
from experiments.cells import TIMING, Cell
from experiments.datasets import (
    IMAGE_ENCODERS,
    LEAVE_ONE_OUT,
    POCKET,
    SEEDS,
    TEMPORAL,
    benchmark_data,
    benchmark_split,
    require_model,
)
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.data.dataset import Split
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.fusion import FUSIONS
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.features import shuffled_items
from mmrec_helpers.recommenders.fusion import FusionRecommender, fusion_inputs
from mmrec_helpers.recommenders.popularity import PopularityAdjusted
from mmrec_helpers.recommenders.registry import GRAPHS, build_system
from mmrec_helpers.settings import load_settings

STUDY = "ch07"
SHUFFLED = ", shuffled features"
"""What the names of the controls end with: every item has the features of another one, the same in all modalities."""
GRAPH_SYSTEMS = {spec.name: spec.family for spec in GRAPHS}
FUSED = {f"MLLM, {fusion}": "MLLM" for fusion in FUSIONS}
"""The MLLM recommender with each fusion -> its family."""
TUNED = GRAPH_SYSTEMS | FUSED
SHUFFLED_IMAGES = ", shuffled images"
"""What the name of the control of its first fusion ends with: every item has the image of another one."""
CONTROLS = (*(spec.name + SHUFFLED for spec in GRAPHS if spec.features), next(iter(FUSED)) + SHUFFLED_IMAGES)
"""With the settings of the system whose control they are."""
ENCODERS = {"movielens": ("minilm", "lite0")}
"""Real data set -> encoders of words and of patches; the Pocket Shop has ``pocket-sbert`` and ``pocket-clip``."""
MAX_WORDS = 32
STRENGTHS = (0.25, 0.5, 1.0)
ADJUSTED = ("LightGCN", next(iter(FUSED)))
"""Systems that are also tested with these strengths of ``PopularityAdjusted``, as ``full; popularity 0.5``."""
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
        tuned = without_control(name)
        if (settings := chosen_settings(STUDY, runs, tuned, TUNED[tuned])) is None:
            continue
        for data, seed, split in PLACES:
            cell = partial(Cell, study=STUDY, data=data, seed=seed, split=split, system=name, hyperparameters=settings)
            protocols = ["full", *SAMPLED] if split == LEAVE_ONE_OUT else ["full"]
            if name in ADJUSTED and (data, split) == (POCKET, LEAVE_ONE_OUT):
                protocols += [f"full; popularity {strength:g}" for strength in STRENGTHS]
            cells += [cell(part="test", protocol=protocol) for protocol in protocols]
            if (data, seed, split) == PLACES[0] and name in TUNED:
                cells.append(cell(protocol=TIMING))
    return [*cells, event_log.CELL]


def without_control(name: str) -> str:
    """The system whose control it is, or itself."""
    return name.removesuffix(SHUFFLED).removesuffix(SHUFFLED_IMAGES)


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    if cells[0] == event_log.CELL:
        yield cells[0], event_log.run_event_log(cells[0])
        return
    split = benchmark_split(cells[0].data, cells[0].seed, cells[0].split)
    yield from run_system(partial(build, cells[0]), cells, checkpoint, under=partial(under, split))


def under(split: Split, system: BaseRecommender, condition: str) -> BaseRecommender:
    """The fitted system itself, or with the strength of an adjustment."""
    if not condition:
        return system
    adjusted = PopularityAdjusted(system, float(condition.removeprefix("popularity ")))
    adjusted.count(split)
    return adjusted


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    name = without_control(cell.system)
    if name in FUSED:
        return fused(cell, name.removeprefix("MLLM, "))
    encoder = IMAGE_ENCODERS.get(cell.data, load_settings().models["clip"])
    require_model(encoder)
    features = ch03.inputs(cell.data, cell.seed, encoder)
    if name == cell.system:
        return build_system(name, features, cell.seed, **cell.hyperparameters)
    shuffled = {key: reordered(np.asarray(features[key])) for key in ("text", "image")}
    return build_system(name, shuffled, cell.seed, name=cell.system, **cell.hyperparameters)


def fused(cell: Cell, fusion: str) -> FusionRecommender:
    """The MLLM recommender of a cell, not yet fitted."""
    words, patches = tokens(cell.data, cell.seed).values()
    if cell.system.endswith(SHUFFLED_IMAGES):
        patches = reordered(patches)
    return FusionRecommender(
        words=words, patches=patches, fusion=fusion, seed=cell.seed, name=cell.system, **cell.hyperparameters
    )


def reordered(features: np.ndarray) -> np.ndarray:
    """Of another item each, in the same order whatever the modality."""
    return shuffled_items(features, np.random.default_rng(0))


@cache
def tokens(data: str, seed: int) -> dict[str, np.ndarray]:
    """Words and patches of the items."""
    encoders = ENCODERS.get(data, ("pocket-sbert", "pocket-clip"))
    for encoder in encoders:
        require_model(encoder)
    return fusion_inputs(benchmark_data(data, seed), *encoders, MAX_WORDS)

"""Cells of recommenders: fit one, evaluate it on the parts and under the protocols of its cells."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_data, benchmark_split, stamp_of
from experiments.record import checkpoints
from mmrec_helpers.data.dataset import Split
from mmrec_helpers.evaluation import metrics
from mmrec_helpers.evaluation.protocols import FullRanking, Recommender, SampledNegatives, evaluate_protocols
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.features import text_features
from mmrec_helpers.recommenders.tuning import SPACES, Settings, Trial, best_settings

PROTOCOLS: dict[str, tuple[FullRanking | SampledNegatives, int]] = {
    "full": (FullRanking(), 1),
    "full, next 5": (FullRanking(), 5),
    "full, basket": (FullRanking(), 100),
    "same category": (FullRanking(same_category=True), 1),
    "100 uniform": (SampledNegatives(100), 1),
    "100 by popularity": (SampledNegatives(100, "popularity"), 1),
    "20 uniform": (SampledNegatives(20), 1),
    "100 uniform, next 5": (SampledNegatives(100), 5),
    "20 uniform, next 5": (SampledNegatives(20), 5),
}
"""Protocol of a cell -> what the targets are ranked against, and how many of a user's next items are targets. A
condition may follow it, as in ``full; window 256``, see ``run_system``."""
VALID, TEST = ("valid", "full"), [("test", "full"), ("test", "full, basket")]
"""Part and protocol by which settings are chosen; those of every table's headline, whose runs have the most to tell."""


# Plans ----------------------------------------------------------------------------------------------------------------


def trials(study: str, runs: Sequence[Run], system: str, protocol: str = VALID[1]) -> list[Trial]:
    """The settings of a system that a study has validated under a protocol, with their NDCG@10."""
    return [
        (run.stamp["hyperparameters"], float(run.metric("NDCG@10").mean()))
        for run in runs
        if [run.stamp[name] for name in ("study", "system", "data", "seed", "split", "part", "protocol")]
        == [study, system, POCKET, 0, LEAVE_ONE_OUT, VALID[0], protocol]
    ]


def plan_tuning(study: str, runs: Sequence[Run], families: Mapping[str, str], protocol: str = VALID[1]) -> list[Cell]:
    """The validation cells of some systems, each with the space of a family; more as earlier ones are recorded."""
    cells = []
    for system, family in families.items():
        visited, missing = SPACES[family].search(trials(study, runs, system, protocol))
        cells += [
            Cell(study=study, data=POCKET, split=LEAVE_ONE_OUT, part=VALID[0], protocol=protocol, system=system,
                 hyperparameters=settings)
            for settings in [*(own for own, _ in visited), *missing]
        ]  # fmt: skip
    return cells


def chosen_settings(
    study: str, runs: Sequence[Run], system: str, family: str, protocol: str = VALID[1]
) -> Settings | None:
    """The best settings of a system in validation; None while the search goes on."""
    visited, missing = SPACES[family].search(trials(study, runs, system, protocol))
    return None if missing else best_settings(visited)


# Runs -----------------------------------------------------------------------------------------------------------------


def run_system(
    build: Callable[[], Recommender],
    cells: Sequence[Cell],
    checkpoint: Path,
    values_of: Callable[[Any, Split], dict[str, np.ndarray]] | None = None,
    under: Callable[[Any, str], Any] = lambda system, condition: system,
    split: Split | None = None,
) -> Iterator[tuple[Cell, Run]]:
    """Fit a system once, and evaluate it for each cell.

    Args:
        build: the system with the cells' hyperparameters.
        cells: with the same ``Cell.fit``.
        checkpoint: of the training.
        values_of: more numbers of each test query, from the fitted system and the split.
        under: the fitted system under a condition, which the cell's protocol names after a semicolon; "" is none.
        split: where it is not the benchmark's.
    """
    split = split or benchmark_split(cells[0].data, cells[0].seed, cells[0].split)
    is_timed = any(cell.protocol == TIMING for cell in cells)  # a training that resumes would take less time
    system: Any = build()
    import_module("transformers.optimization")  # takes seconds, and would count as training
    start, is_resumed = time.perf_counter(), bool(checkpoints(checkpoint)) and not is_timed
    system.fit(split, checkpoint=None if is_timed else checkpoint)
    cost = {"fit seconds": time.perf_counter() - start, "resumed": is_resumed, "parameters": num_parameters(system)}
    training = getattr(system, "training", None)
    evaluated: dict[str, Run] = {}
    for cell in cells:
        if cell.protocol == TIMING:
            yield cell, timing(system, split, cost)
            continue
        if cell.name not in evaluated:  # neither are the others that need the same scores
            part, condition, num_targets = needed(cell)
            same = [one for one in cells if one.protocol != TIMING and needed(one) == needed(cell)]
            protocols = [PROTOCOLS[one.protocol.partition("; ")[0]][0] for one in same]
            asked = under(system, condition)
            (found,) = evaluate_protocols([asked], split, protocols, part, num_targets=num_targets)
            counts = getattr(getattr(asked, "ranker", asked), "counts", {})  # of ``StoredScores``
            evaluated |= ((one.name, replace(own, scalars=counts)) for one, own in zip(same, found, strict=True))
        run = evaluated[cell.name]
        values, scalars = run.values if cell.part == "test" else {}, run.scalars
        if (cell.part, cell.protocol.partition("; ")[0]) in TEST:
            scalars = scalars | list_metrics(run, split, text_vectors(cell.data, cell.seed))
        if (cell.part, cell.protocol) in TEST:
            values = values | (values_of(system, split) if values_of else {})
            if training is not None:
                scalars |= {"best step": training.best_step, "validations": training.validations.to_dict("list")}
        stamp = run.stamp | {"cost": cost | run.stamp["cost"]}
        yield cell, replace(run, stamp=stamp, values=values, scalars=scalars)


def needed(cell: Cell) -> tuple[str, str, int]:
    """Part, condition and number of targets of a cell: those with the same ones are evaluated from the same scores."""
    name, _, condition = cell.protocol.partition("; ")
    return cell.part, condition, PROTOCOLS[name][1]


def timing(system: Recommender, split: Split, cost: dict[str, float]) -> Run:
    """Seconds of a fit, and milliseconds to score one query of a batch; meaningful if nothing else runs."""
    queries = split.queries("test")
    system.score(queries.take(slice(1)))
    start = time.perf_counter()
    system.score(queries)
    milliseconds = 1e3 * (time.perf_counter() - start) / len(queries)
    scalars = {"fit seconds": cost["fit seconds"], "score ms": milliseconds, "parameters": cost["parameters"]}
    return Run.unranked(stamp_of(split.dataset) | {"cost": cost}, scalars)


def num_parameters(system: Any) -> int:  # noqa: ANN401, systems hold their network in different places
    """Learnt numbers of a system with a network; 0 of others."""
    network = getattr(system, "network", None) or getattr(system, "model", None)
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad) if network else 0


def list_metrics(run: Run, split: Split, vectors: np.ndarray, k: int = 10) -> dict[str, float]:
    """Metrics beyond accuracy of a run's lists, which a record keeps in place of the lists.

    Args:
        run: with lists of at least k items.
        split: whose training part the system learnt from.
        vectors: (I + 1, D) by which two items are similar.
        k: cut-off.
    """
    pairs = split.interactions("train")[["user", "item"]].drop_duplicates()
    num_users = np.bincount(pairs["item"], minlength=split.dataset.num_items + 1)
    lists = run.lists[:, :k]
    return {
        f"coverage@{k}": metrics.coverage(lists, split.dataset.num_items),
        f"intra-list diversity@{k}": float(np.nanmean(metrics.intra_list_diversity(lists, vectors))),
        f"inter-list diversity@{k}": metrics.inter_list_diversity(lists),
        f"novelty@{k}": float(np.nanmean(metrics.novelty(lists, num_users, pairs["user"].nunique()))),
    }


@cache
def text_vectors(data: str, seed: int) -> np.ndarray:
    """(I + 1, D) by which the diversity of a list is measured."""
    return text_features(benchmark_data(data, seed))

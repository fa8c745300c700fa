"""Chapter 1's cells: how much a recommender gains from the future, and the statistics of each data set."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

from experiments.cells import Cell
from experiments.datasets import POCKET, REAL_DATA, open_data, stamp_of
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.exploration import leakage_lab
from mmrec_helpers.pocket_shop import choice_model
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch01 import dataset_curves, dataset_statistics

STUDY, LEAKAGE, STATISTICS = "ch01", "leakage lab", "statistics"
ORIGINAL, SHUFFLED, NO_FASHION = "as it was", "items shuffled", "no fashion"
SHOPS = range(5)
NO_LAB = {"microlens", "hm-week"}
"""Real data without times, or with fewer days than the lab counts over."""
NUM_ORDERS = 20
"""Random orders, or shuffles of the control, whose results are averaged."""


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    leakage, statistics = (partial(Cell, study=STUDY, protocol=protocol) for protocol in (LEAKAGE, STATISTICS))
    cells = [
        leakage(data=POCKET, seed=seed, system=kind) for seed in SHOPS for kind in (ORIGINAL, SHUFFLED, NO_FASHION)
    ]
    timed = [name for name in REAL_DATA if name not in NO_LAB]
    cells += [leakage(data=name, system=kind) for name in timed for kind in (ORIGINAL, SHUFFLED)]
    return cells + [statistics(data=name, system="data set") for name in (POCKET, *REAL_DATA)]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    (cell,) = cells
    dataset, _, report = open_data(cell.data, cell.seed)
    if cell.protocol == STATISTICS:
        yield cell, statistics_run(dataset, report)
    elif cell.system == NO_FASHION:
        with tempfile.TemporaryDirectory() as cache, mock.patch.object(choice_model, "FASHION_UTILITY", 0.0):
            yield cell, leakage_run(load_shop(cell.seed, cache=Path(cache))[0], [None])
    elif cell.data == POCKET:
        yield cell, leakage_run(dataset, range(NUM_ORDERS) if cell.system == SHUFFLED else [None])
    else:
        yield cell, leakage_run_with_ties(dataset, is_shuffled=cell.system == SHUFFLED)


def statistics_run(dataset: RecDataset, report: CleaningReport | None) -> Run:
    """Statistics, curves and, of real data, everything that was dropped or repaired while reading."""
    scalars: dict = {"statistics": dataset_statistics(dataset), "curves": dataset_curves(dataset)}
    if report:
        scalars["clean-up"] = report.table().query("action in ('dropped', 'repaired')").to_dict("records")
    return Run.unranked(stamp_of(dataset), scalars)


def leakage_run(dataset: RecDataset, shuffles: Sequence[int | None]) -> Run:
    """HR@10 of the honest best-seller list and its ``gain from the future``, averaged over shuffles of the items."""
    labs = [leakage_lab(dataset, seed) for seed in shuffles]
    queries = dataset.leave_one_out().queries("test", 1).subsample(5000)
    honest = np.mean([lab["honest"][1] for lab in labs], axis=0)
    peeking = np.mean([lab["peeking"][1] for lab in labs], axis=0)
    values = {"honest HR@10": honest, "gain from the future": peeking - honest}
    return Run.unranked(stamp_of(dataset), {}, queries.users, values)


def leakage_run_with_ties(dataset: RecDataset, is_shuffled: bool) -> Run:
    """As ``leakage_run``, averaged over NUM_ORDERS random orders of each user's interactions of the same time.

    Where times are days, the order of the file would decide which interaction is the last one, the test target. The
    shuffled control has another shuffle in each order.
    """
    runs = []
    for seed in range(NUM_ORDERS):
        frame = dataset.interactions.sample(frac=1, random_state=seed).sort_values(["user", "time"], kind="stable")
        ordered = replace(dataset, interactions=frame.reset_index(drop=True))
        runs.append(leakage_run(ordered, [seed if is_shuffled else None]))
    values = {name: np.mean([run.values[name] for run in runs], axis=0) for name in runs[0].values}
    return Run.unranked(stamp_of(dataset), {}, runs[0].users, values)  # the same users in each order

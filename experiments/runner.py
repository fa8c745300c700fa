"""Run the cells that are not recorded yet: a process a core with one thread each, every finished cell kept at once."""

import multiprocessing
import os
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import cast

import torch

from experiments.cells import TIMING, Cell, Study
from experiments.record import cell_file, checkpoints, collect, current_commit, recorded, reset_peak_memory, stamped
from mmrec_helpers.evaluation.runs import Run, load_runs, save_runs

STUDIES = ("ch01", "ch02", "ch03", "ch04", "ch05", "ch06", "ch07", "ch08", "ch09", "shop", "models")
Job = list[Cell]
"""Cells that share a fitted system."""


def study_of(name: str) -> Study:
    """The module of a study."""
    return cast(Study, import_module(f"experiments.{name}"))


def run_studies(
    studies: Collection[str] = STUDIES, only: str = "*", again: bool = False, workers: int | None = None
) -> dict[str, str]:
    """Run all missing cells of some studies, and collect each study's runs in its file.

    What a cell finds may tell which other cells there are, so the plan is made anew after each.

    Args:
        studies: names of modules.
        only: pattern of cell names, see ``Cell.name``; ``*`` matches slashes, too.
        again: repeat the cells that match and are recorded already.
        workers: processes; one a core if None.

    Returns:
        Name of each cell that failed or lacks its data -> why.
    """
    runs = {name: run for study in STUDIES for name, run in recorded(study).items()}
    records = _Records(studies, only, runs, set() if again else set(runs))
    _run_all(records, workers or os.cpu_count() or 1, lambda cell: cell.protocol != TIMING)
    _run_all(records, 1, lambda cell: cell.protocol == TIMING)
    plans = {study: {cell.name for cell in study_of(study).plan(list(runs.values()))} for study in studies}
    is_whole = set(studies) == set(STUDIES) and set().union(*plans.values()) <= set(runs)
    for study, cells in plans.items():
        collect(study, cells if is_whole else None)  # what is planned depends on what all studies have found
    return records.problems


@dataclass
class _Records:
    """What is recorded, and what is to be.

    Attributes:
        studies, only: see ``run_studies``.
        runs: cell name -> run, of all studies.
        done: names of the cells that are not to be run.
        problems: cell name -> why it failed.
    """

    studies: Collection[str]
    only: str
    runs: dict[str, Run]
    done: set[str]
    problems: dict[str, str] = field(default_factory=dict)

    def missing(self) -> list[Cell]:
        """The cells to run, as far as they can be told by now."""
        cells = [cell for study in self.studies for cell in study_of(study).plan(list(self.runs.values()))]
        return [cell for cell in cells if cell.name not in self.done and fnmatchcase(cell.name, self.only)]

    def keep(self, job: Job, problem: str) -> None:
        """Read the finished cells of a job, and note why the others are not."""
        for cell in job:
            if cell_file(cell).exists():
                (self.runs[cell.name],) = load_runs(cell_file(cell))
            else:
                self.problems[cell.name] = problem


def _run_all(records: _Records, workers: int, wanted: Callable[[Cell], bool]) -> None:
    """Run missing cells in worker processes until none is left; print a line for each job."""
    start, commit, finished = time.time(), current_commit(), 0
    running: dict[Future, Job] = {}
    pool = _pool(workers)
    try:
        while True:
            jobs = _jobs(filter(wanted, records.missing()))
            if not jobs and not running:
                return
            for job in jobs[: workers - len(running)]:  # no more, so that an interrupt ends with those that run
                records.done.update(cell.name for cell in job)
                for cell in job:
                    cell_file(cell).unlink(missing_ok=True)
                running[pool.submit(run_job, job, commit)] = job
            done = wait(running, return_when=FIRST_COMPLETED).done
            is_broken = any(isinstance(future.exception(), BrokenProcessPool) for future in done)
            for future in running.copy() if is_broken else done:  # a worker was killed: all others are gone with it
                job, finished = running.pop(future), finished + 1
                error = future.exception()
                result = f"{type(error).__name__}: {error}" if error else future.result()
                records.keep(job, result)
                to_do = len(_jobs(filter(wanted, records.missing()))) + len(running)
                left = (time.time() - start) / finished * to_do / 60
                print(f"{finished} done, {to_do} to do, {left:.0f} min: {job[0].fit} {result}", flush=True)
            if is_broken:
                pool.shutdown()
                pool = _pool(workers)
    finally:
        pool.shutdown()


def _pool(workers: int) -> ProcessPoolExecutor:
    """Processes of one thread each, which end with this one."""
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Begin a worker. Without the thread it would wait for ever for a parent that was killed."""
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _jobs(cells: Iterable[Cell]) -> list[Job]:
    """The cells by what they fit."""
    jobs: dict[str, Job] = {}
    for cell in cells:
        jobs.setdefault(cell.fit, []).append(cell)
    return list(jobs.values())


def run_job(job: Job, commit: str) -> str:
    """Run the cells of one fitted system, and keep each as soon as it is finished; return what to print."""
    reset_peak_memory()
    checkpoint, start = cell_file(job[0], f".{commit}.pt"), time.time()  # other code goes on otherwise
    if commit.endswith("-dirty"):
        remove(checkpoints(checkpoint))
    summaries = []
    for cell, run in study_of(job[0].study).run(job, checkpoint):
        save_runs(cell_file(cell), [stamped(run, cell, commit)])
        summaries.append(_summary(cell, run))
    remove(checkpoints(cell_file(job[0], ".pt")))  # those of other commits, too
    return f"{', '.join(summaries)} in {time.time() - start:.0f} s"


def remove(files: Iterable[Path]) -> None:
    """Delete files."""
    for path in files:
        path.unlink(missing_ok=True)


def _summary(cell: Cell, run: Run) -> str:
    if run.target_ranks is None:
        return cell.protocol or "done"
    return f"{cell.part} {cell.protocol} NDCG@10 {run.metric('NDCG@10').mean():.4f}"

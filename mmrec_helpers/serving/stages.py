"""A pipeline in three processes: retrieval with its filters, ranking, and a front that asks both and sorts."""

import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.sequential import SequentialRecommender
from mmrec_helpers.serving.pipeline import Pipeline, Request, WorkerGone, queries_of
from mmrec_helpers.serving.versions import RANKER, RETRIEVER, load_catalogue

SPAWN = get_context("spawn")  # a fork would copy the threads' locks without the threads
PATIENCE = 5.0
"""Seconds without an answer after which a worker is killed."""


def work(pipe: Connection, root: Path, version: str, stage: str) -> None:
    """Answer calls of a stage until the other end of the pipe is closed; a first None says that it is ready."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the front, which then closes the pipe
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    system, result = load_recommender(root / version / stage), None
    if stage == RETRIEVER and isinstance(system, SequentialRecommender):
        answer: Any = Pipeline(load_catalogue(root, version), system).retrieve
    else:
        answer = system.score
    with suppress(EOFError, OSError):
        while True:
            pipe.send(result)
            arguments = pipe.recv()
            try:
                result = answer(*arguments)
            except Exception as error:  # of the model: the front decides what it means
                result = error


class Worker:
    """A stage in a process of its own; ``arguments`` are folder, version and stage. Not for several threads at once.

    A process that dies is started again. Until it is ready, calls fail at once, so that popularity answers.
    """

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        self.arguments = arguments
        self.start()

    def start(self) -> None:
        """Start the process, without waiting for it."""
        self.pipe, theirs = SPAWN.Pipe()
        self.process, self.is_ready = SPAWN.Process(target=work, args=(theirs, *self.arguments), daemon=True), False
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe

    def ask(self, *arguments: Any, wait: float = 0.0) -> Any:  # noqa: ANN401
        """The stage's answer.

        Raises:
            WorkerGone: the process starts and is not ready after ``wait`` seconds, has died, or hangs.
        """
        try:
            if not self.is_ready:
                if not self.pipe.poll(wait):
                    raise WorkerGone(f"{self.arguments[-1]} starts")
                self.pipe.recv()
                self.is_ready = True
            self.pipe.send(arguments)
            if not self.pipe.poll(PATIENCE):
                self.process.kill()
            answer = self.pipe.recv()
        except (EOFError, OSError) as error:
            self.close()
            self.start()
            raise WorkerGone(f"{self.arguments[-1]} has died") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


class StagedPipeline(Pipeline):
    """A version in three processes; its answers are those of ``versions.load``, and so are its arguments and errors."""

    def __init__(self, root: Path, version: str) -> None:
        self.catalogue, self.version = load_catalogue(root, version), version
        stages = [name for name in (RETRIEVER, RANKER) if (root / version / name).exists()]
        self.workers = {stage: Worker(root, version, stage) for stage in stages}
        request, candidate = Request(), np.ones((1, 1), np.int64)
        try:
            for stage in stages:
                self.workers[stage].ask(queries_of([request]), [request] if stage == RETRIEVER else candidate, wait=60)
        except WorkerGone as error:
            self.close()
            raise ValueError(f"version {version} cannot be served: {error}") from error

    def retrieve(self, queries: Queries, requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
        """As in one process."""
        return self.workers[RETRIEVER].ask(queries, requests)

    def rank(self, queries: Queries, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """As in one process."""
        return self.workers[RANKER].ask(queries, candidates) if RANKER in self.workers else scores

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers.values():
            worker.close()

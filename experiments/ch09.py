"""Chapter 9's cells: the item decoder as it is served: fewer bits, another index, a smaller network; latencies."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from time import process_time
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor, nn

from experiments import ch04, retrieval
from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split, stamp_of
from experiments.record import recorded
from experiments.systems import chosen_settings, run_system
from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.exploration import bootstrap_interval
from mmrec_helpers.lessons.faster import distillation_loss
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec
from mmrec_helpers.recommenders.sequential import sort_by_length
from mmrec_helpers.serving.pipeline import Catalogue, Pipeline, Request
from mmrec_helpers.studies.ch04 import ABLATIONS, build_variant
from mmrec_helpers.training.loop import batch_rows

STUDY, TEACHER, LATENCY = "ch09", ch04.DECODER, "latency"
GENERATED, MILLION = "generated", "1,000,000 items"
"""Data and system of the cell that searches in generated item vectors."""
DISTILLED = ", distilled"
"""What ends the name of a small decoder that learns from the scores of the large one."""
SMALL: dict[str, tuple[str, dict[str, int]]] = {"1 layer, dim 32": ("dim 32", {"num_layers": 1, "dim": 32})}
"""Small decoder -> the system of chapter 4 whose hyperparameters it has, and its sizes."""
BFLOAT16, INT8, ITEMS8, HNSW, NO_CACHE = "bfloat16", "int8", "8-bit items", "HNSW", "no embedding cache"
TOGETHER = f"{INT8} and {ITEMS8}"
CONDITIONS = {
    TEACHER: (BFLOAT16, INT8, ITEMS8, HNSW),
    **{name + DISTILLED: (TOGETHER,) for name in SMALL},
}
"""System -> conditions under which it is also tested."""
LATENCIES = {
    "reference": (TEACHER, ""),
    **{condition: (TEACHER, condition) for condition in (NO_CACHE, *CONDITIONS[TEACHER])},
    **{name: (name, "") for name in SMALL},
    **{f"{name}, {TOGETHER}": (name, TOGETHER) for name in SMALL},
    "text only": ("text only", ""),
    f"text only, {NO_CACHE}": ("text only", NO_CACHE),
}
"""Row of the latencies -> system and condition. They do not depend on what a network has learnt, so none is trained."""
BATCHES = {1: 20, 64: 1}
"""Requests of a batch -> batches of a round, of which there are ROUNDS."""
ROUNDS = 40


# Plan -----------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = [
        Cell(study=STUDY, data=POCKET, split=LEAVE_ONE_OUT, protocol=TIMING, system=LATENCY),
        Cell(study=STUDY, data=GENERATED, protocol=TIMING, system=MILLION),
    ]
    for name in (TEACHER, *SMALL, *(name + DISTILLED for name in SMALL)):
        tuned, sizes = SMALL.get(name.removesuffix(DISTILLED), (TEACHER, {}))
        if (settings := chosen_settings(ch04.STUDY, runs, tuned, ch04.DECODER)) is None:
            continue
        own = partial(Cell, study=STUDY, data=POCKET, split=LEAVE_ONE_OUT, part="test", system=name)
        protocols = ("full", *(f"full; {condition}" for condition in CONDITIONS.get(name, ())))
        cells += [own(protocol=protocol, hyperparameters=settings | sizes) for protocol in protocols]
    return cells


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    faiss.omp_set_num_threads(1)
    if cells[0].data == GENERATED:
        table = [*retrieval.rows(int(MILLION.split()[0].replace(",", "")))]
        yield cells[0], Run.unranked({"dataset": GENERATED, "fingerprint": "", "cost": {}}, {"rows": table})
        return
    split = benchmark_split(cells[0].data, cells[0].seed, cells[0].split)
    if cells[0].system == LATENCY:
        yield cells[0], Run.unranked(stamp_of(split.dataset) | {"cost": {}}, latencies(split, cells[0].seed))
        return
    yield from run_system(partial(build, cells[0]), cells, checkpoint, under=partial(under, split=split))


def build(cell: Cell) -> MMGPT2Rec:
    """The system of a cell, not yet fitted; the teacher of a student is."""
    if cell.system == TEACHER:
        return teacher(cell.seed, **cell.hyperparameters)
    system = decoder(cell.system.removesuffix(DISTILLED), cell.seed, **cell.hyperparameters)
    if not cell.system.endswith(DISTILLED):
        return system
    larger = teacher(cell.seed, **chosen_settings(ch04.STUDY, [*recorded(ch04.STUDY).values()], TEACHER, TEACHER) or {})
    if not larger.is_fitted:
        larger.fit(benchmark_split(cell.data, cell.seed, cell.split))
    options = {one.name: getattr(system, one.name) for one in fields(system) if one.init}
    return Distilled(**options | {"name": cell.system, "teacher": larger})


@cache
def teacher(seed: int, **hyperparameters: Any) -> MMGPT2Rec:  # noqa: ANN401
    """The large decoder, one for all cells of a process, so that it is fitted once for its students."""
    return decoder(TEACHER, seed, **hyperparameters)


def decoder(name: str, seed: int, **hyperparameters: Any) -> MMGPT2Rec:  # noqa: ANN401
    """A decoder on text and image, or on text only, not yet fitted."""
    settings = ch04.book_settings(POCKET, seed, "tfidf")
    inputs = ch04.inputs(POCKET, seed, settings.models["text"], settings.models["clip"], "")
    system = build_variant(name, ABLATIONS.get(name, ABLATIONS[TEACHER]), inputs, settings, **hyperparameters)
    assert isinstance(system, MMGPT2Rec)
    return system


# Distillation ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False, kw_only=True)
class Distilled(MMGPT2Rec):
    """A decoder that learns from a fitted one, too.

    Args:
        teacher: a fitted decoder over the same items.
    """

    NOT_SAVED = (*MMGPT2Rec.NOT_SAVED, "teacher")  # type: ignore[assignment]  # one name more
    teacher: MMGPT2Rec = field(repr=False)

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        """See ``SequentialRecommender``."""
        batch = torch.from_numpy(batch_rows(len(rows), self.batch_size, step, self.seed))
        inputs, targets = self.inputs_and_targets(sort_by_length(rows[batch])[0])
        positions, larger = targets > 0, self.teacher.network.eval()
        with torch.no_grad():
            soft = larger.logits(*larger(inputs, positions))
        own = self.network.logits(*self.network(inputs, positions))
        return distillation_loss(own, soft, targets[positions] - 1)


# Serving --------------------------------------------------------------------------------------------------------------


class InBfloat16(nn.Module):
    """A network that computes in bfloat16, between inputs and outputs in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.bfloat16()

    def forward(self, inputs: Tensor, caches: list | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.network(inputs.bfloat16(), caches).float()


def in_int8(network: nn.Module) -> nn.Module:
    """The network with linear maps of 8-bit integers: scales of weights are fixed, those of inputs are found anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.ao; its successor is not in the lock
        warnings.simplefilter("ignore", UserWarning)
        return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)


def served(system: MMGPT2Rec, split: Split, condition: str) -> Pipeline:
    """The service's pipeline with a copy of the system under a condition, see CONDITIONS."""
    system = deepcopy(system)
    if condition == BFLOAT16:
        system.network.decoder.gpt2 = InBfloat16(system.network.decoder.gpt2)  # type: ignore[assignment]
    if INT8 in condition:
        system.network.decoder.gpt2 = in_int8(system.network.decoder.gpt2)  # type: ignore[assignment]
    pipeline: Any = Pipeline(Catalogue.of(split), system)  # whose index may be of another kind
    exact, dim = pipeline.index, pipeline.index.d
    if ITEMS8 in condition:
        pipeline.index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    if condition == HNSW:
        pipeline.index = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
        pipeline.index.hnsw.efSearch = 200
    if pipeline.index is not exact:
        items = exact.reconstruct_n(0, exact.ntotal)
        pipeline.index.train(items)
        pipeline.index.add(items)
    return pipeline


class Served:
    """What the service retrieves, as scores: of the retrieved items their own, of all others a low one."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline, self.name = pipeline, name

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """See ``FittedRecommender``."""
        requests = [Request(tuple(row[row > 0].tolist())) for row in queries.histories]
        items, found = self.pipeline.retrieve(queries, requests)
        scores = np.full((len(queries), len(self.pipeline.catalogue.item_ids)), -1e9, np.float32)
        np.put_along_axis(scores, items, np.where(items > 0, found, -1e9).astype(np.float32), axis=1)
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)


def under(system: MMGPT2Rec, condition: str, split: Split) -> Any:  # noqa: ANN401
    """The fitted system itself, or as it is served under a condition."""
    return Served(served(system, split, condition), system.name) if condition else system


# Latencies ------------------------------------------------------------------------------------------------------------


def latencies(split: Split, seed: int) -> dict[str, Any]:
    """CPU milliseconds a request of each row of LATENCIES, and divided by those of the reference in the same round.

    Also of text and image over text only, with and without the embedding cache. Means over rounds with intervals.
    """
    answers = {name: answerer(split, seed, *how) for name, how in LATENCIES.items()}
    histories = split.queries("test").take(slice(max(BATCHES))).histories
    requests = [Request(tuple(row[row > 0][-20:].tolist())) for row in histories]
    found: dict[str, Any] = {}
    for size, repetitions in BATCHES.items():
        batches = [requests[n : n + size] for n in range(0, size * repetitions, size)]
        rounds = np.array([[spent(answer, batches) for answer in answers.values()] for _ in range(ROUNDS + 1)])[1:]
        rounds *= 1000 / (size * repetitions)  # (ROUNDS, V), the first one was to warm up
        cost = dict(zip(answers, rounds.T, strict=True))
        ratios = {name: own / cost["reference"] for name, own in cost.items()}
        added = {"with cache": cost["reference"] / cost["text only"]}
        added[NO_CACHE] = cost[NO_CACHE] / cost[f"text only, {NO_CACHE}"]
        saved = {"embedding cache": 1 / ratios[NO_CACHE], INT8: ratios[INT8]}
        parts = {"CPU ms": cost, "of the reference": ratios, "text and image over text": added, "saved": saved}
        found[str(size)] = {part: dict(zip(own, intervals(own), strict=True)) for part, own in parts.items()}
    return found


def answerer(split: Split, seed: int, name: str, condition: str) -> Callable[[Sequence[Request]], object]:
    """What answers a batch of requests, with an untrained network."""
    system: Any = decoder(name, seed, **SMALL.get(name, ("", {}))[1])
    system.network = system.initial_model(split)
    pipeline = served(system, split, "" if condition == NO_CACHE else condition)
    if condition != NO_CACHE:
        return pipeline.recommend
    embedding: Any = pipeline.retriever.network.item_embedding

    def answer(requests: Sequence[Request]) -> object:
        embedding.fused_from = ()  # what is kept is no longer valid
        return pipeline.recommend(requests)

    return answer


def spent(answer: Callable[[Sequence[Request]], object], batches: Sequence[Sequence[Request]]) -> float:
    """Seconds of CPU time that some batches need."""
    start = process_time()
    for batch in batches:
        answer(batch)
    return process_time() - start


def intervals(columns: dict[str, np.ndarray]) -> list[list[float]]:
    """Mean and ends of the 95 % bootstrap interval of each column."""
    values = np.stack([*columns.values()], axis=1)
    low, high = bootstrap_interval(values)
    return np.stack([values.mean(0), low, high], axis=1).tolist()

"""Chapter 9's cells: what is planned, what each optimisation changes, the distillation loss, and small runs."""

from dataclasses import replace

import faiss
import numpy as np
import pytest

from experiments import ch04, ch09
from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split

CELL = Cell(study="ch09", data=POCKET, split=LEAVE_ONE_OUT, part="test", protocol="full", system=ch09.TEACHER)
SHORT = {"lr": 8e-3, "epochs": 1, "validate_every": 1, "dim": 8, "num_heads": 2}


@pytest.fixture(scope="module")
def fitted(tiny):
    """A small decoder of the tiny shop, and its split."""
    split = benchmark_split(POCKET, 0, LEAVE_ONE_OUT)
    return ch09.build(replace(CELL, hyperparameters=SHORT)).fit(split), split


def test_each_small_decoder_has_a_control_with_the_same_hyperparameters(monkeypatch):
    assert [cell.protocol for cell in ch09.plan([])] == [TIMING] * 2
    monkeypatch.setattr(ch09, "chosen_settings", lambda study, runs, system, family: {"lr": len(system)})
    cells = ch09.plan([])
    assert len({cell.name for cell in cells}) == len(cells)
    full = {cell.system: cell.hyperparameters for cell in cells if cell.protocol == "full"}
    assert set(full) == {ch09.TEACHER, *ch09.SMALL, *(name + ch09.DISTILLED for name in ch09.SMALL)}
    for name in ch09.SMALL:
        assert full[name] == full[name + ch09.DISTILLED]
        assert full[name]["num_layers"] == 1


def test_a_condition_changes_the_copy_that_is_served(fitted):
    system, split = fitted
    queries = split.queries("test").take(slice(20))
    exact = ch09.Served(ch09.served(system, split, ""), "exact").score(queries)
    own = system.score(queries)
    kept = exact > -1e9
    assert kept.sum() > 0
    assert np.allclose(exact[kept], own[kept], atol=1e-3)
    for condition in (ch09.BFLOAT16, ch09.INT8, ch09.ITEMS8, ch09.HNSW):
        pipeline = ch09.served(system, split, condition)
        scores = ch09.Served(pipeline, condition).score(queries)
        both = kept & (scores > -1e9)
        assert both.sum() > 0.8 * kept.sum(), condition
        error = np.abs(scores[both] - exact[both]).max()
        assert (error < 1e-5) == (condition == ch09.HNSW), f"{condition}: {error}"
        assert error < 0.2 * np.ptp(exact[kept])
    assert np.array_equal(own, system.score(queries))  # the system itself is what it was
    assert isinstance(pipeline.index, faiss.IndexHNSWFlat)


@pytest.mark.parametrize("name", ch09.SMALL)
def test_a_student_is_trained_by_its_teacher(monkeypatch, fitted, tmp_path, name):
    monkeypatch.setattr(ch09, "teacher", lambda seed, **own: fitted[0])
    settings = SHORT | {"num_layers": 1}
    cell = replace(CELL, system=name + ch09.DISTILLED, hyperparameters=settings)
    cells = [cell, replace(cell, protocol=f"full; {ch09.TOGETHER}")]
    own, together = (run for _, run in ch09.run(cells, tmp_path / "training.pt"))
    (control,) = (run for _, run in ch09.run([replace(cell, system=name)], tmp_path / "control.pt"))
    assert own.stamp["cost"]["parameters"] == control.stamp["cost"]["parameters"]
    for other in (together, control):
        assert not np.array_equal(own.target_ranks.num_higher, other.target_ranks.num_higher)


@pytest.mark.usefixtures("tiny")
def test_latencies_have_a_row_for_each_optimisation(monkeypatch, tmp_path):
    monkeypatch.setattr(ch09, "ROUNDS", 2)
    cell = Cell(study="ch09", data=POCKET, split=LEAVE_ONE_OUT, protocol=TIMING, system=ch09.LATENCY)
    ((_, run),) = ch09.run([cell], tmp_path / "unused.pt")
    for size in ("1", "64"):
        found = run.scalars[size]
        assert set(found["CPU ms"]) == set(found["of the reference"]) == set(ch09.LATENCIES)
        assert found["of the reference"]["reference"] == [1, 1, 1]
        assert all(low <= mean <= high for mean, low, high in found["CPU ms"].values())
    assert ch04.DECODER == ch09.TEACHER

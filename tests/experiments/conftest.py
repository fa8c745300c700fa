"""Fixtures of the tests of experiments."""

from pathlib import Path

import pytest

from experiments import ch03, ch04, ch05, ch07, ch08, datasets, record, systems
from experiments.record import RESULTS
from experiments.runner import STUDIES
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.pocket_shop.shop import load_shop


@pytest.fixture
def results(monkeypatch, tmp_path) -> Path:
    """Where cells are recorded: in a folder of this test."""
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(record, "RUNNING", tmp_path / "running")
    return tmp_path / "results"


@pytest.fixture(scope="module")
def tiny():
    """The tiny Pocket Shop under the name of the laptop's."""
    cached = (datasets.benchmark_data, datasets.benchmark_split, systems.text_vectors, ch03.inputs, ch04.inputs)
    cached = (*cached, ch04.variants, ch05.collaborative, ch07.tokens, ch08.degraded)
    with pytest.MonkeyPatch.context() as patch:
        for module in (datasets, ch03):
            patch.setattr(module, "open_data", lambda name, seed: (*load_shop(seed, "tiny"), None))
        for function in cached:
            function.cache_clear()
        yield load_shop(0, "tiny")[0]
        for function in cached:
            function.cache_clear()


@pytest.fixture(scope="session")
def records() -> dict[str, list[Run]]:
    """Study -> its runs, as far as they are recorded."""
    paths = {study: RESULTS / f"{study}.parquet" for study in STUDIES}
    return {study: load_runs(path) for study, path in paths.items() if path.exists()}


@pytest.fixture
def runs_of(records):
    """The runs of a study with some fields; a test of what is not recorded is skipped."""

    def select(study: str, **where: object) -> list[Run]:
        runs = [run for run in records.get(study, []) if all(run.stamp[name] == own for name, own in where.items())]
        if not runs:
            pytest.skip(f"{study} is not recorded yet, or not {where}: `make results ONLY='{study}/*'` does it")
        return runs

    return select

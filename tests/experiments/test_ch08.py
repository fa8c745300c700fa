"""Chapter 8's cells: what is degraded and what stays, and a small run of each system on the tiny shop."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import ch04, ch08
from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET

CELL = Cell(study="ch08", data=POCKET, split=LEAVE_ONE_OUT, part="test", protocol="full", system="")
SYSTEMS = (ch04.DECODER, ch08.BEST, ch08.CONTENT)


def test_what_is_not_tuned_is_not_tested():
    assert {cell.system for cell in ch08.plan([])} == {"content, both, " + own for own in (ch08.MISSING, ch08.NOISY)}


def test_half_of_the_images_are_missing_and_nothing_else(tiny):
    degraded = ch08.degraded(0, ch08.MISSING)
    missing = tiny.has_image & ~degraded.has_image
    assert missing.sum() == round(tiny.num_items / 2)
    own, other = (dataset.column("image") for dataset in (tiny, degraded))
    for item in np.flatnonzero(degraded.has_image)[:5]:
        assert np.array_equal(np.asarray(own[item]), np.asarray(other[item]))
    assert list(degraded.column("description")) == list(tiny.column("description"))
    assert degraded.interactions.equals(tiny.interactions)


def test_noise_doubles_the_words_of_the_descriptions_and_nothing_else(tiny):
    degraded = ch08.degraded(0, ch08.NOISY)
    words = [sum(len(text.split()) for text in own.column("description")[1:]) for own in (tiny, degraded)]
    assert 2 <= words[1] / words[0] < 2.5
    assert list(degraded.column("title")) == list(tiny.column("title"))
    assert (degraded.has_image == tiny.has_image).all()


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_is_run(tmp_path, system):
    own = {} if system == ch08.CONTENT else {"lr": 4e-3, "epochs": 1}
    cell = replace(CELL, system=f"{system}, {ch08.MISSING}", hyperparameters=own)
    ((_, run),) = ch08.run([cell], tmp_path / "training.pt")
    assert run.system == cell.system
    assert 0 <= run.metric("NDCG@10").mean() <= 1

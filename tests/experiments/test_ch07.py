"""Chapter 7's cells: what is planned, the control's features, and a small run of each system on the tiny shop."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import ch03, ch07, event_log
from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, TEMPORAL
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.features import shuffled_items
from mmrec_helpers.recommenders.tuning import SPACES

CELL = Cell(study="ch07", data=POCKET, split=LEAVE_ONE_OUT, part="test", protocol="full", system="MMGCN")


def validated(system: str) -> list[Run]:
    """Runs after which the search has ended at its start."""
    space, runs = SPACES[ch07.TUNED[system]], []
    for settings in [space.start, *space.neighbors(space.start)]:
        cell = replace(CELL, system=system, part="valid", hyperparameters=settings)
        values = {"NDCG@10": np.array([float(settings == space.start)])}
        runs.append(Run.unranked(cell.stamp, {}, np.arange(1), values))
    return runs


def test_what_is_not_tuned_is_not_tested():
    assert {cell.part for cell in ch07.plan([]) if cell != event_log.CELL} == {"valid"}
    cells = ch07.plan(validated("MMGCN"))
    assert {cell.system for cell in cells if cell.part == "test"} == {"MMGCN", "MMGCN" + ch07.SHUFFLED}


def test_systems_and_controls_are_tested_on_three_shops_under_both_splits_and_on_films():
    systems = tuple(ch07.TUNED)
    cells = ch07.plan([run for system in systems for run in validated(system)])
    assert len({cell.name for cell in cells}) == len(cells)
    for system in (*systems, *ch07.CONTROLS):
        own = [cell for cell in cells if cell.system == system and cell.part == "test"]
        full = [(cell.data, cell.seed, cell.split) for cell in own if cell.protocol == "full"]
        shops = [(POCKET, seed, split) for split in (LEAVE_ONE_OUT, TEMPORAL) for seed in (0, 1, 2)]
        assert full == [*shops, ("movielens", 0, LEAVE_ONE_OUT)]
        assert {cell.protocol for cell in own if cell.split == TEMPORAL} == {"full"}
        protocols = {cell.protocol for cell in own if cell.split == LEAVE_ONE_OUT}
        assert {name for name in protocols if ";" not in name} == {"full", *ch07.SAMPLED}
        assert len({name for name in protocols if ";" in name}) == (3 if system in ch07.ADJUSTED else 0)
    assert [cell.system for cell in cells if cell.protocol == TIMING] == list(systems)
    assert {name.partition(", shuffled")[0] for name in ch07.CONTROLS} == {
        *("MMGCN", "MGAT", "Trans2D", "MMSR", "MLLM, cross-attention")
    }


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("system", [*ch07.GRAPH_SYSTEMS, "MLLM, late", *ch07.CONTROLS])
def test_a_system_is_run(tmp_path, system):
    cell = replace(CELL, system=system, hyperparameters={"lr": 8e-3, "epochs": 2, "dim": 8})
    ((_, run),) = ch07.run([cell], tmp_path / "training.pt")
    assert run.system == system
    assert 0 <= run.metric("NDCG@10").mean() <= 1
    assert run.stamp["cost"]["parameters"] > 0


@pytest.mark.usefixtures("tiny")
def test_a_control_has_shuffled_features_in_each_modality():
    own, control = (ch07.build(replace(CELL, system=name)) for name in ("MGAT", "MGAT" + ch07.SHUFFLED))
    assert list(own.features) == list(control.features) == ["text", "image"]
    for name, features in own.features.items():
        assert np.array_equal(control.features[name], shuffled_items(features, np.random.default_rng(0)))
        assert np.array_equal(features, ch03.inputs(POCKET, 0, "pocket-clip")[name])


@pytest.mark.usefixtures("tiny")
def test_the_control_of_fusion_has_images_of_other_items_and_its_own_words():
    name = "MLLM, cross-attention"
    own, control = (ch07.build(replace(CELL, system=system)) for system in (name, name + ch07.SHUFFLED_IMAGES))
    assert own.fusion == control.fusion == "cross-attention"
    assert np.array_equal(own.words, control.words)
    assert np.array_equal(control.patches, shuffled_items(own.patches, np.random.default_rng(0)))


@pytest.mark.usefixtures("tiny")
def test_an_adjusted_run_has_lists_of_less_popular_items(tmp_path):
    cell = replace(CELL, system="LightGCN", hyperparameters={"lr": 8e-3, "epochs": 2, "dim": 8})
    cells = [cell, replace(cell, protocol="full; popularity 1")]
    own, adjusted = (run.scalars["novelty@10"] for _, run in ch07.run(cells, tmp_path / "training.pt"))
    assert adjusted > own

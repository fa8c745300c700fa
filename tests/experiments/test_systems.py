"""systems.py and the chapters' studies: a run is what evaluate says of the system; a kill changes nothing."""

from functools import partial

import numpy as np
import pytest
from torch import nn

from experiments import ch01, ch02, ch03, ch04, datasets, decoders, shop, systems
from experiments.cells import TIMING, Cell
from experiments.datasets import (
    LEAVE_ONE_OUT,
    NEXT_DAY,
    NUM_FOLDS,
    POCKET,
    TEMPORAL,
    UNSEEN_CATEGORY,
    Unavailable,
    benchmark_split,
)
from experiments.systems import PROTOCOLS, list_metrics, num_parameters, run_system
from mmrec_helpers.evaluation.protocols import FullRanking, evaluate, item_quintiles
from mmrec_helpers.evaluation.runs import RANKS, Run
from mmrec_helpers.recommenders.factorization import BPR
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.training import loop

QUICK = {"epochs": 6, "dim": 8}
pytestmark = pytest.mark.usefixtures("tiny")


def cells(
    system: str, *protocols: str, part: str = "test", split: str = LEAVE_ONE_OUT, study: str = "ch03"
) -> list[Cell]:
    """Cells on the Pocket Shop."""
    place = {"study": study, "data": POCKET, "split": split, "part": part, "system": system}
    return [Cell(**place, protocol=protocol) for protocol in protocols]


def assert_same_bits(one: Run, other: Run) -> None:
    """Whether ranks, values and scalars are equal, but for the seconds."""
    for name in RANKS:
        np.testing.assert_array_equal(getattr(one.target_ranks, name), getattr(other.target_ranks, name))
    for name in one.values | other.values:
        np.testing.assert_array_equal(one.values[name], other.values[name])
    scalars = []
    for run in (one, other):
        validations = {name: column for name, column in run.scalars["validations"].items() if name != "seconds"}
        scalars.append(run.scalars | {"validations": validations})
    assert scalars[0] == scalars[1]


# One system -----------------------------------------------------------------------------------------------------------


def test_a_run_is_what_evaluate_says(tmp_path):
    """And the system is fitted once for all of its cells, and scores once for those of one part and as many targets."""
    fits, scored = [], []

    class Counting(ItemKNN):
        def fit(self, split, checkpoint=None):
            fits.append(checkpoint)
            return super().fit(split, checkpoint)

        def score_all(self, queries):
            scored.append(queries)
            return super().score_all(queries)

    asked = [
        *cells("item-kNN", *(name for name in PROTOCOLS if "basket" not in name)),
        *cells("item-kNN", "full", part="valid"),
    ]
    found = list(run_system(Counting, asked, tmp_path / "x.pt"))
    assert fits == [tmp_path / "x.pt"]
    assert [cell for cell, _ in found] == asked
    assert len(scored) == len({(cell.part, PROTOCOLS[cell.protocol][1]) for cell in asked}) == 3
    split = benchmark_split(POCKET, 0, LEAVE_ONE_OUT)
    system = ItemKNN().fit(split)
    for cell, run in found:
        protocol, num_targets = PROTOCOLS[cell.protocol]
        wanted = evaluate(system, split, cell.part, protocol, num_targets=num_targets)
        for name in RANKS:
            np.testing.assert_array_equal(getattr(run.target_ranks, name), getattr(wanted.target_ranks, name))
        assert run.stamp["protocol"] == protocol.name
        assert run.stamp["fingerprint"] == split.dataset.fingerprint
        assert {"fit seconds", "score seconds", "parameters"} <= set(run.stamp["cost"])
        if (cell.part, cell.protocol) == ("test", "full"):
            vectors = systems.text_vectors(POCKET, 0)
            assert run.scalars == list_metrics(wanted, split, vectors)
        else:
            assert run.scalars == {}
        if cell.part == "test":
            np.testing.assert_array_equal(run.values["warmth"], item_quintiles(split)[wanted.targets[:, 0]])
        else:
            assert run.values == {}


@pytest.mark.parametrize(("name", "protocol"), PROTOCOLS.items())
def test_a_protocol_is_what_its_name_says(name, protocol):
    ranking, num_targets = protocol
    assert num_targets == (5 if "next 5" in name else 100 if "basket" in name else 1)
    if isinstance(ranking, FullRanking):
        assert ranking.same_category == ("category" in name)
    else:
        assert name.startswith(
            f"{ranking.num_negatives} {'by ' * (ranking.distribution != 'uniform')}{ranking.distribution}"
        )


@pytest.mark.parametrize(
    "build",
    [partial(SASRec, **QUICK, num_layers=1), partial(BPR, **QUICK)],
    ids=["SASRec", "BPR"],
)
def test_a_killed_training_resumes_to_the_same_bits(build, tmp_path, monkeypatch):
    asked = cells("SASRec", "full")
    ((_, whole),) = run_system(build, asked, tmp_path / "whole.pt")
    validate, ran = loop._Training.validate, []

    def validate_and_die(training, metric):
        validate(training, metric)
        training.save()
        ran.append(training.step)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop._Training, "validate", validate_and_die)
    with pytest.raises(KeyboardInterrupt):
        list(run_system(build, asked, tmp_path / "killed.pt"))
    monkeypatch.setattr(loop._Training, "validate", validate)
    ((_, resumed),) = run_system(build, asked, tmp_path / "killed.pt")
    assert 0 < ran[0] < resumed.scalars["validations"]["step"][-1]
    assert_same_bits(resumed, whole)
    assert [run.stamp["cost"]["resumed"] for run in (whole, resumed)] == [False, True]


def test_what_is_timed_is_never_a_training_that_resumed(tmp_path):
    checkpoint = tmp_path / "x.pt"
    checkpoint.write_text("of a killed training")
    build = partial(SASRec, **QUICK, num_layers=1)
    (cell,) = cells("SASRec", TIMING, part="")
    ((timed, run),) = run_system(build, [cell], checkpoint)
    assert timed == cell
    assert run.target_ranks is None
    assert run.stamp["cost"]["resumed"] is False
    assert checkpoint.read_text() == "of a killed training"
    assert run.scalars["fit seconds"] > run.scalars["score ms"] / 1000 > 0
    system = build().fit(benchmark_split(POCKET, 0, LEAVE_ONE_OUT))
    assert run.scalars["parameters"] == sum(weight.numel() for weight in system.network.parameters())


def test_the_parameters_are_those_that_learn():
    assert num_parameters(Popularity()) == num_parameters(ItemKNN()) == 0
    system = Popularity()
    system.model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5))
    system.model[0].requires_grad_(False)
    assert num_parameters(system) == 25


# Data -----------------------------------------------------------------------------------------------------------------


def test_splits_have_the_names_that_cells_give_them():
    names = [LEAVE_ONE_OUT, TEMPORAL, NEXT_DAY, *(f"fold {fold} of {NUM_FOLDS}" for fold in range(1, NUM_FOLDS + 1))]
    splits = {name: benchmark_split(POCKET, 0, name) for name in names}
    assert [split.name for split in splits.values()] == names
    unseen = [benchmark_split(POCKET, seed, UNSEEN_CATEGORY).name for seed in datasets.SEEDS]
    assert len(set(unseen)) == len(unseen)
    assert all(name.startswith(UNSEEN_CATEGORY) for name in unseen)


def test_without_real_data_a_cell_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.undo()
    monkeypatch.delenv("MMREC_DATA_HOME", raising=False)
    flickr = Cell(study="ch02", data=ch02.FLICKR, protocol=ch02.OVERLAP, system="pocket-clip")
    with pytest.raises(Unavailable, match="set MMREC_DATA_HOME"):
        list(ch02.run([flickr], tmp_path / "x.pt"))


# Studies --------------------------------------------------------------------------------------------------------------


def test_ceilings_are_above_what_learns(tmp_path, monkeypatch):
    monkeypatch.setattr(ch03, "NUM_INFERRED", 60)
    runs = {}
    for name in (*ch03.CEILINGS, "popularity"):
        ((_, runs[name]),) = ch03.run(cells(name, "full"), tmp_path / "x.pt")
    oracle, bayes, popularity = runs.values()
    few = len(bayes.users)
    assert few == 60
    assert (oracle.users[:few] == bayes.users).all()
    assert oracle.stamp["fingerprint"] == popularity.stamp["fingerprint"]
    assert oracle.stamp["protocol options"] == popularity.stamp["protocol options"]
    reached = [run.metric("NDCG@10")[:few].mean() for run in (oracle, bayes, popularity)]
    assert reached[0] > reached[1] > 1.5 * reached[2]


def test_the_released_preprocessing_has_two_runs_of_the_same_users(tmp_path):
    runs = []
    for target in ("released target", "last item"):
        cell = Cell(study="ch03", data=POCKET, protocol=ch03.PREPROCESSING, system=f"popularity, {target}")
        ((told, run),) = ch03.run([cell], tmp_path / "x.pt")
        assert told == cell
        assert run.system == cell.system
        runs.append(run)
    assert np.array_equal(runs[0].users, runs[1].users)
    assert not np.array_equal(runs[0].targets, runs[1].targets)


def test_every_planned_system_of_chapters_3_and_4_can_be_built():
    for study in (ch03, ch04):
        built = set()
        for cell in study.plan([]):
            key = (cell.system, cell.split)
            if (
                cell.data == POCKET
                and cell.seed == 0
                and key not in built
                and cell.system not in {*ch03.CEILINGS, *decoders.CEILINGS}
            ):
                if cell.protocol == ch03.PREPROCESSING:
                    continue
                system = study.build(cell)
                assert system.name == cell.system
                for name, value in cell.hyperparameters.items():
                    assert list(np.ravel(getattr(system, name))) == list(np.ravel(value))
                built.add(key)
        assert len(built) > 15


def test_the_shops_systems_are_those_of_its_plan():
    names = {cell.system for cell in shop.plan([])} - set(shop.CEILINGS)
    truth = shop.load_shop(0, "tiny")[1]
    for name in names & set(shop.KNOWN):
        system = shop.attribute_sasrec(truth, shop.KNOWN[name], "text" in name, name)
        assert system.name == name
        assert not system.features[0].any()
    for name in names - set(shop.KNOWN):
        assert shop.build(name, 0).name == name


def test_an_overlap_and_the_swaps_of_one_encoder_are_one_job_of_two_cells(monkeypatch, tmp_path):
    monkeypatch.setattr(ch02, "study", lambda cell: Run.unranked({}, {"of": cell.protocol}))
    asked = [cell for cell in ch02.plan([]) if cell.data == POCKET and not cell.hyperparameters][:3]
    assert [run.scalars["of"] for _, run in ch02.run(asked, tmp_path / "x.pt")] == [cell.protocol for cell in asked]


def test_chapter_1_records_statistics_and_what_leaks(tiny, tmp_path):
    place = {"study": "ch01", "data": POCKET}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ch01, "open_data", lambda name, seed: (tiny, None, None))
        ((_, statistics),) = ch01.run([Cell(**place, protocol=ch01.STATISTICS, system="data set")], tmp_path / "x.pt")
        ((_, leak),) = ch01.run([Cell(**place, protocol=ch01.LEAKAGE, system=ch01.ORIGINAL)], tmp_path / "x.pt")
    assert statistics.stamp["fingerprint"] == leak.stamp["fingerprint"] == tiny.fingerprint
    assert set(statistics.scalars) == {"statistics", "curves"}
    assert len(leak.metric("gain from the future")) == len(leak.users) > 0
    assert leak.metric("gain from the future").mean() > 0

"""registry.py: which systems a data set has, their grids, the records."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from bench_sasrec import SEEDS

from experiments import benchmarks
from experiments.ch03 import REAL_BENCHMARKS
from experiments.record import RESULTS
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.registry import GRIDS, benchmark_systems

COUNTING = ("random", "popularity", "recent popularity", "item-kNN", "user-kNN", "hybrid", "matrix factorization")
CEILINGS = {"omniscient oracle", "Bayes ceiling"}


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")


@pytest.fixture(scope="module")
def dataset(shop):
    return shop[0]


def recorded(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


# Systems --------------------------------------------------------------------------------------------------------------


def test_a_system_has_its_entrys_name_and_takes_its_familys_settings(dataset):
    found = benchmark_systems(dataset, "pocket-clip")
    assert len({entry.name for entry in found}) == len(found)
    assert set(GRIDS) <= {entry.family for entry in found}
    for entry in found:
        for settings in GRIDS.get(entry.family, [{}]):
            system = entry.build(**settings)
            assert system.name == entry.name
            assert all(list(np.ravel(getattr(system, key))) == list(np.ravel(value)) for key, value in settings.items())


def test_every_family_is_tuned_with_as_many_settings():
    assert {len(tried) for tried in GRIDS.values()} == {6}
    assert all(len({str(settings) for settings in tried}) == 6 for tried in GRIDS.values())


def test_without_pictures_times_and_reviews_there_are_fewer_systems(dataset):
    items = dataset.items.select(range(dataset.num_items)).map(lambda row: row | {"image": None})
    bare = replace(dataset, items=items, interactions=dataset.interactions.assign(review=None), timed=False)
    names = {entry.name for entry in benchmark_systems(bare, "pocket-clip")}
    gone = {entry.name for entry in benchmark_systems(dataset, "pocket-clip")} - names
    assert {name.rpartition(", ")[2] for name in gone if ", " in name} == {"image", "both"}
    assert {name for name in gone if ", " not in name} == {"recent popularity", "DeepCoNN", "NRMF (our reading)"}


def test_systems_that_count_rank_every_user(dataset):
    split = dataset.leave_one_out()
    for entry in benchmark_systems(dataset, "pocket-clip"):
        if entry.name in COUNTING or entry.family == "content":
            assert len(evaluate(entry.build().fit(split), split).users) == len(split.queries("test"))


def test_validation_reads_the_valid_part_alone(dataset):
    split = dataset.leave_one_out()

    def validation(split):
        return evaluate(Popularity().fit(split), split, part="valid").metric("NDCG@10").mean()

    test = split.part == 2
    moved = dataset.interactions.assign(item=np.where(test, 1, dataset.interactions["item"]).astype(np.int32))
    other = replace(split, dataset=replace(dataset, interactions=moved))
    assert validation(other) == validation(split)


# Records --------------------------------------------------------------------------------------------------------------


def test_recorded_tuning_tried_these_settings_and_no_other():
    tuning = recorded("tuning")
    assert tuning["fingerprint"] == load_shop(0)[0].fingerprint
    for family, settings in GRIDS.items():
        tried = [
            {key: value for key, value in found.items() if key not in ("valid NDCG@10", "CPU seconds")}
            for found in tuning["tried"][family]
        ]
        assert tried == json.loads(json.dumps(settings)), family


@pytest.mark.parametrize("seed", benchmarks.SEEDS)
def test_every_system_of_the_shops_league_beats_chance_and_is_beaten_by_the_ceilings(seed):
    league = recorded("league-pocket")["shops"][str(seed)]
    dataset, _ = load_shop(seed)
    assert league["fingerprint"] == dataset.fingerprint
    systems = league["systems"]
    assert set(systems) == {entry.name for entry in benchmark_systems(dataset, "pocket-clip")} | CEILINGS
    ceiling = min(systems[name]["NDCG@10"][1] for name in CEILINGS)
    for name, row in systems.items():
        mean, low, high = row["NDCG@10"]
        assert low < mean < high
        if name not in {"random"} | CEILINGS:
            assert low > systems["random"]["NDCG@10"][2], name
            assert high < ceiling, name


@pytest.mark.parametrize("name", REAL_BENCHMARKS)
def test_every_system_of_a_real_league_is_there(name):
    systems = recorded("league-real")["sets"][name]["systems"]
    assert {*COUNTING, "BPR", "SASRec", "BERT4Rec", "GRU4Rec_F, text"} - set(systems) <= {"recent popularity"}
    assert all(
        row["NDCG@10"][0] > systems["random"]["NDCG@10"][0] for row in systems.values() if row != systems["random"]
    )
    popularity = Popularity().fit(benchmarks.benchmark_split(name, 0)) if os.environ.get("MMREC_DATA_HOME") else None
    if popularity is None:
        pytest.skip("set MMREC_DATA_HOME to the folder that holds the real data sets")
    assert recorded("league-real")["sets"][name]["fingerprint"] == benchmarks.benchmark_data(name, 0)[0].fingerprint
    reached = evaluate(popularity, benchmarks.benchmark_split(name, 0)).metric("NDCG@10").mean()
    assert round(float(reached), 4) == systems["popularity"]["NDCG@10"][0]


def test_recorded_peers_are_of_one_data_set_and_one_budget():
    peers = recorded("sasrec-peers")
    assert [{name: run[name] for name in ("lr", "dropout")} for run in peers["ours"]["tried"]] == GRIDS["SASRec"]
    for package in ("ours", "rectools", "recbole"):
        found = peers[package]
        assert sum(run["seconds"] for run in found["tried"]) < 1_800
        assert [run["seed"] for run in found["seeds"]] == list(SEEDS[package])
        assert found["seeds"][0]["valid"] == max(run["valid"] for run in found["tried"])
        assert all(run["valid"] == max(score for _, score in run["curve"]) for run in found["seeds"])
        assert len(found["test"]) == len(peers["ours"]["test"])
        assert np.mean(found["test"]) == pytest.approx(np.mean([run["test"] for run in found["seeds"]]), abs=1e-4)

"""registry.py: which systems a data set has, what they are built from, what is recorded of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bench_sasrec import SEEDS

from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.content import ContentBased
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.registry import GRAPHS, SYSTEMS, build_system, system_inputs
from mmrec_helpers.recommenders.tuning import SPACES

COUNTING = ("random", "popularity", "recent popularity", "item-kNN", "user-kNN", "hybrid", "matrix factorization")


@pytest.fixture(scope="module")
def dataset():
    return load_shop(0, "tiny")[0]


@pytest.fixture(scope="module")
def inputs(dataset):
    return system_inputs(dataset, "pocket-clip")


@pytest.fixture(scope="module")
def bare(dataset):
    """The shop without pictures, times and reviews."""
    items = dataset.items.select(range(dataset.num_items)).map(lambda row: row | {"image": None})
    return replace(dataset, items=items, interactions=dataset.interactions.assign(review=None), timed=False)


# Systems --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [system.name for system in (*SYSTEMS, *GRAPHS)])
def test_a_system_has_its_name_its_seed_and_the_settings_of_its_space(name, inputs):
    (spec,) = [system for system in (*SYSTEMS, *GRAPHS) if system.name == name]
    space = SPACES.get(spec.family)
    for settings in [space.start, *space.neighbors(space.start)] if space else [{}]:
        system = build_system(name, inputs, 3, **settings)
        assert system.name == name
        assert getattr(system, "seed", None) == (3 if spec.is_seeded else None)
        assert all(list(np.ravel(getattr(system, key))) == list(np.ravel(value)) for key, value in settings.items())
        if isinstance(spec.features, tuple):
            assert all(system.features[key] is inputs[key] for key in spec.features)
        elif spec.features and spec.family != "hybrid":
            features = inputs[spec.features]
            wanted = ContentBased(features).features if spec.family == "content" else features
            assert abs(system.features - wanted).max() == 0


def test_every_space_is_of_a_family_of_systems_or_of_a_later_chapter():
    later = {"MM-GPT2Rec", "I-LLMRec", "no LLM", "MLLM-MSR", "MLLM"}
    assert set(SPACES) - {system.family for system in (*SYSTEMS, *GRAPHS)} == later
    assert {system.name for system in SYSTEMS if system.family in ("", "content")} == {
        *("random", "popularity", "content, text", "content, image", "content, both")
    }


def test_systems_need_pictures_times_or_reviews_as_their_names_say():
    gone = {system.name for system in SYSTEMS if system.needs}
    assert {name.rpartition(", ")[2] for name in gone if ", " in name} == {"image", "both"}
    assert {name for name in gone if ", " not in name} == {"recent popularity", "DeepCoNN", "NRMF (our reading)"}


def test_what_is_available_can_be_built_from_the_data_sets_inputs(bare, inputs):
    few = system_inputs(bare, "pocket-clip")
    assert {system.features for system in SYSTEMS if not system.needs} - {""} == set(few)
    assert {system.features for system in SYSTEMS} - {""} == set(inputs)
    assert np.array_equal(few["text"], inputs["text"])
    assert (few["content richest"] != inputs["content text"]).sum() == 0
    for made in (few, inputs):
        assert all(features.shape[0] == bare.num_items + 1 for features in made.values())


def test_systems_that_count_rank_every_user(dataset, inputs):
    split = dataset.leave_one_out()
    for system in SYSTEMS:
        if system.name in COUNTING or system.family == "content":
            run = evaluate(build_system(system.name, inputs).fit(split), split)
            assert len(run.users) == len(split.queries("test"))


def test_validation_reads_the_valid_part_alone(dataset):
    split = dataset.leave_one_out()

    def validation(split):
        return evaluate(Popularity().fit(split), split, part="valid").metric("NDCG@10").mean()

    test = split.part == 2
    moved = dataset.interactions.assign(item=np.where(test, 1, dataset.interactions["item"]).astype(np.int32))
    other = replace(split, dataset=replace(dataset, interactions=moved))
    assert validation(other) == validation(split)


# Records --------------------------------------------------------------------------------------------------------------


def test_recorded_peers_are_of_one_data_set_and_one_budget(root):
    peers = json.loads((root / "book" / "results" / "sasrec-peers.json").read_text())
    for package in ("ours", "rectools", "recbole"):
        found = peers[package]
        assert sum(run["seconds"] for run in found["tried"]) < 1_800
        assert [run["seed"] for run in found["seeds"]] == list(SEEDS[package])
        assert found["seeds"][0]["valid"] == max(run["valid"] for run in found["tried"])
        assert all(run["valid"] == max(score for _, score in run["curve"]) for run in found["seeds"])
        assert len(found["test"]) == len(peers["ours"]["test"])
        assert np.mean(found["test"]) == pytest.approx(np.mean([run["test"] for run in found["seeds"]]), abs=1e-4)

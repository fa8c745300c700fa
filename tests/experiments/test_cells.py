"""cells.py, and the plans of all studies: cells have names of their own, and what was best in validation is tested."""

import json
from collections import defaultdict
from dataclasses import fields, replace
from zlib import crc32

import numpy as np
import pytest

from experiments import ch03, ch04, ch05, ch06, ch07, decoders, prompting, runner
from experiments.cells import TIMING, Cell, cell_of
from experiments.datasets import LEAVE_ONE_OUT, MORE_USERS, NEXT_DAY, POCKET, REAL_DATA, SEEDS, TEMPORAL
from experiments.illm_variants import VARIANTS
from experiments.runner import STUDIES, study_of
from experiments.systems import PROTOCOLS, VALID
from mmrec_helpers.evaluation.runs import CELL, Run
from mmrec_helpers.recommenders.registry import SYSTEMS
from mmrec_helpers.recommenders.tuning import MAX_TRIALS, SPACES

NONE = np.zeros((3, 0), np.int64)
FAMILIES = {
    "ch03": {system: family for family, system in ch03.TUNED.items()},
    "ch04": dict.fromkeys([*ch04.tuned_variants(), *decoders.SEARCHED], ch04.DECODER),
    "ch05": ch05.TUNED,
    "ch06": dict.fromkeys(ch06.TUNED, ch06.FAMILY),
    "ch07": ch07.TUNED,
}
"""Study -> tuned system -> family."""


def height(cell: Cell) -> float:
    """A validation metric with one best setting of each system, near the start."""
    space, steps = SPACES[FAMILIES[cell.study][cell.system]], 0
    for name, values in space.axes.items():
        texts = [str(value) for value in values]
        top = texts.index(str(space.start[name])) + crc32(f"{cell.system}, {name}".encode()) % 3 - 1
        steps += abs(texts.index(str(cell.hyperparameters[name])) - top)
    return 1 / (1 + steps)


def recorded(cell: Cell) -> Run:
    """A run of the cell as it is read from a record."""
    value = np.full(3, height(cell) if cell.part == "valid" else 0.5)
    return Run(np.arange(3), NONE, NONE, None, json.loads(json.dumps(cell.stamp)), {"NDCG@10": value})


@pytest.fixture(scope="module")
def plans():
    """Study -> all of its cells, after all validations."""
    runs: dict[str, Run] = {}
    while True:
        tuned = [one for study in FAMILIES for one in study_of(study).plan(list(runs.values()))]
        valid = [one for one in tuned if one.part == "valid" and one.name not in runs]
        if not valid:
            return {study: study_of(study).plan(list(runs.values())) for study in STUDIES}
        runs |= {one.name: recorded(one) for one in valid}


def test_every_cell_has_a_name_of_its_own(plans):
    names = [one.name for own in plans.values() for one in own]
    assert len(set(names)) == len(names)
    assert len(names) > 1_000
    for study, own in plans.items():
        assert {one.study for one in own} == {study}
        assert all(one.name.startswith(f"{study}/{one.data}-{one.seed}/") for one in own)


def test_a_recorded_run_tells_its_cell(plans):
    for own in plans.values():
        for one in own:
            assert cell_of(recorded(one)) == one
    assert {one.name for one in fields(Cell)} == set(CELL)


def test_names_differ_wherever_cells_do():
    one = Cell(study="s", data="d", system="a", hyperparameters={"lr": 0.1, "dropout": 0.2})
    for other in (
        *(replace(one, **{name: "x"}) for name in ("study", "data", "split", "part", "protocol", "system")),
        replace(one, seed=1),
        replace(one, hyperparameters={"lr": 0.1}),
        replace(one, hyperparameters={"lr": 0.1, "dropout": 0.25}),
    ):
        assert other.name != one.name
        assert (other.fit == one.fit) == (other.study == "s" and (other.part, other.protocol) != ("", ""))
    turned = replace(one, hyperparameters={"dropout": 0.2, "lr": 0.1})
    assert turned.name == one.name


def test_what_shares_a_fit_shares_all_that_is_fitted(plans):
    for own in plans.values():
        for job in runner._jobs(own):
            keys = [(one.data, one.seed, one.split, one.system, one.hyperparameters) for one in job]
            assert all(key == keys[0] for key in keys)


@pytest.mark.parametrize("study", ["ch01", "shop", "models"])
def test_studies_that_run_one_cell_at_a_time_have_jobs_of_one(plans, study):
    assert {len(job) for job in runner._jobs(plans[study])} == {1}


def test_without_runs_there_is_tuning_and_what_needs_none():
    cells = ch03.plan([])
    valid = defaultdict(list)
    for one in cells:
        if one.part == "valid":
            assert (one.part, one.protocol) == VALID
            assert (one.data, one.seed, one.split) == (POCKET, 0, LEAVE_ONE_OUT)
            valid[one.system].append(one.hyperparameters)
    for system, family in FAMILIES["ch03"].items():
        space = SPACES[family]
        assert valid.pop(system) == [space.start, *space.neighbors(space.start)]
    assert not valid
    free = [system for system in SYSTEMS if system.family not in SPACES]
    untuned = {system.name for system in free} | set(ch03.CEILINGS)
    untuned |= {system.name + ch03.BY_LITE0 for system in free if "images" in system.needs}
    tested = {one.system for one in cells if one.part == "test"}
    assert tested == untuned
    assert {one.part for one in cells if one.protocol == TIMING} == {""}


@pytest.mark.parametrize("study", FAMILIES)
def test_the_best_in_validation_is_tested_and_nothing_else(plans, study):
    for system, family in FAMILIES[study].items():
        own = [one for one in plans[study] if one.system == system]
        valid = [one for one in own if one.part == "valid"]
        assert len(SPACES[family].neighbors(SPACES[family].start)) < len(valid) <= MAX_TRIALS
        best = max(valid, key=height).hyperparameters
        assert height(replace(valid[0], hyperparameters=best)) == 1  # the search has found the top
        for one in own:
            if one.part != "valid":  # real data have more, and epochs of their own; another LLM a rate, too
                free = {"epochs", "lr"} if study == "ch06" else {"epochs"}
                chosen = {name: value for name, value in best.items() if one.data == POCKET or name not in free}
                assert one.hyperparameters.items() >= chosen.items()
        assert {json.dumps(one.hyperparameters) for one in own if one.part and one.data == POCKET} >= {json.dumps(best)}


def test_chapter_3_tests_each_system_wherever_its_data_are(plans):
    tested = defaultdict(set)
    for one in plans["ch03"]:
        if one.part == "test":
            tested[one.data, one.seed, one.split, one.system].add(one.protocol)
    names = {system.name for system in SYSTEMS}
    for seed in SEEDS:
        for split in (LEAVE_ONE_OUT, TEMPORAL):
            own = {system for *place, system in tested if place == [POCKET, seed, split]}
            assert own == names | set(ch03.CEILINGS)
    assert {data for data, *_ in tested} == {POCKET, *ch03.LACKS}
    for data, lacking in ch03.LACKS.items():
        own = {system for name, _, _, system in tested if name == data}
        wanted = {system.name for system in SYSTEMS if not system.needs & lacking}
        if data == "hm-week":  # by the features of two encoders
            wanted |= {system.name + ch03.BY_LITE0 for system in SYSTEMS if "images" in system.needs}
        assert own == wanted
    for (data, _, split, system), protocols in tested.items():
        full = {"full, basket"} if split == NEXT_DAY else {"full"}
        sampled = set(ch03.SAMPLED) if split == LEAVE_ONE_OUT and system not in ch03.CEILINGS else set()
        assert protocols == full | sampled, (data, system)
    timed = [one for one in plans["ch03"] if one.protocol == TIMING]
    assert {one.system for one in timed} == names
    assert len(timed) == len(names)


def test_chapter_4_takes_chapter_3s_settings_for_its_baselines(plans):
    for system in ch04.BASELINES:
        chosen = {
            study: {
                json.dumps(one.hyperparameters) for one in plans[study] if one.system == system and one.part == "test"
            }
            for study in ("ch03", "ch04")
        }
        assert chosen["ch03"] == chosen["ch04"]
        assert len(chosen["ch03"]) == 1


def test_every_variant_is_tested_on_every_shop(plans):
    wanted = {*ch04.variants(), *ch04.REVIEWS, "SASRec", *decoders.EXTRAS, *decoders.CEILINGS, *prompting.INSTRUCTED}
    for seed in SEEDS:
        place = (POCKET, seed, LEAVE_ONE_OUT, "test", "full")
        tested = [
            one.system for one in plans["ch04"] if (one.data, one.seed, one.split, one.part, one.protocol) == place
        ]
        assert sorted(tested) == sorted(wanted)


def test_longer_and_other_trainings_have_the_settings_of_the_first(plans):
    settings = {one.system: one.hyperparameters for one in plans["ch04"] if one.data == POCKET and one.part == "test"}
    for name in decoders.LONGER_TRAININGS:
        assert settings[f"{name}, {decoders.LONGER} epochs"] == settings[name] | {"epochs": decoders.LONGER}
    for name in (ch04.DECODER, ch04.SASREC):
        seeds = {settings[f"{name}, training {number}"]["seed"] for number in range(2, decoders.NUM_TRAININGS + 1)}
        assert len(seeds | set(SEEDS)) == len(SEEDS) + decoders.NUM_TRAININGS - 1
        assert settings[f"{name}, training 2"].items() >= settings[name].items()


def test_chapter_5_has_its_variants_on_the_shops_some_of_them_on_three(plans):
    tested = defaultdict(set)
    for one in plans["ch05"]:
        if (one.part, one.data) == ("test", POCKET) and one.protocol in PROTOCOLS:
            tested[one.seed, one.split, one.protocol].add(one.system)
    for seed in SEEDS:
        systems = set(VARIANTS) if seed == 0 else set(ch05.ON_EACH_SHOP)
        for protocol in ("full", "100 uniform"):
            assert tested.pop((seed, LEAVE_ONE_OUT, protocol)) == systems
    assert tested.pop((0, TEMPORAL, "full")) == set(ch05.ON_TEMPORAL)
    assert not tested
    assert set(ch05.ON_TEMPORAL) < set(ch05.ON_EACH_SHOP) < set(VARIANTS)


def test_chapter_5_gives_all_images_of_a_data_set_the_same_settings_and_all_texts(plans):
    settings = defaultdict(set)
    for one in plans["ch05"]:
        if one.part == "test" and one.protocol != ch05.TITLES and not one.system.startswith("no LLM"):
            settings[one.data, ch05.tuned_like(one.system)].add(json.dumps(one.hyperparameters))
    places = [(data, name) for data in (POCKET, "hm-week", "movielens") for name in ("I-LLMRec", "TALLRec")]
    assert {place: len(own) for place, own in settings.items()} == dict.fromkeys(places, 1)


def test_conditions_are_of_one_fit_on_the_first_shop(plans):
    conditions = defaultdict(list)
    for one in plans["ch05"]:
        if "; " in one.protocol:
            conditions[one.fit].append(one)
    fits = {cells[0].system: cells for cells in conditions.values()}
    assert set(fits) == set(ch05.CONDITIONS) == {cells[0].system for cells in conditions.values()}
    for name, cells in fits.items():
        assert [one.protocol for one in cells] == list(ch05.CONDITIONS[name])
        assert (cells[0].data, cells[0].seed, cells[0].split) == (POCKET, 0, LEAVE_ONE_OUT)


def test_data_and_protocols_are_known(plans):
    for study in ("ch03", "ch04", "ch05", "shop"):
        for one in plans[study]:
            assert one.protocol.partition("; ")[0] in {*PROTOCOLS, TIMING, ch03.PREPROCESSING, ch05.TITLES}
            assert one.data in {POCKET, MORE_USERS, *REAL_DATA}


def test_every_study_is_a_module():
    for name in STUDIES:
        study = study_of(name)
        assert callable(study.plan)
        assert callable(study.run)

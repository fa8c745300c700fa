"""book/results: what is recorded is of today's data, whole, and of commits that exist; tuned settings lie inside."""

import json
import subprocess

import numpy as np
import pytest

from experiments import ch03, ch04, ch05, decoders, prompting
from experiments.cells import TIMING, cell_of
from experiments.datasets import LEAVE_ONE_OUT, POCKET, SEEDS, TEMPORAL, UNSEEN_CATEGORY
from experiments.record import RESULTS, ROOT
from experiments.runner import STUDIES, study_of
from experiments.systems import chosen_settings
from mmrec_helpers.evaluation.tables import leaderboard
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.registry import SYSTEMS
from mmrec_helpers.recommenders.tuning import MAX_TRIALS, SPACES

BESIDE = {"notebooks.json", "sasrec-peers.json"}
"""Records that other commands write."""
MOST_BYTES = 6_000_000


def test_nothing_else_is_recorded():
    assert {path.name for path in RESULTS.iterdir()} - {f"{study}.parquet" for study in STUDIES} == BESIDE


@pytest.mark.parametrize("study", STUDIES)
def test_a_record_is_small(runs_of, study):
    runs_of(study)
    assert (RESULTS / f"{study}.parquet").stat().st_size < MOST_BYTES


@pytest.mark.parametrize("study", STUDIES)
def test_what_is_planned_is_recorded_and_nothing_else(runs_of, records, study):
    planned = {cell.name for cell in study_of(study).plan([run for own in records.values() for run in own])}
    recorded = {cell_of(run).name for run in runs_of(study)}
    assert sorted(recorded - planned) == []
    if missing := planned - recorded:
        pytest.skip(f"{len(missing)} of {len(planned)} cells of {study} are not recorded yet")


@pytest.mark.parametrize("study", STUDIES)
def test_stamps_are_whole_and_of_commits_that_exist(runs_of, study):
    runs = runs_of(study)
    commits = {run.stamp["commit"] for run in runs}
    assert not [commit for commit in commits if commit.endswith("-dirty") or not commit]
    shallow = ["git", "rev-parse", "--is-shallow-repository"]
    if subprocess.run(shallow, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() != "false":
        pytest.skip("without the whole history of the repository its commits cannot be looked up")
    for commit in commits:
        found = subprocess.run(["git", "cat-file", "-e", f"{commit}^{{commit}}"], cwd=ROOT, check=False)
        assert found.returncode == 0, f"{study} names the commit {commit}, which does not exist"
    for run in runs:
        assert " cores of " in run.stamp["device"]
        assert run.stamp["profile"] == "laptop"
        assert 1e8 < run.stamp["cost"]["peak_bytes"] < 1e11
        assert {"mmrec-helpers", "numpy", "torch", "transformers"} == set(run.stamp["versions"])
        assert run.stamp["cost"]["threads"] == 1


@pytest.mark.parametrize("study", ["ch01", "ch03", "ch04", "shop"])
@pytest.mark.parametrize("seed", SEEDS)
def test_recorded_shops_are_todays(runs_of, study, seed):
    """But for the copies whose interactions are in another order, or shuffled."""
    fingerprint = load_shop(seed)[0].fingerprint
    runs = [run for run in runs_of(study, data=POCKET, seed=seed) if run.system != "no fashion"]
    assert {run.stamp["fingerprint"] for run in runs} == {fingerprint}


@pytest.mark.parametrize("study", ["ch03", "ch04", "shop"])
def test_recorded_runs_rank_whole_parts(runs_of, study):
    for run in runs_of(study, part="test"):
        assert len(run.users) == len(set(run.users.tolist())) > 0
        ranks = run.target_ranks
        assert (ranks.num_higher + np.maximum(ranks.num_tied, 1) <= ranks.num_candidates[:, None] + 1).all()


# Systems --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_every_system_of_chapter_3_beats_random_and_is_below_the_ceilings(runs_of, seed):
    runs = runs_of("ch03", data=POCKET, seed=seed, split=LEAVE_ONE_OUT, part="test", protocol="full")
    assert {run.system for run in runs} == {system.name for system in SYSTEMS} | set(ch03.CEILINGS)
    learnt = [run for run in runs if run.system not in ch03.CEILINGS]
    table = leaderboard(learnt, ["NDCG@10"], reference="random")["NDCG@10"].drop("random")
    assert table.index[table["difference_ci_low"] <= 0].tolist() == []
    for ceiling in (run for run in runs if run.system in ch03.CEILINGS):
        shares = leaderboard([*learnt, ceiling], ["NDCG@10"], ceiling=ceiling.system)["NDCG@10"]["share_of_ceiling"]
        assert shares.index[shares >= 1].tolist() == [ceiling.system]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_system_of_chapter_3_beats_random_in_time_order(runs_of, seed):
    runs = runs_of("ch03", data=POCKET, seed=seed, split=TEMPORAL, part="test", protocol="full")
    assert {run.system for run in runs} == {system.name for system in SYSTEMS} | set(ch03.CEILINGS)
    means = {run.system: run.metric("NDCG@10").mean() for run in runs}
    del means["recent popularity"]  # most queries come after the last days of the training part: it has no counts
    assert min(means, key=lambda name: means[name]) == "random"


@pytest.mark.parametrize("data", ch03.LACKS)
def test_every_system_of_real_data_beats_random(runs_of, data):
    protocol = "full, basket" if data == "hm-week" else "full"
    runs = runs_of("ch03", data=data, part="test", protocol=protocol)
    systems = [system for system in SYSTEMS if not system.needs & ch03.LACKS[data]]
    again = [system.name + ch03.BY_LITE0 for system in systems if data == "hm-week" and "images" in system.needs]
    assert {run.system for run in runs} == {*(system.name for system in systems), *again}
    means = leaderboard(runs, ["NDCG@10"])["NDCG@10"]["mean"]
    assert (means.drop("random") > means["random"]).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_every_variant_of_chapter_4_is_between_random_and_the_ceiling(runs_of, seed):
    where = {"data": POCKET, "seed": seed, "split": LEAVE_ONE_OUT, "part": "test", "protocol": "full"}
    runs, beside = runs_of("ch04", **where), runs_of("ch03", **where)
    extras = {*decoders.EXTRAS, *decoders.CEILINGS, *prompting.INSTRUCTED}  # not all of them are recorded yet
    assert {run.system for run in runs} - extras == {*ch04.variants(), *ch04.REVIEWS, "SASRec"}
    means = {run.system: run.metric("NDCG@10").mean() for run in runs}
    floor, top, sasrec = (
        next(run.metric("NDCG@10").mean() for run in beside if run.system == name)
        for name in ("random", "omniscient oracle", "SASRec")
    )
    assert [name for name, mean in means.items() if not floor < mean < top] == []
    assert means["SASRec"] == pytest.approx(sasrec, abs=0.005)  # another machine trains a little differently


def test_collaborative_features_have_what_chapter_3_chose(runs_of):
    assert {json.dumps(run.stamp["hyperparameters"]) for run in runs_of("ch03", system="SASRec", part="test")} == {
        json.dumps(ch05.COLLABORATIVE)
    }


@pytest.mark.parametrize("study", ["ch03", "ch04"])
def test_tuning_ended_inside_of_its_space_within_its_budget(runs_of, study):
    runs = runs_of(study, part="valid")
    families = {name: ch04.DECODER for name in ch04.tuned_variants()}
    families = {system: family for family, system in ch03.TUNED.items()} if study == "ch03" else families
    edges = []
    for system, family in families.items():
        tried = [run.stamp["hyperparameters"] for run in runs if run.system == system]
        assert len({json.dumps(settings) for settings in tried}) == len(tried) <= MAX_TRIALS
        chosen = chosen_settings(study, runs, system, family)
        assert chosen is not None, f"the search of {system} goes on"
        for name, values in SPACES[family].axes.items():  # beyond a natural end there is nothing
            is_end = chosen[name] in (values[0], values[-1])
            if is_end and chosen[name] not in SPACES[family].natural.get(name, ()):
                edges.append((system, name))
    assert edges == []


def test_a_wider_list_of_targets_or_fewer_candidates_hits_more(runs_of):
    """Of each system, user by user: HR with five targets is at least that with one; in the category as in the shop."""
    splits = runs_of("ch04", data=POCKET, part="test")
    by_place = {(run.system, run.stamp["seed"], run.stamp["split"], run.stamp["protocol"]): run for run in splits}
    compared = 0
    for (*place, protocol), run in by_place.items():
        for wider in {"full": ("full, next 5", "same category")}.get(protocol, ()):
            if other := by_place.get((*place, wider)):
                assert (other.metric("HR@5") >= run.metric("HR@5") - 1e-9).all()
                compared += 1
    assert compared > 10
    assert any(split.startswith(UNSEEN_CATEGORY) for _, _, split, _ in by_place)


@pytest.mark.parametrize("study", ["ch03", "ch04"])
def test_timings_are_of_every_system(runs_of, study):
    timed = runs_of(study, protocol=TIMING)
    of_chapter_4 = {*ch04.variants(), *ch04.REVIEWS, "SASRec"}
    assert {run.system for run in timed} == (of_chapter_4 if study == "ch04" else {run.name for run in SYSTEMS})
    for run in timed:
        assert run.scalars["fit seconds"] > 0
        assert run.scalars["score ms"] > 0
        assert run.stamp["cost"]["resumed"] is False

"""The laptop shop tells systems apart: each step up the ladder of knowledge is worth its margin in NDCG@10.

Measured anew on the shop that the chapters use, and read from the recorded results for three shops.
"""

from pathlib import Path

import pytest
import torch
from slow_tier import SHOP

from experiments import shop
from experiments.ch03 import NUM_INFERRED
from experiments.datasets import SEEDS
from mmrec_helpers.evaluation.runs import load_runs

RECORD = Path(__file__).parents[2] / "book" / "results" / "shop.parquet"
SLOW = pytest.mark.slow(
    *SHOP,
    "experiments/shop.py",
    # What is trained has no version: its files are inputs. Counting systems and metrics equal loops in their own tests.
    "mmrec_helpers/recommenders/sasrec.py",
    "mmrec_helpers/recommenders/sequential.py",
    "mmrec_helpers/training/loop.py",
    *(["book/results/shop.parquet"] if RECORD.exists() else []),
    "torch==",
)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """System -> its run on the first shop."""
    threads, checkpoint = torch.get_num_threads(), tmp_path_factory.mktemp("training") / "x.pt"
    torch.set_num_threads(2)
    runs = {}
    for cell in shop.plan([])[: len(shop.SYSTEMS)]:
        checkpoint.unlink(missing_ok=True)
        ((_, runs[cell.system]),) = shop.run([cell], checkpoint)
        print(f"{cell.system:32s} {ndcg(runs[cell.system]):.3f} (n = {len(runs[cell.system].users)})")
    torch.set_num_threads(threads)
    return runs


def ndcg(run):
    return run.metric("NDCG@10").mean()


def recorded(seed):
    """System -> its recorded run on the shop of a seed."""
    if not RECORD.exists():
        pytest.skip("the shop is not recorded yet: `make results ONLY='shop/*'` does it, in an hour")
    return {run.system: run for run in load_runs(RECORD, seed=seed)}


@pytest.fixture(params=[pytest.param("measured", marks=SLOW), *(f"recorded, seed {seed}" for seed in SEEDS)])
def mean(request):
    """System -> mean NDCG@10 on one shop."""
    is_measured = request.param == "measured"
    runs = request.getfixturevalue("measured") if is_measured else recorded(int(request.param[-1]))
    assert set(runs) == set(shop.SYSTEMS)
    return {name: ndcg(run) for name, run in runs.items()}


def best_of_ids(mean):
    return max(mean["item-kNN"], mean["SASRec"])


def test_histories_tell_more_than_popularity(mean):
    assert best_of_ids(mean) >= 1.3 * mean["popularity"]


def test_attributes_tell_more_than_ids(mean):
    assert mean["SASRec on all true attributes"] >= 1.3 * best_of_ids(mean)


def test_there_is_room_below_the_inferring_ceiling(mean):
    assert mean["Bayes ceiling"] >= 1.1 * mean["SASRec on all true attributes"]


def test_the_oracle_is_above_the_inferring_ceiling(mean):
    assert mean["omniscient oracle"] >= 1.1 * mean["Bayes ceiling"]


@pytest.mark.parametrize("alone", ["the image's", "the text's"])
def test_neither_channel_makes_the_other_superfluous(mean, alone):
    assert mean["SASRec on both"] >= 1.1 * mean[f"SASRec on {alone} attributes"]


@SLOW
def test_the_ceiling_is_above_the_best_system_on_the_very_same_shoppers(measured):
    ceiling, best = measured["Bayes ceiling"], measured["SASRec on all true attributes"]
    assert len(ceiling.users) == NUM_INFERRED
    assert ceiling.users.tolist() == best.users[:NUM_INFERRED].tolist()
    assert ndcg(ceiling) >= 1.1 * best.metric("NDCG@10")[:NUM_INFERRED].mean()


@SLOW
def test_what_is_recorded_is_what_is_measured(measured):
    for name, run in recorded(0).items():  # other machines train a little differently
        assert run.stamp["fingerprint"] == measured[name].stamp["fingerprint"]
        assert abs(ndcg(run) - ndcg(measured[name])) < 0.01

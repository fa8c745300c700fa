"""The laptop shop tells systems apart: each step up the ladder of knowledge is worth its margin in NDCG@10."""

import pytest
import torch
from separations import NUM_INFERRED, measure


@pytest.fixture(scope="module")
def ndcg():
    torch.set_num_threads(2)
    measured = measure(seed=0)
    for name, values in measured.items():
        print(f"{name:28s} {values.mean():.3f} (n = {len(values)})")
    return measured


def best_of_ids(ndcg):
    return max(ndcg["item-kNN"].mean(), ndcg["sequence model on ids"].mean())


def test_histories_tell_more_than_popularity(ndcg):
    assert best_of_ids(ndcg) >= 1.3 * ndcg["popularity"].mean()


def test_attributes_tell_more_than_ids(ndcg):
    assert ndcg["on all true attributes"].mean() >= 1.3 * best_of_ids(ndcg)


def test_there_is_room_below_the_inferring_ceiling(ndcg):
    assert len(ndcg["inferring ceiling"]) == NUM_INFERRED
    assert ndcg["inferring ceiling"].mean() >= 1.1 * ndcg["on all true attributes"][:NUM_INFERRED].mean()


def test_the_oracle_is_above_the_inferring_ceiling(ndcg):
    assert ndcg["omniscient oracle"].mean() >= 1.1 * ndcg["inferring ceiling"].mean()


@pytest.mark.parametrize("alone", ["on the image's attributes", "on the text's attributes"])
def test_neither_channel_makes_the_other_superfluous(ndcg, alone):
    assert ndcg["on both"].mean() >= 1.1 * ndcg[alone].mean()

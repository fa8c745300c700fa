"""illmrec_network.py: states without a language model, items as output tokens, and what is trained."""

import pytest
import torch

from mmrec_helpers.lessons.adaptor import Adaptor
from mmrec_helpers.lessons.retrieval import RetrievalHead, sum_of_affinities
from mmrec_helpers.recommenders.illmrec_network import ILLMNetwork, VocabularyHead

DIM, NUM_ITEMS = 5, 7


@pytest.fixture
def network():
    features = {"image": torch.randn(NUM_ITEMS + 1, 3), "CF": torch.randn(NUM_ITEMS + 1, 2)}
    return ILLMNetwork(features, ["CF"], Adaptor(3, DIM), "image", RetrievalHead(DIM, [2], 4), DIM, [])


@torch.no_grad()
def test_a_mean_state_ignores_padding_and_the_order_and_is_zero_without_items(network):
    rows = torch.tensor([[0, 2, 5], [5, 2, 0], [0, 0, 0]])
    states = network.mean_state(rows)
    expected = network.adaptor(network.features["image"][[2, 5]]).mean(0)
    torch.testing.assert_close(states, torch.stack([expected, expected, torch.zeros(DIM)]))


def test_items_are_scored_by_the_named_kinds_and_features_are_not_trained(network):
    assert [tuple(part.shape) for part in network.item_features] == [(NUM_ITEMS, 2)]
    trained = {name.split(".")[0] for name, weight in network.named_parameters() if weight.requires_grad}
    assert trained == {"adaptor", "rec", "head"}


@torch.no_grad()
def test_an_item_as_output_token_is_scored_by_its_own_embedding_alone():
    head, hidden = VocabularyHead(DIM, NUM_ITEMS), torch.randn(2, DIM)
    scores = sum_of_affinities(head.users_of(hidden), head.items_of([]))
    torch.testing.assert_close(scores, hidden @ head.tokens.T)

"""Chapter 5's head and losses equal the formulas, written as loops; its trie equals a search through all prefixes."""

from math import exp, log

import numpy as np
import pytest
import torch

from mmrec_helpers.lessons.retrieval import RetrievalHead, Trie, ire_loss, sum_of_affinities

B, ITEMS, DIMS = 4, 6, (5, 3)


@pytest.fixture
def world():
    torch.manual_seed(0)
    head = RetrievalHead(7, DIMS, 8).double()
    return head, torch.randn(B, 7).double(), [torch.randn(ITEMS, size).double() for size in DIMS]


def affinity(world, kind, user, item):
    head, hidden, features = world
    return (head.users[kind](hidden[user]) @ head.items[kind](features[kind][item])).item()


def test_the_score_is_the_sum_of_the_kinds_affinities(world):
    head, hidden, features = world
    found = sum_of_affinities(head.users_of(hidden), head.items_of(features))
    for user in range(B):
        for item in range(ITEMS):
            assert float(found[user, item].detach()) == pytest.approx(
                sum(affinity(world, kind, user, item) for kind in range(2)), abs=1e-10
            )


def test_bce_has_one_term_for_the_target_and_one_for_the_negative_of_each_kind(world):
    head, hidden, features = world
    targets, negatives = torch.tensor([1, 6, 3, 3]), torch.tensor([2, 1, 1, 6])
    expected = 0.0
    for kind in range(2):
        for user in range(B):
            positive, negative = (affinity(world, kind, user, int(one[user]) - 1) for one in (targets, negatives))
            expected += (log(1 + exp(-positive)) + log(1 + exp(negative))) / B
    assert float(ire_loss(head, hidden, features, targets, negatives).detach()) == pytest.approx(expected, abs=1e-10)


def test_softmax_is_over_the_catalogue_for_each_kind(world):
    head, hidden, features = world
    targets, expected = torch.tensor([1, 6, 3, 3]), 0.0
    for kind in range(2):
        for user in range(B):
            scores = [affinity(world, kind, user, item) for item in range(ITEMS)]
            expected += (log(sum(map(exp, scores))) - scores[int(targets[user]) - 1]) / B
    assert float(ire_loss(head, hidden, features, targets).detach()) == pytest.approx(expected, abs=1e-10)


def test_the_trie_allows_what_continues_a_sequence_and_nothing_else():
    rng = np.random.default_rng(0)
    sequences = [[*rng.integers(1, 4, rng.integers(1, 5)).tolist(), 0] for _ in range(12)]  # 0 is EOS
    trie = Trie(sequences)
    begins = {tuple(sequence[:k]) for sequence in sequences for k in range(len(sequence) + 1)}
    for prefix in begins:
        assert sorted(trie.allowed(prefix)) == [token for token in range(4) if (*prefix, token) in begins]
    assert any((*sequence[:-1], 1) in begins for sequence in sequences)  # one begins another one
    assert trie.allowed([9]) == trie.allowed([9, 1]) == []

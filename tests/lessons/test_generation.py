"""Chapter 4's beam search finds the most probable lists: all by counting, the greedy one by ``generate_list``."""

from itertools import permutations

import numpy as np
import pytest
import torch

from mmrec_helpers.lessons.decoder import GPT2, ItemDecoder, ItemEmbedding, generate_list
from mmrec_helpers.lessons.generation import beam_search, extend_beams

ITEMS = 5
STOP = START = ITEMS + 1


def chances(seed, tokens=STOP):
    """Log chances of the next token that depend on all that was read, by a table of random vectors."""
    vectors = torch.randn(START + 1, tokens, generator=torch.Generator().manual_seed(seed)).double()
    return lambda rows: sum(vectors[column] * (place + 1) ** 0.5 for place, column in enumerate(rows.T)).log_softmax(1)


def total(log_chances, read, named):
    """The log chance of a list, step by step."""
    rows = [[*read, *named[:place]] for place in range(len(named))]
    return float(sum(log_chances(torch.tensor([row]))[0, token - 1] for row, token in zip(rows, named, strict=True)))


def every_list(read, steps, stop):
    """All lists that name nothing twice and nothing that was read: whole ones, and those that end early."""
    items = [item for item in range(1, ITEMS + 1) if item not in read]
    lists = [list(some) for some in permutations(items, min(steps, len(items)))] if len(items) >= steps else []
    if stop:
        lists += [[*some, stop] for length in range(steps) for some in permutations(items, length)]
    return lists


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("stop", [None, STOP])
def test_with_beams_for_all_it_finds_all_lists_in_their_order(seed, steps, stop):
    read, log_chances = [START, 2], chances(seed, STOP if stop else ITEMS)
    found = beam_search(log_chances, read, steps, num_beams=10_000, eos=stop)
    wanted = sorted(every_list(read, steps, stop), key=lambda named: -total(log_chances, read, named))
    assert [named for named, _ in found] == wanted
    np.testing.assert_allclose([value for _, value in found], [total(log_chances, read, named) for named in wanted])


@pytest.mark.parametrize("beams", [1, 2, 3, 7])
@pytest.mark.parametrize("stop", [None, STOP])
def test_a_list_is_as_likely_as_it_says_and_names_nothing_twice(beams, stop):
    for seed in range(10):
        read, log_chances = [START, 1, 4], chances(seed, STOP if stop else ITEMS)
        found = beam_search(log_chances, read, 3, beams, stop)
        assert 0 < len(found) <= beams
        values = [value for _, value in found]
        assert values == sorted(values, reverse=True)
        for named, value in found:
            assert value == pytest.approx(total(log_chances, read, named), abs=1e-5)
            assert len(set(named)) == len(named)
            assert not {1, 4} & set(named)
            assert stop not in named[:-1]
            assert len(named) == 3 or named[-1] == stop


@pytest.mark.parametrize("seed", range(4))
def test_one_beam_writes_the_greedy_list(seed):
    torch.manual_seed(seed)
    decoder = ItemDecoder(ItemEmbedding(8, id_embeddings=torch.randn(9, 8)), GPT2(8, 2, 2, 12, 0.1)).eval()
    history = [3, 7, 1]
    found = beam_search(lambda rows: decoder(rows)[:, -1].log_softmax(1), [10, *history], 5, num_beams=1)
    assert [named for named, _ in found] == [generate_list(decoder, history, 5)]


def test_what_cannot_be_extended_is_no_list():
    """All five items have been read: nothing is left to name."""
    log_chances = chances(0, ITEMS)
    assert extend_beams(log_chances, [1, 2, 3, 4, 5], [([], 0.0)], num_beams=3) == []
    assert beam_search(log_chances, [1, 2, 3, 4, 5], num_steps=2, num_beams=3) == []
    only_the_end = beam_search(chances(0), [START, 1, 2, 3, 4, 5], num_steps=2, num_beams=3, eos=STOP)
    assert [named for named, _ in only_the_end] == [[STOP]]

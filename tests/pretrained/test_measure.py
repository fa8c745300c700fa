"""pretrained/measure.py: right on vectors whose answer is known."""

import pytest
import torch

from mmrec_helpers.pretrained.measure import linear_probe


@pytest.fixture(scope="module")
def vectors():
    return torch.randn(150, 40, generator=torch.Generator().manual_seed(0))


def test_a_probe_reads_what_is_linear_and_nothing_else(vectors):
    truth = [str((row[:3]).argmax().item()) for row in vectors]
    assert linear_probe(vectors[:100], truth[:100], vectors[:100], truth[:100]) > 0.9
    asked = torch.randn(2000, 40, generator=torch.Generator().manual_seed(2))
    chance = linear_probe(vectors[:100], truth[:100], asked, ["0"] * 2000)
    assert 0.2 < chance < 0.47

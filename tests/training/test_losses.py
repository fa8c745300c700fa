"""The losses against torch's own and against their formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmrec_helpers.training import losses
from mmrec_helpers.training.losses import bpr_loss, catalogue_cross_entropy, gbce_beta, gbce_loss, sample_negatives

NUM_ITEMS = 30


def test_bpr_is_binary_cross_entropy_of_score_differences():
    differences = torch.tensor([-2.0, 0.0, 3.0])
    wanted = F.binary_cross_entropy_with_logits(differences, torch.ones(3))
    torch.testing.assert_close(bpr_loss(differences), wanted)


@pytest.mark.parametrize("chunk", [1, 100, 2**18])
def test_cross_entropy_is_over_the_whole_catalogue(chunk, monkeypatch):
    monkeypatch.setitem(losses.CHUNK_LOGITS, "cpu", chunk)
    torch.manual_seed(0)
    made = [torch.randn(*shape, requires_grad=True) for shape in ((50, 8), (NUM_ITEMS, 8), (NUM_ITEMS,))]
    targets = torch.randint(1, NUM_ITEMS + 1, (50,))
    own = catalogue_cross_entropy(*made, targets)
    hidden, vectors, bias = made
    wanted = F.cross_entropy(hidden @ vectors.T + bias, targets - 1)
    torch.testing.assert_close(own, wanted)
    for mine, torchs in zip(torch.autograd.grad(3 * own, made), torch.autograd.grad(3 * wanted, made), strict=True):
        torch.testing.assert_close(mine, torchs, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("num", [1, 7])
def test_gbce_without_calibration_is_binary_cross_entropy(num):
    torch.manual_seed(0)
    scores, truth = torch.randn(50, 1 + num), torch.zeros(50, 1 + num)
    truth[:, 0] = 1
    wanted = F.binary_cross_entropy_with_logits(scores, truth)
    torch.testing.assert_close(gbce_loss(scores[:, 0], scores[:, 1:], gbce_beta(num, 100, 0.0)), wanted)


def test_gbce_raises_the_targets_probability_to_beta():
    torch.manual_seed(0)
    positive, negative = torch.randn(50, dtype=torch.float64), torch.randn(50, 7, dtype=torch.float64)
    for calibration, beta in ((0.0, 1.0), (0.5, (1 + 7 / 99) / 2), (1.0, 7 / 99)):
        wanted = -((positive.sigmoid() ** beta).log() + (1 - negative.sigmoid()).log().sum(1)).mean() / 8
        torch.testing.assert_close(gbce_loss(positive, negative, gbce_beta(7, 100, calibration)), wanted)


@pytest.mark.parametrize("calibration", [0.0, 1.0])
def test_calibration_makes_probabilities_of_the_scores(calibration):
    """At the least loss, an item of share p has odds p to 1 - p with t = 1, and I - 1 times too much of them with 0."""
    share = torch.tensor([0.5, 0.3, 0.15, 0.05])
    odds = share / (1 - share) * (1 if calibration else 3)
    scores = odds.log().requires_grad_()
    # The expected loss: with k = 1, an item is the target with its share, and a negative with (1 - share) / 3.
    as_target = [gbce_loss(score[None], torch.full((1, 1), -99.0), gbce_beta(1, 4, calibration)) for score in scores]
    as_negative = [gbce_loss(torch.full((1,), 99.0), score[None, None], 1.0) for score in scores]
    expected = sum(p * a + (1 - p) / 3 * b for p, a, b in zip(share, as_target, as_negative, strict=True))
    (gradient,) = torch.autograd.grad(expected, scores)
    torch.testing.assert_close(gradient, torch.zeros(4), atol=1e-6, rtol=0)


def test_negatives_are_any_item_but_the_target():
    torch.manual_seed(0)
    targets = torch.arange(1, 6).repeat_interleave(4_000)
    drawn = sample_negatives(targets, 3, 5)
    for target in range(1, 6):
        share = np.bincount(drawn[targets == target].flatten(), minlength=6) / 12_000
        wanted = np.where(np.isin(np.arange(6), [0, target]), 0, 0.25)
        np.testing.assert_array_equal(share == 0, wanted == 0)
        np.testing.assert_allclose(share, wanted, atol=0.02)

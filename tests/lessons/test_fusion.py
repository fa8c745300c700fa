"""Fusion: each kind equals a slow reference, and what must not matter does not."""

import pytest
import torch
from torch.nn.functional import pad

from mmrec_helpers.lessons.fusion import (
    FUSIONS,
    CrossBlock,
    ItemFusion,
    TokenCrossAttention,
    attention_mask,
    cross_weights,
    fused_means,
)

DIMS = [6, 5]


@pytest.fixture
def tokens():
    """Words (3, 4, 6) and patches (3, 3, 5) of three items: all tokens, fewer of both, no image."""
    torch.manual_seed(0)
    words, patches = torch.randn(3, 4, 6), torch.randn(3, 3, 5)
    words[1, 2:] = patches[1, 2:] = patches[2] = 0
    return words, patches


@pytest.fixture(params=FUSIONS)
def fusion(request):
    torch.manual_seed(1)
    return ItemFusion(DIMS, 8, 2, request.param, 0.0).eval()


def test_attention_is_the_formula_head_by_head():
    torch.manual_seed(0)
    attention, words, patches = TokenCrossAttention(8, 2), torch.randn(1, 3, 8), torch.randn(1, 5, 8)
    outputs = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        parts = attention.query(words), attention.keys(patches), attention.values(patches)
        q, k, v = (layer[0, :, part] for layer in parts)
        outputs.append((q @ k.T / 2).softmax(1) @ v)
    expected = attention.output(torch.cat(outputs, 1))
    torch.testing.assert_close(attention(words, patches, torch.ones(1, 5) > 0)[0], expected)


def test_a_masked_patch_has_no_weight_and_changes_only_what_attends_to_it():
    torch.manual_seed(0)
    attention, words, patches = TokenCrossAttention(8, 2), torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    allowed = torch.tensor([[True] * 5, [True, True, False, True, True]])
    weights = cross_weights(attention, words, patches, allowed)
    assert (weights[1, :, :, 2] == 0).all()
    torch.testing.assert_close(weights.sum(3), torch.ones(2, 2, 3))
    changed = patches.clone()
    changed[:, 2] += 5
    same = torch.isclose(attention(words, changed, allowed), attention(words, patches, allowed), atol=1e-6)
    assert not same[0].all()
    assert same[1].all()


def test_the_masks_differ_by_what_crosses():
    is_word, is_patch = torch.tensor([[True, True, False]]), torch.tensor([[True, False]])
    apart, together = (attention_mask(is_word, is_patch, crosses)[0, 0] for crosses in (False, True))
    assert together.int().tolist() == [
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 1, 0],
        [1, 1, 0, 1, 1],
    ]
    between = torch.zeros(5, 5, dtype=torch.bool)
    between[:3, 3:] = between[3:, :3] = True
    assert torch.equal(apart, together & ~between)


def test_padding_the_order_of_patches_and_other_items_change_nothing(fusion, tokens):
    words, patches = tokens
    expected = fusion(words, patches)
    assert expected.shape == (3, 8)
    padded = fusion(pad(words, (0, 0, 0, 2)), pad(patches, (0, 0, 0, 3)))
    torch.testing.assert_close(padded, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(fusion(words, patches[:, [2, 0, 1]]), expected, atol=1e-5, rtol=0)
    for row in range(3):
        alone = fusion(words[row : row + 1], patches[row : row + 1])
        torch.testing.assert_close(alone[0], expected[row], atol=1e-5, rtol=0)


def test_what_a_kind_of_fusion_reads(fusion, tokens):
    words, patches = tokens
    expected = fusion(words, patches)
    reads_patches = not torch.allclose(fusion(words, patches + patches.ne(0)), expected)
    reads_words = not torch.allclose(fusion(words + words.ne(0), patches), expected)
    assert (reads_words, reads_patches) == (fusion.fusion != "image", fusion.fusion != "text")


def test_an_item_without_an_image_is_its_text_alone(fusion, tokens):
    """By the same weights: late fusion and extra tokens are the text-only system, cross-attention is the MLP."""
    words = tokens[0][2:]
    expected = fusion(words, torch.zeros(1, 3, 5))
    if isinstance(fusion.block, CrossBlock):
        hidden = fusion.words(words)
        hidden = hidden + fusion.block.mlp(fusion.block.before_mlp(hidden))
        torch.testing.assert_close(expected, fusion.output(hidden.mean(1)))
    elif fusion.fusion != "image":
        text = ItemFusion(DIMS, 8, 2, "text", 0.0).eval()
        text.load_state_dict(fusion.state_dict())
        torch.testing.assert_close(expected, text(words, torch.zeros(1, 3, 5)), atol=1e-5, rtol=0)


def test_every_weight_that_can_be_trained_has_a_finite_gradient(fusion, tokens):
    words, patches = (torch.cat([part, torch.zeros_like(part[:1])]) for part in tokens)  # the last item has nothing
    fusion(words, patches).square().sum().backward()
    gradients = {name: weight.grad for name, weight in fusion.named_parameters() if weight.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    unused = {"text": "patches.", "image": "words."}.get(fusion.fusion, "none")
    assert {name for name, _ in fusion.named_parameters()} - set(gradients) <= {f"{unused}weight", f"{unused}bias"}


@pytest.mark.parametrize("kind", ["cross-attention", "extra tokens", "late"])
def test_training_begins_at_the_sum_of_the_means(kind, tokens):
    fusion = ItemFusion(DIMS, 8, 2, kind, 0.0).eval()
    means = fused_means(fusion, *tokens).split(8, dim=1)
    torch.testing.assert_close(fusion(*tokens), torch.stack(means).sum(0))

"""tools/bench_gpt2.py: what it counts, and that what it races computes the same."""

import bench_gpt2
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

SIZE, CONTEXT, BATCH, ITEMS = (32, 3, 4), 10, 2, 40


@pytest.fixture
def pair():
    return bench_gpt2.pair(SIZE, CONTEXT, ITEMS)


def test_operations_are_those_that_torch_counts_less_what_the_mask_hides(pair):
    ours, _ = pair
    read = torch.randn(BATCH, CONTEXT, SIZE[0], requires_grad=True)
    items = torch.randn(SIZE[0], ITEMS, requires_grad=True)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        (ours.gpt2(read) @ items).sum().backward()
    hidden = CONTEXT * (CONTEXT - 1) // 2  # pairs of a later and an earlier position, in each row
    per_pair = 3 * 4 * SIZE[0] * SIZE[1]
    counted = counter.get_total_flops() - BATCH * hidden * per_pair
    assert counted == BATCH * CONTEXT * bench_gpt2.operations(SIZE, ITEMS, CONTEXT)


def test_both_have_the_same_loss_and_the_same_gradients(pair):
    rows = torch.randint(1, ITEMS + 1, (BATCH, CONTEXT + 1))
    rows[0, 6:] = 0
    losses, slopes = [], []
    for model in pair:
        loss = bench_gpt2.plain_loss(model.eval(), rows)
        loss.backward()
        losses.append(loss.detach())
        slopes.append(model.item_embedding.fusion.projections[0].weight.grad)
    losses.append(bench_gpt2.trained_loss(pair[0])(rows).detach())
    torch.testing.assert_close(losses[1:], [losses[0]] * 2)
    torch.testing.assert_close(*slopes, atol=1e-6, rtol=1e-4)
    assert slopes[0].abs().max() > 1e-4


def test_the_race_of_a_gpu_runs_without_one_too(capsys):
    found = bench_gpt2.race_on_gpu(SIZE, CONTEXT, BATCH, ITEMS, device="cpu", compiled=(False,))
    assert set(found) == {"ours", "transformers"}
    assert min(way["tokens_per_second"] for way in found.values()) > 0
    assert {way["share_of_peak"] for way in found.values()} == {None}  # of a processor, no peak is known
    assert "tokens/s" in capsys.readouterr().out

"""tuning.py: what LoRA adds to a model, and which layers are frozen when."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mmrec_helpers.lessons.decoder import GPT2
from mmrec_helpers.llm.tuning import LORA_RANK, UNFREEZING_STAGES, add_lora, unfreeze_gradually


@torch.no_grad()
def with_large_weights(module):
    """The module with weights large enough that each of them matters."""
    torch.manual_seed(0)
    for weight in module.parameters():
        if weight.requires_grad:
            weight.add_(0.3 * torch.randn_like(weight))
    return module.eval()


@pytest.fixture
def gpt2():
    return with_large_weights(GPT2(16, 2, 2, 12, 0.0))


def linear_layers(model):
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


@pytest.mark.parametrize("options", [{}, {"rank": 3, "scale": 2}])
@torch.no_grad()
def test_lora_adds_to_each_linear_layer_a_product_that_starts_at_zero(gpt2, options):
    embeddings = torch.randn(3, 7, 16)
    adapted = deepcopy(gpt2)
    add_lora(adapted, **options)
    torch.testing.assert_close(adapted(embeddings), gpt2(embeddings), atol=0, rtol=0)
    with_large_weights(adapted)
    assert (adapted(embeddings) - gpt2(embeddings)).abs().max() > 0.1
    for name, layer in linear_layers(gpt2).items():  # W x + s B A x is (W + s B A) x
        adapter = adapted.get_submodule(name)
        assert len(adapter.lora_A["default"].weight) == options.get("rank", LORA_RANK)
        layer.weight += options.get("scale", 1) * adapter.lora_B["default"].weight @ adapter.lora_A["default"].weight
    torch.testing.assert_close(adapted(embeddings), gpt2(embeddings), atol=1e-4, rtol=1e-4)


def test_lora_trains_so_many_parameters_and_no_other(gpt2):
    expected = sum(LORA_RANK * (layer.in_features + layer.out_features) for layer in linear_layers(gpt2).values())
    assert len(linear_layers(gpt2)) == 4 * 2
    add_lora(gpt2)
    trained = {name: weight for name, weight in gpt2.named_parameters() if weight.requires_grad}
    assert sum(weight.numel() for weight in trained.values()) == expected
    assert all("lora_" in name for name in trained)


@pytest.mark.parametrize("num_layers", [1, 4, 9, 10, 25])
def test_layers_are_unfrozen_in_their_order_and_all_before_the_end(num_layers):
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(num_layers))
    counts = []
    for step in range(101):
        unfreeze_gradually(layers, step / 101)
        trained = [layer.weight.requires_grad and layer.bias.requires_grad for layer in layers]
        assert trained == sorted(trained, reverse=True)
        counts.append(sum(trained))
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == num_layers
    stages = max(UNFREEZING_STAGES, num_layers + 1)
    assert [counts.index(count) for count in range(1, num_layers + 1)] == [
        -(-101 * count // stages) for count in range(1, num_layers + 1)
    ]

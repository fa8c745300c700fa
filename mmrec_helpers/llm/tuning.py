"""Fine-tuning strategies of a pretrained backbone: LoRA and gradual unfreezing."""

from collections.abc import Sequence

from torch import nn

LORA_RANK = 16
"""Rank of LoRA's matrices, as in appendix A of {cite}`olaniyi_mmgpt2rec`."""
UNFREEZING_STAGES = 10
"""Equal parts of the training; at the end of each, one more layer is unfrozen."""


def add_lora(model: nn.Module, rank: int = LORA_RANK, scale: int = 1) -> None:
    """Freeze a model and add trainable LoRA matrices to its linear layers, in place {cite}`hu2022lora`.

    Args:
        model: of torch or transformers.
        rank: r of the matrices.
        scale: alpha / r, the factor of their product.
    """
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds: imported only where it is needed
    from transformers.pytorch_utils import Conv1D  # the library's name for the linear layers of its GPT-2

    linear = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, Conv1D))]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=scale * rank, target_modules=linear), model)


def unfreeze_gradually(layers: Sequence[nn.Module], progress: float) -> None:
    """Freeze all layers but the first ones, more of them the longer the training {cite}`howard2018ulmfit`.

    Args:
        layers: in the order in which they are unfrozen, usually from the last layer to the first. More than
            ``UNFREEZING_STAGES - 1`` of them take shorter stages, so that each is trained in the end.
        progress: share of the training steps that are done, from 0 to 1.
    """
    stages = max(UNFREEZING_STAGES, len(layers) + 1)
    for stage, layer in enumerate(layers, start=1):
        layer.requires_grad_(progress * stages >= stage)

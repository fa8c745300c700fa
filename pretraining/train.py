"""How a pocket model is trained and how its folder is written."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mmrec_helpers.encoders.checkpoints import WEIGHTS, digests_of
from mmrec_helpers.files import atomic, write_digests
from mmrec_helpers.pocket_shop.rendering import RENDERING_VERSION
from mmrec_helpers.pocket_shop.shop import SHOP_VERSION
from mmrec_helpers.pocket_shop.text_templates import TEXT_VERSION
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, train


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3, 64, 64) from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class OneCycleConfig(TrainingConfig):
    """AdamW with the one-cycle schedule: the learning rate rises and falls once, the momentum falls and rises."""

    def optimizer(self, model: torch.nn.Module) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """The optimizer and its schedule for the parameters that require gradients."""
        parameters = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(parameters, self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.98))
        return optimizer, OneCycleLR(optimizer, self.lr, total_steps=self.steps, pct_start=0.1)


class Savable(Protocol):
    """What transformers' models, processors and tokenizers have in common."""

    def save_pretrained(self, folder: Path, /) -> object:
        """Write files from which ``from_pretrained`` makes the same."""


def fit(
    name: str,
    model: torch.nn.Module,
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    steps: int,
    lr: float = 1e-3,
) -> float:
    """Minimise the loss of random batches; a run that was killed resumes.

    Returns:
        The minutes that it took.
    """
    config = OneCycleConfig(steps, lr, weight_decay=0.05, warmup_steps=0, mixed_precision=True)
    history = train(
        model,
        lambda step: loss_of(np.random.default_rng([step, steps])),
        config,
        checkpoint=checkpoint(name),
        name=name,
    )
    return history.seconds / 60


def checkpoint(name: str) -> Path:
    """The checkpoint file of a model's training."""
    return load_settings().cache / "pretraining" / f"{name}.pt"


def save_pretrained(name: str, minutes: float, *parts: Savable) -> None:
    """Save a model, and what prepares its inputs, into its folder, with the versions of the shop that it knows.

    Args:
        name: of the model.
        minutes: that the training took.
        *parts: models, processors and tokenizers.
    """
    with atomic(WEIGHTS / name) as folder:
        folder.mkdir()
        for part in parts:
            part.save_pretrained(folder)
        stamp = {"drawing": RENDERING_VERSION, "wording": TEXT_VERSION, "shop": SHOP_VERSION}
        (folder / "stamp.json").write_text(json.dumps(stamp | {"minutes": round(minutes, 1)}, indent=1) + "\n")
    write_digests(WEIGHTS / name, digests_of(name))
    checkpoint(name).unlink(missing_ok=True)

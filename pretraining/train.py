"""How a pocket model is trained, and how its folder is written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mmrec_helpers.encoders.checkpoints import WEIGHTS
from mmrec_helpers.pocket_shop.rendering import RENDERING_VERSION
from mmrec_helpers.pocket_shop.shop import SHOP_VERSION
from mmrec_helpers.pocket_shop.text_templates import TEXT_VERSION
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training import loop as training
from mmrec_helpers.training.loop import TrainingConfig
from pretraining.corpus import HELD_OUT_SEEDS, TRAINING_SEEDS, Corpus, draw_corpus


@cache
def training_corpus() -> Corpus:
    """The items to learn from; none has the text of an item of a held-out world."""
    held_out = draw_corpus(HELD_OUT_SEEDS)
    return draw_corpus(TRAINING_SEEDS, without=frozenset(held_out.descriptions))


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3, 64, 64) from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


@dataclass(frozen=True)
class OneCycle(TrainingConfig):
    """AdamW with one cycle of the learning rate and, against it, of the momentum."""

    def optimizer(self, model: torch.nn.Module) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """The optimiser and its schedule for the parameters that learn."""
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(learning, self.lr, weight_decay=self.weight_decay, betas=(0.9, 0.98))
        return optimizer, OneCycleLR(optimizer, self.lr, total_steps=self.steps, pct_start=0.1)


def fit(
    name: str,
    model: torch.nn.Module,
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    steps: int,
    lr: float = 1e-3,
) -> float:
    """Minimise the loss of random batches; return the minutes that it took. A run that was killed goes on."""
    plan = OneCycle(steps, lr, weight_decay=0.05, warmup_steps=0, mixed_precision=True)
    history = training.fit(
        model, lambda step: loss_of(np.random.default_rng([step, steps])), plan, checkpoint=checkpoint(name), name=name
    )
    return history.seconds / 60


def checkpoint(name: str) -> Path:
    """The file of a model's running training."""
    return load_settings().cache / "pretraining" / f"{name}.pt"


def together(*pieces) -> Callable[[Path], None]:
    """Save a model and what prepares its inputs into one folder, as transformers does."""

    def save(folder: Path) -> None:
        for piece in pieces:
            piece.save_pretrained(folder)

    return save


def store(name: str, save: Callable[[Path], None], minutes: float) -> None:
    """Write a model's folder whole or not at all, with the stamp of what it was made from."""
    part = WEIGHTS / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save(part)
    stamp = {"drawing": RENDERING_VERSION, "wording": TEXT_VERSION, "shop": SHOP_VERSION, "minutes": round(minutes, 1)}
    (part / "stamp.json").write_text(json.dumps(stamp, indent=1) + "\n")
    shutil.rmtree(WEIGHTS / name, ignore_errors=True)
    part.rename(WEIGHTS / name)
    checkpoint(name).unlink(missing_ok=True)

"""The loop that trains a pocket model, and how its folder is written."""

import json
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from mmrec_helpers.checkpoints import WEIGHTS
from mmrec_helpers.pocket_shop.drawing import DRAWING_VERSION
from mmrec_helpers.pocket_shop.shop import SHOP_VERSION
from mmrec_helpers.pocket_shop.wording import WORDING_VERSION
from mmrec_helpers.pretrained.corpus import HELD_OUT_SEEDS, TRAINING_SEEDS, Corpus, draw_corpus
from mmrec_helpers.settings import load_settings


@cache
def training_corpus() -> Corpus:
    """The items to learn from; none has the text of an item of a held-out world."""
    held_out = draw_corpus(HELD_OUT_SEEDS)
    return draw_corpus(TRAINING_SEEDS, without=frozenset(held_out.descriptions))


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3, 64, 64) from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def fit(
    name: str,
    model: torch.nn.Module,
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    steps: int,
    rate: float = 1e-3,
) -> float:
    """Minimise the loss of random batches: AdamW, warm-up and cosine; return the minutes that it took.

    A step's batch depends on the step alone, so that a run goes on from a checkpoint as if it had never stopped.
    """
    kept = load_settings().cache / "pretraining" / f"{name}.pt"
    learnt = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learnt, lr=rate, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    done, seconds = 0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        done, seconds = state["done"], state["seconds"]
        for part, owner in parts.items():
            owner.load_state_dict(state[part])
    start = time.time() - seconds
    model.train()
    bar = tqdm(range(done, steps), desc=name, initial=done, total=steps)
    for step in bar:
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(np.random.default_rng([step, steps]))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if (step + 1) % 100 == 0:
            kept.parent.mkdir(parents=True, exist_ok=True)
            states = {part: owner.state_dict() for part, owner in parts.items()}
            torch.save({"done": step + 1, "seconds": time.time() - start, **states}, kept.with_suffix(".part"))
            kept.with_suffix(".part").replace(kept)
    model.eval()
    return (time.time() - start) / 60


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
    stamp = {"drawing": DRAWING_VERSION, "wording": WORDING_VERSION, "shop": SHOP_VERSION, "minutes": round(minutes, 1)}
    (part / "stamp.json").write_text(json.dumps(stamp, indent=1) + "\n")
    shutil.rmtree(WEIGHTS / name, ignore_errors=True)
    part.rename(WEIGHTS / name)
    (load_settings().cache / "pretraining" / f"{name}.pt").unlink(missing_ok=True)

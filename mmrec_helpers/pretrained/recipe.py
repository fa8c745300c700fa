"""The recipe of the pocket models: ordinary checkpoints of library classes, trained on worlds of their own.

``python -m mmrec_helpers.pretrained.recipe [NAME ...]`` (``make pretrained``) trains them from nothing into WEIGHTS. A
run that was killed goes on from its last checkpoint, to the same end.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm.auto import tqdm

from mmrec_helpers.checkpoints import WEIGHTS
from mmrec_helpers.pocket_shop.catalogue import VALUES
from mmrec_helpers.pocket_shop.drawing import DRAWING_VERSION
from mmrec_helpers.pocket_shop.shop import PIXELS, SHOP_VERSION
from mmrec_helpers.pocket_shop.wording import WORDING_VERSION
from mmrec_helpers.pretrained.corpus import HELD_OUT_SEEDS, TRAINING_SEEDS, Corpus, draw_corpus
from mmrec_helpers.settings import load_settings
from mmrec_helpers.torchvision_mend import mend_torchvision

mend_torchvision()

import timm  # noqa: E402
from timm.models import save_for_hf  # noqa: E402

BATCH = 128
HEADS = {name: len(VALUES[name]) for name in ("category", "colour", "pattern", "style")}
"""What the network of pictures learns to name, and the number of values of each."""


@cache
def training_corpus() -> Corpus:
    """The items to learn from; none has the text of an item of a held-out world."""
    held_out = draw_corpus(HELD_OUT_SEEDS)
    return draw_corpus(TRAINING_SEEDS, without=frozenset(held_out.descriptions))


def pixel_values(pixels: np.ndarray) -> torch.Tensor:
    """(B, 64, 64, 3) uint8 -> (B, 3, 64, 64) from -1 to 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


# Training -------------------------------------------------------------------------------------------------------------


def fit(name: str, model: torch.nn.Module, loss_of: Callable[[np.random.Generator], torch.Tensor], steps: int) -> float:
    """Minimise the loss of random batches: AdamW, warm-up and cosine; return the minutes that it took.

    A step's batch depends on the step alone, so that a run goes on from a checkpoint as if it had never stopped.
    """
    kept = load_settings().cache / "pretraining" / f"{name}.pt"
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.1)
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
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
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


# Models ---------------------------------------------------------------------------------------------------------------


def resnet(name: str, steps: int) -> None:
    """A ResNet that names what a picture shows; the role of ResNet-18 and VGG19."""
    corpus = training_corpus()
    shape = {"layers": [1, 1, 1, 1], "channels": [32, 64, 96, 128]}
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=sum(HEADS.values()), **shape)
    truth = torch.tensor([[VALUES[head].index(facts[head]) for head in HEADS] for facts in corpus.facts])  # (N, 4)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = rng.choice(len(corpus), BATCH, replace=False)
        logits = model(pixel_values(corpus.pixels[rows])).float().split(list(HEADS.values()), dim=1)
        return sum(cross_entropy(head, truth[rows, place]) for place, head in enumerate(logits))

    minutes = fit(name, model, loss_of, steps)
    model.pretrained_cfg = {  # not that of the ImageNet weights of this architecture
        "architecture": "resnet18",
        "input_size": [3, PIXELS, PIXELS],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "num_classes": model.num_classes,
        "first_conv": "conv1",
        "classifier": "fc",
    }
    store(name, lambda folder: save_for_hf(model.half(), folder, model_args=shape, safe_serialization=True), minutes)


RECIPES = {"pocket-resnet": (resnet, 800)}
"""Model -> its recipe and the number of steps."""

if __name__ == "__main__":
    for name in sys.argv[1:] or RECIPES:
        recipe, steps = RECIPES[name]
        recipe(name, steps)

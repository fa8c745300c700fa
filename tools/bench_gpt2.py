"""Chapter 4's GPT-2 against transformers': training steps with the same data and loss, ranking, medium on a GPU.

On a CPU a step is timed on one thread, in seconds of that thread, so that other processes hardly count.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

import mmrec_helpers  # noqa: F401, isort: skip, repairs torchvision before transformers imports it
from transformers import GPT2Config, GPT2Model

from mmrec_helpers.data.dataset import CONTEXT, VALID, Split
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.lessons.decoder import Add, ItemDecoder, ItemEmbedding, load_gpt2
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders import mmgpt2rec as gpt2rec
from mmrec_helpers.recommenders.sequential import windows
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import PRINTED, Variant, build_variant, decoder_inputs

SIZES = {"2 blocks of width 64": (64, 2, 4), "4 blocks of width 128": (128, 4, 4)}
"""Name -> width, blocks, heads."""
MEDIUM = (1024, 24, 16)
BATCH, LENGTH, DROPOUT, STEPS = 128, 50, 0.1, 24
FEATURES = 256
LONG = 1024
"""Positions of a row on a GPU: as many as medium has places."""
PEAKS = {"H100 PCIe": 756, "H100": 989, "H200": 989, "A100": 312, "A10": 125, "L40S": 362, "L4": 121}
"""Part of a card's name -> its maker's number of bf16 operations a second, dense, in 10^12."""
PAPER = {"gpu": "NVIDIA L4", "peak_gb": 18, "gpu_hours_per_100k": 8}
"""What MM-GPT2Rec's paper states of its own training of up to 20 epochs, section IV-E; not measured here."""


class Theirs(nn.Module):
    """The item decoder around ``GPT2Model``."""

    def __init__(self, item_embedding: ItemEmbedding, gpt2: GPT2Model) -> None:
        super().__init__()
        self.item_embedding, self.gpt2 = item_embedding, gpt2

    def hidden_states(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """(B, T) items, 0 for padding at the right, (I + 1, D) embeddings -> (B, T, D)."""
        return self.gpt2(inputs_embeds=embedding((inputs - 1).clamp(min=0), embeddings)).last_hidden_state


Model = ItemDecoder | Theirs
Losses = dict[str, tuple[Model, Callable[[Tensor], Tensor]]]
"""Name -> a model and its loss on a batch."""


def pair(size: tuple[int, int, int], context: int, num_items: int) -> tuple[ItemDecoder, Theirs]:
    """Our decoder and theirs, of the same weights."""
    dim, num_layers, num_heads = size
    torch.manual_seed(0)
    features = torch.randn(num_items, FEATURES) / FEATURES**0.5
    sizes: dict[str, Any] = {"n_positions": context, "n_embd": dim, "n_layer": num_layers, "n_head": num_heads}
    sizes |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), DROPOUT)
    theirs = GPT2Model(GPT2Config(vocab_size=1, bos_token_id=None, eos_token_id=None, use_cache=False, **sizes))
    ours = load_gpt2(theirs.state_dict(), num_heads, DROPOUT)[0]
    torch.manual_seed(1)
    one, other = (ItemEmbedding(dim, [features], Add([FEATURES], dim)) for _ in range(2))
    other.load_state_dict(one.state_dict())
    return ItemDecoder(one, ours), Theirs(other, theirs)


def batches(split: Split) -> list[Tensor]:
    """(B, T + 1) windows at random, right-padded, as they are trained on."""
    frame = split.interactions("train")
    rows = torch.from_numpy(
        windows(frame["user"].to_numpy(), frame["item"].to_numpy(), LENGTH, split.dataset.num_items + 1)
    )
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return list(rows[: STEPS * BATCH].split(BATCH))


def plain_loss(model: Model, rows: Tensor) -> Tensor:
    """Cross-entropy of the next items: rows as long as the longest, and scores where there is a target."""
    targets = rows[:, 1:]
    targets = targets[:, : int((targets > 0).sum(1).max())]
    mask, embeddings = targets > 0, model.item_embedding()
    hidden = model.hidden_states(rows[:, : targets.shape[1]] * mask, embeddings)[mask]
    return cross_entropy(hidden @ embeddings[:-1].T + model.item_embedding.bias, targets[mask] - 1)


def trained_loss(model: ItemDecoder) -> Callable[[Tensor], Tensor]:
    """The same as ``MMGPT2Rec`` computes it."""
    system = gpt2rec.MMGPT2Rec(use_ids=True, batch_size=BATCH)
    system.network = gpt2rec.DecoderNetwork(model)
    return lambda rows: system.loss_of(rows, 0)


def steps_of(model: nn.Module, loss_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], float]:
    """Seconds of a training step on a batch."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 1e-4)
    device = next(model.parameters()).device.type
    clock = time.perf_counter if device == "cuda" else time.process_time

    def step(rows: Tensor) -> float:
        start = clock()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            loss = loss_of(rows)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    return step


def race(losses: Losses, rows: list[Tensor]) -> dict[str, float]:
    """Way -> the median seconds of a training step, all in turns, of models whose first losses must be the same.

    The turns go to and fro: what comes first in one batch comes last in the next.
    """
    for model, _ in losses.values():
        model.eval()
    with torch.no_grad():
        first = [float(loss_of(rows[0])) for _, loss_of in losses.values()]
    assert max(first) - min(first) < 1e-4 * max(first), first
    torch.set_float32_matmul_precision("high")  # on a GPU; our catalogue's scores are not computed in 16 bits
    steps = {way: steps_of(model.train(), loss_of) for way, (model, loss_of) in losses.items()}
    times: dict[str, list[float]] = {way: [] for way in losses}
    for number, some in enumerate(rows):
        for way in list(steps)[:: 1 if number % 2 else -1]:
            times[way].append(steps[way](some))
    return {way: median(taken[2:]) for way, taken in times.items()}


def race_on_cpu(name: str, split: Split) -> None:
    """Print how many steps a second ours makes, as written and as trained, on one thread, and theirs."""
    torch.set_num_threads(1)
    written, theirs = pair(SIZES[name], LENGTH + 1, split.dataset.num_items)
    trained, _ = pair(SIZES[name], LENGTH + 1, split.dataset.num_items)
    losses: Losses = {
        "as written": (written, lambda rows: plain_loss(written, rows)),
        "as trained": (trained, trained_loss(trained)),
        "transformers": (theirs, lambda rows: plain_loss(theirs, rows)),
    }
    found = race(losses, batches(split))
    for way in ("as written", "as trained"):
        ratio = found["transformers"] / found[way]
        print(f"{name + ', ' + way:36s} {1 / found[way]:6.1f} steps/s {ratio:7.2f} times transformers' GPT2Model")


def operations(size: tuple[int, int, int], num_items: int, context: float) -> float:
    """Operations of a training step for each position of full rows, in a decoder of some width, blocks and heads.

    Two for each weight of a matrix that it passes, and as many for each pair of positions that causal attention
    compares and mixes; twice that again in the backward pass.

    Source: Chowdhery et al. 2022, PaLM, appendix B, with half of its attention: the mask hides the other half.
    """
    dim, num_layers, _ = size
    return 6 * (12 * num_layers * dim**2 + num_items * dim + num_layers * dim * (context + 1))


def share_of_peak(speed: float, device: str) -> float | None:
    """Operations a second as a share of what the card's maker states for bf16; None without a card that we know."""
    card = torch.cuda.get_device_name() if device == "cuda" else ""
    peak = next((peak for part, peak in PEAKS.items() if part in card), None)
    return speed / (peak * 1e12) if peak else None


def race_on_gpu(
    size: tuple[int, int, int] = MEDIUM,
    context: int = LONG,
    batch_size: int = 16,
    num_items: int = 12_000,
    device: str = "cuda",
    compiled: tuple[bool, ...] = (False, True),
) -> dict[str, dict[str, float | None]]:
    """Print tokens a second of training with autocast to bf16, ours and theirs, as they are and compiled.

    Returns:
        Way -> tokens a second, and their share of the card's peak.
    """
    rows = torch.randint(1, num_items + 1, (12, batch_size, context + 1), generator=torch.Generator().manual_seed(0))
    speeds, batches = {}, list(rows.to(device))
    for compile_it in compiled:
        ours, theirs = pair(size, context, num_items)
        ours.to(device), theirs.to(device)
        loss_of = trained_loss(ours)
        if compile_it:
            ours.gpt2.compile()
            theirs.gpt2.compile()
        losses: Losses = {"ours": (ours, loss_of), "transformers": (theirs, partial(plain_loss, theirs))}
        for name, seconds in race(losses, batches).items():
            speeds[name + (", compiled" if compile_it else "")] = batch_size * context / seconds
    best = max(speed for way, speed in speeds.items() if way.startswith("transformers"))
    found = {}
    for way, speed in speeds.items():
        flops = speed * operations(size, num_items, context)
        share = share_of_peak(flops, device)
        peak = f", {share:.0%} of the card's peak" if share else ""
        print(
            f"{way:24s} {speed:10,.0f} tokens/s, {flops / 1e12:.1f} TFLOP/s{peak}, {speed / best:.2f} times their best"
        )
        found[way] = {"tokens_per_second": speed, "share_of_peak": share}
    return found


def train_medium(
    shop: str = "gpu", size: tuple[int, int, int] = MEDIUM, steps: int = 300, batch_size: int = 256
) -> dict[str, Any]:
    """Train MM-GPT2Rec of a size in mixed precision, and rank the catalogue of a Pocket Shop for all its users.

    Returns:
        NDCG@10; cost of the training, where a token is an interaction; and the paper's cost.
    """
    settings = load_settings()
    dataset, _ = load_shop(settings.seed, shop)
    split = dataset.leave_one_out()
    # The number of steps is given, so there is no validation.
    split = replace(split, part=np.where(split.part == VALID, CONTEXT, split.part))
    training = {"steps": steps, "warmup_steps": steps // 10, "mixed_precision": True}
    hyperparameters: dict[str, Any] = dict(zip(("dim", "num_layers", "num_heads"), size, strict=True))
    hyperparameters |= {"batch_size": batch_size, "dropout": DROPOUT, "lr": 3e-4, "weight_decay": 0.01}
    variant = Variant(config=gpt2rec.MMGPT2Config(training=training), hyperparameters=hyperparameters)
    system = build_variant("MM-GPT2Rec", variant, decoder_inputs(dataset, settings), settings).fit(split)
    peak_gb = torch.cuda.max_memory_allocated() / 1e9 if settings.device == "cuda" else None
    lengths = np.bincount(split.interactions("train")["user"])
    tokens = lengths.sum() / np.ceil(lengths / system.max_len).sum()  # of a window, on average
    seconds = system.training.seconds
    speed = float(steps * batch_size * tokens / seconds)
    return {
        "ndcg@10": float(evaluate(system, split).metric("NDCG@10").mean()),
        "steps": steps,
        "seconds": seconds,
        "tokens_per_second": speed,
        "share_of_peak": share_of_peak(speed * operations(size, dataset.num_items, tokens), settings.device),
        "peak_gb": peak_gb,
        "gpu_hours_per_100k": PRINTED["epochs"] * 100_000 / speed / 3600,
        "paper": PAPER,
    }


def main() -> None:
    """Race both sizes, rank the whole catalogue for everybody, then race medium, if there is a GPU."""
    split = load_shop(0)[0].leave_one_out()
    for name in SIZES:
        race_on_cpu(name, split)
    system, queries = gpt2rec.MMGPT2Rec(use_ids=True, epochs=1).fit(split), split.queries("test")
    start = time.perf_counter()
    system.score(queries)
    print(
        f"{len(queries):,} users ranked over {split.dataset.num_items:,} items in {time.perf_counter() - start:.2f} s"
    )
    if torch.cuda.is_available():
        race_on_gpu()
    else:
        print("GPT-2 medium in bf16: not timed, there is no GPU")


if __name__ == "__main__":
    main()

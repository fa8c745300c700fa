"""Chapter 4's item decoder against transformers' GPT-2: training steps with the same data and loss, and ranking."""

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from mmrec_helpers import gpt2rec
from mmrec_helpers.baselines.sequential import windows
from mmrec_helpers.dataset import Split
from mmrec_helpers.lessons.decoder import Add, ItemDecoder, ItemTokens, load_gpt2
from mmrec_helpers.pocket_shop.shop import open_shop
from mmrec_helpers.torchvision_mend import mend_torchvision

mend_torchvision()
from transformers import GPT2Config, GPT2Model  # noqa: E402

SIZES = {"2 blocks of width 64": (64, 2, 4), "4 blocks of width 128": (128, 4, 4)}
BATCH, LENGTH, DROPOUT, STEPS = 128, 50, 0.1, 24
FEATURES = 256


class Theirs(nn.Module):
    """The item decoder around ``GPT2Model``, on padded batches."""

    def __init__(self, tokens: ItemTokens, gpt2: GPT2Model):
        super().__init__()
        self.tokens, self.gpt2 = tokens, gpt2

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, T) items, 0 for padding at the right -> (B, T, I) scores."""
        vectors = self.tokens()
        read = embedding((inputs - 1).clamp(min=0), vectors)
        return self.gpt2(inputs_embeds=read).last_hidden_state @ vectors[:-1].T + self.tokens.bias


def batches(split: Split) -> list[Tensor]:
    """(B, T + 1) windows of like lengths each, right-padded, as they are trained on."""
    frame = split.interactions("train")
    rows = windows(frame["user"].to_numpy(), frame["item"].to_numpy(), LENGTH, split.dataset.num_items + 1)
    rows = torch.from_numpy(rows)[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return list(rows[: STEPS * BATCH].split(BATCH))


def plain_loss(model: nn.Module, rows: Tensor) -> Tensor:
    """Cross-entropy of the next items, the whole padded batch at once."""
    targets = rows[:, 1:]
    scores = model(rows[:, :-1] * (targets > 0))
    return cross_entropy(scores[targets > 0], targets[targets > 0] - 1)


def steps_of(model: nn.Module, loss_of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], float]:
    """Seconds of a training step on a batch."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], 1e-4)

    def step(rows: Tensor) -> float:
        start = time.perf_counter()
        loss_of(rows).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    return step


def race(name: str, split: Split, width: int, layers: int, heads: int) -> None:
    """Print how many steps a second ours makes, as written and as trained, and theirs."""
    torch.manual_seed(0)
    num_items, drops = split.dataset.num_items, dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), DROPOUT)
    sizes = {"n_positions": LENGTH + 1, "n_embd": width, "n_layer": layers, "n_head": heads}
    config = GPT2Config(vocab_size=1, bos_token_id=None, eos_token_id=None, use_cache=False, **sizes, **drops)
    features = torch.randn(num_items, FEATURES) / FEATURES**0.5
    systems, models = [], []
    for _ in range(3):
        torch.manual_seed(1)
        tokens, theirs = ItemTokens(width, [features], Add([FEATURES], width)), GPT2Model(config)
        ours = ItemDecoder(tokens, load_gpt2(theirs.state_dict(), heads, DROPOUT)[0])
        models.append((ours, Theirs(tokens, theirs)))
    (plain, _), (trained, _), (_, theirs) = models
    system = gpt2rec.MMGPT2Rec(use_ids=True, length=LENGTH, batch=BATCH)
    system.network = gpt2rec.Decoding(trained)
    losses = {
        "as written": (plain, lambda rows: plain_loss(plain, rows)),
        "as trained": (trained, lambda rows: system.loss_of(rows, 0)),
        "transformers": (theirs, lambda rows: plain_loss(theirs, rows)),
    }
    for model, _ in losses.values():
        model.eval()
    rows = batches(split)
    with torch.no_grad():
        first = [float(loss_of(rows[0])) for _, loss_of in losses.values()]
    assert max(first) - min(first) < 1e-4, first
    times = {name: [] for name in losses}
    systems = {name: steps_of(model.train(), loss_of) for name, (model, loss_of) in losses.items()}
    for some in rows:
        for way, step in systems.items():
            times[way].append(step(some))
    found = {way: median(taken[2:]) for way, taken in times.items()}
    for way in ("as written", "as trained"):
        ratio = found["transformers"] / found[way]
        print(f"{name + ', ' + way:36s} {1 / found[way]:6.1f} steps/s {ratio:7.2f} times transformers' GPT2Model")


def main() -> None:
    """Race both sizes, then rank the whole catalogue for everybody."""
    split = open_shop(0)[0].leave_one_out()
    for name, size in SIZES.items():
        race(name, split, *size)
    system, histories = gpt2rec.MMGPT2Rec(use_ids=True, epochs=1).fit(split), split.histories("test")
    start = time.perf_counter()
    system.score(histories)
    print(
        f"{len(histories):,} users ranked over {split.dataset.num_items:,} items in {time.perf_counter() - start:.2f} s"
    )


if __name__ == "__main__":
    main()

"""The one loop that trains every neural model of the book: schedule, early stopping, checkpoint and exact resume.

All that is random in a step, the batch and the dropout, depends on the plan's seed and the number of the step alone. So
a run that was killed and goes on from its checkpoint ends, on the CPU bit for bit, where it would have ended anyway.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import cos, pi
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from mmrec_helpers.progress import progress

LOOK_EVERY = 50
"""Steps between two looks at the loss: each look makes a GPU wait."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: optimiser steps of the longest training.
        lr: the highest learning rate, reached after the warm-up.
        weight_decay: of AdamW {cite}`loshchilov2019decoupled`; biases and gains of norms are never decayed.
        warmup_steps: steps in which the rate rises from zero in a straight line.
        num_restarts: how often the cosine by which the rate falls to zero begins again at the top
            {cite}`loshchilov2017sgdr`.
        max_grad_norm: the longest gradient, all parameters taken together.
        accumulation_steps: losses whose gradients are averaged into one step.
        validate_every: steps between two validations; 0 is never.
        patience: validations in a row without a gain, after which training stops.
        min_delta: what counts as a gain.
        mixed_precision: compute in 16 bits where that is safe (autocast).
        save_every: steps between two checkpoints.
        seed: of everything random.
    """

    steps: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_steps: int = 50
    num_restarts: int = 0
    max_grad_norm: float = 1.0
    accumulation_steps: int = 1
    validate_every: int = 0
    patience: int = 5
    min_delta: float = 0.0
    mixed_precision: bool = False
    save_every: int = 100
    seed: int = 0

    def __post_init__(self):
        for name in ("steps", "accumulation_steps", "patience", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.warmup_steps < self.steps:
            raise ValueError(f"a warm-up of {self.warmup_steps} steps leaves nothing of {self.steps} steps")

    def optimizer(self, model: nn.Module) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """AdamW and its schedule for the parameters that learn."""
        learning = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in learning if weight.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [weight for weight in learning if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], self.lr)
        return optimizer, LambdaLR(optimizer, self.share_of_rate)

    def share_of_rate(self, step: int) -> float:
        """The learning rate of a step, as a share of ``lr``."""
        if step < self.warmup_steps:
            return step / self.warmup_steps
        done = (step - self.warmup_steps) / (self.steps - self.warmup_steps)
        return 0.5 * (1 + cos(pi * (done * (self.num_restarts + 1) % 1.0))) if done < 1 else 0.0


@dataclass(frozen=True, eq=False)
class History:
    """What happened in a training.

    Attributes:
        losses: (steps taken,) the loss of each step.
        validations: one row a validation: ``step``, ``score`` and the ``seconds`` of training until then.
        best_step: the step after which the model was the one that is kept.
        seconds: that the training took, stops not counted, validations counted.
    """

    losses: np.ndarray
    validations: pd.DataFrame
    best_step: int
    seconds: float


def batch_of(rows: int, size: int, step: int, seed: int = 0) -> np.ndarray:
    """(B,) the row numbers of a step's batch.

    Each pass sees all rows once, in a new order that depends on the seed and the number of the pass; its last batch is
    what is left over.
    """
    if rows < 1 or size < 1:
        raise ValueError(f"there is no batch of {size} out of {rows} rows")
    turn, place = divmod(step, -(-rows // size))
    order = np.random.default_rng([seed, turn]).permutation(rows)
    return order[place * size : (place + 1) * size]


def fit(
    model: nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    plan: TrainingConfig,
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    name: str = "training",
) -> History:
    """Train a model in place; it ends in evaluation mode with its best weights, the last ones without validation.

    Args:
        model: on the device on which it is to be trained.
        loss_of: the loss of a step; draws its batch from the number of the step alone, see ``batch_of``. With
            ``plan.accumulation_steps`` = A, step s asks for the numbers s A to s A + A - 1.
        plan: how to train.
        validate: a score of the model as it stands, the larger the better; it is called in evaluation mode, without
            gradients.
        checkpoint: file of the running training; a training that finds its own goes on from there.
        name: of the progress bar.

    Raises:
        FloatingPointError: the loss is no longer a finite number.
        ValueError: the checkpoint was made by another plan or another model.
    """
    if bool(plan.validate_every) != bool(validate):
        raise ValueError("a plan that validates needs validate(), and validate() a plan with validate_every")
    run = _Training(model, plan, checkpoint)
    run.resume()
    model.train()
    with progress(total=plan.steps, initial=run.done, desc=name) as bar:
        while run.done < plan.steps and not run.stopped:
            run.step(loss_of)
            bar.update()
            if run.done % LOOK_EVERY == 0:
                bar.set_postfix(loss=f"{run.look():.3f}", refresh=False)
            if validate and run.done % plan.validate_every == 0:
                run.validate(validate)
            if run.done % plan.save_every == 0 or run.stopped or run.done == plan.steps:
                run.save()
    return run.finish()


def step_memory(model: nn.Module, loss_of: Callable[[], torch.Tensor]) -> dict[str, int]:
    """Bytes that a training step with AdamW holds when the loss is known: what the optimiser and the way back need.

    Args:
        model: whose weights are learnt, but those that do not require gradients.
        loss_of: computes a loss.

    Returns:
        ``weights``, with the buffers; ``gradients``; ``moments``, the two numbers that AdamW keeps of each gradient;
        ``activations``, what autograd has saved. What is made and dropped again on the way comes on top.
    """
    weights, learnt = [*model.parameters(), *model.buffers()], [w for w in model.parameters() if w.requires_grad]
    own, saved = {weight.untyped_storage().data_ptr() for weight in weights}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()  # views of one tensor count once
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = loss_of()  # holds all that is saved, so that no address is used twice
    gradients = sum(weight.nbytes for weight in learnt)
    found = {"weights": sum(weight.nbytes for weight in weights), "gradients": gradients, "moments": 2 * gradients}
    del loss
    return found | {"activations": sum(saved.values())}


class _Training:
    """The state of a running training, and what a checkpoint keeps of it."""

    def __init__(self, model: nn.Module, plan: TrainingConfig, checkpoint: Path | None):
        self.model, self.plan, self.checkpoint = model, plan, checkpoint
        self.device = next(model.parameters()).device
        self.optimizer, self.schedule = plan.optimizer(model)
        # bfloat16 has float32's range; float16, for GPUs without it, wants its loss scaled up against underflow
        bfloat16 = self.device.type == "cpu" or torch.cuda.is_bf16_supported()
        self.type = torch.bfloat16 if bfloat16 else torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.mixed_precision and not bfloat16)
        self.parts = {
            "model": model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "scaler": self.scaler,
        }
        self.done, self.stopped, self.losses, self.unseen, self.validations = 0, False, [], [], []
        self.best: dict[str, torch.Tensor] = {}
        self.start = time.perf_counter()

    def step(self, loss_of: Callable[[int], torch.Tensor]) -> None:
        """One step of the optimiser."""
        total = 0.0
        for number in range(self.done * self.plan.accumulation_steps, (self.done + 1) * self.plan.accumulation_steps):
            torch.manual_seed(int(np.random.SeedSequence([self.plan.seed, number]).generate_state(1)[0]))
            with torch.autocast(self.device.type, self.type, enabled=self.plan.mixed_precision):
                loss = loss_of(number) / self.plan.accumulation_steps
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.unseen.append(total)
        self.done += 1

    def look(self) -> float:
        """Fetch the losses not looked at yet; return the last."""
        if self.unseen:
            self.losses += torch.stack(self.unseen).float().tolist()
            self.unseen = []
            wrong = np.flatnonzero(~np.isfinite(self.losses))
            if len(wrong):
                raise FloatingPointError(
                    f"the loss of step {wrong[0]} is {self.losses[wrong[0]]}: lower the rate or look at the batch"
                )
        return self.losses[-1] if self.losses else float("nan")

    def validate(self, score_of: Callable[[], float]) -> None:
        """Score the model, keep it if it is the best so far, and stop when it has not been for long."""
        self.model.eval()
        with torch.no_grad():
            score = float(score_of())
        self.model.train()
        bests = [row["score"] for row in self.validations if row["gain"]]
        gain = not bests or score > bests[-1] + self.plan.min_delta
        self.validations.append({"step": self.done, "score": score, "seconds": self.seconds, "gain": gain})
        if gain:
            self.best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.stopped = not any(row["gain"] for row in self.validations[-self.plan.patience :])

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    def save(self) -> None:
        """Write the state whole or not at all."""
        self.look()
        if self.checkpoint is None:
            return
        state = {key: getattr(self, key) for key in ("done", "stopped", "losses", "validations", "best", "seconds")}
        state |= {key: part.state_dict() for key, part in self.parts.items()} | {"plan": asdict(self.plan)}
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        part = self.checkpoint.with_name(self.checkpoint.name + ".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
        mend = f"{self.checkpoint} is the checkpoint of another training: delete it to begin anew, or name another file"
        if state["plan"] != asdict(self.plan):
            differ = [key for key, value in asdict(self.plan).items() if state["plan"].get(key) != value]
            raise ValueError(f"{mend} (its plan has other {', '.join(differ)})")
        try:
            for key, part in self.parts.items():
                part.load_state_dict(state[key])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{mend} (its model has other parameters)") from error
        for key in ("done", "stopped", "losses", "validations", "best"):
            setattr(self, key, state[key])
        self.start -= state["seconds"]

    def finish(self) -> History:
        """Put the best weights back and tell what happened."""
        self.look()
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        table = pd.DataFrame(self.validations, columns=["step", "score", "seconds", "gain"])
        best_step = int(table.loc[table["gain"], "step"].max()) if len(table) else self.done
        return History(np.array(self.losses), table.drop(columns="gain"), best_step, self.seconds)

"""The training loop of every neural model in the book: schedule, early stopping, checkpoints and exact resume.

Everything random in a step, the batch and the dropout, depends only on the seed and the number of the step. So a run
that was killed and resumes from its checkpoint ends, on the CPU to the same bits, where it would have ended anyway.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim.lr_scheduler import LRScheduler

from mmrec_helpers.files import atomic, check_zip
from mmrec_helpers.progress import progress

FETCH_EVERY = 50
"""Steps between two readings of the loss: each makes a GPU wait."""


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained.

    Attributes:
        steps: maximum number of optimizer steps.
        lr: peak learning rate, reached after the warm-up.
        weight_decay: of AdamW {cite}`loshchilov2019decoupled`; biases and normalization weights are not decayed.
        warmup_steps: steps in which the learning rate rises linearly from zero.
        num_restarts: hard restarts of the cosine by which the learning rate falls to zero {cite}`loshchilov2017sgdr`.
        max_grad_norm: gradient clipping, by the norm over all parameters.
        accumulation_steps: batches whose gradients are averaged into one step.
        validate_every: steps between two validations; 0 is never.
        patience: validations in a row without an improvement after which training stops.
        min_delta: smallest change of the validation metric that counts as an improvement.
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

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation_steps", "patience", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.warmup_steps < self.steps:
            raise ValueError(f"a warm-up of {self.warmup_steps} steps leaves nothing of {self.steps} steps")

    def optimizer(self, model: nn.Module) -> tuple[torch.optim.Optimizer, LRScheduler]:
        """AdamW and its schedule, for the trainable parameters."""
        # imported here, because it takes seconds
        from transformers.optimization import get_cosine_with_hard_restarts_schedule_with_warmup as cosine

        trainable = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in trainable if weight.ndim > 1], "weight_decay": self.weight_decay},
            {"params": [weight for weight in trainable if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]], self.lr)
        return optimizer, cosine(optimizer, self.warmup_steps, self.steps, num_cycles=self.num_restarts + 1)


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """The course of a training.

    Attributes:
        losses: (steps taken,) the loss of each step.
        validations: one row a validation: ``step``, ``score`` and the ``seconds`` of training until then.
        best_step: the step whose weights were kept.
        seconds: duration of the training with validations, without interruptions.
    """

    losses: np.ndarray
    validations: pd.DataFrame
    best_step: int
    seconds: float


def batch_rows(num_rows: int, batch_size: int, step: int, seed: int = 0) -> np.ndarray:
    """(B,) the row numbers of a step's batch.

    Each epoch visits all rows once, in an order that depends on the seed and the epoch; its last batch may be smaller.
    """
    if num_rows < 1 or batch_size < 1:
        raise ValueError(f"there is no batch of {batch_size} out of {num_rows} rows")
    epoch, batch = divmod(step, -(-num_rows // batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(num_rows)
    return order[batch * batch_size : (batch + 1) * batch_size]


def train(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    config: TrainingConfig,
    validate: Callable[[], float] | None = None,
    checkpoint: Path | None = None,
    name: str = "training",
    identity: str = "",
) -> TrainingHistory:
    """Train a model in place; it ends in evaluation mode with its best weights, the last ones without validation.

    Args:
        model: on the device on which it is trained.
        loss_of: the loss of a step; it samples its batch from the number of the step alone, see ``batch_rows``. With
            ``config.accumulation_steps`` = A, step s calls it with s A to s A + A - 1.
        config: how to train.
        validate: a metric of the current model, the larger the better; called in evaluation mode, without gradients.
        checkpoint: file of the running training; a training that finds its own resumes from it.
        name: of the progress bar.
        identity: of what the loss depends on besides the step, such as data and hyperparameters; a checkpoint of
            another one is refused.

    Raises:
        FloatingPointError: the loss is not finite.
        ValueError: the checkpoint is damaged, or of another training: its configuration, model or identity differs.
    """
    if bool(config.validate_every) != bool(validate):
        raise ValueError("validate() and validate_every need each other: give both or neither")
    run = _Training(model, config, checkpoint, identity)
    run.resume()
    model.train()
    with progress(total=config.steps, initial=run.step, desc=name) as bar:
        while run.step < config.steps and not run.stopped:
            run.optimize(loss_of)
            bar.update()
            if run.step % FETCH_EVERY == 0:
                bar.set_postfix(loss=f"{run.fetch_losses():.3f}", refresh=False)
            if validate and run.step % config.validate_every == 0:
                run.validate(validate)
            if run.step % config.save_every == 0 or run.stopped or run.step == config.steps:
                run.save()
    return run.finish()


def step_memory(model: nn.Module, loss_of: Callable[[], Tensor]) -> dict[str, int]:
    """Bytes held by a training step with AdamW after its forward pass; temporary tensors come on top.

    Args:
        model: its weights are trained, except those that do not require gradients.
        loss_of: computes a loss.

    Returns:
        ``weights``, with the buffers; ``gradients``; ``moments``, the two running means that AdamW keeps of each
        gradient; ``activations``, the tensors that autograd has saved.
    """
    weights, trainable = [*model.parameters(), *model.buffers()], [w for w in model.parameters() if w.requires_grad]
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()  # views of one tensor count once
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        loss = loss_of()  # keeps everything saved alive, so that no address is used twice
    gradients = sum(weight.nbytes for weight in trainable)
    memory = {"weights": sum(weight.nbytes for weight in weights), "gradients": gradients, "moments": 2 * gradients}
    del loss
    return memory | {"activations": sum(saved.values())}


class _Training:
    """The state of a running training, and what a checkpoint stores of it."""

    SAVED = ("step", "stopped", "losses", "validations", "best")

    def __init__(self, model: nn.Module, config: TrainingConfig, checkpoint: Path | None, identity: str) -> None:
        self.model, self.config, self.checkpoint, self.identity = model, config, checkpoint, identity
        self.device = next(model.parameters()).device
        self.optimizer, self.schedule = config.optimizer(model)
        # bfloat16 has the range of float32; GPUs before compute capability 8 emulate it: float16, with a scaled loss
        emulated = self.device.type == "cuda" and torch.cuda.get_device_capability(self.device)[0] < 8
        self.dtype = torch.float16 if emulated else torch.bfloat16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.mixed_precision and emulated)
        self.parts = {name: getattr(self, name) for name in ("model", "optimizer", "schedule", "scaler")}
        self.step, self.stopped = 0, False
        self.losses: list[float] = []
        self.unfetched: list[Tensor] = []
        self.validations: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.start = time.perf_counter()

    def optimize(self, loss_of: Callable[[int], Tensor]) -> None:
        """Take one step of the optimizer."""
        total, size = torch.zeros((), device=self.device), self.config.accumulation_steps
        for number in range(self.step * size, (self.step + 1) * size):
            torch.manual_seed(int(np.random.SeedSequence([self.config.seed, number]).generate_state(1)[0]))
            with torch.autocast(self.device.type, self.dtype, enabled=self.config.mixed_precision):
                loss = loss_of(number) / size
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.schedule.step()
        self.unfetched.append(total)
        self.step += 1

    def fetch_losses(self) -> float:
        """Read the losses that are still on the device; return the last."""
        if self.unfetched:
            self.losses += torch.stack(self.unfetched).float().tolist()
            self.unfetched = []
            wrong = np.flatnonzero(~np.isfinite(self.losses))
            if len(wrong):
                loss = f"the loss of step {wrong[0]} is {self.losses[wrong[0]]}"
                raise FloatingPointError(f"{loss}: lower the learning rate or check the batch")
        return self.losses[-1] if self.losses else float("nan")

    def validate(self, metric: Callable[[], float]) -> None:
        """Evaluate the model, keep the weights if they are the best so far, and stop when patience is exhausted."""
        self.model.eval()
        with torch.no_grad():
            score = float(metric())
        self.model.train()
        bests = [row["score"] for row in self.validations if row["improved"]]
        improved = not bests or score > bests[-1] + self.config.min_delta
        self.validations.append({"step": self.step, "score": score, "seconds": self.seconds, "improved": improved})
        if improved:
            self.best = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.stopped = not any(row["improved"] for row in self.validations[-self.config.patience :])

    @property
    def seconds(self) -> float:
        """Duration until now, interruptions excluded."""
        return time.perf_counter() - self.start

    def save(self) -> None:
        """Write the checkpoint."""
        self.fetch_losses()
        if self.checkpoint is None:
            return
        state = {key: getattr(self, key) for key in (*self.SAVED, "seconds")}
        state |= {key: part.state_dict() for key, part in self.parts.items()}
        state |= {"config": asdict(self.config), "identity": self.identity}
        with atomic(self.checkpoint) as part, part.open("wb") as file:
            torch.save(state, file)

    def resume(self) -> None:
        """Continue from the checkpoint, if there is one."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return
        try:
            check_zip(self.checkpoint)
            state = torch.load(self.checkpoint, weights_only=True, map_location=self.device)
            config = dict(state.get("config", {}))  # of any other file of PyTorch
        except Exception as error:  # a damaged header makes the readers of zip files and tensors raise anything
            raise ValueError(f"{self.checkpoint} is damaged ({error}): delete it to start anew") from error
        fix = f"{self.checkpoint} is the checkpoint of another training: delete it to start anew, or name another file"
        if config != asdict(self.config):
            differ = [key for key, value in asdict(self.config).items() if config.get(key) != value]
            raise ValueError(f"{fix} (its configuration has other {', '.join(differ)})")
        if state.get("identity") != self.identity:
            raise ValueError(f"{fix} (it is of other data or hyperparameters)")
        try:
            for key, part in self.parts.items():
                part.load_state_dict(state[key])
            for key in self.SAVED:
                setattr(self, key, state[key])
            self.start -= state["seconds"]
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{fix} (its model has other parameters)") from error

    def finish(self) -> TrainingHistory:
        """Restore the best weights and summarise the training."""
        self.fetch_losses()
        if self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        table = pd.DataFrame(self.validations, columns=["step", "score", "seconds", "improved"])
        best_step = int(table.loc[table["improved"], "step"].max()) if len(table) else self.step
        return TrainingHistory(np.array(self.losses), table.drop(columns="improved"), best_step, self.seconds)

"""The training loop: equal to a plain loop, exact after a kill, stopping and keeping what is best."""

from dataclasses import dataclass, replace
from math import cos, pi
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrec_helpers.training import loop
from mmrec_helpers.training.loop import TrainingConfig, batch_rows, step_memory, train

ROWS, WIDTH = 60, 5
INPUTS = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
TARGETS = INPUTS.sin().sum(dim=1, keepdim=True)


def network(dropout: float = 0.0) -> nn.Module:
    """Always the same untrained network."""
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.Dropout(dropout), nn.Tanh(), nn.Linear(8, 1))


def loss_of(model: nn.Module, size: int = 16):
    """Squared error of the step's batch."""

    def loss(step: int) -> torch.Tensor:
        rows = batch_rows(ROWS, size, step)
        return F.mse_loss(model(INPUTS[rows]), TARGETS[rows])

    return loss


def score_of(model: nn.Module):
    return lambda: -F.mse_loss(model(INPUTS), TARGETS).item()


def learning_rate(step: int, steps: int, warmup_steps: int, num_restarts: int = 0) -> float:
    """The formula, as a share of the peak: linear warm-up, then num_restarts + 1 cosines from 1 to 0."""
    if step < warmup_steps:
        return step / warmup_steps
    progress = (step - warmup_steps) / (steps - warmup_steps)
    return 0.5 * (1 + cos(pi * (progress * (num_restarts + 1) % 1.0))) if progress < 1 else 0.0


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([weight.detach().ravel() for weight in model.parameters()])


def test_a_batch_sees_every_row_once_a_pass():
    for turn in range(3):
        batches = [batch_rows(10, 4, step) for step in range(3 * turn, 3 * turn + 3)]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        assert sorted(np.concatenate(batches)) == list(range(10))
    assert not np.array_equal(batch_rows(1000, 1000, 0), batch_rows(1000, 1000, 1))
    assert not np.array_equal(batch_rows(1000, 1000, 0, seed=0), batch_rows(1000, 1000, 0, seed=1))
    with pytest.raises(ValueError, match="no batch of 4 out of 0 rows"):
        batch_rows(0, 4, 0)


def test_the_loop_equals_a_plain_one():
    config = TrainingConfig(steps=40, warmup_steps=5, lr=0.02, weight_decay=0.0, max_grad_norm=1e9)
    ours, plain = network(), network()
    history = train(ours, loss_of(ours), config)
    optimizer, loss, losses = torch.optim.AdamW(plain.parameters(), weight_decay=0.0), loss_of(plain), []
    for step in range(40):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * learning_rate(step, 40, 5)
        losses.append(loss(step))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    torch.testing.assert_close(weights(ours), weights(plain))
    np.testing.assert_allclose(history.losses, torch.stack(losses).detach(), rtol=1e-5)
    assert history.best_step == 40
    assert not ours.training


@pytest.mark.parametrize("num_restarts", [0, 2])
@pytest.mark.parametrize("warmup_steps", [0, 10])
def test_the_learning_rate_rises_linearly_and_falls_by_a_cosine_to_zero(num_restarts, warmup_steps):
    config = TrainingConfig(steps=100, lr=0.3, warmup_steps=warmup_steps, num_restarts=num_restarts)
    optimizer, schedule = config.optimizer(network())
    found = []
    for _ in range(102):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    wanted = [0.3 * learning_rate(step, 100, warmup_steps, num_restarts) for step in range(102)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert found[100] == found[101] == 0
    assert num_restarts or found[99] == pytest.approx(0, abs=2e-4)


def test_without_restarts_the_schedule_is_the_plain_cosine_of_transformers():
    from transformers import get_cosine_schedule_with_warmup as reference

    schedule = reference(torch.optim.SGD(network().parameters(), 1.0), 10, 100)
    wanted = [schedule.lr_lambdas[0](step) for step in range(101)]
    np.testing.assert_allclose([learning_rate(step, 100, 10) for step in range(101)], wanted, atol=1e-15)


class Killed(Exception):
    """The process dies."""


@pytest.mark.parametrize("killed_at", [0, 1, 9, 10, 11, 14, 15, 29])
def test_a_killed_run_goes_on_as_if_it_had_never_stopped(tmp_path, killed_at):
    config = TrainingConfig(
        steps=30,
        warmup_steps=3,
        lr=0.05,
        num_restarts=1,
        accumulation_steps=2,
        validate_every=5,
        patience=4,
        save_every=3,
    )
    whole = network(dropout=0.3)
    expected = train(whole, loss_of(whole), config, score_of(whole))

    dying = network(dropout=0.3)
    alive = loss_of(dying)

    def kill(number: int) -> torch.Tensor:
        if number == 2 * killed_at:
            raise Killed
        return alive(number)

    with pytest.raises(Killed):
        train(dying, kill, config, score_of(dying), tmp_path / "run.pt")
    torch.manual_seed(99)  # another process has drawn other numbers
    again = network(dropout=0.3)
    first_asked = []

    def ask(number: int) -> torch.Tensor:
        first_asked.append(number)
        return loss_of(again)(number)

    found = train(again, ask, config, score_of(again), tmp_path / "run.pt")
    assert torch.equal(weights(again), weights(whole))
    assert found.losses.tolist() == expected.losses.tolist()
    assert found.best_step == expected.best_step
    assert found.validations[["step", "score"]].equals(expected.validations[["step", "score"]])
    assert first_asked[0] == 2 * (killed_at // 3 * 3)  # it did go on, and not begin anew
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_a_finished_run_is_not_repeated(tmp_path):
    config = TrainingConfig(steps=6, warmup_steps=1, validate_every=2)
    model, again = network(), network()
    train(model, loss_of(model), config, score_of(model), tmp_path / "run.pt")
    found = train(again, lambda number: pytest.fail("trains"), config, score_of(again), tmp_path / "run.pt")
    assert torch.equal(weights(again), weights(model))
    assert len(found.losses) == 6


@pytest.mark.parametrize("other", [torch.zeros(3), [1], {"config": 3}, {"config": "x"}])
def test_another_file_of_pytorch_is_no_checkpoint(tmp_path, other):
    path, model = tmp_path / "run.pt", network()
    torch.save(other, path)
    with pytest.raises(ValueError, match=r"run.pt is damaged .*: delete it to start anew"):
        train(model, loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path)


@pytest.mark.parametrize(("part", "other"), [("model", None), ("optimizer", None), ("step", ...), ("seconds", "x")])
def test_a_checkpoint_that_lacks_a_part_is_refused(tmp_path, part, other):
    path, model = tmp_path / "run.pt", network()
    train(model, loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path)
    state = torch.load(path, weights_only=True)
    torch.save({key: own if key != part else other for key, own in state.items() if (key, ...) != (part, other)}, path)
    with pytest.raises(ValueError, match=r"run.pt is the checkpoint of another training: delete it to start anew"):
        train(model, loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path)


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    model, path = network(), tmp_path / "run.pt"
    train(model, loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path)
    with pytest.raises(ValueError, match=r"run\.pt .* delete it .*other steps, lr"):
        train(model, loss_of(model), TrainingConfig(steps=6, warmup_steps=0, lr=0.1), checkpoint=path)
    with pytest.raises(ValueError, match=r"delete it .*its model has other parameters"):
        train(nn.Linear(2, 2), loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path)
    with pytest.raises(ValueError, match=r"delete it .*it is of other data or hyperparameters"):
        train(model, loss_of(model), TrainingConfig(steps=5, warmup_steps=0), checkpoint=path, identity="other")


def test_accumulated_batches_equal_one_large_batch():
    config = TrainingConfig(steps=12, warmup_steps=2, lr=0.03)
    large, small = network(), network()
    train(large, loss_of(large, size=20), config)

    def part(number: int) -> torch.Tensor:
        rows = np.split(batch_rows(ROWS, 20, number // 4), 4)[number % 4]
        return F.mse_loss(small(INPUTS[rows]), TARGETS[rows])

    train(small, part, replace(config, accumulation_steps=4))
    torch.testing.assert_close(weights(small), weights(large), rtol=1e-4, atol=1e-5)


def test_training_stops_and_keeps_the_best():
    model, seen = network(), []
    scores = iter([0.1, 0.5, 0.55, 0.58, 0.4, 0.9])

    def validate() -> float:
        assert not model.training
        assert not torch.is_grad_enabled()
        seen.append(weights(model))
        return next(scores)

    config = TrainingConfig(steps=100, warmup_steps=2, validate_every=3, patience=3, min_delta=0.1)
    history = train(model, loss_of(model), config, validate)
    assert history.validations["step"].tolist() == [3, 6, 9, 12, 15]  # .55, .58 and .4 are no gain over .5
    assert history.best_step == 6
    assert torch.equal(weights(model), seen[1])
    assert len(history.losses) == 15


@dataclass(frozen=True)
class Descent(TrainingConfig):
    """Plain gradient descent: a step is as long as its gradient."""

    def optimizer(self, model):
        optimizer = torch.optim.SGD(model.parameters(), self.lr)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def test_no_gradient_is_longer_than_the_clip():
    for max_grad_norm, longest in ((0.5, 0.5), (1e9, None)):
        model = network()
        before = weights(model)
        train(
            model,
            lambda number, model=model: 1e4 * loss_of(model)(number),
            Descent(1, 1.0, warmup_steps=0, max_grad_norm=max_grad_norm),
        )
        moved = (weights(model) - before).norm().item()
        assert moved == pytest.approx(longest, rel=1e-3) if longest else moved > 100


def test_only_matrices_decay():
    model = network()
    before = [weight.detach().clone() for weight in model.parameters()]
    train(
        model,
        lambda number: 0.0 * weights_sum(model),
        TrainingConfig(steps=20, warmup_steps=0, lr=0.1, weight_decay=0.5),
    )
    for old, new in zip(before, model.parameters(), strict=True):
        if old.ndim > 1:
            assert (new.abs() < 0.8 * old.abs()).all()
        else:
            assert torch.equal(new, old)


def weights_sum(model: nn.Module) -> torch.Tensor:
    return sum(weight.sum() for weight in model.parameters())


def test_half_precision_keeps_whole_weights():
    model, dtypes = network(), []
    model[0].register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    train(model, loss_of(model), TrainingConfig(steps=60, warmup_steps=5, lr=0.02, mixed_precision=True))
    assert set(dtypes) == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    whole = network()
    train(whole, loss_of(whole), TrainingConfig(steps=60, warmup_steps=5, lr=0.02))
    assert score_of(model)() == pytest.approx(score_of(whole)(), abs=0.05)
    assert score_of(model)() > score_of(network())() + 0.2


@pytest.mark.parametrize(
    ("device", "capability", "dtype"),
    [
        ("cuda", (7, 5), torch.float16),  # a T4 emulates bfloat16, which torch calls supported
        ("cuda", (8, 0), torch.bfloat16),
        ("cpu", None, torch.bfloat16),
    ],
)
def test_half_precision_is_what_the_device_computes_in(monkeypatch, device, capability, dtype):
    weight, scalers = SimpleNamespace(device=torch.device(device)), []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device, enabled: scalers.append((device, enabled)))
    config = SimpleNamespace(optimizer=lambda model: (None, None), mixed_precision=True)
    run = loop._Training(SimpleNamespace(parameters=lambda: iter([weight])), config, None, "")
    assert run.dtype == dtype
    assert scalers == [(device, dtype == torch.float16)]


class Float16Training(loop._Training):
    """A training on the CPU as a GPU without bfloat16 does it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.dtype = torch.float16
        self.scaler = self.parts["scaler"] = torch.amp.GradScaler("cpu")


def test_float16_with_a_scaled_loss_learns_as_in_whole_precision(monkeypatch):
    config = TrainingConfig(steps=60, warmup_steps=5, lr=0.02, mixed_precision=True)
    model, whole, dtypes = network(), network(), []
    train(whole, loss_of(whole), replace(config, mixed_precision=False))
    monkeypatch.setattr(loop, "_Training", Float16Training)
    model[0].register_forward_hook(lambda layer, inputs, output: dtypes.append(output.dtype))
    history = train(model, loss_of(model), config)
    assert set(dtypes) == {torch.float16}
    assert np.isfinite(history.losses).all()
    assert score_of(model)() == pytest.approx(score_of(whole)(), abs=0.1)
    assert score_of(model)() > score_of(network())() + 0.2


def test_a_loss_that_is_no_number_stops_the_training():
    model = network()
    with pytest.raises(FloatingPointError, match="the loss of step 7 is nan"):
        train(
            model,
            lambda number: loss_of(model)(number) * (float("nan") if number == 7 else 1),
            TrainingConfig(100, warmup_steps=1),
        )


def test_faulty_plans_are_refused():
    for wrong, said in (
        ({"steps": 0}, "steps"),
        ({"steps": 9, "accumulation_steps": 0}, "accumulation_steps"),
        ({"steps": 50}, "warm"),
    ):
        with pytest.raises(ValueError, match=said):
            TrainingConfig(**wrong)
    with pytest.raises(ValueError, match="validate"):
        train(network(), None, TrainingConfig(10, warmup_steps=1, validate_every=2))


def test_a_steps_memory_is_what_must_be_held():
    linear = nn.Linear(3, 5)
    linear.bias.requires_grad_(False)
    inputs = torch.randn(2, 3)
    found = step_memory(linear, lambda: linear(inputs).tanh().sum())
    assert found == {"weights": 80, "gradients": 60, "moments": 120, "activations": 24 + 40}
    # The way back of a product needs both factors: here one tensor, and a view of it.
    found = step_memory(linear, lambda: ((read := linear(inputs)) * read.view(5, 2).view(2, 5)).sum())
    assert found["activations"] == 24 + 40


def test_what_does_not_learn_needs_no_memory_for_learning():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    inputs = torch.randn(7, 4)
    every = step_memory(layers, lambda: layers(inputs).sum())
    layers[0].requires_grad_(False)
    some = step_memory(layers, lambda: layers(inputs).sum())
    assert some["weights"] == every["weights"]
    assert some["gradients"] == every["gradients"] - 80
    assert some["activations"] == every["activations"] - inputs.nbytes
    with torch.no_grad():
        assert step_memory(layers, lambda: layers(inputs).sum())["activations"] == 0

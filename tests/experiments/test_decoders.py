"""decoders.py: what each kind of decoder changes, and that a cell of each runs on the tiny shop."""

import pytest
import torch

from experiments import ch04, decoders
from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec

FAST = {"epochs": 1, "lr": 4e-3}


def built(name: str) -> MMGPT2Rec:
    """A system on the tiny shop, initialised."""
    system = ch04.build(Cell(study="ch04", data=POCKET, split=LEAVE_ONE_OUT, system=name, hyperparameters=FAST))
    system.rows = system.prepare(benchmark_split(POCKET, 0, LEAVE_ONE_OUT))
    return system


@pytest.mark.parametrize("name", [*decoders.KINDS, *decoders.AS_THE_DECODER])
@pytest.mark.usefixtures("tiny")
def test_a_step_of_each_kind_has_a_loss_and_a_gradient(name):
    system = built(name)
    assert (type(system) is MMGPT2Rec) == (name not in decoders.KINDS)
    loss = system.loss_of(system.rows, 0)
    loss.backward()
    assert loss.isfinite()
    assert any(weight.grad is not None and weight.grad.any() for weight in system.network.parameters())


@pytest.mark.usefixtures("tiny")
def test_zero_ids_begin_with_the_embeddings_of_the_features_alone():
    zero, with_ids = built("features and zero IDs"), built("features and IDs")
    assert not zero.network.item_embedding.id_embeddings.any()
    assert with_ids.network.item_embedding.id_embeddings.any()
    assert zero.network.item_embedding.id_embeddings.requires_grad


@pytest.mark.usefixtures("tiny")
def test_alpha_one_makes_the_adapter_a_sixteenth():
    scales = {}
    for name in ("random backbone, LoRA", "random backbone, LoRA alpha 1"):
        modules = [module for module in built(name).network.modules() if hasattr(module, "lora_A")]
        scales[name] = {module.scaling["default"] for module in modules}
    assert list(scales.values()) == [{1.0}, {1 / 16}]


@pytest.mark.usefixtures("tiny")
def test_without_unknown_items_the_loss_is_that_of_the_decoder():
    """On a split where some items have no interaction in training the two differ; over all items they are the same."""
    decoder, known = built(ch04.DECODER), built(decoders.KNOWN)
    known.network.load_state_dict(decoder.network.state_dict())
    for system in (decoder, known):
        system.network.eval()
    assert 0 < len(known.known) < known.special_token_id - 1
    assert known.loss_of(known.rows, 0) < decoder.loss_of(decoder.rows, 0)
    known.known = torch.arange(known.special_token_id - 1)
    assert torch.isclose(known.loss_of(known.rows, 0), decoder.loss_of(decoder.rows, 0), atol=1e-5)


@pytest.mark.parametrize("name", decoders.CEILINGS)
@pytest.mark.usefixtures("tiny")
def test_the_ceiling_without_dates_is_below_that_with_them(name, tmp_path, monkeypatch):
    monkeypatch.setitem(decoders.CEILINGS, name, (decoders.CEILINGS[name][0], 40))
    cell = Cell(study="ch04", data=POCKET, split=LEAVE_ONE_OUT, part="test", protocol="full", system=name)
    ((told, run),) = ch04.run([cell], tmp_path / "x.pt")
    assert told == cell
    assert len(run.users) == 40
    assert run.metric("NDCG@10").mean() > 0.05

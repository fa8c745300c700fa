"""decoders.py: what each kind of decoder changes, and that a cell of each runs on the tiny shop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_data import rec_dataset

from experiments import ch04, decoders
from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split
from mmrec_helpers.data.dataset import TEST, Queries, RecDataset
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec

FAST = {"epochs": 1, "lr": 4e-3}
DATED = ("date as input", "date as input and in item biases")


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


def seasons(num_users: int = 60, num_items: int = 20, length: int = 4) -> RecDataset:
    """Each item is bought in 30 days of its own, whoever the user is and whatever came before; no item twice."""
    rng, rows = np.random.default_rng(0), []
    for user in range(num_users):
        items = np.sort(rng.choice(num_items, length, replace=False))
        rows += [(user, 1 + item, (30 * item + rng.integers(30)) * 86_400) for item in items]
    return rec_dataset(rows)


@pytest.mark.parametrize("name", DATED)
def test_where_the_date_alone_decides_only_the_decoder_with_the_date_learns(name):
    split, hits = seasons().by_user_folds()[0], {}
    queries = split.queries("test")
    for kind in (MMGPT2Rec, decoders.KINDS[name]):
        system = kind(features=np.eye(21)[:, 1:], dim=16, num_layers=1, num_heads=2, epochs=20, lr=2e-2, batch_size=10)
        found = system.fit(split).score(queries)[:, 1:].argmax(1) + 1
        hits[kind] = (found == queries.targets[:, 0]).mean()
    assert hits[decoders.KINDS[name]] > 0.9 > 0.5 > hits[MMGPT2Rec]


@pytest.mark.parametrize("name", DATED)
def test_a_query_has_the_inputs_and_dates_that_training_has_at_its_item(name):
    """Every position of the training windows, asked as a query of the history before it."""
    split = replace(planned := seasons().leave_one_out(), part=np.full(len(planned.part), 0))
    system = decoders.KINDS[name](features=np.eye(21)[:, 1:], dim=16, num_heads=2, max_len=8)
    inputs, targets = system.inputs_and_targets(system.prepare(split))
    inputs, targets, frame = inputs.numpy(), targets.numpy(), split.dataset.interactions
    for user, at in ((3, 0), (3, 3), (7, 2)):
        own = frame[frame["user"] == user]
        history = np.pad(own["item"].to_numpy()[:at], (4 - at, 0))[None]
        query = Queries(np.array([user]), history, targets[[user], [at]][None], own["time"].to_numpy()[[at]])
        asked = system.inputs_of(query)[0]
        assert np.array_equal(asked[: at + 1], inputs[user, : at + 1])
        assert not asked[at + 1 :].any()
        assert targets[user, at] == own["item"].iloc[at]
        assert asked[at] // system.base == own["time"].iloc[at] // 86_400 - system.start


@pytest.mark.usefixtures("tiny")
def test_with_dates_training_begins_with_the_decoder_without_them():
    decoder, *dated = (built(name) for name in (ch04.DECODER, *DATED))
    for system in (decoder, *dated):
        system.network.eval()
        system.network.load_state_dict(decoder.network.state_dict(), strict=False)
    queries = benchmark_split(POCKET, 0, LEAVE_ONE_OUT).queries("test")
    for system in dated:
        assert np.allclose(system.score(queries), decoder.score(queries), atol=1e-5)


@pytest.mark.usefixtures("tiny")
def test_only_the_date_of_the_query_is_known_of_what_is_to_be_predicted():
    """Scores change with the time of the query, and not with the times of what was bought later."""
    system, split = built(DATED[0]), benchmark_split(POCKET, 0, LEAVE_ONE_OUT)
    torch.nn.init.normal_(system.network.date.weight)
    queries = split.queries("valid")
    scores = system.score(queries)
    assert not np.allclose(scores, system.score(replace(queries, times=queries.times + 90 * 86_400)), atol=1e-2)
    frame = split.dataset.interactions
    later = frame["time"].where(split.part != TEST, frame["time"] + 30 * 86_400)
    changed = replace(split, dataset=replace(split.dataset, interactions=frame.assign(time=later)))
    other = built(DATED[0])
    other.prepare(changed)
    other.network.load_state_dict(system.network.state_dict())
    assert np.array_equal(scores, other.score(changed.queries("valid")))

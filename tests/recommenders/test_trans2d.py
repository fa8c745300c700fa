"""trans2d.py: the scores against a loop, one field as SASRec, fields in any order, what may be seen."""

import numpy as np
import pytest
import torch

from mmrec_helpers.lessons.decoder import Add, ItemEmbedding, TransformerBlock
from mmrec_helpers.recommenders.sasrec import TransformerBackbone
from mmrec_helpers.recommenders.trans2d import Attention2D, Block2D, FieldBackbone, FieldModel, Trans2D, scores_2d

POSITIONS, FIELDS, DIM, ITEMS = 5, 3, 8, 12
SMALL = {"dim": 16, "max_len": 10, "batch_size": 20, "epochs": 20, "lr": 1e-2}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_scores_are_those_of_a_loop_over_pairs_of_field_values():
    query, keys, mix = torch.randn(1, 1, 4, 2, DIM), torch.randn(1, 1, 4, 2, DIM), torch.randn(3)
    found = scores_2d(query, keys, mix)[0, 0]

    def product(t, c, u, e):
        return query[0, 0, t, c] @ keys[0, 0, u, e] / DIM**0.5

    for t, c, u, e in np.ndindex(4, 2, 4, 2):
        items = sum(product(t, f, u, f) for f in range(2))
        fields = sum(product(v, c, v, e) for v in range(t + 1))
        expected = mix[0] * product(t, c, u, e) + mix[1] * items + mix[2] * fields
        assert torch.isclose(found[t, c, u, e], expected, atol=1e-5) if u <= t else found[t, c, u, e] == -torch.inf


def copied(field: Block2D, block: TransformerBlock) -> None:
    """Give a block of one field the weights of a plain one."""
    pairs = {"attention.inputs": "attention.inputs", "attention.output": "attention.output", "mlp.0": "mlp.0"}
    pairs |= {"mlp.2": "mlp.2"}
    for own, other in pairs.items():
        field.get_submodule(own).maps[0].load_state_dict(block.get_submodule(other).state_dict())
    field.before_attention.load_state_dict(block.before_attention.state_dict())
    field.before_mlp.load_state_dict(block.before_mlp.state_dict())


@pytest.mark.parametrize("third", [0.0, 1.0, 5.0])
def test_with_one_field_it_is_sasrec(third):
    """Pairs of field values and pairs of items are the same then; the third term is the same for all keys."""
    plain = TransformerBackbone(DIM, 2, 2, POSITIONS, 0.0, causal=True)
    fields = FieldBackbone(1, DIM, 2, 2, POSITIONS, 0.0)
    fields.positions.data = plain.positions.data
    for own, block in zip(fields.blocks, plain.blocks, strict=True):
        copied(own, block)
        own.attention.mix.data = torch.tensor([0.75, 0.25, third])
    inputs, mask = torch.randn(3, POSITIONS, DIM), torch.ones(3, POSITIONS, dtype=torch.bool)
    assert torch.allclose(fields(inputs, mask), plain(inputs, mask), atol=1e-5)


def test_fields_in_another_order_have_the_same_output():
    order, block = torch.tensor([2, 0, 1]), Block2D(FIELDS, DIM, 2, 0.0)
    other, inputs = Block2D(FIELDS, DIM, 2, 0.0), torch.randn(2, POSITIONS, FIELDS * DIM)

    def moved(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (FIELDS, -1))[..., order, :].flatten(-2)

    other.load_state_dict(block.state_dict())
    for module, own in zip(other.modules(), block.modules(), strict=True):
        if isinstance(module, torch.nn.ModuleList):
            for place, field in enumerate(order.tolist()):
                module[place].load_state_dict(own[field].state_dict())
        if isinstance(module, torch.nn.LayerNorm):
            module.weight.data = moved(torch.nn.init.normal_(own.weight).data)
    assert torch.allclose(other(moved(inputs)), moved(block(inputs)), atol=1e-5)
    assert not torch.allclose(other(moved(inputs)), block(inputs), atol=1e-2)


def test_a_field_value_sees_all_fields_of_earlier_positions_and_none_of_later_ones():
    attention, inputs = Attention2D(FIELDS, DIM, 2), torch.randn(1, POSITIONS, FIELDS * DIM)
    before = attention(inputs).unflatten(2, (FIELDS, DIM))
    for position, changed in np.ndindex(POSITIONS, FIELDS):
        others = inputs.clone()
        others[0, position, changed * DIM : (changed + 1) * DIM] += 1
        moves = (attention(others).unflatten(2, (FIELDS, DIM)) - before).abs().amax((0, 3)) > 1e-6  # (T, C)
        assert moves[position:].all()
        assert not moves[:position].any()


def test_an_item_is_scored_by_the_sum_of_its_fields_and_read_as_each():
    features = [torch.randn(ITEMS, 4), torch.randn(ITEMS, 2)]
    items = ItemEmbedding(DIM, features, Add((4, 2), DIM, bias=False), torch.randn(ITEMS, DIM))
    model = FieldModel(FieldBackbone(FIELDS, DIM, 1, 2, POSITIONS, 0.0), items)
    inputs = torch.tensor([[ITEMS + 1, 3, 7], [4, 2, 0]])
    hidden, outputs = model(inputs, inputs > 0)
    assert torch.allclose(outputs, items()[:-1], atol=1e-6)
    assert hidden.shape == (5, DIM)
    items.features.get_buffer("1")[6] += 1  # an item of the first history, in one modality
    changed = model(inputs, inputs > 0)[0]
    assert torch.equal(changed[[0, 1]], hidden[[0, 1]])
    assert not torch.allclose(changed[2], hidden[2])
    assert torch.equal(changed[3:], hidden[3:])


def test_it_learns_with_modalities_and_without(planted, planted_features):
    queries, shown = planted.queries("test"), {"image": planted_features, "text": planted_features[:, :2]}
    for features in (shown, {}):
        scores = Trans2D(features=features, **SMALL).fit(planted).score(queries)
        targets = np.take_along_axis(scores, queries.targets[:, :1], 1)
        assert (scores[:, 1:] > targets).sum(1).mean() < 3


def test_features_of_each_modality_must_have_a_row_for_each_item(planted, planted_features):
    with pytest.raises(ValueError, match="image: the features have 26 rows, not 27"):
        Trans2D(features={"text": planted_features, "image": planted_features[1:]}).fit(planted)

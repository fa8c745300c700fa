"""Sequential recommenders: what each network may see, what its loss looks at, and that all learn a planted world."""

from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_data import rec_dataset
from torch import nn

from mmrec_helpers.data.dataset import TEST, Queries, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.lessons.decoder import Add, ItemEmbedding, TransformerBlock
from mmrec_helpers.recommenders import sequential
from mmrec_helpers.recommenders.bert4rec import BERT4Rec
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.recommenders.sequential import sort_by_length, standardise, windows
from mmrec_helpers.training.loop import batch_rows

SYSTEMS = (GRU4Rec, SASRec, BERT4Rec)
SMALL = {"dim": 16, "max_len": 10, "batch_size": 10, "epochs": 25, "lr": 1e-2, "dropout": 0.1, "patience": 99}
"""Enough for the planted world, in a second or two."""
NUM_ITEMS, LENGTH = 30, 9


def histories_of(rows: list[list[int]], dim: int = LENGTH) -> Queries:
    """Moments of which only the items matter, padded at the left."""
    items = np.array([[0] * (dim - len(row)) + row for row in rows], np.int64)
    nothing = np.zeros(len(rows), np.int64)
    return Queries(nothing, items, nothing[:, None], nothing)


def randomly_initialised(system, num_items: int = NUM_ITEMS, **options):
    """A system as it is before its first step, with vectors large enough that all that matters shows."""
    system = system(**{"dim": 16, "max_len": LENGTH, **options})
    torch.manual_seed(0)
    system.special_token_id = num_items + 1
    features = system.features
    modalities = None if features is None else [torch.as_tensor(features[1:], dtype=torch.float32)]
    fusion = None if features is None else Add([features.shape[1]], system.dim, bias=False)
    ids = torch.randn(num_items, system.dim) if system.use_ids else None
    items = ItemEmbedding(system.dim, modalities, fusion, ids)
    system.network = sequential.SequenceModel(system.backbone(), items).eval()
    with torch.no_grad():
        for weight in system.network.parameters():
            if weight.ndim > 1 and weight.requires_grad:  # features do not learn
                weight.normal_(std=0.4)
    return system


def all_positions(system, inputs: torch.Tensor) -> torch.Tensor:
    """(B, T, I) logits after every position, zeros at padding."""
    found = torch.zeros(*inputs.shape, NUM_ITEMS)
    with torch.no_grad():
        found[inputs > 0] = system.network.logits(*system.network(inputs, inputs > 0))
    return found


def random_rows(seed: int = 0, num: int = 40) -> torch.Tensor:
    """(B, LENGTH) items at the left, 0 at the right; of all lengths from 1."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, NUM_ITEMS + 1, (num, LENGTH)) * (np.arange(LENGTH) <= np.arange(num)[:, None] % LENGTH)
    return torch.from_numpy(rows)


# What may be seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [GRU4Rec, SASRec])
def test_the_future_changes_nothing_before_it(system):
    system, rows = randomly_initialised(system), random_rows()
    before = all_positions(system, rows)
    for place in range(1, LENGTH):
        changed = rows.clone()
        later = changed[:, place:]
        changed[:, place:] = torch.where(later > 0, later % NUM_ITEMS + 1, 0)
        after = all_positions(system, changed)
        assert torch.equal(before[:, :place], after[:, :place])
        assert not torch.equal(before[rows[:, place] > 0, place], after[rows[:, place] > 0, place])


@pytest.mark.parametrize("system", [GRU4Rec, SASRec])
def test_the_past_matters(system):
    system, rows = randomly_initialised(system), random_rows()[LENGTH - 1 :: LENGTH]
    changed = rows.clone()
    changed[:, 0] = rows[:, 0] % NUM_ITEMS + 1
    assert ((all_positions(system, rows) - all_positions(system, changed)).abs().amax(2) > 1e-4).all()


def test_bert4rec_sees_the_future():
    system, rows = randomly_initialised(BERT4Rec), random_rows()[LENGTH - 1 :: LENGTH]
    changed = rows.clone()
    changed[:, -1] = rows[:, -1] % NUM_ITEMS + 1
    assert ((all_positions(system, rows) - all_positions(system, changed)).abs().amax(2) > 1e-4).all()


@pytest.mark.parametrize("system", SYSTEMS)
def test_padding_and_company_change_no_score(system):
    system, rng = randomly_initialised(system), np.random.default_rng(0)
    rows = [list(rng.integers(1, NUM_ITEMS + 1, size)) for size in (3, 0, LENGTH, 1, 5, 8) * 20]
    together = system.score(histories_of(rows, 3 * LENGTH))
    alone = np.concatenate([system.score(histories_of([row], max(len(row), 1))) for row in rows])
    assert np.abs(together).max() > 1
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("system", SYSTEMS)
def test_only_the_last_items_of_a_long_history_are_read(system):
    system, rng = randomly_initialised(system), np.random.default_rng(0)
    long = list(rng.integers(1, NUM_ITEMS + 1, 40))
    read = LENGTH - 1 if system.name == "BERT4Rec" else LENGTH  # the mask takes a place
    scores = [system.score(histories_of([long[-size:]], 40)) for size in (40, read + 1, read, read - 1)]
    if system.name != "BERT4Rec":  # a history that is read from its beginning has the token before it
        assert np.array_equal(scores[0], scores[1])
    assert np.array_equal(scores[0], scores[2])
    assert not np.allclose(scores[0], scores[3])


def test_a_score_comes_without_dropout_and_is_finite_with_no_history_at_all():
    for system in SYSTEMS:
        system = randomly_initialised(system, dropout=0.9)
        system.network.train()
        moments = histories_of([[], [4, 5]])
        scores = system.score(moments)
        assert scores.shape == (2, NUM_ITEMS + 1)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all()
        assert np.array_equal(scores, system.score(moments))


# Networks against torch's own -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_is_torchs_transformer_layer(causal):
    torch.manual_seed(0)
    block = TransformerBlock(16, 4, 0.0, mlp_dim=32)
    activation = partial(F.gelu, approximate="tanh")
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, activation=activation, batch_first=True, norm_first=True)
    pairs = {
        "self_attn.in_proj_weight": block.attention.inputs.weight,
        "self_attn.in_proj_bias": block.attention.inputs.bias,
        "self_attn.out_proj.weight": block.attention.output.weight,
        "self_attn.out_proj.bias": block.attention.output.bias,
        "linear1.weight": block.mlp[0].weight,
        "linear1.bias": block.mlp[0].bias,
        "linear2.weight": block.mlp[2].weight,
        "linear2.bias": block.mlp[2].bias,
        **{f"norm1.{part}": getattr(block.before_attention, part) for part in ("weight", "bias")},
        **{f"norm2.{part}": getattr(block.before_mlp, part) for part in ("weight", "bias")},
    }
    for weight in pairs.values():
        nn.init.normal_(weight, std=0.4)
    layer.load_state_dict(pairs)
    rows = random_rows()
    hidden, real = torch.randn(*rows.shape, 16), rows > 0
    future = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1) if causal else None
    wanted = layer.train()(hidden, src_mask=future, src_key_padding_mask=rows == 0)
    found = block(hidden, mask=None if causal else real[:, None, None])
    torch.testing.assert_close(found[real], wanted[real], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("system", [SASRec, BERT4Rec])
def test_attention_is_what_the_network_computes_with(system):
    system = randomly_initialised(system, num_layers=1)
    items = np.array([3, 1, 4, 1, 5])
    weights = system.attention(items)  # (1, H, 6, 6)
    np.testing.assert_allclose(weights.sum(axis=3), 1, atol=1e-6)
    future = weights[..., *np.triu_indices(6, 1)]
    assert not future.any() if system.name == "SASRec" else future.all()
    tokens = [31, *items] if system.name == "SASRec" else [*items, 31]
    backbone = system.network.backbone
    (block,), vectors = backbone.blocks, system.network.item_embedding()
    hidden = 4 * vectors[np.array(tokens) - 1] + backbone.positions[:6].flip(0)
    value = block.attention.inputs(block.before_attention(hidden)).split(16, 1)[2].unflatten(1, (2, 8))
    mixed = torch.einsum("hqk,khd->qhd", torch.from_numpy(weights[0]), value).flatten(1)
    hidden = hidden + block.attention.output(mixed)
    hidden = backbone.norm(hidden + block.mlp(block.before_mlp(hidden)))
    wanted = hidden[-1] @ vectors[:-1].T
    np.testing.assert_allclose(
        system.score(histories_of([list(items)]))[0, 1:], wanted.detach().numpy(), rtol=1e-4, atol=1e-5
    )


def test_gru4rec_is_torchs_cell_unrolled():
    system = randomly_initialised(GRU4Rec)
    backbone, vectors = system.network.backbone, system.network.item_embedding()
    cell = nn.GRUCell(16, 16)
    cell.load_state_dict({key.removesuffix("_l0"): weight for key, weight in backbone.gru.state_dict().items()})
    state = torch.zeros(16)
    for item in (31, 7, 2, 9):
        state = cell(4 * vectors[item - 1], state)
    wanted = (backbone.norm(state) @ vectors[:-1].T).detach().numpy()
    np.testing.assert_allclose(system.score(histories_of([[7, 2, 9]]))[0, 1:], wanted, rtol=1e-4, atol=1e-5)


# Losses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", [GRU4Rec, SASRec])
def test_sampled_softmax_over_all_others_is_cross_entropy_over_the_catalogue(system, monkeypatch):
    """Its 256 negatives are no more than there are others."""

    def all_others(targets, num, num_items):
        assert (num, num_items) == (NUM_ITEMS - 1, NUM_ITEMS)
        return torch.tensor([[item for item in range(1, NUM_ITEMS + 1) if item != target] for target in targets])

    monkeypatch.setattr(sequential, "sample_negatives", all_others)
    system, full = (randomly_initialised(system, loss=loss, batch_size=16) for loss in ("ssm", "ce"))
    nn.init.normal_(system.network.item_embedding.bias)
    full.network.load_state_dict(system.network.state_dict())
    rows = torch.cat([torch.full((40, 1), 31), random_rows()], 1)
    inputs, targets = system.inputs_and_targets(sort_by_length(rows[batch_rows(40, 16, 1, system.seed)])[0])
    wanted = F.cross_entropy(all_positions(system, inputs)[targets > 0], targets[targets > 0] - 1)
    losses = [one.loss_of(rows, 1) for one in (system, full)]
    for loss in losses:
        torch.testing.assert_close(loss, wanted)
    gradients = [
        torch.autograd.grad(loss, list(one.network.parameters()))
        for loss, one in zip(losses, (system, full), strict=True)
    ]
    for sampled, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(sampled, whole, atol=1e-5, rtol=1e-4)


def test_sampled_softmax_with_one_negative_asks_which_of_two_it_was(monkeypatch):
    monkeypatch.setattr(sequential, "sample_negatives", lambda targets, num, _: (targets % NUM_ITEMS + 1)[:, None])
    system = randomly_initialised(SASRec, loss="ssm", num_negatives=1, batch_size=40)
    rows = torch.cat([torch.full((40, 1), 31), random_rows()], 1)
    inputs, targets = system.inputs_and_targets(rows)
    scores, targets = all_positions(system, inputs)[targets > 0], targets[targets > 0]
    mine, other = (scores.gather(1, items[:, None] - 1) for items in (targets, targets % NUM_ITEMS + 1))
    torch.testing.assert_close(system.loss_of(rows, 0), -(mine - other).sigmoid().log().mean())


@pytest.mark.parametrize("gather_cost", [0, 10**9])
def test_scores_of_some_items_are_those_of_the_catalogue(gather_cost, monkeypatch):
    monkeypatch.setattr(sequential, "GATHER_COST", gather_cost)
    network = randomly_initialised(SASRec).network
    nn.init.normal_(network.item_embedding.bias)
    hidden, vectors = torch.randn(20, 16), network.item_embedding()[:-1]
    items = torch.randint(1, NUM_ITEMS + 1, (20, 4))
    wanted = (hidden @ vectors.T + network.item_embedding.bias).gather(1, items - 1)
    torch.testing.assert_close(network.logits_of(hidden, vectors, items), wanted, atol=1e-5, rtol=1e-5)


# What is asked --------------------------------------------------------------------------------------------------------


def test_windows_hold_every_item_once_with_what_came_before():
    rng = np.random.default_rng(0)
    count = np.array([1, 3, 4, 5, 8, 9, 17])
    users, items = np.repeat([2, 3, 5, 6, 7, 8, 11], count), rng.integers(1, NUM_ITEMS, count.sum())
    rows = windows(users, items, 4, bos=99)
    assert rows.shape == (1 + 1 + 1 + 2 + 2 + 3 + 5, 5)
    wanted = []
    for user in np.unique(users):
        own = [99, *items[users == user]]
        ends = list(range(len(own), 1, -4))[::-1]
        wanted += [own[max(end - 5, 0) : end] for end in ends]
    assert [list(row[row > 0]) for row in rows] == wanted
    assert all((row[: len(own)] > 0).all() for row, own in zip(rows, wanted, strict=True))
    with pytest.raises(ValueError, match="no interaction is in the training part"):
        windows(users[:0], items[:0], 4, bos=99)


@pytest.mark.parametrize("system", [GRU4Rec, SASRec])
def test_each_position_is_asked_for_the_next_item(system):
    rows = torch.tensor([[31, 5, 6, 7], [31, 8, 0, 0], [4, 9, 10, 0]])
    inputs, targets = randomly_initialised(system).inputs_and_targets(rows)
    assert inputs.tolist() == [[31, 5, 6], [31, 0, 0], [4, 9, 0]]
    assert targets.tolist() == [[5, 6, 7], [8, 0, 0], [9, 10, 0]]


def test_bert4rec_masks_its_share_and_asks_for_nothing_else():
    torch.manual_seed(0)
    rows = random_rows(num=9_000)
    system = randomly_initialised(BERT4Rec, mask_probability=0.4, mask_last_probability=0.25)
    inputs, targets = system.inputs_and_targets(torch.cat([torch.full((9_000, 1), 31), rows], 1))
    masked = inputs == 31
    assert torch.equal(torch.where(masked, targets, inputs), rows)
    assert torch.equal(masked, targets > 0)
    assert masked.any(1).all()
    final = (rows > 0).sum(1) - 1
    alone = (masked.sum(1) == 1) & masked[torch.arange(9_000), final]
    nine = final == 8
    # The last item alone: by choice; or by chance, when the others stay or when nothing else was masked.
    chance = 0.25 + 0.75 * (0.6**8 * 0.4 + 0.6**9)
    assert alone[nine].double().mean().item() == pytest.approx(chance, abs=0.04)
    assert masked[nine & ~alone].double().mean().item() == pytest.approx(0.4, abs=0.02)


def test_bert4rec_never_reads_an_item_that_it_is_asked_for():
    system = randomly_initialised(BERT4Rec, mask_probability=0.5)
    rows = torch.cat([torch.full((40, 1), 31), random_rows()], 1)
    torch.manual_seed(0)
    inputs, targets = system.inputs_and_targets(rows)
    changed = rows.clone()
    changed[:, 1:] = torch.where(targets > 0, targets % NUM_ITEMS + 1, rows[:, 1:])
    torch.manual_seed(0)
    assert torch.equal(system.inputs_and_targets(changed)[0], inputs)


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_loss_is_of_the_positions_that_are_asked_and_no_others(system):
    system, step = randomly_initialised(system, batch_size=16), 1
    rows = torch.cat([torch.full((40, 1), 31), random_rows()], 1)
    torch.manual_seed(0)
    inputs, targets = system.inputs_and_targets(sort_by_length(rows[batch_rows(40, 16, step, system.seed)])[0])
    asked = targets > 0
    assert ((inputs == 31) == asked).all() if system.name == "BERT4Rec" else ((inputs > 0) == asked).all()
    wanted = F.cross_entropy(all_positions(system, inputs)[asked], targets[asked] - 1)
    torch.manual_seed(0)
    torch.testing.assert_close(system.loss_of(rows, step), wanted)


# Items ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_without_ids_and_training_equal_features_have_equal_scores(system):
    features = np.random.default_rng(0).normal(size=(NUM_ITEMS + 1, 5))
    features[7] = features[3]
    for use_ids in (True, False):
        scores = randomly_initialised(system, features=features, use_ids=use_ids).score(
            histories_of([[1, 2], [3], [7], []])
        )
        assert np.allclose(scores[:, 3], scores[:, 7]) != use_ids
        assert np.allclose(scores[1], scores[2]) != use_ids


def test_features_are_standardised_and_unknown_items_stay_at_zero():
    rng = np.random.default_rng(0)
    features = rng.normal(5, [1, 10, 0], size=(20, 3))
    features[4] = 0
    made = standardise(features)
    known = np.arange(20) != 4
    assert not made[4].any()
    np.testing.assert_allclose(made[known].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(made[known].std(axis=0), np.array([1, 1, 0]) / np.sqrt(3))
    np.testing.assert_allclose(standardise(features * [2, 3, 1] + [1, 1, 0] * known[:, None]), made, atol=1e-12)
    assert not standardise(np.zeros((4, 2))).any()


def test_wrong_hyperparameters_and_features_are_refused(planted):
    with pytest.raises(ValueError, match="SASRec has no loss 'bpr'; it has ce, bce, gbce, ssm"):
        SASRec(loss="bpr")
    with pytest.raises(ValueError, match="give features, or set use_ids=True"):
        SASRec(use_ids=False)
    with pytest.raises(ValueError, match="GRU4Rec_F: features of shape \\(26, 3\\) are not 27 rows"):
        GRU4Rec(features=np.ones((26, 3))).fit(planted)


def test_names():
    assert [system().name for system in SYSTEMS] == ["GRU4Rec", "SASRec", "BERT4Rec"]
    assert SASRec(features=np.ones((3, 1))).name == "SASRec_F"
    assert SASRec(name="SASRec, text").name == "SASRec, text"


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(planted):
    """Class -> the system, fitted to the planted world; BERT4Rec learns from fewer positions a pass."""
    return {system: system(**SMALL | ({"epochs": 75} if system is BERT4Rec else {})).fit(planted) for system in SYSTEMS}


def quality(scores: np.ndarray, moments: Queries) -> float:
    """NDCG@10."""
    return ndcg(TargetRanks.of(scores, moments.targets[:, :1], moments.histories), 10).mean()


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_planted_world_is_learnt(system, fitted, planted, planted_group):
    moments = planted.queries("test")
    scores = fitted[system].score(moments)
    assert quality(scores, moments) > 0.8
    other = planted_group[:25] == 1 - planted_group[moments.targets[:, :1]]  # (N, 25)
    mine = np.take_along_axis(scores, moments.targets[:, :1], axis=1)
    assert (mine > np.where(other, scores[:, :25], -np.inf)).all()


@pytest.mark.parametrize("loss", ["bce", "gbce", "ssm"])
def test_sampled_losses_learn_the_planted_world(loss, planted):
    moments = planted.queries("test")
    assert quality(SASRec(loss=loss, num_negatives=8, **SMALL).fit(planted).score(moments), moments) > 0.8


def test_features_alone_tell_the_group_of_an_item_that_nobody_bought(planted, planted_features, planted_group):
    system = SASRec(features=planted_features, use_ids=False, **SMALL).fit(planted)
    moments = planted.queries("test")
    scores = system.score(moments)[:, 25]
    group = planted_group[moments.targets[:, 0]]
    assert scores[group == 1].min() > scores[group == 0].max()


def test_a_history_of_nothing_gets_what_users_begin_with(planted):
    """Of a world in which everybody begins with item 1 or 2."""
    frame = planted.dataset.interactions
    first = ~frame["user"].duplicated()
    items = frame["item"].where(~first, 2 - frame["user"] % 2).astype(np.int32)
    split = replace(planted, dataset=replace(planted.dataset, interactions=frame.assign(item=items)))
    for system in (GRU4Rec, SASRec):
        scores = system(**SMALL).fit(split).score(histories_of([[]]))
        assert set(np.argsort(-scores[0, 1:])[:2] + 1) == {1, 2}


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_seed_gives_the_same_scores_and_another_others(system, planted):
    moments, quick = planted.queries("test"), SMALL | {"epochs": 3}
    first, again, other = (system(**quick, seed=seed).fit(planted).score(moments) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_features_of_zeros_are_no_features(planted):
    quick = SMALL | {"epochs": 3}
    moments = planted.queries("test")
    features = np.zeros((planted.dataset.num_items + 1, 3))
    scores = SASRec(features=features, **quick).fit(planted).score(moments)
    assert np.array_equal(scores, SASRec(**quick).fit(planted).score(moments))


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_is_tested_on_is_never_read(system, planted):
    quick = SMALL | {"epochs": 3}
    frame = planted.dataset.interactions
    other = frame["item"].where(planted.part != TEST, frame["item"] % 26 + 1).astype(np.int32)
    changed = Split(replace(planted.dataset, interactions=frame.assign(item=other)), planted.part, planted.name)
    moments = planted.queries("test")
    assert (moments.targets != changed.queries("test").targets).all()
    scores = system(**quick).fit(planted).score(moments)
    assert np.array_equal(scores, system(**quick).fit(changed).score(moments))


def test_without_a_valid_part_the_last_weights_are_kept(planted):
    split = Split(planted.dataset, np.where(planted.part == TEST, TEST, 0), "no valid part")
    system = SASRec(**SMALL | {"epochs": 3}).fit(split)
    assert not len(system.training.validations)
    assert system.training.best_step == len(system.training.losses)


def test_users_with_more_than_a_window_are_learnt_from_whole(planted):
    moments = planted.queries("test")
    assert quality(SASRec(**SMALL | {"max_len": 3}).fit(planted).score(moments), moments) > 0.8


@pytest.mark.parametrize("system", SYSTEMS)
def test_an_order_that_does_not_exist_is_another_in_each_epoch(system, monkeypatch):
    rng = np.random.default_rng(0)
    days = [(user, int(rng.integers(1, 30)), 86_400 * day) for user in range(60) for day in range(3) for _ in range(4)]
    epochs, loss_of = [], system.loss_of
    monkeypatch.setattr(system, "loss_of", lambda self, rows, step: epochs.append(rows) or loss_of(self, rows, step))
    system(epochs=3, dim=8, num_layers=1, batch_size=1000).fit(rec_dataset(days).next_day_split())
    assert len(epochs) == 3
    for first, second in pairwise(epochs):
        assert (first != second).any()
        assert torch.equal(first.sort()[0], second.sort()[0])  # the same items of each user
    epochs.clear()
    system(epochs=2, dim=8, num_layers=1, batch_size=1000).fit(rec_dataset(days).leave_one_out())
    assert torch.equal(*epochs)

"""mmgpt2rec.py: the item decoder learns a planted world, and uses no data that it must not."""

from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from mmrec_helpers.data.dataset import ITEM_FEATURES, TEST, VALID, Queries, RecDataset, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.lessons.decoder import ItemEmbedding, generate_list
from mmrec_helpers.recommenders import sequential
from mmrec_helpers.recommenders.mmgpt2rec import FUSIONS, DecoderNetwork, MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sequential import sort_by_length

USERS, CIRCLE, BOUGHT = 40, 12, 8
ITEMS = 2 * CIRCLE + 2
UNBOUGHT = ITEMS - 1
"""The last two are bought by nobody; of the very last nothing is known either."""
DIMS = (4, 12)
SMALL = {
    "dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "max_len": 10,
    "batch_size": 10,
    "lr": 1e-2,
    "dropout": 0.1,
    "patience": 99,
}
QUICK = SMALL | {"epochs": 3}


@pytest.fixture(scope="module")
def group():
    """(I + 1,) of each item 0 or 1; -1 for the padding, and where nothing is known."""
    return np.array([-1, *(item % 2 for item in range(1, ITEMS)), -1])


@pytest.fixture(scope="module")
def features(group):
    """(I + 1, 4 + 12) two modalities: the first tells the group, the second the item; zeros where nothing is known."""
    rng = np.random.default_rng(1)
    told = np.eye(2)[group] @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(len(group), 4))
    return np.concatenate([told, rng.normal(size=(len(group), 12))], axis=1) * (group >= 0)[:, None]


@pytest.fixture(scope="module")
def planted():
    """Leave-one-out of users who take 8 items in a row from the circle of their group's 12, where i + 2 follows i."""
    rng, rows = np.random.default_rng(0), []
    for user in range(USERS):
        start = rng.integers(CIRCLE)
        rows += [(user, 2 * ((start + step) % CIRCLE) + (user % 2 or 2), step, 5.0, "") for step in range(BOUGHT)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * ITEMS for name in ITEM_FEATURES}
    columns |= {"item_id": [f"id-{item}" for item in range(1, ITEMS + 1)], "title": ["thing"] * ITEMS}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"user-{user}" for user in range(USERS)])
    return RecDataset("planted", items, frame, names).validate().leave_one_out()


@pytest.fixture(scope="module")
def moments(planted):
    return planted.queries("test")


def quality(system, moments: Queries) -> float:
    """NDCG@10."""
    return ndcg(TargetRanks.of(system.score(moments), moments.targets[:, :1], moments.histories), 10).mean()


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"config": MMGPT2Config(fusion=name)} for name in FUSIONS]
    + [{"config": MMGPT2Config(tie_weights=False)}, {"use_ids": True}],
)
def test_the_planted_world_is_learnt(options, planted, features, moments):
    system = MMGPT2Rec(features=features, dims=DIMS, **SMALL | {"epochs": 25} | options).fit(planted)
    assert quality(system, moments) > 0.9 > 3 * quality(Popularity().fit(planted), moments)


def test_ids_alone_learn_the_planted_world_and_know_nothing_of_what_nobody_bought(planted, moments, group):
    system = MMGPT2Rec(use_ids=True, **SMALL | {"epochs": 25}).fit(planted)
    assert quality(system, moments) > 0.8
    scores = system.score(moments)
    assert (scores[:, 1:UNBOUGHT].max(1) > scores[:, UNBOUGHT:].max(1)).all()


def test_a_text_alone_tells_the_group_of_an_item_that_nobody_bought(planted, features, moments, group):
    told = features[:, : DIMS[0]]
    system = MMGPT2Rec(features=told, **SMALL | {"epochs": 25}).fit(planted)
    scores, users = system.score(moments)[:, UNBOUGHT], group[moments.targets[:, 0]]
    assert scores[users == group[UNBOUGHT]].min() > scores[users != group[UNBOUGHT]].max()


@pytest.mark.parametrize(
    "options",
    [{}, {"use_ids": True, "config": MMGPT2Config(fusion="attention")}, {"config": MMGPT2Config(tie_weights=False)}],
)
def test_the_same_seed_gives_the_same_scores_and_another_others(options, planted, features, moments):
    options = {"features": features, "dims": DIMS} | QUICK | options
    first, again, other = (MMGPT2Rec(**options, seed=seed).fit(planted).score(moments) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def with_items(split: Split, part: int) -> Split:
    """The split with other items in one part."""
    frame = split.dataset.interactions
    other = frame["item"].where(split.part != part, frame["item"] % ITEMS + 1).astype(np.int32)
    return Split(replace(split.dataset, interactions=frame.assign(item=other)), split.part, split.name)


def test_what_is_tested_on_is_never_read(planted, features, moments):
    changed = with_items(planted, TEST)
    assert (moments.targets != changed.queries("test").targets).all()
    one, other = (MMGPT2Rec(features=features, dims=DIMS, **QUICK).fit(split) for split in (planted, changed))
    assert np.array_equal(one.score(moments), other.score(moments))
    for mine, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_valid_part_only_chooses_when_to_stop(planted, features, moments):
    """With one validation, at the end, there is nothing to choose."""
    options = {"features": features, "dims": DIMS} | QUICK | {"validate_every": 3}
    one, other = (MMGPT2Rec(**options).fit(split) for split in (planted, with_items(planted, VALID)))
    assert len(one.training.validations) == 1
    assert one.training.validations["score"].tolist() != other.training.validations["score"].tolist()
    assert np.array_equal(one.training.losses, other.training.losses)
    assert np.array_equal(one.score(moments), other.score(moments))


def test_the_row_of_the_padding_is_not_read(planted, features, moments):
    other = features.copy()
    other[0] = 9.0
    one, other = (
        MMGPT2Rec(features=values, dims=DIMS, **QUICK).fit(planted).score(moments) for values in (features, other)
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize("use_ids", [False, True])
def test_items_without_a_vector_of_their_own_are_as_like_as_their_features(use_ids, planted, features, moments):
    """But for the bias: how often an item was bought."""
    alike = features.copy()
    alike[7] = alike[3]
    system = MMGPT2Rec(features=alike, dims=DIMS, use_ids=use_ids, **QUICK).fit(planted)
    bias = system.network.item_embedding.bias.detach().numpy()
    apart = system.score(moments)[:, 7] - system.score(moments)[:, 3]
    assert np.allclose(apart, bias[6] - bias[2], atol=1e-4) != use_ids


def test_features_do_not_learn(planted, features):
    system = MMGPT2Rec(features=features, dims=DIMS, **QUICK)
    before = [part.clone() for part in system.initial_model(planted).item_embedding.features.buffers()]
    after = list(system.fit(planted).network.item_embedding.features.buffers())
    assert [part.shape[1] for part in after] == list(DIMS)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_catalogue_is_fused_once_until_a_weight_changes(planted, features, moments, monkeypatch):
    system, fused, forward = MMGPT2Rec(features=features, dims=DIMS, **QUICK).fit(planted), [], ItemEmbedding.forward
    embedding, decoder = system.network.item_embedding, system.network.decoder
    monkeypatch.setattr(ItemEmbedding, "forward", lambda self: fused.append(self) or forward(self))
    before = system.score(moments), generate_list(decoder, [1, 3], 4)
    cached = system.score(moments), generate_list(decoder, [1, 3], 4)
    assert len(fused) <= 1
    embedding.train()  # as in training, nothing is kept
    anew = system.network.logits(*system.network(torch.tensor([[ITEMS + 1, 2]]), torch.tensor([[False, True]])))
    assert anew.requires_grad
    assert generate_list(decoder, [1, 3], 4) == before[1] == cached[1]
    assert np.array_equal(before[0], cached[0])
    with torch.enable_grad():  # one step of training
        embedding().square().sum().backward()
    torch.optim.SGD(embedding.parameters(), 0.1).step()
    fused.clear()
    changed = [system.score(moments) for _ in range(2)]
    assert len(fused) == 1
    assert not np.allclose(changed[0], before[0], atol=1e-3)
    embedding.fused_from = ()
    assert np.array_equal(system.score(moments), changed[0])
    assert np.array_equal(changed[0], changed[1])


# What is asked --------------------------------------------------------------------------------------------------------


def randomly_initialised(split, features, **options):
    """A system before its first step, with weights large enough that all that matters shows."""
    system = MMGPT2Rec(features=features, dims=DIMS, **QUICK | options)
    system.network = system.initial_model(split).eval()
    with torch.no_grad():
        for weight in system.network.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    return system


def rows_of(lengths, dim=11):
    """(B, width) the token and items at the left, 0 at the right."""
    rows = torch.randint(1, ITEMS + 1, (len(lengths), dim))
    rows[:, 0] = ITEMS + 1
    return rows * (torch.arange(dim) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("part", [1, 4, 32, 1_000])
@pytest.mark.parametrize("tie_weights", [True, False])
@torch.no_grad()
def test_a_batch_that_is_cut_into_parts_gives_what_the_whole_gives(part, tie_weights, planted, features, monkeypatch):
    monkeypatch.setattr(sequential, "PART", part)
    config = MMGPT2Config(tie_weights=tie_weights)
    network = randomly_initialised(planted, features, config=config).network
    assert isinstance(network, DecoderNetwork)
    inputs = rows_of([1 + number % 11 for number in range(70)])
    for rows in (inputs, sort_by_length(inputs)[0]):
        scores = network.decoder(rows)
        for asked in (rows > 0, (rows > 0) & (torch.rand(rows.shape) < 0.5), (rows > 0).cumsum(1) == 2):
            hidden, vectors = network(rows, asked & (rows > 0))
            vectors_read = network.decoder.item_embedding()
            wanted = network.decoder.hidden_states(rows, vectors_read)[asked & (rows > 0)]
            torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=1e-4)
            found = network.logits(hidden, vectors)
            torch.testing.assert_close(found, scores[asked & (rows > 0)], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_scores_are_the_decoders_after_the_last_item(planted, features):
    system = randomly_initialised(planted, features)
    items = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14], list(range(1, 26))]
    queries = np.array([[0] * (25 - len(row)) + row for row in items])
    nothing = np.zeros(len(items), np.int64)
    scores = system.score(Queries(nothing, queries, nothing[:, None], nothing))
    assert scores.shape == (5, ITEMS + 1)
    assert not scores[:, 0].any()
    for row, found in zip(items, scores, strict=True):
        # Who has 10 items or more was cut off, or might have been: of them only these are read, without the token.
        read = row[-10:] if len(row) >= 10 else [ITEMS + 1, *row]
        wanted = system.network.decoder(torch.tensor([read]))[0, -1].numpy()
        np.testing.assert_allclose(found[1:], wanted, atol=1e-4, rtol=1e-4)


def test_all_that_learns_is_trained_and_saved(planted, features):
    """The network holds the decoder twice: by itself, and as the backbone and the items that its base class knows."""
    config = MMGPT2Config(tie_weights=False)
    network = randomly_initialised(planted, features, use_ids=True, config=config).network
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    own = {name for name, weight in network.decoder.named_parameters() if weight.requires_grad}
    assert len(learning) == len(own)
    assert {id(weight) for weight in network.parameters()} == {id(weight) for weight in network.decoder.parameters()}


@pytest.mark.parametrize("loss", ["bce", "gbce"])
def test_the_sampled_losses_train_it_too(loss, planted, features, moments):
    system = MMGPT2Rec(features=features, dims=DIMS, loss=loss, **QUICK).fit(planted)
    assert system.training.losses[-1] < system.training.losses[0]
    assert np.isfinite(system.score(moments)).all()


# What is refused ------------------------------------------------------------------------------------------------------


def test_wrong_hyperparameters_and_features_are_refused(planted, features):
    with pytest.raises(ValueError, match="MM-GPT2Rec has no fusion 'gate'; it has concat, add, weighted, attention"):
        MMGPT2Rec(features=features, config=MMGPT2Config(fusion="gate"))
    with pytest.raises(ValueError, match="MM-GPT2Rec has no input: give features, or set use_ids=True"):
        MMGPT2Rec()
    with pytest.raises(ValueError, match="MM-GPT2Rec has no loss 'bpr'; it has ce, bce, gbce, ssm"):
        MMGPT2Rec(use_ids=True, loss="bpr")
    for dims in ((4, 4), (16, 1), (3,)):
        with pytest.raises(ValueError, match=r"dims \(.*\) do not sum to the 16 columns of features"):
            MMGPT2Rec(features=features, dims=dims, **QUICK).fit(planted)
    with pytest.raises(ValueError, match=r"features of shape \(26, 16\) are not 27 rows of finite numbers"):
        MMGPT2Rec(features=features[1:], **QUICK).fit(planted)
    with pytest.raises(ValueError, match="3 heads cannot share a dimension of 16"):
        MMGPT2Rec(features=features, **QUICK | {"num_heads": 3}).fit(planted)


def test_columns_are_one_modality_unless_told_otherwise(planted, features):
    assert [
        part.shape
        for part in MMGPT2Rec(features=features, **QUICK).initial_model(planted).item_embedding.features.buffers()
    ] == [(ITEMS, 16)]
    network = MMGPT2Rec(features=features, dims=DIMS, **QUICK).initial_model(planted)
    assert [part.shape for part in network.item_embedding.features.buffers()] == [(ITEMS, 4), (ITEMS, 12)]


def test_the_settings_reach_the_network(planted, features):
    options = QUICK | {"num_layers": 3, "num_heads": 4, "max_len": 6, "dropout": 0.35}
    gpt2 = MMGPT2Rec(features=features, **options).initial_model(planted).decoder.gpt2
    assert [block.attention.num_heads for block in gpt2.blocks] == [4] * 3
    assert {block.dropout.p for block in gpt2.blocks} == {gpt2.dropout.p} == {0.35}
    assert gpt2.positions.weight.shape == (7, 16)  # the token stands before the items


def test_names():
    assert MMGPT2Rec(use_ids=True).name == MMGPT2Rec(features=np.ones((3, 1))).name == "MM-GPT2Rec"
    assert MMGPT2Rec(use_ids=True, name="ids alone").name == "ids alone"

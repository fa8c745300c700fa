"""mmgpt2rec.py: BOS and EOS tokens, pretrained backbones, auxiliary losses and other design choices."""

from dataclasses import replace
from itertools import combinations

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from mmrec_helpers.data.dataset import ITEM_FEATURES, Queries, RecDataset
from mmrec_helpers.llm.tuning import UNFREEZING_STAGES
from mmrec_helpers.recommenders import mmgpt2rec
from mmrec_helpers.recommenders.features import principal_components
from mmrec_helpers.recommenders.mmgpt2rec import (
    TEMPERATURE,
    MMGPT2Config,
    MMGPT2Rec,
    alignment_loss,
    contrastive_loss,
    load_backbone,
)
from mmrec_helpers.recommenders.sequential import standardise

ITEMS, TOKEN, DIMS = 12, 13, (4, 6)
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
UNFREEZING = SMALL | {
    "num_layers": 3,
    "batch_size": 30,
    "epochs": 20,
    "validate_every": 20,
    "config": MMGPT2Config(tuning="unfreezing", training={"warmup_steps": 0}),
}
"""20 steps, of which each of UNFREEZING_STAGES is 2."""


def world(queries):
    """Leave-one-out of users who take these items."""
    rows = [(user, item, time, 5.0, "") for user, row in enumerate(queries) for time, item in enumerate(row)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * ITEMS for name in ITEM_FEATURES} | {"item_id": [str(item) for item in range(ITEMS)]}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"user-{user}" for user in range(len(queries))])
    return RecDataset("world", items, frame, names).validate().leave_one_out()


@pytest.fixture(scope="module")
def circle():
    """30 users who go round a circle of 12 items: all have 7 items, of which 5 are learnt from."""
    rng = np.random.default_rng(0)
    return world([[(start + step) % ITEMS + 1 for step in range(7)] for start in rng.integers(ITEMS, size=30)])


@pytest.fixture(scope="module")
def features():
    """(I + 1, 4 + 6) two modalities, of which the second is made from the first, with some noise."""
    rng = np.random.default_rng(1)
    text = rng.normal(size=(ITEMS + 1, 4))
    return np.concatenate([text, text @ rng.normal(size=(4, 6)) + 0.1 * rng.normal(size=(ITEMS + 1, 6))], axis=1)


def asked(rows, users=None, dim=15):
    """Moments at which the users, 0, 1, 2... unless told, have taken these items."""
    items = np.array([[0] * (dim - len(row)) + list(row) for row in rows], np.int64)
    users = np.arange(len(rows)) if users is None else np.array(users)
    return Queries(users, items, np.zeros((len(rows), 1), np.int64), np.zeros(len(rows), np.int64))


HISTORIES = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 11, 12, 1], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3], [*range(1, 13), 2, 4]]
"""The last two are as long as what is read, or longer: nothing stands before them."""


@torch.no_grad()
def larger(module):
    """The module with weights large enough that all that matters shows."""
    torch.manual_seed(0)
    for weight in module.parameters():
        if weight.requires_grad:
            weight.add_(0.3 * torch.randn_like(weight))
    return module.eval()


def randomly_initialised(split, name="", **config):
    """A system before its first step; user embeddings are zeros."""
    system = MMGPT2Rec(use_ids=True, name=name, config=MMGPT2Config(**config), **QUICK)
    system.network = system.initial_model(split).eval()
    larger(system.network.decoder)
    return system


# What begins and what ends a history ----------------------------------------------------------------------------------


@pytest.mark.parametrize("eos", [False, True])
@pytest.mark.parametrize("bos", ["start", "user", "none"])
def test_windows_hold_every_item_once_with_bos_and_eos_as_configured(bos, eos):
    rng = np.random.default_rng(0)
    names, counts = [0, 2, 3, 5, 6, 7, 8, 11], [1, 3, 4, 5, 8, 9, 17, 1]
    users, items = np.repeat(names, counts), rng.integers(1, ITEMS + 1, sum(counts))
    system = MMGPT2Rec(use_ids=True, config=MMGPT2Config(bos=bos, eos=eos), max_len=4)
    system.special_token_id = TOKEN
    rows, wanted = system.training_rows(users, items), []
    for user in names:
        begin = {"start": [TOKEN], "user": [TOKEN + 1 + user], "none": [0]}[bos]
        own = [*begin, *items[users == user], *[TOKEN] * eos]
        ends = list(range(len(own), 1, -4))[::-1]
        wanted += [[item for item in own[max(end - 5, 0) : end] if item] for end in ends]
    wanted = [row for row in wanted if len(row) > 1]  # where nothing is read, nothing can be asked for
    assert [list(row[row > 0]) for row in rows] == wanted
    assert all((row[: len(own)] > 0).all() for row, own in zip(rows, wanted, strict=True))
    assert rows.shape[1] == 5


@pytest.mark.parametrize("bos", ["start", "user", "none"])
def test_eos_is_a_target_once_for_each_user_and_never_an_input(bos):
    users, items = np.repeat([0, 1, 2], [1, 4, 9]), np.arange(14) % ITEMS + 1
    system = MMGPT2Rec(use_ids=True, config=MMGPT2Config(bos=bos, eos=True), max_len=4)
    system.special_token_id = TOKEN
    inputs, targets = system.inputs_and_targets(torch.from_numpy(system.training_rows(users, items)))
    ends = targets == TOKEN
    assert ends.sum() == 3
    assert inputs[ends].tolist() == [1, 5, 2]  # the last items of the three
    assert not (inputs[:, 1:] == TOKEN).any()
    assert (targets.flip(1).cummax(1).values.flip(1)[ends] == TOKEN).all()
    assert not targets.roll(-1, 1)[:, :-1][ends[:, :-1]].any()


def test_without_bos_token_the_items_are_the_only_inputs(circle):
    system = randomly_initialised(circle, bos="none")
    assert [list(row[row > 0]) for row in system.inputs_of(asked(HISTORIES))] == [row[-10:] for row in HISTORIES]
    with torch.no_grad():
        for row, found in zip(HISTORIES, system.score(asked(HISTORIES)), strict=True):
            wanted = system.network.decoder(torch.tensor([row[-10:]]))[0, -1].numpy()
            np.testing.assert_allclose(found[1:], wanted, atol=1e-4, rtol=1e-4)


def test_without_bos_token_an_empty_history_is_refused(circle):
    system = randomly_initialised(circle, bos="none", name="bare decoder")
    with pytest.raises(ValueError, match="bare decoder: without a BOS token an empty history cannot be scored"):
        system.score(asked([[1, 2], [], [3]]))
    for bos in ("start", "user"):
        assert np.isfinite(randomly_initialised(circle, bos=bos).score(asked([[1, 2], [], [3]]))).all()


def test_users_of_whom_nothing_is_learnt_are_all_alike(circle):
    scores = [randomly_initialised(circle, bos=bos).score(asked(HISTORIES)) for bos in ("start", "user")]
    assert np.abs(scores[0]).max() > 1
    np.testing.assert_allclose(*scores, atol=1e-6)


@torch.no_grad()
def test_a_users_vector_stands_beside_the_tokens_and_matters_to_him_alone(circle):
    system, moments = randomly_initialised(circle, bos="user"), asked(HISTORIES, users=[7, 2, 7, 7, 2])
    before, network = system.score(moments), system.network
    network.users[7] = torch.randn(16)
    after, vectors = system.score(moments), network.item_embedding()
    changed = np.abs(after - before).max(1) > 1e-3
    assert changed.tolist() == [True, False, True, False, False]  # the fourth is too long to have a beginning
    for row, found in zip(HISTORIES, after, strict=True):
        if len(row) in (3, 9):
            read = torch.cat([vectors[-1:] + network.users[7], vectors[torch.tensor(row) - 1]])
            wanted = network.decoder.gpt2(read[None])[0, -1] @ vectors[:-1].T + network.item_embedding.bias
            np.testing.assert_allclose(found[1:], wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_only_a_token_of_his_own_tells_what_a_user_begins_with():
    """Everybody's first item is his own; before it nothing was read, and after it all take the same."""
    begin = np.random.default_rng(0).integers(1, 9, 20)
    split, nobody = world([[item, 10, 11, 12] for item in begin]), asked([[]] * 20)
    found = {
        bos: MMGPT2Rec(use_ids=True, config=MMGPT2Config(bos=bos), **SMALL | {"epochs": 40}).fit(split)
        for bos in ("start", "user")
    }
    scores = {bos: system.score(nobody) for bos, system in found.items()}
    assert (scores["user"][:, 1:].argmax(1) + 1 == begin).all()
    np.testing.assert_allclose(scores["start"], np.broadcast_to(scores["start"][:1], (20, TOKEN)), atol=1e-5)


def test_the_end_is_no_item_that_is_scored(circle):
    """Before it is learnt, it changes no score."""
    scores = [randomly_initialised(circle, eos=eos).score(asked(HISTORIES)) for eos in (False, True)]
    assert scores[1].shape == (5, ITEMS + 1)
    assert not scores[1][:, 0].any()
    np.testing.assert_allclose(*scores, atol=1e-6)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_the_end_is_foreseen_where_it_always_comes_after_as_many_items(tie_weights, circle):
    """After 5 items; which they are tells nothing, for they go round. What is kept are the last weights."""
    config = MMGPT2Config(eos=True, tie_weights=tie_weights)
    system = MMGPT2Rec(use_ids=True, config=config, **SMALL | {"epochs": 20, "validate_every": 20}).fit(circle)
    rows = torch.tensor([[TOKEN, *((start + step) % ITEMS + 1 for step in range(5))] for start in range(ITEMS)])
    with torch.no_grad():
        chance = system.network.logits(*system.network(rows, rows > 0)).softmax(1)[:, -1].view(ITEMS, 6)
    assert chance[:, 5].min() > 0.5 > 5 * chance[:, :5].max()


@pytest.mark.parametrize(("loss", "eos"), [("ce", True), ("ssm", True), ("bce", False), ("gbce", False)])
@pytest.mark.parametrize("bos", ["user", "none"])
def test_each_loss_trains_with_every_bos_and_eos(loss, eos, bos, circle):
    config = MMGPT2Config(bos=bos, eos=eos)
    system = MMGPT2Rec(use_ids=True, loss=loss, config=config, num_negatives=5, **SMALL | {"epochs": 6}).fit(circle)
    assert system.training.losses[-3:].mean() < system.training.losses[:3].mean()
    assert np.isfinite(system.score(circle.queries("test"))).all()


# Biases and ID embeddings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_without_biases_no_item_is_popular(loss, circle, features):
    """With a sampled loss all items have one and the same."""
    alike = features.copy()
    alike[7] = alike[3]
    given = {"features": alike, "dims": DIMS, "loss": loss}
    system = MMGPT2Rec(config=MMGPT2Config(use_bias=False), **given, **QUICK).fit(circle)
    bias = system.network.item_embedding.bias
    assert not bias.requires_grad
    assert len(bias.unique()) == 1
    assert loss == "bce" or not bias.any()
    scores, biased = (fitted.score(asked(HISTORIES)) for fitted in (system, MMGPT2Rec(**given, **QUICK).fit(circle)))
    np.testing.assert_allclose(scores[:, 3], scores[:, 7], atol=1e-5)
    assert not np.allclose(biased[:, 3], biased[:, 7], atol=1e-5)


def test_ids_initialised_with_features_start_at_their_principal_components_and_are_trained(circle, features):
    config = MMGPT2Config(id_init="features")
    system = MMGPT2Rec(features=features, dims=DIMS, use_ids=True, config=config, **QUICK | {"dim": 8})
    before = system.initial_model(circle).item_embedding.id_embeddings.detach().numpy()
    np.testing.assert_allclose(before, standardise(principal_components(features, 8)[1:]), atol=1e-6)
    fitted = system.fit(circle).network.item_embedding
    assert np.abs(fitted.id_embeddings.detach().numpy() - before).max(1).min() > 0
    assert not list(fitted.features.buffers())  # the features are not used otherwise
    features = features.copy()
    features[0] = 99  # the padding is not read
    other = MMGPT2Rec(features=features, dims=DIMS, use_ids=True, config=config, **QUICK | {"dim": 8})
    np.testing.assert_array_equal(other.initial_model(circle).item_embedding.id_embeddings.detach().numpy(), before)


# Pretrained backbones -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Folder -> transformers' GPT-2 of width 16 and 12 places that lies there, once in single and once in half."""
    from transformers import GPT2Config, GPT2LMHeadModel

    found = {}
    for name in ("single", "mixed_precision"):
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=12, vocab_size=20)
        model = larger(GPT2LMHeadModel(config))
        folder = tmp_path_factory.mktemp("backbones") / name
        (model.half() if name == "mixed_precision" else model).save_pretrained(folder)
        found[str(folder)] = model.float()
    return found


def test_a_stored_backbone_computes_what_transformers_does(stored):
    vectors = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0))
    for folder, theirs in stored.items():
        backbone = load_backbone(folder).eval()
        assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}
        with torch.no_grad():
            wanted = theirs.transformer(inputs_embeds=vectors).last_hidden_state
            torch.testing.assert_close(backbone(vectors), wanted, atol=1e-5, rtol=1e-5)
        assert wanted.std() > 0.1


def test_training_starts_from_the_pretrained_backbone(stored, circle):
    folder = next(iter(stored))
    config = MMGPT2Config(backbone=folder)
    system = MMGPT2Rec(use_ids=True, config=config, **QUICK | {"dropout": 0.35, "num_layers": 7})
    mine, theirs = system.initial_model(circle).decoder.gpt2, load_backbone(folder)
    assert {block.dropout.p for block in mine.blocks} == {mine.dropout.p} == {0.35}
    assert [block.attention.num_heads for block in mine.blocks] == [2, 2]
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
    learnt = system.fit(circle).network.decoder.gpt2
    for name, weight in theirs.named_parameters():
        assert not torch.equal(learnt.get_parameter(name), weight), name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dim": 32}, "has dim 16 and 12 positions; this system needs dim 32 and more than 10 positions"),
        ({"max_len": 12}, "has dim 16 and 12 positions; this system needs dim 16 and more than 12 positions"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused_with_both_sizes(changed, message, stored, circle):
    config = MMGPT2Config(backbone=next(iter(stored)))
    with pytest.raises(ValueError, match=f"MM-GPT2Rec: .* {message}"):
        MMGPT2Rec(use_ids=True, config=config, **QUICK | changed).initial_model(circle)
    assert MMGPT2Rec(use_ids=True, config=config, **QUICK | {"max_len": 11}).initial_model(circle)


# Fine-tuning ----------------------------------------------------------------------------------------------------------


def test_lora_leaves_the_backbone_as_it_was(stored, circle):
    for backbone in (next(iter(stored)), ""):
        system = MMGPT2Rec(use_ids=True, config=MMGPT2Config(backbone=backbone, tuning="lora"), **QUICK)
        before, after = system.initial_model(circle).decoder, system.fit(circle).network.decoder
        for name, weight in before.gpt2.named_parameters():
            assert torch.equal(weight, after.gpt2.get_parameter(name)) != ("lora_" in name), name
        assert not torch.equal(before.item_embedding.id_embeddings, after.item_embedding.id_embeddings)
        assert system.training.losses[-1] < system.training.losses[0]


def test_blocks_are_unfrozen_from_the_last_to_the_first_and_then_the_positions(circle):
    """Frozen weights stay equal to the bit, and all are trained in the end."""
    assert UNFREEZING_STAGES == 10
    system = MMGPT2Rec(use_ids=True, **UNFREEZING)
    before, moved, loss_of = system.initial_model(circle).decoder, [], system.loss_of

    def parts(decoder):
        first, middle, last = decoder.gpt2.blocks
        return decoder.gpt2.norm, last, middle, first, decoder.gpt2.positions

    def differ(one, other):
        pairs = list(zip(one.parameters(), other.parameters(), strict=True))
        same = [torch.equal(*pair) for pair in pairs]
        assert all(same) or not any(same)  # nothing moves by half
        return not same[0]

    def looked_at(rows, step):
        moved.append([differ(*pair) for pair in zip(parts(before), parts(system.network.decoder), strict=True)])
        return loss_of(rows, step)

    system.loss_of = looked_at
    system.fit(circle)
    # Before a step: the last norm has moved from the first step on, layer n after n stages.
    assert moved == [[step > 2 * turn for turn in range(5)] for step in range(20)]


def before_training(split, **arguments):
    """A system that was not fitted, and its training windows."""
    system, train = MMGPT2Rec(use_ids=True, **arguments), split.interactions("train")
    system.network = system.initial_model(split)
    return system, torch.from_numpy(system.training_rows(train["user"].to_numpy(), train["item"].to_numpy()))


def test_frozen_layers_get_no_gradient(circle):
    system, rows = before_training(circle, **UNFREEZING)
    for step, learning in ((0, 0), (1, 0), (2, 1), (4, 2), (6, 3), (8, 4), (19, 4)):
        system.network.zero_grad()
        system.loss_of(rows, step).backward()
        body = system.network.decoder.gpt2
        learns = [
            any(weight.grad is not None for weight in part.parameters()) for part in (*body.blocks, body.positions)
        ]
        assert learns == [learning > 2, learning > 1, learning > 0, learning > 3]
        assert system.network.item_embedding.id_embeddings.grad is not None


@pytest.mark.parametrize("num_layers", [1, 3, 8, 12])
def test_however_many_blocks_there_are_all_are_trained_in_the_end(num_layers, circle):
    system, rows = before_training(circle, **UNFREEZING | {"num_layers": num_layers})
    system.loss_of(rows, 0)
    assert not any(weight.requires_grad for weight in system.network.decoder.gpt2.blocks.parameters())
    system.loss_of(rows, 19)
    assert all(weight.requires_grad for weight in system.network.parameters())


# Auxiliary losses -----------------------------------------------------------------------------------------------------


def info_nce_by_loop(texts, images):
    """InfoNCE, in loops."""
    texts, images = ([vector / np.linalg.norm(vector) for vector in some] for some in (texts, images))
    total = 0.0
    for one, other in ((texts, images), (images, texts)):
        for number, vector in enumerate(one):
            like = [np.exp(vector @ candidate / TEMPERATURE) for candidate in other]
            total -= np.log(like[number] / sum(like)) / len(one) / 2
    return total


@pytest.fixture
def pairs():
    """(6, 8) texts and pictures in double precision, and the rows of those that are known, all."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(6, 8))
    return *torch.tensor(np.stack([texts, texts + 0.5 * rng.normal(size=(6, 8))])), torch.arange(6)


def test_the_contrastive_loss_is_that_of_a_loop_and_less_where_pairs_match(pairs):
    texts, images, known = pairs
    assert contrastive_loss(texts, images, known).item() == pytest.approx(
        info_nce_by_loop(texts.numpy(), images.numpy())
    )
    assert contrastive_loss(texts, images.roll(1, 0), known) > 5 * contrastive_loss(texts, images, known)
    assert contrastive_loss(texts, images, known) == pytest.approx(contrastive_loss(images, 7 * texts, known))


@pytest.mark.parametrize("modality", [0, 1])
def test_an_item_of_which_a_modality_is_unknown_is_not_contrasted(modality, circle, features, monkeypatch):
    """Even though its zeros are no zeros any more once all features are standardise."""
    lacking, rows = features.copy(), []
    for item in (5, 9):
        lacking[item, slice(DIMS[0]) if modality == 0 else slice(DIMS[0], None)] = 0
    monkeypatch.setattr(
        mmgpt2rec, "contrastive_loss", lambda texts, images, known: rows.append(known) or texts.sum() * 0
    )
    MMGPT2Rec(features=lacking, dims=DIMS, config=MMGPT2Config(contrastive_weight=0.5), **QUICK).fit(circle)
    assert all(known.tolist() == [row for row in range(ITEMS) if row not in (4, 8)] for known in rows)
    lacking[:, : DIMS[0]] = 0
    with pytest.raises(ValueError, match="no item has both text and image, so contrastive_weight must be 0"):
        MMGPT2Rec(features=lacking, dims=DIMS, config=MMGPT2Config(contrastive_weight=0.5), **QUICK).fit(circle)


@pytest.mark.parametrize("known", [[0, 1, 3, 5], [4, 2]])
def test_only_known_items_are_contrasted(known, pairs):
    texts, images, _ = pairs
    wanted = info_nce_by_loop(texts[known].numpy(), images[known].numpy())
    assert contrastive_loss(texts, images, torch.tensor(known)).item() == pytest.approx(wanted)


def test_as_many_items_as_told_are_contrasted_and_others_each_time(pairs, monkeypatch):
    monkeypatch.setattr(mmgpt2rec, "CONTRASTIVE_ITEMS", 3)
    texts, images, known = pairs
    subsets = [list(some) for some in combinations(range(6), 3)]
    losses = np.array([info_nce_by_loop(texts[some].numpy(), images[some].numpy()) for some in subsets])
    torch.manual_seed(0)
    away = np.abs(np.array([contrastive_loss(texts, images, known).item() for _ in range(200)])[:, None] - losses)
    assert away.min(1).max() < 1e-9
    assert set(away.argmin(1)) == set(range(len(subsets)))


def test_the_contrastive_loss_brings_an_items_text_and_image_together(circle, features):
    closer = []
    for weight in (0.0, 1.0):
        config = MMGPT2Config(contrastive_weight=weight)
        system = MMGPT2Rec(features=features, dims=DIMS, config=config, **SMALL | {"epochs": 10}).fit(circle)
        tokens = system.network.item_embedding
        with torch.no_grad():
            texts, images = (F.normalize(part) for part in tokens.fusion.project([*tokens.features.buffers()]))
        like = texts @ images.T
        closer.append((like.diagonal().mean(), like.diagonal().mean() - like.mean()))
    for without, contrasted in zip(*closer, strict=True):
        assert contrasted > without + 0.2


@pytest.mark.parametrize("fusion", ["add", "weighted", "attention"])
def test_every_fusion_that_maps_each_modality_can_be_contrasted(fusion, circle, features):
    config = MMGPT2Config(fusion=fusion, contrastive_weight=0.5)
    system = MMGPT2Rec(features=features, dims=DIMS, config=config, **QUICK).fit(circle)
    assert system.training.losses[-1] < system.training.losses[0]


def test_the_alignment_loss_is_one_minus_the_mean_cosine():
    rows = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    assert alignment_loss(rows, 2 * rows).item() == pytest.approx(0, abs=1e-6)
    assert alignment_loss(rows, torch.tensor([[0.0, 5.0], [3.0, 4.0]])).item() == pytest.approx(0.5)


def test_the_alignment_loss_keeps_output_embeddings_near_input_embeddings(circle):
    found = []
    for weight in (0.0, 1.0):
        config = MMGPT2Config(tie_weights=False, alignment_weight=weight)
        system = MMGPT2Rec(use_ids=True, config=config, **SMALL | {"epochs": 10}).fit(circle)
        vectors = system.network.item_embedding().detach()
        found.append(F.cosine_similarity(system.network.decoder.free_outputs.detach(), vectors[:-1]).min())
    assert found[1] > found[0] + 0.2


@pytest.mark.parametrize("choice", mmgpt2rec.CHOICES)
def test_a_value_that_a_design_choice_does_not_have_is_refused_with_those_it_has(choice):
    values = ", ".join(mmgpt2rec.CHOICES[choice])
    with pytest.raises(ValueError, match=f"MM-GPT2Rec has no {choice} 'other'; it has {values}"):
        MMGPT2Rec(use_ids=True, config=MMGPT2Config(**{choice: "other"}))


def test_design_choices_that_exclude_each_other_are_refused(features):
    given = {"features": features, "dims": DIMS}
    contrastive = MMGPT2Config(contrastive_weight=0.1)
    for change in ({"dims": ()}, {"dims": (10,)}, {"dims": (4, 3, 3)}, {"features": None, "use_ids": True}):
        with pytest.raises(ValueError, match="MM-GPT2Rec: contrastive_weight needs features of two modalities"):
            MMGPT2Rec(config=contrastive, **given | change)
    with pytest.raises(ValueError, match=r"MM-GPT2Rec: contrastive_weight needs .* a fusion other than concat"):
        MMGPT2Rec(config=replace(contrastive, fusion="concat"), **given)
    with pytest.raises(ValueError, match=r"MM-GPT2Rec: contrastive_weight needs .* id_init='random'"):
        MMGPT2Rec(use_ids=True, config=replace(contrastive, id_init="features"), **given)
    with pytest.raises(ValueError, match="MM-GPT2Rec: alignment_weight needs tie_weights=False"):
        MMGPT2Rec(config=MMGPT2Config(alignment_weight=0.1), **given)
    for loss in ("bce", "gbce"):
        with pytest.raises(ValueError, match=f"MM-GPT2Rec: loss '{loss}' compares items only; the EOS token needs"):
            MMGPT2Rec(use_ids=True, config=MMGPT2Config(eos=True), loss=loss)
    for change in ({"use_ids": False}, {"features": None, "use_ids": True}):
        with pytest.raises(ValueError, match="MM-GPT2Rec: id_init='features' needs features and use_ids=True"):
            MMGPT2Rec(config=MMGPT2Config(id_init="features"), **given | change)


def test_without_biases_eos_has_none_either(circle):
    system = MMGPT2Rec(use_ids=True, config=MMGPT2Config(eos=True, use_bias=False), **QUICK).fit(circle)
    assert not system.network.bias.any()


def test_without_bos_token_some_user_must_have_two_items():
    with pytest.raises(ValueError, match="MM-GPT2Rec: without a BOS token some user needs two training items"):
        MMGPT2Rec(use_ids=True, config=MMGPT2Config(bos="none"), **QUICK).fit(world([[1, 2, 3], [4, 5, 6]]))


# Training config ------------------------------------------------------------------------------------------------------


def test_training_overrides_reach_the_training_config():
    def config_of(batches=8, **training):
        return MMGPT2Rec(use_ids=True, epochs=30, config=MMGPT2Config(training=training)).training_config(
            batches, validated=True
        )

    plain = config_of()
    config = config_of(num_restarts=3, warmup_steps=50, accumulation_steps=2, min_delta=0.001, mixed_precision=True)
    assert (config.num_restarts, config.warmup_steps, config.accumulation_steps) == (3, 50, 2)
    assert (config.min_delta, config.mixed_precision) == (0.001, True)
    assert plain.steps == 240
    assert (config.lr, config.weight_decay, config.seed) == (plain.lr, plain.weight_decay, plain.seed)
    # A step of two batches is half of an epoch's: as many epochs, as many epochs between two validations.
    assert (config.steps, config.validate_every) == (plain.steps / 2, plain.validate_every / 2)
    assert config_of(7, accumulation_steps=2).steps == 120


def test_gathered_gradients_take_half_the_steps_and_learn_as_one_batch_of_both(circle):
    """Without dropout, of batches of the same size."""
    quick = QUICK | {"dropout": 0.0}
    config = MMGPT2Config(training={"accumulation_steps": 2})
    twice = MMGPT2Rec(use_ids=True, config=config, **quick | {"batch_size": 15}).fit(circle)
    whole = MMGPT2Rec(use_ids=True, **quick | {"batch_size": 30}).fit(circle)
    assert len(twice.training.losses) == len(whole.training.losses) == 3
    np.testing.assert_allclose(twice.training.losses, whole.training.losses, rtol=1e-3)


def test_a_training_override_is_a_field_of_the_training_config(circle):
    with pytest.raises(TypeError, match="warm_up"):
        MMGPT2Rec(use_ids=True, config=MMGPT2Config(training={"warm_up": 3}), **QUICK).fit(circle)

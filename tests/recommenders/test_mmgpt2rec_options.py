"""gpt2rec.py's options: what begins and ends a history, bodies that have read before, losses beside the main one."""

import shutil
from copy import deepcopy
from dataclasses import fields, replace
from itertools import combinations

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from mmrec_helpers.data.dataset import ITEM_FEATURES, Queries, RecDataset
from mmrec_helpers.lessons.decoder import GPT2
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders import mmgpt2rec as gpt2rec
from mmrec_helpers.recommenders.features import main_directions
from mmrec_helpers.recommenders.mmgpt2rec import (
    APPENDIX,
    RANK,
    TEMPERATURE,
    MMGPT2Rec,
    contrast,
    load_body,
    options,
    sizes_of,
    with_lora,
)
from mmrec_helpers.recommenders.sequential import standardised
from mmrec_helpers.settings import load_settings

ITEMS, TOKEN, WIDTHS = 12, 13, (4, 6)
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
THAWED = SMALL | {
    "num_layers": 3,
    "batch_size": 30,
    "epochs": 20,
    "validate_every": 20,
    "schedule": {"warmup_steps": 0},
}
"""20 steps, of which each tenth is 2."""


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


def randomly_initialised(split, **some):
    """A system before its first step; vectors of users are zeros."""
    system = MMGPT2Rec(**{"use_ids": True} | QUICK | some)
    system.token = TOKEN
    torch.manual_seed(0)
    system.network = system.build(split).eval()
    larger(system.network.decoder)
    return system


def built(system, split):
    """The network that ``fit`` begins with."""
    torch.manual_seed(system.seed)
    return system.build(split)


# What begins and what ends a history ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("first", ["start", "user", "nothing"])
def test_windows_hold_every_item_once_and_begin_and_end_as_told(first, stop):
    rng = np.random.default_rng(0)
    names, counts = [0, 2, 3, 5, 6, 7, 8, 11], [1, 3, 4, 5, 8, 9, 17, 1]
    users, items = np.repeat(names, counts), rng.integers(1, ITEMS + 1, sum(counts))
    system = MMGPT2Rec(use_ids=True, first=first, stop=stop, max_len=4)
    system.token = TOKEN
    rows, wanted = system.rows(users, items), []
    for user in names:
        begin = {"start": [TOKEN], "user": [TOKEN + 1 + user], "nothing": [0]}[first]
        own = [*begin, *items[users == user], *[TOKEN] * stop]
        ends = list(range(len(own), 1, -4))[::-1]
        wanted += [[item for item in own[max(end - 5, 0) : end] if item] for end in ends]
    wanted = [row for row in wanted if len(row) > 1]  # where nothing is read, nothing can be asked for
    assert [list(row[row > 0]) for row in rows] == wanted
    assert all((row[: len(own)] > 0).all() for row, own in zip(rows, wanted, strict=True))
    assert rows.shape[1] == 5


@pytest.mark.parametrize("first", ["start", "user", "nothing"])
def test_an_end_is_asked_for_once_a_user_and_never_read(first):
    users, items = np.repeat([0, 1, 2], [1, 4, 9]), np.arange(14) % ITEMS + 1
    system = MMGPT2Rec(use_ids=True, first=first, stop=True, max_len=4)
    system.token = TOKEN
    inputs, targets = system.lesson(torch.from_numpy(system.rows(users, items)))
    ends = targets == TOKEN
    assert ends.sum() == 3
    assert inputs[ends].tolist() == [1, 5, 2]  # the last items of the three
    assert not (inputs[:, 1:] == TOKEN).any()
    assert (targets.flip(1).cummax(1).values.flip(1)[ends] == TOKEN).all()
    assert not targets.roll(-1, 1)[:, :-1][ends[:, :-1]].any()


def test_where_nothing_begins_a_history_the_items_are_all_that_is_read(circle):
    system = randomly_initialised(circle, first="nothing")
    assert [list(row[row > 0]) for row in system.questions(asked(HISTORIES))] == [row[-10:] for row in HISTORIES]
    with torch.no_grad():
        for row, found in zip(HISTORIES, system.score(asked(HISTORIES)), strict=True):
            wanted = system.network.decoder(torch.tensor([row[-10:]]))[0, -1].numpy()
            np.testing.assert_allclose(found[1:], wanted, atol=1e-4, rtol=1e-4)


def test_where_nothing_begins_a_history_one_without_items_is_refused(circle):
    system = randomly_initialised(circle, first="nothing", name="bare decoder")
    with pytest.raises(ValueError, match="bare decoder: a history without items asks nothing"):
        system.score(asked([[1, 2], [], [3]]))
    for first in ("start", "user"):
        assert np.isfinite(randomly_initialised(circle, first=first).score(asked([[1, 2], [], [3]]))).all()


def test_users_of_whom_nothing_is_learnt_are_all_alike(circle):
    scores = [randomly_initialised(circle, first=first).score(asked(HISTORIES)) for first in ("start", "user")]
    assert np.abs(scores[0]).max() > 1
    np.testing.assert_allclose(*scores, atol=1e-6)


@torch.no_grad()
def test_a_users_vector_stands_beside_the_tokens_and_matters_to_him_alone(circle):
    system, moments = randomly_initialised(circle, first="user"), asked(HISTORIES, users=[7, 2, 7, 7, 2])
    before, network = system.score(moments), system.network
    network.users[7] = torch.randn(16)
    after, vectors = system.score(moments), network.items()
    changed = np.abs(after - before).max(1) > 1e-3
    assert changed.tolist() == [True, False, True, False, False]  # the fourth is too long to have a beginning
    for row, found in zip(HISTORIES, after, strict=True):
        if len(row) in (3, 9):
            read = torch.cat([vectors[-1:] + network.users[7], vectors[torch.tensor(row) - 1]])
            wanted = network.decoder.gpt2(read[None])[0, -1] @ vectors[:-1].T + network.items.bias
            np.testing.assert_allclose(found[1:], wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_only_a_token_of_his_own_tells_what_a_user_begins_with():
    """Everybody's first item is his own; before it nothing was read, and after it all take the same."""
    begin = np.random.default_rng(0).integers(1, 9, 20)
    split, nobody = world([[item, 10, 11, 12] for item in begin]), asked([[]] * 20)
    found = {
        first: MMGPT2Rec(use_ids=True, first=first, **SMALL | {"epochs": 40}).fit(split) for first in ("start", "user")
    }
    scores = {first: system.score(nobody) for first, system in found.items()}
    assert (scores["user"][:, 1:].argmax(1) + 1 == begin).all()
    np.testing.assert_allclose(scores["start"], np.broadcast_to(scores["start"][:1], (20, TOKEN)), atol=1e-5)


def test_the_end_is_no_item_that_is_scored(circle):
    """Before it is learnt, it changes no score."""
    scores = [randomly_initialised(circle, stop=stop).score(asked(HISTORIES)) for stop in (False, True)]
    assert scores[1].shape == (5, ITEMS + 1)
    assert not scores[1][:, 0].any()
    np.testing.assert_allclose(*scores, atol=1e-6)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_the_end_is_foreseen_where_it_always_comes_after_as_many_items(tie_weights, circle):
    """After 5 items; which they are tells nothing, for they go round. What is kept are the last weights."""
    system = MMGPT2Rec(
        use_ids=True, stop=True, tie_weights=tie_weights, **SMALL | {"epochs": 20, "validate_every": 20}
    ).fit(circle)
    rows = torch.tensor([[TOKEN, *((start + step) % ITEMS + 1 for step in range(5))] for start in range(ITEMS)])
    with torch.no_grad():
        chance = system.network.logits(*system.network(rows, rows > 0)).softmax(1)[:, -1].view(ITEMS, 6)
    assert chance[:, 5].min() > 0.5 > 5 * chance[:, :5].max()


@pytest.mark.parametrize(("loss", "stop"), [("ce", True), ("ssm", True), ("bce", False), ("gbce", False)])
@pytest.mark.parametrize("first", ["user", "nothing"])
def test_each_loss_trains_with_all_that_begins_and_ends(loss, stop, first, circle):
    system = MMGPT2Rec(use_ids=True, loss=loss, first=first, stop=stop, num_negatives=5, **SMALL | {"epochs": 6}).fit(
        circle
    )
    assert system.training.losses[-3:].mean() < system.training.losses[:3].mean()
    assert np.isfinite(system.score(circle.queries("test"))).all()


# Biases and tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_without_biases_no_item_is_popular(loss, circle, features):
    """With a sampled loss all items have one and the same."""
    alike = features.copy()
    alike[7] = alike[3]
    given = {"features": alike, "dims": WIDTHS, "loss": loss}
    system = MMGPT2Rec(use_bias=False, **given, **QUICK).fit(circle)
    bias = system.network.items.bias
    assert not bias.requires_grad
    assert len(bias.unique()) == 1
    assert loss == "bce" or not bias.any()
    scores, biased = (fitted.score(asked(HISTORIES)) for fitted in (system, MMGPT2Rec(**given, **QUICK).fit(circle)))
    np.testing.assert_allclose(scores[:, 3], scores[:, 7], atol=1e-5)
    assert not np.allclose(biased[:, 3], biased[:, 7], atol=1e-5)


def test_a_table_is_where_the_free_vectors_begin_and_not_where_they_stay(circle):
    table = np.random.default_rng(0).normal(3, 2, size=(ITEMS + 1, 16))
    system = MMGPT2Rec(use_ids=True, table=table, **QUICK)
    begun = built(system, circle).items.free.detach().numpy()
    np.testing.assert_allclose(begun, standardised(table[1:]), atol=1e-6)
    assert np.abs(system.fit(circle).network.items.free.detach().numpy() - begun).max(1).min() > 0
    table[0] = 99  # the padding is not read
    np.testing.assert_array_equal(built(system, circle).items.free.detach().numpy(), begun)


# A body that has read before ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Folder -> transformers' GPT-2 of width 16 and 12 places that lies there, once in single and once in half."""
    from transformers import GPT2Config, GPT2LMHeadModel

    found = {}
    for name in ("single", "mixed_precision"):
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=12, vocab_size=20)
        model = larger(GPT2LMHeadModel(config))
        folder = tmp_path_factory.mktemp("bodies") / name
        (model.half() if name == "mixed_precision" else model).save_pretrained(folder)
        found[str(folder)] = model.float()
    return found


def test_a_stored_body_computes_what_transformers_does(stored):
    vectors = torch.randn(3, 12, 16, generator=torch.Generator().manual_seed(0))
    for folder, theirs in stored.items():
        body = load_body(folder).eval()
        assert {weight.dtype for weight in body.parameters()} == {torch.float32}
        with torch.no_grad():
            wanted = theirs.transformer(inputs_embeds=vectors).last_hidden_state
            torch.testing.assert_close(body(vectors), wanted, atol=1e-5, rtol=1e-5)
        assert wanted.std() > 0.1


def test_what_has_read_before_is_what_the_decoder_begins_with(stored, circle):
    folder = next(iter(stored))
    system = MMGPT2Rec(use_ids=True, body=folder, **QUICK | {"dropout": 0.35, "num_layers": 7})
    mine, theirs = built(system, circle).decoder.gpt2, load_body(folder)
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
        ({"dim": 32}, "has width 16 and 12 places, not width 32 and more than 10 places"),
        ({"max_len": 12}, "has width 16 and 12 places, not width 16 and more than 12 places"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_with_both_sizes(changed, message, stored, circle):
    folder = next(iter(stored))
    with pytest.raises(ValueError, match=f"MM-GPT2Rec: .* {message}"):
        MMGPT2Rec(use_ids=True, body=folder, **QUICK | changed).build(circle)
    assert MMGPT2Rec(use_ids=True, body=folder, **QUICK | {"max_len": 11}).build(circle)


# What of a body learns ------------------------------------------------------------------------------------------------


@pytest.fixture
def plain():
    """A network of two blocks, whose weights matter."""
    return larger(GPT2(16, 2, 2, 12, 0.0))


def linear_maps(gpt2):
    return {name: part for name, part in gpt2.named_modules() if isinstance(part, nn.Linear)}


@torch.no_grad()
def test_lora_adds_to_each_map_a_product_that_begins_at_nothing(plain):
    vectors = torch.randn(3, 7, 16)
    adapted = with_lora(deepcopy(plain))
    torch.testing.assert_close(adapted(vectors), plain(vectors), atol=0, rtol=0)
    larger(adapted)
    assert (adapted(vectors) - plain(vectors)).abs().max() > 0.1
    for name, part in linear_maps(plain).items():  # W x + B A x is (W + B A) x
        beside = adapted.get_submodule(name)
        part.weight += beside.lora_B["default"].weight @ beside.lora_A["default"].weight
    torch.testing.assert_close(adapted(vectors), plain(vectors), atol=1e-4, rtol=1e-4)


def test_lora_learns_so_many_numbers(plain):
    wanted = sum(RANK * (part.in_features + part.out_features) for part in linear_maps(plain).values())
    assert len(linear_maps(plain)) == 4 * 2
    learning = {name: weight for name, weight in with_lora(plain).named_parameters() if weight.requires_grad}
    assert sum(weight.numel() for weight in learning.values()) == wanted
    assert all("lora_" in name for name in learning)


def test_lora_leaves_the_body_as_it_was(stored, circle):
    for body in (next(iter(stored)), ""):
        system = MMGPT2Rec(use_ids=True, body=body, learning="lora", **QUICK)
        before, after = built(system, circle).decoder, system.fit(circle).network.decoder
        for name, weight in before.gpt2.named_parameters():
            assert torch.equal(weight, after.gpt2.get_parameter(name)) != ("lora_" in name), name
        assert not torch.equal(before.tokens.free, after.tokens.free)
        assert system.training.losses[-1] < system.training.losses[0]


def test_blocks_thaw_one_by_one_from_the_last_and_the_places_after_all(circle):
    """What is frozen stays bit for bit, and all learns in the end."""
    system = MMGPT2Rec(use_ids=True, learning="unfreezing", **THAWED)
    before, moved, loss_of = built(system, circle).decoder, [], system.loss_of

    def parts(decoder):
        first, middle, last = decoder.gpt2.blocks
        return decoder.gpt2.norm, last, middle, first, decoder.gpt2.places

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
    # Before a step: the norm behind the blocks has moved from the first on, what has turn n since n tenths were over.
    assert moved == [[step > 2 * turn for turn in range(5)] for step in range(20)]


def before_learning(split, **some):
    """A system that was not fitted, and the windows that it would learn from."""
    system, train = MMGPT2Rec(use_ids=True, **some), split.interactions("train")
    system.token, system.network = TOKEN, built(system, split)
    return system, torch.from_numpy(system.rows(train["user"].to_numpy(), train["item"].to_numpy()))


def test_what_is_frozen_gets_no_gradient(circle):
    system, rows = before_learning(circle, learning="unfreezing", **THAWED)
    for step, learning in ((0, 0), (1, 0), (2, 1), (4, 2), (6, 3), (8, 4), (19, 4)):
        system.network.zero_grad()
        system.loss_of(rows, step).backward()
        body = system.network.decoder.gpt2
        learns = [any(weight.grad is not None for weight in part.parameters()) for part in (*body.blocks, body.places)]
        assert learns == [learning > 2, learning > 1, learning > 0, learning > 3]
        assert system.network.items.free.grad is not None


@pytest.mark.parametrize("num_layers", [1, 3, 8, 12])
def test_however_many_blocks_there_are_all_learn_in_the_end(num_layers, circle):
    system, rows = before_learning(circle, learning="unfreezing", **THAWED | {"num_layers": num_layers})
    system.loss_of(rows, 0)
    assert not any(weight.requires_grad for weight in system.network.decoder.gpt2.blocks.parameters())
    system.loss_of(rows, 19)
    assert all(weight.requires_grad for weight in system.network.parameters())


# Losses beside the main one -------------------------------------------------------------------------------------------


def info_nce(texts, images):
    """The loss, in loops."""
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
    assert contrast(texts, images, known).item() == pytest.approx(info_nce(texts.numpy(), images.numpy()))
    assert contrast(texts, images.roll(1, 0), known) > 5 * contrast(texts, images, known)
    assert contrast(texts, images, known) == pytest.approx(contrast(images, 7 * texts, known))


@pytest.mark.parametrize("modality", [0, 1])
def test_an_item_of_which_a_modality_is_unknown_is_not_contrasted(modality, circle, features, monkeypatch):
    """Even though its zeros are no zeros any more once all features are standardised."""
    lacking, rows = features.copy(), []
    for item in (5, 9):
        lacking[item, slice(WIDTHS[0]) if modality == 0 else slice(WIDTHS[0], None)] = 0
    monkeypatch.setattr(gpt2rec, "contrast", lambda texts, images, known: rows.append(known) or texts.sum() * 0)
    MMGPT2Rec(features=lacking, dims=WIDTHS, contrast=0.5, **QUICK).fit(circle)
    assert all(known.tolist() == [row for row in range(ITEMS) if row not in (4, 8)] for known in rows)
    lacking[:, : WIDTHS[0]] = 0
    with pytest.raises(ValueError, match="no item has both, text and picture: there is nothing to contrast"):
        MMGPT2Rec(features=lacking, dims=WIDTHS, contrast=0.5, **QUICK).fit(circle)


@pytest.mark.parametrize("known", [[0, 1, 3, 5], [4, 2]])
def test_only_known_items_are_contrasted(known, pairs):
    texts, images, _ = pairs
    wanted = info_nce(texts[known].numpy(), images[known].numpy())
    assert contrast(texts, images, torch.tensor(known)).item() == pytest.approx(wanted)


def test_as_many_items_as_told_are_contrasted_and_others_each_time(pairs, monkeypatch):
    monkeypatch.setattr(gpt2rec, "CONTRASTED", 3)
    texts, images, known = pairs
    subsets = [list(some) for some in combinations(range(6), 3)]
    losses = np.array([info_nce(texts[some].numpy(), images[some].numpy()) for some in subsets])
    torch.manual_seed(0)
    away = np.abs(np.array([contrast(texts, images, known).item() for _ in range(200)])[:, None] - losses)
    assert away.min(1).max() < 1e-9
    assert set(away.argmin(1)) == set(range(len(subsets)))


def test_to_contrast_brings_an_items_text_and_picture_together(circle, features):
    closer = []
    for weight in (0.0, 1.0):
        system = MMGPT2Rec(features=features, dims=WIDTHS, contrast=weight, **SMALL | {"epochs": 10}).fit(circle)
        tokens = system.network.items
        with torch.no_grad():
            texts, images = (F.normalize(part) for part in tokens.fusion.mapped(list(tokens.parts)))
        like = texts @ images.T
        closer.append((like.diagonal().mean(), like.diagonal().mean() - like.mean()))
    for without, contrasted in zip(*closer, strict=True):
        assert contrasted > without + 0.2


@pytest.mark.parametrize("fusion", ["add", "weighted", "attention"])
def test_every_fusion_that_maps_each_modality_can_be_contrasted(fusion, circle, features):
    system = MMGPT2Rec(features=features, dims=WIDTHS, fusion=fusion, contrast=0.5, **QUICK).fit(circle)
    assert system.training.losses[-1] < system.training.losses[0]


def test_alignment_holds_the_vectors_that_are_scored_at_those_that_are_read(circle):
    found = []
    for weight in (0.0, 1.0):
        system = MMGPT2Rec(use_ids=True, tie_weights=False, alignment=weight, **SMALL | {"epochs": 10}).fit(circle)
        vectors = system.network.items().detach()
        found.append(F.cosine_similarity(system.network.decoder.untied.detach(), vectors[:-1]).min())
    assert found[1] > found[0] + 0.2


def test_options_that_do_not_fit_together_are_refused(features):
    given = {"features": features, "dims": WIDTHS}
    with pytest.raises(ValueError, match="MM-GPT2Rec has no first 'item'; it has start, user, nothing"):
        MMGPT2Rec(use_ids=True, first="item")
    with pytest.raises(ValueError, match="MM-GPT2Rec has no learning 'some'; it has all, lora, unfreezing"):
        MMGPT2Rec(use_ids=True, learning="some")
    for change in ({"dims": ()}, {"dims": (10,)}, {"dims": (4, 3, 3)}, {"fusion": "concat"}):
        with pytest.raises(ValueError, match="MM-GPT2Rec: to contrast takes features of two widths, and a fusion"):
            MMGPT2Rec(contrast=0.1, **given | change)
    with pytest.raises(ValueError, match="MM-GPT2Rec: to contrast takes features of two widths"):
        MMGPT2Rec(contrast=0.1, use_ids=True, dims=WIDTHS)
    with pytest.raises(ValueError, match=r"MM-GPT2Rec: tied, .* nothing to align"):
        MMGPT2Rec(alignment=0.1, **given)
    for loss in ("bce", "gbce"):
        with pytest.raises(ValueError, match=f"MM-GPT2Rec: {loss} compares items with items; the end is learnt by ce"):
            MMGPT2Rec(use_ids=True, stop=True, loss=loss)
    with pytest.raises(ValueError, match="MM-GPT2Rec: a table is where free vectors begin: use ids"):
        MMGPT2Rec(table=features, **given)


def test_a_table_of_other_items_or_another_width_is_refused(circle):
    for shape in ((ITEMS, 16), (ITEMS + 1, 8)):
        with pytest.raises(ValueError, match=r"MM-GPT2Rec: a table of shape \(.*\) is not one of \(13, 16\)"):
            MMGPT2Rec(use_ids=True, table=np.ones(shape), **QUICK).fit(circle)


def test_without_biases_the_end_has_none_either(circle):
    system = MMGPT2Rec(use_ids=True, stop=True, use_bias=False, **QUICK).fit(circle)
    assert not system.network.bias.any()


def test_sizes_are_those_of_the_stored_body(stored):
    for folder in stored:
        assert sizes_of(folder) == {"dim": 16, "num_layers": 2, "num_heads": 2}


def test_a_file_that_lacks_a_block_is_refused(stored, tmp_path):
    folder = next(iter(stored))
    shutil.copytree(folder, tmp_path / "short")
    weights = tmp_path / "short" / "model.safetensors"
    save_file({name: weight for name, weight in load_file(weights).items() if ".h.1." not in name}, weights)
    with pytest.raises(ValueError, match="short holds 1 of the 2 blocks of its config"):
        load_body(str(tmp_path / "short"))


def test_a_model_that_is_no_gpt2_is_refused():
    with pytest.raises(ValueError, match="pocket-lm holds a model of type llama, not gpt2"):
        load_body("pocket-lm")


def test_where_nothing_begins_a_history_somebody_must_have_two_items():
    with pytest.raises(ValueError, match="MM-GPT2Rec: no user has a second item to learn, and nothing begins"):
        MMGPT2Rec(use_ids=True, first="nothing", **QUICK).fit(world([[1, 2, 3], [4, 5, 6]]))


# The schedule ---------------------------------------------------------------------------------------------------------


def test_the_schedule_reaches_the_plan():
    plain = MMGPT2Rec(use_ids=True, epochs=30).plan(8, validated=True)
    plan = MMGPT2Rec(use_ids=True, epochs=30, schedule=APPENDIX | {"warmup_steps": 50}).plan(8, validated=True)
    assert (plan.num_restarts, plan.warmup_steps, plan.accumulation_steps, plan.patience) == (3, 50, 2, 5)
    assert (plan.min_delta, plan.mixed_precision) == (0.001, True)
    assert plain.steps == 240
    assert (plan.lr, plan.weight_decay, plan.seed) == (plain.lr, plain.weight_decay, plain.seed)
    # A step of two batches is half of an epoch's: as many epochs, as many epochs between two validations.
    assert (plan.steps, plan.validate_every) == (plain.steps / 2, plain.validate_every / 2)
    assert MMGPT2Rec(use_ids=True, epochs=30, schedule={"accumulation_steps": 2}).plan(7, validated=True).steps == 120


def test_gathered_gradients_take_half_the_steps_and_learn_as_one_batch_of_both(circle):
    """Without dropout, of batches of the same size."""
    quick = QUICK | {"dropout": 0.0}
    twice = MMGPT2Rec(use_ids=True, schedule={"accumulation_steps": 2}, **quick | {"batch_size": 15}).fit(circle)
    whole = MMGPT2Rec(use_ids=True, **quick | {"batch_size": 30}).fit(circle)
    assert len(twice.training.losses) == len(whole.training.losses) == 3
    np.testing.assert_allclose(twice.training.losses, whole.training.losses, rtol=1e-3)


def test_a_schedule_names_what_a_plan_has(circle):
    with pytest.raises(TypeError, match="warm_up"):
        MMGPT2Rec(use_ids=True, schedule={"warm_up": 3}, **QUICK).fit(circle)


# The options of the paper ---------------------------------------------------------------------------------------------

CHANGES = {
    "MM-GPT2Rec": set(),
    "not tied": {"tie_weights"},
    "no token at the start": {"first"},
    "user's token at the start": {"first"},
    "stop token": {"stop"},
    "no biases": {"use_bias"},
    "free table that begins at the features": {"features", "dims", "use_ids", "table"},
    "pretrained body": {"body"},
    "pretrained body, unfreezing": {"body", "learning"},
    "pretrained body, LoRA": {"body", "learning"},
    "random body, LoRA": {"learning"},
    "contrastive loss": {"contrast"},
    "not tied, alignment loss": {"tie_weights", "alignment"},
    "BCE": {"loss"},
    "gBCE": {"loss"},
    "sampled softmax, 3 negatives": {"loss", "num_negatives"},
    "sampled softmax, 256 negatives": {"loss"},
    "1 block": {"num_layers"},
    "4 blocks": {"num_layers"},
    "width 32": {"dim"},
    "width 128": {"dim"},
    "last 12 items": {"max_len"},
    "appendix's schedule": {"schedule"},
    "appendix as printed": {"schedule", "lr", "dropout", "weight_decay", "batch_size", "epochs", "max_len"},
}
"""Name -> what is not as in MM-GPT2Rec."""


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")[0]


@pytest.fixture(scope="module")
def made(shop):
    """Name -> what makes the system."""
    return options(shop, replace(load_settings({}), seed=3))


def test_without_pictures_there_is_every_option_but_the_contrastive_loss(made, shop):
    bare = replace(shop, items=shop.items.remove_columns("image").add_column("image", [None] * shop.num_items))
    bare = replace(bare, items=bare.items.cast(shop.items.features))
    assert list(options(bare, load_settings({}))) == [name for name in made if name != "contrastive loss"]


def test_each_option_differs_in_what_its_name_says_and_in_nothing_else(made, shop):
    systems = {name: make() for name, make in made.items()}
    full = systems["MM-GPT2Rec"]
    shown = [field.name for field in fields(full) if field.init and field.name != "name"]
    differ = {
        name: {field for field in shown if not np.array_equal(getattr(system, field), getattr(full, field))}
        for name, system in systems.items()
    }
    assert differ == CHANGES
    assert [system.name for system in systems.values()] == list(made) == list(CHANGES)
    assert {system.seed for system in systems.values()} == {3}
    assert {system.body for system in systems.values()} == {"", "pocket-gpt2"}
    table = systems["free table that begins at the features"].table
    np.testing.assert_allclose(table, main_directions(full.features, full.dim))


def test_a_body_of_another_size_brings_a_random_one_of_its_size(shop, stored):
    folder = next(iter(stored))
    found = options(shop, replace(load_settings({}), gpt2=folder))
    assert set(found) == {*CHANGES, "random body of its size"}
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2}
    of_its_size = {name for name, make in found.items() if sizes.items() <= make.keywords.items()}
    read = {name for name in found if name.startswith("pretrained body")}
    assert {name for name, make in found.items() if make.keywords.get("body")} == read
    assert of_its_size == read | {"random body, LoRA", "random body of its size"}
    for name in of_its_size:
        found[name](epochs=1, max_len=8).fit(shop.leave_one_out())


@pytest.mark.parametrize("name", CHANGES)
def test_each_option_learns_and_scores(name, made, shop):
    split = shop.leave_one_out()
    quick = {"epochs": 1}
    if "schedule" in CHANGES[name]:  # of an epoch's steps, not many more
        quick["schedule"] = APPENDIX | {"warmup_steps": 1}
    system = made[name](**quick).fit(split)
    scores = system.score(split.queries("test").take(slice(0, 50)))
    assert scores.shape == (50, shop.num_items + 1)
    assert np.isfinite(scores).all()
    assert scores[:, 1:].std() > 0
    if name != "appendix as printed":  # whose rate is too low for an epoch
        assert system.training.losses[-1] < system.training.losses[0]

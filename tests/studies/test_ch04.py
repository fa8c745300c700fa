"""ch04.py: each variant of the decoder is what its name says, trains and scores."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from experiments.ch04 import described_by_reviews
from mmrec_helpers.data.dataset import TEST
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import (
    ABLATIONS,
    APPENDIX,
    build_variant,
    decoder_inputs,
    design_choices,
)

NAMES = """
    MM-GPT2Rec | text only | image only | IDs only | features and IDs | shuffled features | weighted fusion
    | attention fusion | 64 + 64 features, add | 64 + 64 features, concat | untied | SASRec on text and image
"""
NAMES = [name.strip() for name in NAMES.split("|")]
CHANGES = {
    "MM-GPT2Rec": set(),
    "untied": {"tie_weights"},
    "no BOS token": {"bos"},
    "user BOS token": {"bos"},
    "EOS token": {"eos"},
    "no item biases": {"use_bias"},
    "ID embeddings from features": {"use_ids", "id_init"},
    "pretrained backbone": {"backbone"},
    "pretrained backbone, unfreezing": {"backbone", "tuning"},
    "pretrained backbone, LoRA": {"backbone", "tuning"},
    "random backbone, LoRA": {"tuning"},
    "contrastive loss": {"contrastive_weight"},
    "untied, alignment loss": {"tie_weights", "alignment_weight"},
    "BCE": {"loss"},
    "gBCE": {"loss"},
    "sampled softmax, 3 negatives": {"loss", "num_negatives"},
    "sampled softmax, 256 negatives": {"loss"},
    "1 layer": {"num_layers"},
    "4 layers": {"num_layers"},
    "dim 32": {"dim"},
    "dim 128": {"dim"},
    "max_len 12": {"max_len"},
    "appendix's schedule": {"training"},
    "appendix as printed": {"training", "lr", "dropout", "weight_decay", "batch_size", "epochs", "max_len"},
}
"""Name -> in what it differs from MM-GPT2Rec."""


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")[0]


@pytest.fixture(scope="module")
def build(shop):
    """What builds a variant, by its name, on the shop with seed 3."""
    settings = replace(load_settings({}), seed=3)
    inputs, variants = decoder_inputs(shop, settings), ABLATIONS | design_choices(shop, settings)

    def build_by_name(name, **hyperparameters):
        return build_variant(name, variants[name], inputs, settings, **hyperparameters)

    return build_by_name


@pytest.fixture(scope="module")
def ablations(build):
    """Name -> the system, before it is fitted."""
    return {name: build(name, epochs=1) for name in ABLATIONS}


# Ablations ------------------------------------------------------------------------------------------------------------


def test_the_ablations_have_their_names_and_the_seed(ablations):
    assert list(ablations) == NAMES
    assert [system.name for system in ablations.values()] == NAMES
    assert {system.seed for system in ablations.values()} == {3}


def test_each_ablation_differs_in_what_its_name_says(ablations):
    full = ablations["MM-GPT2Rec"]
    both, (text, image) = full.features, full.dims
    assert both.shape[1] == text + image
    assert not both[0].any()
    assert np.array_equal(ablations["text only"].features, both[:, :text])
    assert np.array_equal(ablations["image only"].features, both[:, text:])
    assert ablations["IDs only"].features is None
    assert np.array_equal(ablations["SASRec on text and image"].features, both)
    assert isinstance(ablations["SASRec on text and image"], SASRec)
    assert {name for name, system in ablations.items() if system.use_ids} == {"IDs only", "features and IDs"}
    decoders = {name: system for name, system in ablations.items() if isinstance(system, MMGPT2Rec)}
    assert {name for name, system in decoders.items() if not system.config.tie_weights} == {"untied"}
    fusions = {name: system.config.fusion for name, system in decoders.items() if system.config.fusion != "add"}
    assert fusions == {
        "weighted fusion": "weighted",
        "attention fusion": "attention",
        "64 + 64 features, concat": "concat",
    }
    for name in ("weighted fusion", "attention fusion", "untied", "features and IDs"):
        assert np.array_equal(decoders[name].features, both)
        assert decoders[name].dims == full.dims


def test_shuffled_features_are_the_same_rows_at_other_items(ablations):
    both, shuffled = ablations["MM-GPT2Rec"].features, ablations["shuffled features"].features
    assert not shuffled[0].any()
    assert np.array_equal(np.sort(both[1:], axis=0), np.sort(shuffled[1:], axis=0))
    assert sorted(map(tuple, both)) == sorted(map(tuple, shuffled))
    assert (both[1:] != shuffled[1:]).any(1).mean() > 0.9


def test_as_in_the_paper_both_side_by_side_are_as_wide_as_gpt2(ablations):
    add, identity = ablations["64 + 64 features, add"], ablations["64 + 64 features, concat"]
    for system in (add, identity):
        assert system.dims == (64, 64)
        assert system.dim == system.features.shape[1] == 128
        assert not system.features[0].any()
    assert np.array_equal(add.features, identity.features)


def test_texts_are_encoded_by_what_the_settings_name(ablations, shop):
    inputs = decoder_inputs(shop, load_settings({"MMREC_MODELS": "text=pocket-sbert"}))
    for name in ("MM-GPT2Rec", "text only", "64 + 64 features, add"):
        features, other = inputs[ABLATIONS[name].inputs]["features"], ablations[name].features
        assert features.shape == other.shape
        assert not np.array_equal(features, other)
    both, dim = inputs["both"]["features"], ablations["text only"].features.shape[1]
    assert np.array_equal(both[:, dim:], ablations["MM-GPT2Rec"].features[:, dim:])


@pytest.mark.parametrize("name", NAMES)
def test_each_ablation_learns_and_scores(name, ablations, shop):
    split = shop.leave_one_out()
    system = ablations[name].fit(split)
    scores = system.score(split.queries("test").take(slice(0, 50)))
    assert scores.shape == (50, shop.num_items + 1)
    assert np.isfinite(scores).all()
    assert scores[:, 1:].std() > 0
    assert system.training.losses[-1] < system.training.losses[0]


# Design choices -------------------------------------------------------------------------------------------------------


def test_without_images_there_is_every_choice_but_the_contrastive_loss(shop):
    bare = replace(shop, items=shop.items.remove_columns("image").add_column("image", [None] * shop.num_items))
    bare = replace(bare, items=bare.items.cast(shop.items.features))
    assert list(design_choices(bare, load_settings({}))) == [name for name in CHANGES if name != "contrastive loss"]


def test_each_choice_differs_in_what_its_name_says_and_in_nothing_else(build, shop):
    systems = {name: build(name) for name in design_choices(shop, load_settings({}))}
    full = systems["MM-GPT2Rec"]
    hyperparameters = [item.name for item in fields(full) if item.init and item.name not in ("name", "config")]

    def differences(one, other, names):
        return {name for name in names if not np.array_equal(getattr(one, name), getattr(other, name))}

    choices = [item.name for item in fields(MMGPT2Config)]
    found = {
        name: differences(system, full, hyperparameters) | differences(system.config, full.config, choices)
        for name, system in systems.items()
    }
    assert found == CHANGES
    assert [system.name for system in systems.values()] == list(CHANGES)
    assert {system.seed for system in systems.values()} == {3}
    assert {system.config.backbone for system in systems.values()} == {"", "pocket-gpt2"}


def test_a_backbone_of_another_size_adds_a_random_one_of_its_size(shop, tmp_path):
    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=12, vocab_size=20)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    settings = load_settings({"MMREC_MODELS": f"gpt2={tmp_path}"})
    choices, inputs = design_choices(shop, settings), decoder_inputs(shop, settings)
    assert set(choices) == {*CHANGES, "random backbone of its size"}
    quick = {"epochs": 1, "max_len": 8}
    systems = {name: build_variant(name, choice, inputs, settings, **quick) for name, choice in choices.items()}
    sizes = {name: (system.dim, system.num_layers, system.num_heads) for name, system in systems.items()}
    pretrained = {name for name in choices if name.startswith("pretrained backbone")}
    assert {name for name, system in systems.items() if system.config.backbone == str(tmp_path)} == pretrained
    of_its_size = pretrained | {"random backbone, LoRA", "random backbone of its size"}
    assert {name for name, size in sizes.items() if size == (16, 2, 2)} == of_its_size
    for name in of_its_size:
        systems[name].fit(shop.leave_one_out())


@pytest.mark.parametrize("name", CHANGES)
def test_each_choice_learns_and_scores(name, build, shop):
    split, system = shop.leave_one_out(), build(name, epochs=1)
    if system.config.training:  # an epoch has not many more steps
        system.config = replace(system.config, training=APPENDIX | {"warmup_steps": 1})
    system.fit(split)
    scores = system.score(split.queries("test").take(slice(0, 50)))
    assert scores.shape == (50, shop.num_items + 1)
    assert np.isfinite(scores).all()
    assert scores[:, 1:].std() > 0
    if name != "appendix as printed":  # whose learning rate is too low for one epoch
        assert system.training.losses[-1] < system.training.losses[0]


# Reviews --------------------------------------------------------------------------------------------------------------


def test_reviews_in_place_of_descriptions_are_those_of_the_training_part_or_all(shop):
    split = shop.leave_one_out()
    some, every = (described_by_reviews(split, every) for every in (False, True))
    for told, frame in ((some, split.interactions("train")), (every, shop.interactions)):
        assert told.items.features == shop.items.features
        assert told.items["title"] == shop.items["title"]
        for item in (1, shop.num_items):
            known = frame.loc[(frame["item"] == item) & frame["review"].notna(), "review"]
            assert told.items["description"][item - 1] == " ".join(known)
    assert sum(map(len, every.items["description"])) > sum(map(len, some.items["description"])) > 0
    asked = shop.interactions[split.part == TEST].dropna(subset="review")
    own = [
        (every.items["description"][item - 1], text) for item, text in zip(asked["item"], asked["review"], strict=True)
    ]
    assert all(text in told for told, text in own)

"""illm_variants.py: each variant is what its name says."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from experiments import illm_variants
from experiments.illm_variants import VARIANTS, build_variant, collaborative_features
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import load_settings

CHANGES = {
    "TALLRec": {"expression"},
    "A-LLMRec": {"expression"},
    "TRSR": {"expression", "summaries"},
    "full description": {"expression"},
    "UniMP": {"expression", "vocabulary"},
    "I-LLMRec": set(),
    "I-LLMRec+D": {"expression", "summaries"},
    "title alone": {"expression"},
    "no LLM": {"llm"},
    "random LLM": {"random_llm"},
    "shuffled images": {"image"},
    "shuffled images in the prompt": {"expression"},
    "TALLRec, items without image features": {"expression", "kinds"},
    "TRSR, items without image features": {"expression", "summaries", "kinds"},
    "image, no ILA": {"alignment", "kinds"},
    "image": {"kinds"},
    "CF": {"kinds"},
    "image and CF": {"kinds"},
    "text": {"kinds"},
    "image and text": {"kinds"},
    "CF and text": {"kinds"},
    "all, no ILA": {"alignment"},
    "BCE": {"loss"},
    "as released": {"loss", "as_released"},
    "LoRA": {"lora"},
    "random LLM, LoRA": {"lora", "random_llm"},
    "two stages": {"two_stage"},
    "three times the epochs": {"epochs"},
    "half of the images missing": {"imageless", "image"},
    "pocket-siglip": {"image"},
    "pocket-resnet": {"image"},
    "pocket-gpt2": {"llm"},
}
"""Name -> in what it differs from I-LLMRec; ``image`` are the features of that kind."""


@pytest.fixture(scope="module")
def split():
    return load_shop(0)[0].leave_one_out()


@pytest.fixture
def build(split, monkeypatch):
    """A variant, with random features in place of the encoders'."""

    def vectors(of, rows):
        return np.random.default_rng(len(of)).standard_normal((rows, 8)).astype(np.float32)

    num_items = split.dataset.num_items
    monkeypatch.setattr(illm_variants, "image_features", lambda dataset, encoder: vectors(encoder, num_items + 1))
    monkeypatch.setattr(illm_variants, "text_features", lambda dataset, encoder: vectors(encoder, num_items + 1))
    monkeypatch.setattr(illm_variants, "replaced_by_texts", lambda images, *_: images + 1)
    monkeypatch.setattr(illm_variants, "summarise", lambda dataset, llm: ["a summary"] * (num_items + 1))
    cf, settings = vectors("sasrec", num_items + 1), replace(load_settings(), seed=2)
    return lambda name: build_variant(name, VARIANTS[name], split, cf, settings, lr=0.5)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_differs_in_what_its_name_says(name, build):
    system, base = build(name), build("I-LLMRec")
    own = [one.name for one in fields(ILLMRec) if one.init and one.name not in ("name", "features")]
    changed = {one for one in own if getattr(system, one) != getattr(base, one)}
    changed |= {kind for kind in base.features if not np.array_equal(system.features[kind], base.features[kind])}
    assert changed == CHANGES[name]
    assert (system.name, system.seed, system.lr) == (name, 2, 0.5)


def test_shuffled_images_are_those_of_other_items(build):
    own, shuffled = (build(name).features["image"] for name in ("I-LLMRec", "shuffled images"))
    assert sorted(map(tuple, own)) == sorted(map(tuple, shuffled))
    assert (own[1:] != shuffled[1:]).any(1).mean() > 0.99
    in_prompt = build("shuffled images in the prompt").features
    assert np.array_equal(in_prompt["image"], own)
    assert np.array_equal(in_prompt["another image"], shuffled)


def test_half_of_the_items_lose_their_image_to_their_text(split, monkeypatch):
    texts = []

    class Encoded:
        def __init__(self, given, encoder):
            texts.extend(given)
            self.vectors = torch.full((len(given), 8), 7.0)

    monkeypatch.setattr(illm_variants, "embed_texts", Encoded)
    dataset, images = split.dataset, np.zeros((split.dataset.num_items + 1, 8))
    items = illm_variants.missing_images(dataset, np.random.default_rng(0))
    replaced = illm_variants.replaced_by_texts(images, dataset, items, "pocket-clip")
    assert len(set(items)) == dataset.num_items // 2
    assert min(items) > 0
    assert texts == [dataset.column("description")[item] for item in items]
    assert np.array_equal(replaced.any(1), np.isin(np.arange(len(images)), items))
    assert not images.any()


def test_collaborative_features_are_the_items_embeddings(split, monkeypatch):
    fitted = []
    fit = SASRec.fit
    monkeypatch.setattr(SASRec, "fit", lambda self, own: fitted.append(fit(self, own)) or fitted[0])
    features = collaborative_features(split, epochs=1, dim=8)
    assert features.shape == (split.dataset.num_items + 1, 8)
    assert not features[0].any()
    item_embedding = fitted[0].network.item_embedding()[: split.dataset.num_items]
    assert np.array_equal(features[1:], item_embedding.detach().numpy())

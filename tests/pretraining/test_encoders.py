"""pretraining/encoders.py: which text is beside which picture, and the losses of the libraries."""

import numpy as np
import pytest
import torch

from pretraining import encoders
from pretraining.corpus import sample_corpus, split_sentences


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(encoders, "BATCH_SIZE", 8)


def test_words_are_those_of_the_picture_beside_them(corpus):
    few = 0
    for seed in range(40):
        rows, words = encoders.sample_pairs(corpus, np.random.default_rng(seed))
        assert len(set(rows)) == encoders.BATCH_SIZE
        for row, text in zip(rows, words, strict=True):
            facts = corpus.facts[row]
            beside = text in corpus.descriptions[row] or text == corpus.titles[row]
            assert beside or set(text.replace("photo of a", "").split()) & set(facts.values())
        few += len({corpus.facts[row]["category"] for row in rows}) <= 2
    assert 10 < few < 30  # half of the batches


def test_two_halves_share_no_sentence_and_lose_none(corpus):
    for row in range(30):
        first, second = (
            set(split_sentences(half)) for half in encoders.sample_halves(corpus, row, np.random.default_rng(row))
        )
        assert not first & second
        whole = " ".join(first | second)
        assert all(part in whole for part in split_sentences(corpus.descriptions[row]))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_losses_are_those_of_the_library(corpus, kind):
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    tokenizer = encoders.train_tokenizer(corpus.titles, 16)
    torch.manual_seed(0)
    config = encoders.dual_encoder_configs(tokenizer)
    model = CLIPModel(CLIPConfig(**config)) if kind == "clip" else SiglipModel(SiglipConfig(**config))
    tokens = tokenizer(corpus.titles[:6], truncation=True, max_length=16, padding="max_length", return_tensors="pt")
    tokens.pop("token_type_ids", None)
    if kind == "siglip":
        tokens.pop("attention_mask")
    pictures = encoders.pixel_values(corpus.pixels[:6])
    given = model(**tokens, pixel_values=pictures, return_loss=True)
    torch.testing.assert_close(encoders.contrastive_loss(model, tokens, pictures), given.loss)


def test_siglip_begins_with_the_layers_of_clip(corpus):
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    tokenizers = [encoders.train_tokenizer(corpus.titles, length) for length in (16, 12)]
    torch.manual_seed(0)
    clip = CLIPModel(CLIPConfig(**encoders.dual_encoder_configs(tokenizers[0])))
    siglip = SiglipModel(SiglipConfig(**encoders.dual_encoder_configs(tokenizers[1])))
    head = siglip.vision_model.head.probe.clone()
    encoders.copy_layers(clip, siglip)
    for side in ("vision_model", "text_model"):
        layers = [getattr(model, side).encoder.layers.state_dict() for model in (clip, siglip)]
        assert all(torch.equal(layers[0][name], layers[1][name]) for name in layers[0])
    positions = [model.text_model.embeddings.position_embedding.weight for model in (clip, siglip)]
    assert torch.equal(positions[0][:12], positions[1])
    assert torch.equal(siglip.vision_model.head.probe, head)

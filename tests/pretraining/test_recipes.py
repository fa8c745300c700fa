"""pretraining/__main__.py: each recipe runs through, on a small world, and its folder loads."""

import json

import numpy as np
import pytest
import torch

from mmrec_helpers.encoders import checkpoints
from mmrec_helpers.encoders.features import embed_images, embed_texts
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec, load_backbone
from pretraining import encoders, language, measure, train
from pretraining.__main__ import RECIPES
from pretraining.corpus import sample_corpus
from pretraining.measure import ENCODERS, images_of, measure_vision_language_model


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


@pytest.fixture(scope="module")
def weights(corpus, tmp_path_factory):
    """The folder in which all recipes have left their models, after three steps each."""
    root = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        for module in (encoders, language):
            patch.setattr(module, "training_corpus", lambda: corpus)
        for module in (encoders, language, train, checkpoints):
            patch.setattr(module, "WEIGHTS", root)
        patch.setattr(encoders, "BATCH_SIZE", 8)
        patch.setattr(language, "NUM_IMAGES", 2)
        for name, (recipe, _) in RECIPES.items():
            recipe(name, 3)
    return root


def test_there_is_a_recipe_for_each_pocket_model(weights):
    assert set(RECIPES) == set(checkpoints.POCKET)
    assert {path.name for path in weights.iterdir() if path.is_dir()} == set(checkpoints.POCKET)


@pytest.mark.parametrize("name", checkpoints.POCKET)
def test_a_folder_has_its_stamp_and_no_trace_of_this_machine(weights, name):
    assert json.loads((weights / name / "stamp.json").read_text())["minutes"] >= 0
    for folder in (weights / name, checkpoints.WEIGHTS / name):
        texts = [path.read_text() for path in folder.glob("*.json") if path.name != "tokenizer.json"]
        assert not [text for text in texts if str(weights) in text or "/home/" in text or "/weights/" in text]


@pytest.mark.parametrize("name", [name for name, use in checkpoints.POCKET.items() if use in ENCODERS])
def test_an_encoder_loads_and_its_vectors_are_numbers(weights, corpus, name):
    if "images" in checkpoints.POCKET[name]:
        assert embed_images(images_of(corpus)[:3], weights / name).vectors.isfinite().all()
    if "texts" in checkpoints.POCKET[name]:
        assert embed_texts(corpus.titles[:3], weights / name).vectors.isfinite().all()


def test_the_language_models_load_and_write(weights, corpus, monkeypatch):
    monkeypatch.setattr(checkpoints, "WEIGHTS", weights)
    model = language.LlamaForCausalLM.from_pretrained(weights / "pocket-lm", dtype=torch.float32)
    tokenizer = language.AutoTokenizer.from_pretrained(weights / "pocket-lm")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is it?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**chat, max_new_tokens=3, do_sample=False).shape[1] > chat["input_ids"].shape[1]
    assert set(measure_vision_language_model("pocket-vlm", corpus).values()) <= {share / 240 for share in range(241)}


def stored(weights):
    """The GPT-2 of three steps, and the one that comes with the book."""
    return weights / "pocket-gpt2", checkpoints.WEIGHTS / "pocket-gpt2"


def test_gpt2_is_the_librarys_and_the_item_decoders(weights):
    for folder in stored(weights):
        theirs = language.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
        backbone, words = load_backbone(folder).eval(), theirs.transformer.wte.weight
        rows = torch.randint(len(words), (3, language.ROW_LEN), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = theirs(input_ids=rows).logits
            torch.testing.assert_close(backbone(words[rows]) @ words.T, logits, atol=1e-4, rtol=1e-4)
        assert logits.std() > 0.1


def test_gpt2_reads_the_tokens_of_pocket_lm_and_fits_the_item_decoder(weights):
    for folder in stored(weights):
        own, theirs = (language.AutoTokenizer.from_pretrained(path) for path in (folder, folder.parent / "pocket-lm"))
        assert own.get_vocab() == theirs.get_vocab()
        backbone = load_backbone(folder)
        assert backbone.positions.weight.shape == (language.ROW_LEN, MMGPT2Rec.dim)
        assert len(backbone.blocks) == MMGPT2Rec.num_layers
        assert {block.attention.num_heads for block in backbone.blocks} == {MMGPT2Rec.num_heads}


def test_the_perplexity_of_gpt2_is_that_of_one_text_at_a_time(corpus, monkeypatch):
    """What stands beside a text in its batch changes nothing, and of a long one the first positions count."""
    texts = ["a mug", corpus.descriptions[0], " ".join(corpus.descriptions[:40])]
    monkeypatch.setattr(measure, "texts_and_reviews", lambda world: [text for text in texts for _ in range(4)])
    folder = checkpoints.WEIGHTS / "pocket-gpt2"
    model = language.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer, losses, counts = language.AutoTokenizer.from_pretrained(folder), [], []
    for text in texts:
        row = torch.tensor([tokenizer(f"<s> {text}</s>", add_special_tokens=False)["input_ids"][: language.ROW_LEN]])
        with torch.no_grad():
            losses.append(model(input_ids=row, labels=row).loss.item())
        counts.append(row.shape[1] - 1)
    assert counts[-1] == language.ROW_LEN - 1
    found = measure.measure("pocket-gpt2", corpus, corpus)
    wanted = np.exp(np.average(losses, weights=counts))
    assert found == {"perplexity of texts, a token": pytest.approx(wanted, rel=1e-4)}
    assert measure.measure_control("pocket-gpt2", corpus, corpus) == {}


def test_the_viewer_keeps_the_eyes_of_clip(weights):
    eyes = language.CLIPVisionModel.from_pretrained(weights / "pocket-clip", dtype=torch.float32).state_dict()
    viewer = language.LlavaForConditionalGeneration.from_pretrained(weights / "pocket-vlm", dtype=torch.float32)
    kept = viewer.model.vision_tower.state_dict()
    assert all(torch.equal(eyes[name], kept[name]) for name in eyes)

"""pretrained/recipe.py: each recipe runs through, on a small world, and its folder loads."""

import json

import pytest
import torch

from mmrec_helpers import checkpoints
from mmrec_helpers.encoders import embed_pictures, embed_texts
from mmrec_helpers.pretrained import fitting, language, towers
from mmrec_helpers.pretrained.corpus import draw_corpus
from mmrec_helpers.pretrained.measure import measure_viewer, pictures_of
from mmrec_helpers.pretrained.recipe import RECIPES


@pytest.fixture(scope="module")
def corpus():
    return draw_corpus((77,), "tiny")


@pytest.fixture(scope="module")
def weights(corpus, tmp_path_factory):
    """The folder in which all recipes have left their models, after three steps each."""
    root = tmp_path_factory.mktemp("weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMREC_CACHE", str(tmp_path_factory.mktemp("cache")))
        for module in (towers, language):
            patch.setattr(module, "training_corpus", lambda: corpus)
        for module in (towers, language, fitting, checkpoints):
            patch.setattr(module, "WEIGHTS", root)
        patch.setattr(towers, "BATCH", 8)
        patch.setattr(language, "VIEWS", 2)
        for name, (recipe, _) in RECIPES.items():
            recipe(name, 3)
    return root


def test_there_is_a_recipe_for_each_pocket_model(weights):
    assert set(RECIPES) == set(checkpoints.POCKET)
    assert {path.name for path in weights.iterdir()} == set(checkpoints.POCKET)


@pytest.mark.parametrize("name", checkpoints.POCKET)
def test_a_folder_has_its_stamp_and_no_trace_of_this_machine(weights, name):
    assert json.loads((weights / name / "stamp.json").read_text())["minutes"] >= 0
    for folder in (weights / name, checkpoints.WEIGHTS / name):
        texts = [path.read_text() for path in folder.glob("*.json") if path.name != "tokenizer.json"]
        assert not [text for text in texts if str(weights) in text or "/home/" in text or "/weights/" in text]


@pytest.mark.parametrize("name", [name for name, use in checkpoints.POCKET.items() if "chat" not in use])
def test_an_encoder_loads_and_its_vectors_are_numbers(weights, corpus, name):
    if "pictures" in checkpoints.POCKET[name]:
        assert embed_pictures(pictures_of(corpus)[:3], weights / name).vectors.isfinite().all()
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
    assert set(measure_viewer("pocket-vlm", corpus).values()) <= {share / 240 for share in range(241)}


def test_the_viewer_keeps_the_eyes_of_clip(weights):
    eyes = language.CLIPVisionModel.from_pretrained(weights / "pocket-clip", dtype=torch.float32).state_dict()
    viewer = language.LlavaForConditionalGeneration.from_pretrained(weights / "pocket-vlm", dtype=torch.float32)
    kept = viewer.model.vision_tower.state_dict()
    assert all(torch.equal(eyes[name], kept[name]) for name in eyes)

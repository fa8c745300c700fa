"""settings.py: the environment is read once, and a wrong value is named."""

from pathlib import Path

import pytest

from mmrec_helpers.settings import diagnose, load_settings


def test_defaults_are_the_laptop_profile_on_the_pocket_shop():
    settings = load_settings({"XDG_CACHE_HOME": "somewhere"})
    assert (settings.profile, settings.data, settings.device) == ("laptop", "pocket", "cpu")
    assert settings.shop_size == "laptop"
    assert settings.cache == Path("somewhere/mmrec")


def test_a_variable_that_is_set_to_nothing_is_not_set():
    assert load_settings({"MMREC_DATA": ""}).data == "pocket"


def test_cache_folder_can_be_set():
    assert load_settings({"MMREC_CACHE": "~/here"}).cache == Path.home() / "here"


def test_encoders_are_pocket_models_unless_named():
    settings = load_settings({"MMREC_SIGLIP": ""})
    assert (settings.clip, settings.siglip) == ("pocket-clip", "pocket-siglip")
    named = load_settings({"MMREC_CLIP": "openai/clip-vit-base-patch32", "MMREC_SIGLIP": "models/mine"})
    assert (named.clip, named.siglip) == ("openai/clip-vit-base-patch32", "models/mine")


def test_chapter_4s_models_can_be_named():
    settings = load_settings({})
    assert (settings.text, settings.gpt2) == ("tfidf", "pocket-gpt2")
    named = load_settings({"MMREC_TEXT": "minilm", "MMREC_GPT2": "openai-community/gpt2-medium"})
    assert (named.text, named.gpt2) == ("minilm", "openai-community/gpt2-medium")


@pytest.mark.parametrize("variable", ["MMREC_PROFILE", "MMREC_DATA"])
def test_unknown_value_is_named_with_its_variable(variable):
    with pytest.raises(ValueError, match=rf"{variable} is 'toaster'"):
        load_settings({variable: "toaster"})


@pytest.mark.parametrize("data", ["folder", "folder:", "folder: ", "csv:here", "pocket:here"])
def test_data_of_no_known_form_is_refused(data):
    with pytest.raises(ValueError, match=r"write pocket .*, or one of folder:PATH, amazon:PATH, microlens:PATH"):
        load_settings({"MMREC_DATA": data})


def test_gpu_profile_uses_the_large_shop():
    assert load_settings({"MMREC_PROFILE": "gpu"}).shop_size == "gpu"


def test_diagnosis_is_one_line():
    line = diagnose(load_settings({}))
    assert "\n" not in line
    assert "profile laptop" in line

"""settings.py: the environment is read once, and a wrong value is named."""

import re
from pathlib import Path

import pytest

from mmrec_helpers.settings import PROFILES, diagnose, load_settings


def test_defaults_are_the_laptop_profile_on_the_pocket_shop():
    settings = load_settings({"XDG_CACHE_HOME": "somewhere"})
    assert (settings.profile, settings.data, settings.device) == ("laptop", "pocket", "cpu")
    assert settings.shop_size == "laptop"
    assert settings.cache == Path("somewhere/mmrec")


def test_a_variable_that_is_set_to_nothing_is_not_set():
    assert load_settings({"MMREC_DATA": ""}).data == "pocket"


def test_cache_folder_can_be_set():
    assert load_settings({"MMREC_CACHE": "~/here"}).cache == Path.home() / "here"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_names_a_model_for_every_role(profile):
    assert load_settings({"MMREC_PROFILE": profile, "MMREC_MODELS": ""}).models == PROFILES[profile]
    assert list(PROFILES[profile]) == list(PROFILES["laptop"])


def test_models_are_pocket_models_unless_named():
    models = load_settings({}).models
    assert all(name.startswith("pocket-") or name == "tfidf" for name in models.values())
    changed = load_settings({"MMREC_MODELS": "clip=openai/clip-vit-base-patch32, text = minilm,"}).models
    assert changed == models | {"clip": "openai/clip-vit-base-patch32", "text": "minilm"}
    assert load_settings({}).models == models  # the profile's table is not changed


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("clap=laion/clap", r"MMREC_MODELS has 'clap=laion/clap'; .* the roles clip, siglip, text, gpt2, llm"),
        ("clip", r"MMREC_MODELS has 'clip'; write ROLE=MODEL"),
        ("text=minilm,clip=", r"MMREC_MODELS has 'clip='; write ROLE=MODEL"),
        ("text=minilm,text=tfidf", r"MMREC_MODELS names two models for text, 'minilm' and 'tfidf'; leave one"),
    ],
)
def test_a_faulty_list_of_models_is_refused_with_its_entry(text, fault):
    with pytest.raises(ValueError, match=fault):
        load_settings({"MMREC_MODELS": text})


@pytest.mark.parametrize("name", [*(role.upper() for role in PROFILES["laptop"]), "MODEL", "CACHE_DIR", "SEED"])
def test_a_variable_that_is_not_read_is_not_ignored(name):
    assert load_settings({f"MMREC_{name}": ""}) == load_settings({"MMREC_DATA_HOME": "/data"})
    with pytest.raises(ValueError, match=rf"MMREC_{name} is not read; there are MMREC_PROFILE, .*ROLE=MODEL"):
        load_settings({f"MMREC_{name}": "mine"})


def test_a_cache_in_the_home_of_nobody_is_refused():
    with pytest.raises(ValueError, match="no home folder for ~nobody-of-this-name/x: set MMREC_CACHE"):
        load_settings({"MMREC_CACHE": "~nobody-of-this-name/x"})


def test_settings_are_compared_with_their_models():
    settings, same = load_settings({"MMREC_MODELS": "text=tfidf", "TQDM_DISABLE": "1"}), load_settings({})
    assert settings == same
    assert len({settings, same}) == 1
    assert settings != load_settings({"MMREC_MODELS": "text=minilm"})


@pytest.mark.parametrize("variable", ["MMREC_PROFILE", "MMREC_DATA"])
def test_unknown_value_is_named_with_its_variable(variable):
    with pytest.raises(ValueError, match=rf"{variable} is 'toaster'"):
        load_settings({variable: "toaster"})


@pytest.mark.parametrize("data", ["folder", "folder:", "folder: ", "csv:here", "pocket:here"])
def test_data_of_no_known_form_is_refused(data):
    with pytest.raises(ValueError, match=r"write pocket .*, or one of folder:PATH, amazon:PATH, microlens:PATH"):
        load_settings({"MMREC_DATA": data})


@pytest.mark.parametrize("profile", PROFILES)
def test_the_gpu_profile_alone_uses_the_large_shop(profile):
    assert load_settings({"MMREC_PROFILE": profile}).shop_size == ("gpu" if profile == "gpu" else "laptop")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_but_the_laptop_uses_a_gpu_where_there_is_one(profile, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert load_settings({"MMREC_PROFILE": profile}).device == ("cpu" if profile == "laptop" else "cuda")


@pytest.mark.parametrize("role", PROFILES["laptop"])
def test_the_page_on_profiles_names_each_model(root, role):
    page = (root / "book" / "how-to-use.md").read_text()
    (row,) = re.findall(rf"^\| `{role}` \|.*", page, re.MULTILINE)
    assert re.findall(r"\| `([^`]+)` (?=\|)", row)[1:] == [PROFILES[name][role] for name in ("laptop", "real", "paper")]


def test_diagnosis_is_one_line():
    line = diagnose(load_settings({}))
    assert "\n" not in line
    assert "profile laptop" in line

import json
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mmrec_helpers.encoders import packages
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.encoders.features import embed_images, embed_texts
from mmrec_helpers.encoders.models import load_encoder

ROOT = Path(__file__).parents[2]


def is_installed(name):
    try:
        return bool(version(packages.PACKAGES[name].distribution)) and (name != "smollm2" or bool(version("gguf")))
    except PackageNotFoundError:
        return False


needs = {
    name: pytest.mark.skipif(not is_installed(name), reason=f"{name} is not installed: `make real` installs it")
    for name in packages.PACKAGES
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A model in a package of its own, and how its file and its version are changed."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path / "cache"))
    installed = SimpleNamespace(version="1.0", locate_file=lambda path: tmp_path / "site" / path, conversions=0)

    def convert(source, folder):
        installed.conversions += 1
        (folder / "config.json").write_text(source.read_text())
        (folder / "model.safetensors").write_bytes(b"weights")

    monkeypatch.setitem(packages.PACKAGES, "toy", packages.Package("toy-model", "1.0", "toy/model.bin", convert))
    monkeypatch.setattr(packages, "distribution", lambda name: installed)
    (tmp_path / "site" / "toy").mkdir(parents=True)
    (tmp_path / "site" / "toy" / "model.bin").write_text("{}")
    return installed


def test_a_model_is_converted_once(package):
    folder = find_checkpoint("toy")
    assert find_checkpoint("toy") == folder
    assert package.conversions == 1
    assert (folder / "config.json").read_text() == "{}"


@pytest.mark.parametrize("damage", ["model.safetensors", "config.json", packages.CONVERTED])
def test_a_damaged_conversion_is_made_again(package, damage):
    folder = find_checkpoint("toy")
    (folder / damage).write_text("other")
    assert (find_checkpoint("toy") / "model.safetensors").read_bytes() == b"weights"
    assert package.conversions == 2


def test_another_version_is_refused(package):
    package.version = "2.0"
    with pytest.raises(ValueError, match=r"toy needs toy-model 1\.0, and 2\.0 is installed; run `make real`"):
        find_checkpoint("toy")


def test_a_package_without_its_file(package, tmp_path):
    (tmp_path / "site" / "toy" / "model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.bin is missing from its package; .* `make real`"):
        find_checkpoint("toy")


def test_no_space(package, monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(OSError, match=r"toy-1\.0 cannot be written .* MMREC_CACHE"):
        find_checkpoint("toy")


@pytest.mark.parametrize("name", packages.PACKAGES)
def test_not_installed(name, monkeypatch):
    def missing(distribution):
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(packages, "distribution", missing)
    with pytest.raises(FileNotFoundError, match=rf"{name} needs the package .*; `make real` installs it"):
        find_checkpoint(name)


def test_the_extra_has_the_versions_that_are_known():
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["real"]
    assert {f"{package.distribution}=={package.version}" for package in packages.PACKAGES.values()} < set(extra)


@pytest.mark.parametrize("name", ["lite0", "smollm2"])
@pytest.mark.parametrize("content", [b"", b"GGUF" + bytes(1000), b"\x80\x02."])
def test_damaged_files(name, content, tmp_path):
    if name == "smollm2" and not is_installed(name):
        pytest.skip("gguf is not installed: `make real` installs it")
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*model\.gguf is damaged .* `make real`"):
        packages.PACKAGES[name].convert(tmp_path / "model.gguf", tmp_path)


def tiny_llama():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(vocab_size=2048, **sizes))


@pytest.mark.parametrize("chat_template", ["", "{{ messages }}"])
def test_a_model_without_chat_template_or_with_damaged_weights(chat_template, monkeypatch, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(find_checkpoint("pocket-lm"))
    tokenizer.chat_template = chat_template
    monkeypatch.setattr(packages, "_distribution", lambda *names: None)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda folder, gguf_file: tiny_llama())
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda folder, gguf_file: tokenizer)
    fault = "has a perplexity of .* so it is damaged" if chat_template else "has no chat template"
    with pytest.raises(ValueError, match=rf"smollm2: .* {fault}; install it again by `make real`"):
        packages.convert_smollm2(tmp_path / "model.gguf", tmp_path)
    assert not list(tmp_path.iterdir())


# The models themselves ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images():
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (90, 60, 3), np.uint8)) for _ in range(3)]


@needs["lite0"]
def test_lite0_has_the_published_tensors(images):
    package = packages.PACKAGES["lite0"]
    source = packages.distribution(package.distribution).locate_file(package.path)
    published = torch.load(source, weights_only=True)
    converted = load_file(find_checkpoint("lite0") / "model.safetensors")
    assert len(converted) == len(published)
    assert sum(float(t.double().abs().sum()) for t in converted.values()) == pytest.approx(
        sum(float(t.double().abs().sum()) for t in published.values())
    )
    encoder = load_encoder("lite0")
    vectors = embed_images(images, encoder).vectors
    assert vectors.shape == (3, 1280)
    stages = encoder.stages(images)
    assert stages.shape == (3, 16 + 24 + 40 + 112 + 320 + 1280)
    torch.testing.assert_close(stages[:, -1280:], vectors)


@needs["minilm"]
def test_minilm_knows_what_texts_are_about():
    vectors = embed_texts(
        ["A dog runs on the beach.", "A puppy plays in the sand.", "Interest rates rose."], "minilm"
    ).vectors
    similarity = vectors @ vectors.T
    assert similarity[0, 1] > similarity[0, 2] + 0.3


@needs["smollm2"]
def test_smollm2_is_a_plain_llama():
    folder = find_checkpoint("smollm2")
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert sum(weight.numel() for weight in model.parameters()) == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)

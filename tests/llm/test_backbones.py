"""backbones.py: sizes and weights of pretrained GPT-2 files, and the models that are refused."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from mmrec_helpers.llm.backbones import backbone_sizes, backbone_weights


@pytest.fixture(scope="module", params=[GPT2LMHeadModel, GPT2Model], ids=["with prefix", "without prefix"])
def stored(request, tmp_path_factory):
    """A folder with a GPT-2 of 2 blocks, stored in half precision, and the model."""
    torch.manual_seed(0)
    config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=12, vocab_size=20)
    model = request.param(config).half()
    folder = tmp_path_factory.mktemp("backbones") / "small"
    model.save_pretrained(folder)
    return folder, model


def test_sizes_are_those_of_the_stored_model(stored):
    assert backbone_sizes(str(stored[0])) == {"dim": 16, "num_layers": 2, "num_heads": 2}


def test_weights_are_those_of_the_stored_model_in_single_precision(stored):
    folder, model = stored
    weights, expected = backbone_weights(str(folder)), model.state_dict()
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert set(weights) <= set(expected)
    assert len(weights) > 20
    for name, weight in weights.items():
        assert torch.equal(weight, expected[name].float())


def test_a_file_that_lacks_a_block_is_refused(stored, tmp_path):
    shutil.copytree(stored[0], tmp_path / "short")
    weights = tmp_path / "short" / "model.safetensors"
    save_file({name: weight for name, weight in load_file(weights).items() if "h.1." not in name}, weights)
    with pytest.raises(ValueError, match="short contains 1 of the 2 blocks of its config"):
        backbone_weights(str(tmp_path / "short"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", ["[]", "", '{"model_type": "gpt2"}'])
def test_a_damaged_folder_is_named(stored, tmp_path, name, content):
    shutil.copytree(stored[0], tmp_path / "short")
    (tmp_path / "short" / name).write_text(content)
    with pytest.raises(ValueError, match=f"{tmp_path}/short.*fetch it again"):
        backbone_weights(str(tmp_path / "short"))


def test_a_model_that_is_not_gpt2_is_refused():
    for read in (backbone_sizes, backbone_weights):
        with pytest.raises(ValueError, match="pocket-lm contains a model of type llama, not gpt2"):
            read("pocket-lm")

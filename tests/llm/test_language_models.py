"""language_models.py: any causal LM in hub layout, frozen, padded at the right; and what is refused."""

import shutil

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.llm.language_models import load_language_model, randomly_initialised

SIZES = {"vocab_size": 2_048, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LLAMA = {**SIZES, "num_key_value_heads": 1, "intermediate_size": 24, "max_position_embeddings": 64}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA)),
    "llama, tied": (LlamaForCausalLM, LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**SIZES, n_positions=64)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**LLAMA)),
}


def store(folder, name):
    """A randomly initialised model in hub layout, with pocket-lm's tokenizer but no pad token."""
    kind, config = MODELS[name]
    torch.manual_seed(0)
    kind(config).half().save_pretrained(folder)
    shutil.copy(find_checkpoint("pocket-lm") / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>"}')
    return folder


@pytest.fixture(scope="module", params=[*MODELS, "pocket-lm"])
def llm(request, tmp_path_factory):
    if request.param == "pocket-lm":
        return load_language_model("pocket-lm")
    return load_language_model(store(tmp_path_factory.mktemp("models"), request.param))


@torch.no_grad()
def test_embeddings_hidden_states_and_logits_are_the_librarys(llm):
    rows = torch.tensor([llm.bos + llm.tokens("a striped red mug"), llm.bos + llm.tokens("a plain blue lamp")])
    logits = llm.logits(llm.hidden_states(llm.words[rows]))
    torch.testing.assert_close(logits, llm.model(rows).logits)
    assert llm.words.shape == (2_048, llm.dim)
    assert llm.tokenizer.decode(llm.tokens("a mug")) == "a mug"


def test_nothing_requires_a_gradient_and_gradients_pass_through(llm):
    assert not any(weight.requires_grad for weight in llm.model.parameters())
    assert not any(module.training for module in llm.model.modules())
    embeddings = llm.words[None, 5:9].clone().requires_grad_()
    llm.hidden_states(embeddings)[0, -1].sum().backward()
    assert (embeddings.grad.abs().sum(2) > 0).all()  # of each position


@torch.no_grad()
def test_padding_at_the_right_changes_nothing_and_needs_no_pad_token(llm):
    row = llm.words[torch.tensor([llm.bos + llm.tokens("a striped red mug")])]
    padded = torch.nn.functional.pad(row, (0, 0, 0, 5), value=7.0)
    torch.testing.assert_close(llm.hidden_states(padded)[:, : row.shape[1]], llm.hidden_states(row), atol=1e-5, rtol=0)


@torch.no_grad()
def test_after_a_cached_prefix_hidden_states_are_those_of_the_whole_row(llm):
    prefix = llm.bos + llm.tokens("They bought")
    rest = llm.words[torch.tensor([llm.tokens(" a red mug"), llm.tokens(" a red cap")])]
    whole = torch.cat([llm.words[torch.tensor(prefix)].expand(2, -1, -1), rest], dim=1)
    cache, expected = llm.prefix_cache(prefix), llm.hidden_states(whole)[:, len(prefix) :]
    for _ in range(2):  # using a cache leaves it as it was
        torch.testing.assert_close(llm.hidden_states(rest, cache), expected, atol=1e-5, rtol=0)


def test_the_control_has_other_weights_of_the_same_shapes_and_leaves_other_draws_alone(llm):
    torch.manual_seed(1)
    control = randomly_initialised(llm)
    drawn = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(3))
    assert control.words.shape == llm.words.shape
    assert not torch.equal(control.words, llm.words)
    assert torch.equal(control.words, randomly_initialised(llm).words)
    assert not any(weight.requires_grad for weight in control.model.parameters())


def test_weights_may_be_loaded_in_half_the_memory(tmp_path):
    llm = load_language_model(store(tmp_path, "llama"), torch.bfloat16)
    assert {weight.dtype for weight in llm.model.parameters()} == {torch.bfloat16}


def test_what_is_no_causal_language_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"pocket-clip has no usable causal language model .* name another"):
        load_language_model("pocket-clip")
    folder = store(tmp_path / "short", "llama")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1_000])
    with pytest.raises(ValueError, match="short has no usable causal language model"):
        load_language_model(folder)

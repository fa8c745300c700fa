"""language_models.py: any causal LM in hub layout, frozen, padded at the right; and what is refused."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import MODELS, TOKENIZER, store

from mmrec_helpers.llm import language_models
from mmrec_helpers.llm.language_models import load_language_model, randomly_initialised


@pytest.fixture(scope="module", params=[*MODELS, "pocket-lm"])
def llm(request, tmp_path_factory):
    if request.param == "pocket-lm":
        return load_language_model("pocket-lm")
    return load_language_model(store(tmp_path_factory.mktemp("models"), request.param))


@torch.no_grad()
def test_embeddings_hidden_states_and_logits_are_the_librarys(llm):
    rows = torch.tensor([llm.tokens("<s>a striped red mug"), llm.tokens("<s>a plain blue lamp")])
    logits = llm.logits(llm.hidden_states(llm.words[rows]))
    torch.testing.assert_close(logits, llm.model(rows).logits)
    assert llm.words.shape == (2_048, llm.dim)
    assert llm.tokenizer.decode(llm.tokens("a mug")) == "a mug"


def test_nothing_requires_a_gradient_and_gradients_pass_through(llm):
    assert not any(weight.requires_grad for weight in llm.model.parameters())
    assert not any(module.training for module in llm.model.modules())
    embeddings = llm.words[None, 5:9].clone().requires_grad_()
    llm.hidden_states(embeddings)[0, -1, 0].backward()  # one number: the sum after a layer norm is constant
    assert (embeddings.grad.abs().sum(2) > 0).all()  # of each position


@torch.no_grad()
def test_padding_at_the_right_changes_nothing_and_needs_no_pad_token(llm):
    row = llm.words[torch.tensor([llm.tokens("<s>a striped red mug")])]
    padded = torch.nn.functional.pad(row, (0, 0, 0, 5), value=7.0)
    torch.testing.assert_close(llm.hidden_states(padded)[:, : row.shape[1]], llm.hidden_states(row), atol=1e-5, rtol=0)


@torch.no_grad()
def test_after_a_cached_prefix_hidden_states_are_those_of_the_whole_row(llm):
    prefix = llm.tokens("<s>They bought")
    rest = llm.words[torch.tensor([llm.tokens(" a red mug"), llm.tokens(" a red cap")])]
    whole = torch.cat([llm.words[torch.tensor(prefix)].expand(2, -1, -1), rest], dim=1)
    continued, expected = llm.after(prefix), llm.hidden_states(whole)[:, len(prefix) :]
    for _ in range(2):  # using a cache leaves it as it was
        torch.testing.assert_close(continued.hidden_states(rest), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_rows_continue_prefixes_of_their_own_lengths_as_in_whole_rows(llm):
    shared, prefixes = llm.tokens("<s>They bought"), [llm.tokens(" a striped red mug"), llm.tokens(" caps")]
    rows = [torch.tensor(tokens) for tokens in prefixes]
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=7)
    rest = torch.tensor([llm.tokens("? yes")] * 2)
    readers = llm.after(shared).after_each(llm.words[padded], torch.tensor([len(row) for row in rows]))
    for _ in range(2):
        found = readers.hidden_states(llm.words[rest])
        for row, tokens in enumerate(prefixes):
            whole = llm.hidden_states(llm.words[torch.tensor([[*shared, *tokens, *rest[row]]])])
            torch.testing.assert_close(found[row], whole[0, -rest.shape[1] :], atol=1e-5, rtol=0)


def test_branches_of_a_prefix_are_whole_rows_with_the_same_gradients(llm):
    shared, prefixes = llm.tokens("<s>They bought"), [llm.tokens(" a striped red mug"), llm.tokens(" caps")]
    branches = [(0, 2), (0, 4), (0, 1), (1, 1)]  # which prefix, how many of its tokens
    rest = torch.tensor([llm.tokens(f" {word}? yes") for word in ("mug", "cap", "mug", "lamp")])
    padded = torch.nn.utils.rnn.pad_sequence([*map(torch.tensor, prefixes)], batch_first=True, padding_value=7)
    embeddings = llm.words[padded].clone().requires_grad_()
    readers = llm.after(shared).after_each(embeddings, torch.tensor([len(row) for row in prefixes]))
    rows, lengths = np.array(branches).T
    found = readers.branches(rows, len(shared) + lengths).hidden_states(llm.words[rest])
    expected = []
    for (row, length), own in zip(branches, rest, strict=True):
        whole = torch.cat([llm.words[shared], embeddings[row, :length], llm.words[own]])
        expected.append(llm.hidden_states(whole[None])[0, -len(own) :])
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)
    gradients = [torch.autograd.grad(part.square().sum(), embeddings)[0] for part in (found, torch.stack(expected))]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-3)


def test_the_padding_of_branches_is_left_out(llm):
    """Two prefixes; branches of several lengths, those of one prefix longer than those of the other."""
    prefixes = torch.tensor([llm.tokens("<s>They bought a mug")[:4], llm.tokens("<s>They bought a cap")[:4]])
    shared = llm.after_each(llm.words[prefixes], torch.tensor([4, 3]))
    rows, sizes = np.array([0, 0, 0, 1]), np.array([3, 1, 2, 2])
    embeddings = llm.words[torch.tensor(llm.tokens("yes no mug cap yes no lamp")[:3])].expand(4, -1, -1)
    all_of_them = shared.branches(rows, np.array([4, 2, 4, 3])).hidden_states(embeddings)
    asked = []
    hook = llm.model.base_model.register_forward_pre_hook(
        lambda _, args, own: asked.append(own["inputs_embeds"].shape[1]), with_kwargs=True
    )
    found = shared.branches(rows, np.array([4, 2, 4, 3]), sizes).hidden_states(embeddings)
    hook.remove()
    assert asked == [6]
    for row, size in enumerate(sizes):
        torch.testing.assert_close(found[row, :size], all_of_them[row, :size], atol=1e-5, rtol=0)
        assert not found[row, size:].any()


def test_a_prefix_is_read_up_to_the_last_keys_and_values_which_are_those_of_a_whole_pass(llm):
    """Bit by bit, with their gradients; what follows them in the last layer is not computed."""
    embeddings, base = llm.words[None, 5:9].clone().requires_grad_(), llm.model.base_model
    finished = []
    hook = (base.h if hasattr(base, "h") else base.layers)[-1].register_forward_hook(lambda *own: finished.append(own))
    found = llm.after_each(embeddings, torch.tensor([4])).prefix
    hook.remove()
    assert not finished
    expected = base(inputs_embeds=embeddings, use_cache=True).past_key_values
    for read, whole in zip(found.layers, expected.layers, strict=True):
        assert torch.equal(read.keys, whole.keys)
        assert torch.equal(read.values, whole.values)
    gradients = [torch.autograd.grad(one.layers[-1].values.square().sum(), embeddings)[0] for one in (found, expected)]
    assert torch.equal(*gradients)


@pytest.mark.parametrize("length", [31, 32])
@torch.no_grad()
def test_long_rows_are_read_together_with_a_short_prefix_and_without_a_mask(llm, length, monkeypatch):
    shared = llm.after([1, 9])
    rows = llm.words[torch.randint(3, 2_048, (3, length), generator=torch.Generator().manual_seed(0))]
    lengths, has_mask = torch.tensor([length, 20, 5]), []
    hook = llm.model.base_model.register_forward_pre_hook(
        lambda _, args, own: has_mask.append("attention_mask" in own), with_kwargs=True
    )
    found = shared.after_each(rows, lengths)
    monkeypatch.setattr(language_models, "MANY", 1_000)
    expected = shared.after_each(rows, lengths)
    hook.remove()
    assert has_mask == [length < 32, True]
    assert torch.equal(found.attended, expected.attended)
    assert found.attended.sum(1).tolist() == [length + 2, 22, 7]
    suffix = llm.words[torch.tensor([[4, 5], [6, 7], [8, 9]])]
    torch.testing.assert_close(*(one.hidden_states(suffix) for one in (found, expected)), atol=1e-5, rtol=0)


def test_gradients_pass_through_a_prefix(llm):
    prefix = llm.words[None, 5:9].clone().requires_grad_()
    reader = llm.after_each(prefix, torch.tensor([3]))
    reader.hidden_states(llm.words[None, 9:11])[0, -1, 0].backward()
    assert (prefix.grad.abs().sum(2) > 0).tolist() == [[True, True, True, False]]  # the last one is padding


def test_a_chat_is_the_templates_or_ends_with_answer(llm):
    spelled = llm.chat("What is it?") + llm.reply("mug")
    has_template = llm.name == "pocket-lm"
    assert spelled == f"<s>{'<|user|> ' * has_template}What is it?" + (
        "<|assistant|> mug</s>" if has_template else "\nAnswer: mug</s>"
    )
    assert llm.tokens(spelled)[0] == 1  # the BOS token
    assert llm.tokens(spelled)[-1] == 2  # the EOS token


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
    folder = store(tmp_path / "odd", "llama")
    (folder / "tokenizer.json").write_text('{"added_tokens": 5}')
    with pytest.raises(ValueError, match=r"odd has no usable causal language model .*fetch it again"):
        load_language_model(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer_config.json", TOKENIZER | {"eos_token": None}),
        ("tokenizer_config.json", TOKENIZER | {"model_max_length": "x"}),
        ("tokenizer_config.json", TOKENIZER | {"chat_template": "{{ messages"}),
        ("config.json", {"model_type": "llama", "num_hidden_layers": -1}),
    ],
)
def test_damage_that_shows_only_in_use_is_named_when_a_model_is_loaded(tmp_path, name, content):
    (store(tmp_path, "llama") / name).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"^{tmp_path} has no usable causal language model .*fetch it again"):
        load_language_model(tmp_path)


def test_more_layers_than_the_configuration_names_are_refused(tmp_path):
    path = store(tmp_path, "llama") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"the weights have model.layers.1.* a layer more than config.json"):
        load_language_model(tmp_path)


def test_weights_of_which_some_are_missing_are_refused(tmp_path):
    weights = load_file(store(tmp_path, "llama") / "model.safetensors")
    save_file(dict(list(weights.items())[1:]), tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"the weights lack .* and 0 more"):
        load_language_model(tmp_path)

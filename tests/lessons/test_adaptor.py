"""Chapter 5's prompts, splice and losses equal a slow reference: one row at a time, one token at a time, no padding."""

import pytest
import torch
from small_models import store

from mmrec_helpers.lessons.adaptor import (
    Adaptor,
    answer_loss,
    item_tokens,
    last_hidden,
    splice,
    user_prompt,
)
from mmrec_helpers.llm.language_models import load_language_model


@pytest.fixture(scope="module", params=["llama", "gpt2", "qwen2"])
def llm(request, tmp_path_factory):
    return load_language_model(store(tmp_path_factory.mktemp("models"), request.param))


@pytest.fixture
def features():
    return torch.randn(9, 5, generator=torch.Generator().manual_seed(0))


def embed_by(llm, adaptor, features):
    return lambda tokens: splice(tokens, llm.words, adaptor(features[-tokens[tokens < 0] - 1]))


def row_by_hand(llm, adaptor, features, tokens):
    """(T, D) input embeddings of one row."""
    return torch.stack([adaptor(features[-token - 1]) if token < 0 else llm.words[token] for token in tokens])


PROMPTS = [[5, -3, 9, 12], [-1], [7, 8, -9, -2, 30, 31, 32]]
ANSWERS = [[4, 2], [6, 9, 2], [2]]


@pytest.mark.parametrize("as_released", [False, True])
def test_the_adaptor_is_the_formula_and_trains_only_itself(llm, features, as_released):
    adaptor = Adaptor(5, llm.dim, 12, as_released)
    hidden = adaptor[0](features)
    hidden = torch.nn.functional.gelu(adaptor[1](hidden)) if as_released else hidden.clamp(min=0)
    torch.testing.assert_close(adaptor(features), adaptor[-1](hidden))
    before = [weight.clone() for weight in llm.model.parameters()]
    optimizer = torch.optim.AdamW([*adaptor.parameters(), *llm.model.parameters()], lr=0.1)
    answer_loss(llm, PROMPTS, ANSWERS, embed_by(llm, adaptor, features)).backward()
    optimizer.step()
    assert all((weight.grad.abs() > 0).any() for weight in adaptor.parameters())
    assert all(torch.equal(*pair) for pair in zip(before, llm.model.parameters(), strict=True))


def test_splice_puts_each_vector_at_its_place_and_leaves_the_words_alone(llm, features):
    adaptor, words = Adaptor(5, llm.dim), llm.words.clone()
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in PROMPTS], batch_first=True)
    found = embed_by(llm, adaptor, features)(tokens)
    for row, prompt in zip(found, PROMPTS, strict=True):
        torch.testing.assert_close(row[: len(prompt)], row_by_hand(llm, adaptor, features, prompt))
    assert torch.equal(llm.words, words)


@torch.no_grad()
def test_the_hidden_state_at_the_end_is_that_of_the_row_alone(llm, features):
    adaptor = Adaptor(5, llm.dim)
    found = last_hidden(llm, PROMPTS, embed_by(llm, adaptor, features))
    for state, prompt in zip(found, PROMPTS, strict=True):
        row = row_by_hand(llm, adaptor, features, prompt)[None]
        expected = llm.model(inputs_embeds=row, output_hidden_states=True).hidden_states[-1][0, -1]
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_loss_is_of_all_answers_tokens_and_of_no_other(llm, features):
    adaptor, losses = Adaptor(5, llm.dim), []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        for end, token in enumerate(answer):
            row = row_by_hand(llm, adaptor, features, [*prompt, *answer[:end]])[None]
            losses.append(-llm.model(inputs_embeds=row).logits[0, -1].log_softmax(0)[token])
    found = answer_loss(llm, PROMPTS, ANSWERS, embed_by(llm, adaptor, features))
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-5, rtol=0)


def test_items_and_prompts_are_their_texts_with_numbers_at_the_marks(llm):
    text = "a [VISUAL] {brand} mug"  # of a shop that tries
    tokens = item_tokens(llm, "Title: {title}, Visual: [VISUAL], Again: [VISUAL]", 4, title=text)
    assert [token for token in tokens if token < 0] == [-4, -4]
    spelled = "".join("<4>" if token < 0 else llm.tokenizer.decode([token]) for token in tokens)
    assert spelled == f"Title: {text}, Visual: <4>, Again: <4>"
    prompt = user_prompt(llm, [[-1], tokens], "They bought[ITEMS]. What next?")
    before, after = llm.tokens("<s>They bought"), llm.tokens(". What next?\nAnswer:")
    assert prompt == [*before, -1, *tokens, *after]

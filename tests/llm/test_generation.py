"""generation.py: what is generated is what a search without batches, padding and caches finds."""

import copy
from itertools import product

import pytest
import torch
from small_models import MODELS, store
from torch.nn.functional import embedding

from mmrec_helpers.llm.generation import generate, generate_titles
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model

PROMPTS = ["<s>a striped red mug of", "<s>blue", "<s>a lamp in red and"]
EOS = 2
TITLES = [[5, EOS], [5, 9, EOS], [5, 9, 7, EOS], [8, 9, EOS], [8, 3, 3, 3, EOS]]  # the first ones begin others


@pytest.fixture(scope="module", params=MODELS)
def llm(request, tmp_path_factory):
    return load_language_model(store(tmp_path_factory.mktemp("models"), request.param))


@pytest.fixture
def prompts(llm):
    return [llm.tokens(prompt) for prompt in PROMPTS]


def lookup(llm):
    return lambda tokens: embedding(tokens, llm.words)


def allowed(prefix):
    k = len(prefix)
    return sorted({title[k] for title in TITLES if title[:k] == [*prefix] and k < len(title)})


@torch.no_grad()
def log_probability(llm, prompt, answer):
    """Of the answer after the prompt, by one forward pass of both."""
    logits = llm.logits(llm.hidden_states(llm.words[torch.tensor([[*prompt, *answer]])])[0])
    values = logits.log_softmax(1)[len(prompt) - 1 : -1]
    return float(values[range(len(answer)), answer].sum())


@torch.no_grad()
def test_greedy_generation_takes_the_most_probable_token_until_eos(llm, prompts):
    eos = llm.tokenizer.eos_token_id
    for prompt, tokens in zip(prompts, generate(llm, prompts, 6), strict=True):
        row = prompt
        while len(row) < len(prompt) + 6 and (row is prompt or row[-1] != eos):
            row = [*row, int(llm.logits(llm.hidden_states(llm.words[torch.tensor([row])])[0, -1]).argmax())]
        assert tokens == tuple(row[len(prompt) :])
    (common,) = generate(llm, prompts, 1)[0]
    tokenizer = copy.deepcopy(llm.tokenizer)
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(common)
    assert generate(LanguageModel(llm.model, tokenizer, "other EOS"), prompts, 6)[0] == (common,)


def test_constrained_beams_are_all_titles_in_the_order_of_their_probabilities(llm, prompts):
    for prompt, found in zip(prompts, generate_titles(llm, prompts, lookup(llm), 8, 6, allowed), strict=True):
        ranked = sorted(TITLES, key=lambda title: -log_probability(llm, prompt, title))
        assert found == [tuple(title) for title in ranked]


def test_few_constrained_beams_are_titles(llm, prompts):
    for found in generate_titles(llm, prompts, lookup(llm), 2, 6, allowed):
        assert len(found) == 2
        assert all(list(title) in TITLES for title in found)


def test_without_constraint_the_best_of_all_pairs_is_found(llm, prompts):
    few = [4, 5, 6, 7]  # the only tokens, so that all pairs can be compared

    def pairs(prefix):
        return few if len(prefix) < 2 else []

    for prompt, found in zip(prompts, generate_titles(llm, prompts, lookup(llm), 16, 2, pairs), strict=True):
        ranked = sorted(product(few, few), key=lambda pair: -log_probability(llm, prompt, pair))
        assert found == ranked  # truncated: none has an EOS token
    free = generate_titles(llm, prompts, lookup(llm), 3, 2)
    for prompt, found in zip(prompts, free, strict=True):
        values = [log_probability(llm, prompt, title) for title in found]
        assert len(set(found)) == 3
        assert values == sorted(values, reverse=True)


def test_a_spliced_vector_is_what_the_model_continues(llm):
    place, word = [1, -1, 9], [1, 77, 9]

    def spliced(tokens):
        return torch.where((tokens < 0)[:, :, None], llm.words[77], embedding(tokens.clamp(min=0), llm.words))

    args = (3, 4, allowed)
    assert generate_titles(llm, [place], spliced, *args) == generate_titles(llm, [word], lookup(llm), *args)


def test_samples_follow_from_the_seed_and_leave_other_draws_alone(llm, prompts):
    torch.manual_seed(7)
    drawn = [generate(llm, prompts, 6, temperature=3.0, seed=seed) for seed in (0, 0, 1)]
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    assert drawn[0] == drawn[1] != drawn[2]
    assert generate(llm, prompts, 6, seed=1) == generate(llm, prompts, 6) != drawn[0]

"""pretraining/measure.py: right on what has a known answer."""

from collections import Counter

import numpy as np
import pytest
import torch

from pretraining import measure
from pretraining.corpus import sample_corpus
from pretraining.dialogues import NEXT_QUESTIONS, make_chat, next_item_chat
from pretraining.language import train_tokenizer


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return train_tokenizer(corpus.titles + corpus.descriptions)


@pytest.fixture(scope="module")
def model(tokenizer):
    """A Llama that has learnt one answer by heart, so that it is right sometimes and wrong sometimes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    ids = torch.tensor(tokenizer(["<s><|user|> What?<|assistant|> oak</s>"], add_special_tokens=False)["input_ids"])
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    return model.eval()


def test_equal_vectors_are_found_and_random_ones_are_not(corpus):
    vectors = torch.randn(len(corpus), 64, generator=torch.Generator().manual_seed(0))
    found, by_category = measure.recall_at_1(vectors, vectors, corpus)
    assert found == 1
    assert 1 / measure.NUM_PAIRS < by_category < 0.2  # twelve categories
    assert measure.recall_at_1(vectors, vectors.flip(0), corpus)[0] < 0.05


def test_answers_are_right_where_the_model_would_write_them(model, tokenizer):
    asked = [
        make_chat(("What?", "oak")),
        make_chat(("What?", "steel")),
        make_chat(("What?", "oak"), ("Is it a long way?", "oak")),
    ]
    found = measure.correct_answers(model, tokenizer, asked)
    assert found[:2] == [[True], [False]]
    assert len(found[2]) == 2
    for messages, right in zip(asked[:2], found, strict=False):
        prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, tokenize=False)
        prompt = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        written = model.generate(**prompt, max_new_tokens=8, do_sample=False, eos_token_id=tokenizer.eos_token_id)
        written = tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        assert (written.strip() == messages[1]["content"]) == right[0]


def test_the_negative_log_likelihood_is_the_librarys_loss_and_padding_does_not_count(model, tokenizer):
    texts = ["a mug", "an oak chair for the office by nobody at all"]
    ids = [tokenizer(f"<s> {text}</s>", add_special_tokens=False, return_tensors="pt")["input_ids"] for text in texts]
    losses = [(model(input_ids=row, labels=row).loss.item(), row.shape[1] - 1) for row in ids]
    wanted = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert measure.negative_log_likelihood(model, tokenizer, texts) == pytest.approx(wanted, rel=1e-4)


def test_the_3_gram_model_is_that_of_a_loop(corpus, tokenizer):
    known, texts = corpus.descriptions[:20], [*corpus.descriptions[20:23], "Grüße aus 東京"]
    size = len(tokenizer)

    def grams(text):
        ids = [1, *tokenizer(f"<s> {text}</s>", add_special_tokens=False)["input_ids"]]
        return [tuple(ids[position : position + 3]) for position in range(len(ids) - 2)]

    counts = Counter(gram[-order:] for text in known for gram in grams(text) for order in (1, 2, 3))
    total = sum(count for gram, count in counts.items() if len(gram) == 1)

    def probability(gram):
        if len(gram) == 1:
            return (counts[gram] + 1) / (total + size)
        seen = {other: count for other, count in counts.items() if len(other) == len(gram) and other[:-1] == gram[:-1]}
        if not seen:
            return probability(gram[1:])
        return (seen.get(gram, 0) + len(seen) * probability(gram[1:])) / (sum(seen.values()) + len(seen))

    expected = -np.mean([np.log(probability(gram)) for text in texts for gram in grams(text)])
    model = measure.trigram_model(tokenizer, known)
    assert measure.trigram_nll(model, tokenizer, texts) == pytest.approx(expected)


def test_chats_about_purchases_have_one_answer_a_purchase(model, tokenizer, corpus):
    history = max(corpus.histories, key=len)
    messages = next_item_chat(corpus, history, NEXT_QUESTIONS[0])
    assert len(measure.correct_answers(model, tokenizer, [messages])[0]) == min(len(history) - 1, 16)

"""pretraining/language.py: tokens lose nothing, and answers are found where the chat template puts them."""

import numpy as np
import pytest
import torch

from pretraining import language
from pretraining.corpus import sample_corpus


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return language.train_tokenizer(corpus.titles + corpus.descriptions)


@pytest.mark.parametrize("text", ["a mug", " Two  spaces\n", "Grüße, 東京 🎈", "<b>&nbsp;</b>", "Zornhaven 24"])
def test_any_text_comes_back_whole(tokenizer, text):
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_answers_are_found_where_the_template_puts_them(corpus, tokenizer):
    rng = np.random.default_rng(0)
    for kind in ("item", "next", "taste"):
        chats = [language.sample_chat(corpus, kind, rng) for _ in range(5)]
        batch = tokenizer.apply_chat_template(
            chats, return_dict=True, return_assistant_tokens_mask=True, padding=True, return_tensors="pt"
        )
        assert torch.equal(language.answer_mask(batch["input_ids"]), torch.as_tensor(batch["assistant_masks"]).bool())


def test_rows_are_full_and_each_begins_a_document(corpus, tokenizer):
    shapes = set()
    for seed in range(60):
        rows = language.sample_rows(corpus, tokenizer, np.random.default_rng(seed))
        assert (rows[:, 0] == tokenizer.bos_token_id).all()
        assert (rows != tokenizer.pad_token_id).all()
        shapes.add(tuple(rows.shape))
    assert shapes == {(language.NUM_ROWS, language.ROW_LEN), (language.NUM_LONG_ROWS, language.MAX_LEN)}


def test_the_loss_is_the_usual_one_where_all_tokens_count_alike(corpus, tokenizer, monkeypatch):
    rows = language.sample_rows(corpus, tokenizer, np.random.default_rng(0))[:2]
    logits = torch.randn(*rows.shape, len(tokenizer), generator=torch.Generator().manual_seed(0))
    usual = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())
    weighted = language.weighted_loss(logits, rows)
    monkeypatch.setattr(language, "CONTEXT_WEIGHT", 1.0)
    torch.testing.assert_close(language.weighted_loss(logits, rows), usual)
    assert not torch.isclose(weighted, usual)


def test_an_image_batch_is_learnt_from_its_answers_only(corpus, tokenizer):
    batch = language.sample_image_batch(corpus, tokenizer, 4, np.random.default_rng(0))
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert ((batch["input_ids"] == image).sum(1) == 4).all()
    learnt = batch["labels"] != -100
    assert torch.equal(learnt, language.answer_mask(batch["input_ids"]))
    assert batch["pixel_values"].shape == (len(learnt), 3, 64, 64)

"""pretraining/dialogues.py: each question is answered by what the chat has mentioned."""

import re

import numpy as np
import pytest

from mmrec_helpers.pocket_shop.catalogue import VALUES
from pretraining import dialogues as d
from pretraining.corpus import sample_corpus

ROWS = range(40)


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


def turns(chat):
    """Questions and answers; users and assistants take turns."""
    assert [message["role"] for message in chat] == ["user", "assistant"] * (len(chat) // 2)
    return [(ask["content"], answer["content"]) for ask, answer in zip(chat[::2], chat[1::2], strict=True)]


def test_each_answer_about_a_text_is_told_by_the_text(corpus):
    asked_of = {question: name for name, questions in d.QUESTIONS.items() for question in questions}
    seen = set()
    for row in ROWS:
        facts, chat = corpus.facts[row], turns(d.item_chat(corpus, row, np.random.default_rng(row)))
        text, _, first = chat[0][0].rpartition("\n")
        assert set(text.split()) <= set(d.item_text(corpus, row).split())
        for question, answer in [(first, chat[0][1]), *chat[1:]]:
            if question in asked_of:
                name = asked_of[question]
                seen.add((name, answer == d.NOT_MENTIONED))
                if answer == d.NOT_MENTIONED:
                    assert not re.search(rf"\b{facts[name].lower()}\b", text.lower())
                else:
                    assert answer == facts[name]
            elif answer in ("yes", "no"):
                name, value = re.fullmatch(r"Is its (\w+) (\S+)\?", question).groups()
                assert (answer == "yes") == (facts[name] == value)
            else:
                assert question in d.SUMMARY_QUESTIONS
                assert answer == (d.summary(d.mentioned_facts(facts, text)) or d.NOT_MENTIONED)
    told_or_not = {(name, untold) for name in ("colour", "material", "brand") for untold in (True, False)}
    assert told_or_not <= seen


def test_the_next_kind_is_that_of_the_next_purchase(corpus):
    history = max(corpus.histories, key=len)
    chat = turns(d.next_item_chat(corpus, history, "Next?"))
    assert [answer for _, answer in chat] == [corpus.facts[row]["category"] for row in history[1:17]]
    assert all(corpus.titles[row] in question for row, (question, _) in zip(history, chat, strict=False))


def test_a_taste_is_what_the_purchases_so_far_share(corpus):
    history = next(history for history in corpus.histories if len(history) >= 8)
    chat = turns(d.taste_chat(corpus, history, np.random.default_rng(0)))
    bought = []
    for question, answer in chat:
        bought += re.findall(r"^- (.*)$", question, re.M)
        likes = re.fullmatch(r"They like (.*)\. They buy (.*)\.", answer)
        for value in likes[1].split(", "):
            lines = [line.replace("parties", "party") for line in bought]
            if value != "nothing in particular":
                assert sum(value in line for line in lines) >= max(2, 0.4 * len(bought))
        assert set(likes[2].split(", ")) <= set(VALUES["category"])
    assert len(bought) == min(len(history), 12)


def test_a_picture_is_asked_for_what_it_shows(corpus):
    for row in ROWS:
        chat = turns(d.image_chat(corpus, row, np.random.default_rng(row)))
        assert chat[0][0].startswith("<image>\n")
        assert sum("<image>" in question for question, _ in chat) == 1
        shown = {corpus.facts[row][name] for name in d.VISUAL}
        assert all(shown & set(answer.split()) for _, answer in chat)

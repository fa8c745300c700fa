"""pretraining/preferences.py: the rules against a vote by hand, and chats whose answers follow from their messages."""

import re

import numpy as np
import pytest

from mmrec_helpers.evaluation.fidelity import attributes_in
from mmrec_helpers.pocket_shop.text_templates import mentioned_attributes
from pretraining import preferences as p
from pretraining.corpus import sample_corpus
from pretraining.preferences import Preference, read_preference


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


def items(*colours):
    return [{"colour": colour} if colour else {} for colour in colours]


@pytest.mark.parametrize(
    ("before", "colours", "after"),
    [
        (0, "red red red red", ("red", 3)),
        (0, "red red blue", ("red", 1)),
        (0, "red blue green", None),
        (0, "red blue", None),
        (2, "", ("red", 2)),
        (3, "blue", ("red", 2)),
        (2, "blue blue", None),
        (1, "blue blue blue", ("blue", 2)),
        (3, "red", ("red", 3)),
    ],
)
def test_a_value_needs_more_votes_than_all_others(before, colours, after):
    preference = Preference({"colour": ("red", before)} if before else {})
    assert preference.update(items(*colours.split(), None)).strengths.get("colour") == after


def test_an_update_depends_on_the_order_of_items_only_in_its_categories(corpus):
    facts = corpus.facts[:9]
    one, other = Preference().update(facts), Preference().update(facts[::-1])
    assert one.strengths == other.strengths
    assert one.categories == tuple(dict.fromkeys(item["category"] for item in facts[::-1]))[:3]
    assert one.categories != other.categories


def test_a_taste_is_forgotten_as_fast_as_it_was_learnt():
    preference = Preference().update(items("red", "red", "red", "red", "red"))
    found = [preference := preference.update(items("blue")) for _ in range(6)]
    strengths = [one.strengths.get("colour") for one in found]
    assert strengths == [("red", 2), ("red", 1), None, ("blue", 1), ("blue", 2), ("blue", 3)]


def test_a_preference_is_read_as_it_was_written(corpus):
    rng = np.random.default_rng(0)
    for _ in range(50):
        preference = p.sample_preference(corpus, rng, 3)[0]
        assert read_preference(preference.text(p.sample_order(rng))) == preference
        assert {value for _, value in attributes_in(preference.text())} == {v for v, _ in preference.strengths.values()}
    assert Preference().text() == "They like style any, pattern any, colour any, material any, occasion any."
    damaged = "They like colour red clearly, pattern red, material oak ma, style. They buy mug, red, lamp, occ"
    assert read_preference(damaged) == Preference({"colour": ("red", 3)}, ("mug", "lamp"))


def reply(message):
    """The preference that follows by the rule from the text of a message."""
    lines = message.splitlines()
    before = read_preference(lines[0].partition(": ")[2]) if len(lines[0].split()) > 2 else Preference()
    mentioned = [mentioned_attributes(line) for line in lines if line.startswith("- ")]
    return before.update([{name: min(values) for name, values in item.items()} for item in mentioned]).text()


@pytest.mark.parametrize("block", p.BLOCKS)
def test_a_preference_follows_from_its_message_alone(corpus, block):
    for seed in range(30):
        ask, answer = p.preference_chat(corpus, np.random.default_rng(seed), block)
        assert answer["content"] == reply(ask["content"])
        assert 1 <= ask["content"].count("\n- ") <= block


def test_an_answer_follows_from_preference_and_candidate(corpus):
    answers = []
    for seed in range(60):
        chat = p.yes_no_chat(corpus, np.random.default_rng(seed))
        preference = read_preference(chat[0]["content"].splitlines()[0])
        for ask, answer in zip(chat[::2], chat[1::2], strict=True):
            (candidate,) = re.findall(r'^- (".*)$', ask["content"], re.M)
            facts = {name: min(values) for name, values in mentioned_attributes(candidate).items()}
            word, *shared = answer["content"].split(", ")
            answers.append(preference.match(facts) >= p.ENOUGH)
            assert word == ("yes" if answers[-1] else "no")
            assert set(shared) == {v for name, (v, _) in preference.strengths.items() if facts.get(name) == v}
    assert 0.25 < np.mean(answers) < 0.6


def test_a_batch_has_chats_of_one_kind_and_repeats(corpus):
    assert sum(p.BLOCKS.values()) == pytest.approx(1)
    for seed in range(20):
        one, again = (p.sample_chats(corpus, np.random.default_rng(seed)) for _ in range(2))
        assert one == again
        assert len({len(chat) for chat in one}) == 1

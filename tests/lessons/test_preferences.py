"""lessons/preferences.py: depth, order, batches and messages are those of a slow loop over users, for any history."""

import pytest

from mmrec_helpers.lessons.preferences import (
    direct_preferences,
    preference_message,
    preference_steps,
    recurrent_preferences,
    split_blocks,
)
from mmrec_helpers.llm import replies
from mmrec_helpers.llm.replies import Replies

HISTORIES = [[f"item {user}-{place}" for place in range(n)] for user, n in enumerate((7, 0, 1, 3, 6))]


class Echo:
    """Replies with a digest of the message, and keeps the messages of each call."""

    def __init__(self):
        self.calls = []

    def __call__(self, messages):
        self.calls.append(messages)
        return [f"reply {hash(message) % 10**8}" for message in messages]


def slowly(history, block):
    """One user, one block after the other, one message each."""
    steps, preference, model = [], "", Echo()
    for start in range(0, len(history), block):
        lines = "".join(f"- {text}\n" for text in history[start : start + block])
        if start == 0:
            message = f"They bought\n{lines}What do they like?"
        else:
            message = f"Their preference so far: {preference}\nThen they bought\n{lines}What do they like now?"
        (preference,) = model([message])
        steps.append(preference)
    return steps


@pytest.mark.parametrize("block", [1, 2, 3, 5, 8])
def test_steps_equal_a_slow_loop(block):
    model = Echo()
    steps = preference_steps(model, HISTORIES, block)
    assert steps == [slowly(history, block) for history in HISTORIES]
    assert [len(own) for own in steps] == [-(-len(history) // block) for history in HISTORIES]
    depth = -(-7 // block)
    assert len(model.calls) == depth  # one call a step, all its users together
    assert [len(call) for call in model.calls] == [sum(len(own) > step for own in steps) for step in range(depth)]
    assert recurrent_preferences(Echo(), HISTORIES, block) == [own[-1] if own else "" for own in steps]


def test_direct_inference_is_one_message_of_the_whole_history():
    model = Echo()
    found = direct_preferences(model, HISTORIES)
    assert found == ["" if not own else slowly(own, 99)[0] for own in HISTORIES]
    assert len(model.calls) == 1
    assert direct_preferences(model, [[], []]) == ["", ""]
    assert direct_preferences(model, []) == []


def test_a_stored_preference_is_continued():
    whole = preference_steps(Echo(), HISTORIES, 3)
    first = [own[0] if own else "" for own in whole]
    rest = preference_steps(Echo(), [history[3:] for history in HISTORIES], 3, start=first)
    assert rest == [own[1:] for own in whole]


def test_a_recurrence_that_is_killed_again_and_again_writes_nothing_twice(tmp_path, monkeypatch):
    """Each attempt is killed after one message more, in the middle of a step or between two."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(replies, "CHUNK_SIZE", 1)
    written, model, attempts = [], Echo(), 0

    def generate(self, pairs):
        if len(written) == attempts:
            raise KeyboardInterrupt
        written.extend(pairs)
        return [(reply, True) for reply in model([message for message, _ in pairs])]

    monkeypatch.setattr(Replies, "_generate", generate)
    steps = preference_steps(Echo(), HISTORIES)
    for attempts in range(sum(map(len, steps))):  # noqa: B007, generate reads it
        with pytest.raises(KeyboardInterrupt):
            preference_steps(Replies("pocket-lm"), HISTORIES)
    attempts = -1
    assert preference_steps(Replies("pocket-lm"), HISTORIES) == steps
    assert len(written) == len(set(written)) == sum(map(len, steps))


def test_messages_stay_short_for_five_hundred_items():
    model = Echo()
    history = [f"item {place:03d}" for place in range(500)]
    (steps,) = preference_steps(model, [history])
    assert len(steps) == 167
    lengths = [len(message) for (message,) in model.calls]
    assert max(lengths[1:]) - min(lengths[1:-1]) <= 8  # the digits of the replies
    assert sum(message.count("- item") for (message,) in model.calls) == 500


def test_an_item_is_one_line_and_braces_are_text():
    message = preference_message(["a {red}\nmug\n- a lamp", "cap"], "They like\n{blue}.")
    lines = message.splitlines()
    assert [line for line in lines if line.startswith("- ")] == ["- a {red} mug - a lamp", "- cap"]
    assert lines[0] == "Their preference so far: They like {blue}."


def test_an_empty_reply_is_followed_by_a_first_message():
    calls = []

    def silent(messages):
        calls.append(messages)
        return [""] * len(messages)

    assert preference_steps(silent, [list("abcd")], 2) == [["", ""]]
    assert calls[1] == [preference_message(list("cd"))]


def test_a_block_has_an_item():
    with pytest.raises(ValueError, match="a block has at least one item, not 0"):
        split_blocks(["a"], 0)
    with pytest.raises(ValueError, match="not -1"):
        recurrent_preferences(Echo(), HISTORIES, -1)

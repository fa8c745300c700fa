"""replies.py: each message is generated once, whatever interrupts, for each model, content and options."""

import json

import pytest

from mmrec_helpers.llm import replies as module
from mmrec_helpers.llm.generation import generate
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.pocket_shop.rendering import render_item

MESSAGES = [f"A {colour} mug made of steel.\nSummarise it." for colour in ("red", "blue", "green", "red")]
RED, BLUE = (render_item("mug", colour, "plain", "modern", (0, 0), 0, 64) for colour in ("red", "blue"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def generated(monkeypatch):
    """The prompts of each call that generates."""
    calls = []

    def watched(llm, prompts, **options):
        calls.append([llm.tokenizer.decode(tokens) for tokens in prompts])
        return generate(llm, prompts, **options)

    monkeypatch.setattr(module, "generate", watched)
    return calls


def test_replies_are_those_of_the_model_and_equal_messages_are_generated_once(generated):
    found = Replies("pocket-lm")(MESSAGES)
    llm = load_language_model("pocket-lm")
    expected = [generate(llm, [llm.tokens(llm.chat(message))], 40)[0] for message in MESSAGES]
    assert found == [llm.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in expected]
    assert sum(map(len, generated)) == 3
    assert Replies("pocket-lm")(MESSAGES[::-1]) == found[::-1]
    assert sum(map(len, generated)) == 3  # another process would find them, too
    assert Replies("pocket-lm")([]) == []


def test_a_new_message_alone_is_generated_and_other_options_have_replies_of_their_own(generated):
    Replies("pocket-lm")(MESSAGES)
    Replies("pocket-lm")([*MESSAGES, "A lamp.\nSummarise it."])
    assert [len(prompts) for prompts in generated] == [3, 1]
    Replies("pocket-lm", max_new_tokens=3)(MESSAGES)
    Replies("pocket-lm", temperature=0.5)(MESSAGES)
    Replies("pocket-lm", temperature=0.5, seed=1)(MESSAGES)
    assert [len(prompts) for prompts in generated] == [3, 1, 3, 3, 3]


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_an_interruption_loses_one_chunk_and_changes_nothing(cache, monkeypatch, generated, temperature):
    monkeypatch.setattr(module, "CHUNK_SIZE", 1)
    whole = Replies("pocket-lm", temperature=temperature)(MESSAGES)
    (folder,) = cache.joinpath("replies").iterdir()
    for path in folder.iterdir():
        path.unlink()
    interrupted, generated[:] = Replies("pocket-lm", temperature=temperature), []
    real = interrupted._generate

    def killed(pairs):
        if len(generated) == 2:
            raise KeyboardInterrupt
        return real(pairs)

    monkeypatch.setattr(interrupted, "_generate", killed)
    with pytest.raises(KeyboardInterrupt):
        interrupted(MESSAGES)
    assert Replies("pocket-lm", temperature=temperature)(MESSAGES) == whole
    assert [len(prompts) for prompts in generated] == [1, 1, 1]


def test_a_damaged_file_is_generated_again(cache, generated):
    found = Replies("pocket-lm")(MESSAGES)
    (path,) = cache.rglob("*.json")
    for damage in ("[", json.dumps({"a": 1})[:5]):
        path.write_text(damage)
        assert Replies("pocket-lm")(MESSAGES) == found
    assert len(generated) == 3


def test_truncated_replies_are_counted():
    whole, short = Replies("pocket-lm"), Replies("pocket-lm", max_new_tokens=2)
    whole(MESSAGES)
    short(MESSAGES)
    assert (whole.truncated, short.truncated) == (0, 4)
    short(MESSAGES[:1])
    assert short.truncated == 1


def test_a_reply_depends_on_the_image(generated):
    describe = Replies("pocket-vlm", 16)
    red, blue, none, again = describe(["Describe the picture."] * 4, [RED, BLUE, None, RED.copy()])
    assert red == again
    assert len({red, blue, none}) == 3
    assert describe(["Describe the picture."]) == [none]
    assert generated == []  # those of multimodal models go another way
    with pytest.raises(ValueError, match="pocket-lm takes no images; name a multimodal model, such as pocket-vlm"):
        Replies("pocket-lm")(["Describe the picture."], [RED])


def test_a_model_that_does_not_exist_is_refused_at_once():
    with pytest.raises(FileNotFoundError, match="no folder pocket-lmm"):
        Replies("pocket-lmm")

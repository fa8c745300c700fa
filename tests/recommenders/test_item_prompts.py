"""item_prompts.py: each item's tokens, which ones fit, and what stands in for a vector that an item lacks."""

import numpy as np
import pytest

from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.recommenders.item_prompts import EXPRESSIONS, around_items, write_prompts

HAS_VECTOR = np.arange(27) != 3


@pytest.fixture(scope="module")
def llm():
    return load_language_model("pocket-lm")


@pytest.fixture(scope="module")
def write(llm, planted):
    summaries = [f"number {item}" for item in range(27)]
    return lambda expression: write_prompts(llm, planted.dataset, expression, HAS_VECTOR, summaries)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_item_is_its_template_and_a_comma(expression, write, llm, planted):
    prompts, (template, visual) = write(expression), EXPRESSIONS[expression]
    for number in (1, 3, 26):
        item = planted.dataset.item(number)
        form = "{title}: {description}" if visual and number == 3 else template
        fields = {name: item[name] or "" for name in ("title", "brand", "category", "description")}
        expected = form.format(**fields, summary=f"number {number}")
        tokens = prompts.of_items(np.array([number]))
        spelled = "".join("[VISUAL]" if token == -number else llm.tokenizer.decode([token]) for token in tokens)
        assert "".join(spelled.split()) == "".join(f"{expected},".split())
        assert (-number in tokens) == (bool(visual) and number != 3)


def test_the_items_of_a_prompt_are_one_after_the_other(write):
    prompts = write("image")
    one_by_one = [prompts.of_items(np.array([item])) for item in (5, 2, 9)]
    assert prompts.of_items(np.array([5, 2, 9])) == sum(one_by_one[1:], one_by_one[0])
    assert prompts.of_items(np.array([], int)) == []


def test_the_most_recent_items_are_as_many_as_fit(write):
    prompts, items = write("description"), np.array([5, 2, 9, 5])
    sizes = [len(prompts.of_items(items[start:])) for start in range(len(items) + 1)]
    for limit in range(-1, sizes[0] + 2):
        kept = prompts.most_recent(items, limit)
        start = next((start for start, size in enumerate(sizes) if size <= limit), len(items))
        assert np.array_equal(kept, items[start:])


def test_the_prompt_ends_with_rec(write, llm, planted):
    prompts, (before, after) = write("title"), around_items(llm, "Which item comes next?")
    assert prompts.before == before
    assert prompts.after == [*after, -(planted.dataset.num_items + 1)]

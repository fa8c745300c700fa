"""summaries.py: of each item with a text, from the four fields; written once and then read."""

import pytest
from small_data import rec_dataset

from mmrec_helpers.llm import summaries
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.llm.summaries import MAX_TOKENS, summarise


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))


def test_each_item_with_a_text_has_a_summary_of_it(monkeypatch, tmp_path):
    columns = {name: [f"a {name}", None, "a lamp"] for name in summaries.FIELDS}
    dataset = rec_dataset([(0, 1, 0), (0, 2, 1), (0, 3, 2)], **columns)
    llm, asked = load_language_model("pocket-lm"), []
    generate = summaries.generate

    def watched(model, prompts, max_new_tokens):
        asked.extend(llm.tokenizer.decode(tokens) for tokens in prompts)
        return generate(model, prompts, max_new_tokens)

    monkeypatch.setattr(summaries, "generate", watched)
    found, titles = summarise(dataset, "pocket-lm"), dataset.column("title")
    assert len(found) == dataset.num_items + 1
    assert found[0] == ""
    assert [bool(summary) for summary in found[1:]] == [bool(title) for title in titles[1:]]
    assert all(len(llm.tokens(summary)) <= MAX_TOKENS for summary in found)
    assert len(asked) == sum(map(bool, titles[1:]))
    assert all("Summarise it." in prompt for prompt in asked)
    assert summarise(dataset, "pocket-lm") == found
    assert len(asked) == sum(map(bool, titles[1:]))  # the second time nothing is generated
    (path,) = tmp_path.rglob("*.json")
    path.write_text("[")
    assert summarise(dataset, "pocket-lm") == found  # damaged: written again

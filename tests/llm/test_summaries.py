"""summaries.py: of each item with a text, of each image, and of both; where one is missing, of the other."""

import numpy as np
import pytest
from PIL import Image
from small_data import rec_dataset

from mmrec_helpers.llm import summaries
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.llm.summaries import MAX_TOKENS, summarise, summarise_items
from mmrec_helpers.pocket_shop.shop import load_shop


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))


@pytest.fixture
def asked(monkeypatch):
    """The messages of each call, by the model's name."""
    calls = []

    class Watched(Replies):
        def __call__(self, messages, images=None):
            calls.append((self.name, list(messages)))
            return super().__call__(messages, images)

    monkeypatch.setattr(summaries, "Replies", Watched)
    return calls


def test_each_item_with_a_text_has_a_summary_of_it(asked):
    columns = {name: [f"a {name}", None, "a lamp"] for name in summaries.FIELDS}
    dataset, llm = rec_dataset([(0, 1, 0), (0, 2, 1), (0, 3, 2)], **columns), load_language_model("pocket-lm")
    found = summarise(dataset, "pocket-lm")
    assert len(found) == dataset.num_items + 1
    assert list(map(bool, found)) == [False, True, False, True]
    assert all(len(llm.tokens(summary)) <= MAX_TOKENS for summary in found)
    assert asked == [("pocket-lm", [f"{'. '.join(f'a {name}' for name in summaries.FIELDS)}\nSummarise it.",
                                    "a lamp. a lamp. a lamp. a lamp\nSummarise it."])]  # fmt: skip
    one = summarise(dataset, "pocket-lm", items=[3])
    assert one == ["", "", "", found[3]]


def test_image_and_text_are_summarised_apart_and_then_fused(asked):
    texts = ["A steel mug for parties", "A wool cap for travel", None]
    columns = {name: [None] * 3 for name in ("title", "brand", "category")} | {"description": texts}
    image = Image.fromarray(np.full((64, 64, 3), 90, np.uint8))
    dataset = rec_dataset([(0, 1, 0), (0, 2, 1), (0, 3, 2)], **columns, image=[image, None, image])
    found = summarise_items(dataset, "pocket-lm", "pocket-vlm", max_tokens=6)
    assert list(map(bool, found.texts)) == [False, True, True, False]
    assert list(map(bool, found.images)) == [False, True, False, True]
    assert found.fused[2:] == [found.texts[2], found.images[3]]
    assert asked[-1] == ("pocket-lm", [f"{found.images[1]}. {found.texts[1]}\nSummarise it."])
    llm = load_language_model("pocket-lm")
    assert max(len(llm.tokens(text)) for text in (*found.texts, *found.images)) <= 6 + 1  # a space is missing
    some = summarise_items(dataset, "pocket-lm", "pocket-vlm", [3], max_tokens=6)
    assert some.fused == ["", "", "", found.fused[3]]


def test_fused_summaries_have_what_the_image_and_what_the_text_shows():
    dataset, truth = load_shop(0, "tiny", missing_images=0)
    items = range(1, 41)
    found = summarise_items(dataset, "pocket-lm", "pocket-vlm", items)
    facts = {item: truth.facts(dataset.item(item)["item_id"]) for item in items}

    def share(texts, *names):
        return np.mean([facts[item][name] in texts[item] for item in items for name in names])

    assert share(found.images, "colour", "pattern", "style") > 0.85
    assert share(found.texts, "material") > 0.9
    assert share(found.fused, "colour", "pattern", "style", "material") > 0.85
    assert max(share(found.images, "material"), share(found.texts, "colour", "pattern", "style")) < 0.7

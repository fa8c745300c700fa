"""masking.py: the rankings are the scores' without the history, the masked image is gone, what is new is marked."""

import re

import numpy as np
import pytest
from small_data import rec_dataset

from mmrec_helpers.display import masking
from mmrec_helpers.display.cards import TITLE_STYLE

DATASET = rec_dataset([(0, item, item) for item in range(1, 11)])
HISTORIES = {"Ann": np.array([1, 4, 7]), "Ben": np.array([2, 5])}
ITEMS = np.arange(11.0)


def score(history, masked):
    """Item 10 first and item 1 last; the other way round without the image of the last item."""
    return -ITEMS if masked == history[-1] else ITEMS.copy()


def sections(html):
    """The titles of the items below each title of a row."""
    parts = html.data.split(f'<div style="{TITLE_STYLE}">')[1:]
    return {part.split("<")[0]: re.findall(r"<b>thing (\d+)</b>", part) for part in parts}


def test_rankings_are_those_of_the_scores_without_history_and_padding():
    rows = sections(masking.masked_lists(DATASET, HISTORIES["Ann"], 7, score, length=4))
    expected = ["1", "4", "7"], ["10", "9", "8", "6"], ["2", "3", "5", "6"]
    assert tuple(rows.values()) == expected


def test_items_that_are_new_in_the_list_are_marked_and_carry_their_earlier_rank():
    html = masking.masked_lists(DATASET, HISTORIES["Ann"], 7, score, length=4).data
    after = html.split(f'<div style="{TITLE_STYLE}">')[3]
    assert re.findall(r"rank (\d+), was (\d+)", after) == [("1", "7"), ("2", "6"), ("3", "5"), ("4", "4")]
    assert after.count("card changed") == 3


def test_the_image_of_the_masked_item_alone_is_hidden():
    def images(masked):
        html = masking.masked_lists(DATASET, HISTORIES["Ann"], masked, score).data
        return re.findall(r'alt="thing (\d+)"', html.split(f'<div style="{TITLE_STYLE}">')[1])

    assert images(0) == ["1", "4", "7"]
    assert images(4) == ["1", "7"]


def test_without_a_mask_both_rankings_are_the_same():
    html = masking.masked_lists(DATASET, HISTORIES["Ann"], 0, score)
    _, before, after = sections(html).values()
    assert before == after
    assert "card changed" not in html.data


@pytest.fixture
def shown(monkeypatch):
    """The widget that is shown, and its static view."""
    calls = []
    monkeypatch.setattr(masking, "show_widget", lambda *parts: calls.append(parts))
    masking.show_masking(DATASET, HISTORIES, score)
    return calls[0]


def test_the_widget_offers_the_images_of_the_chosen_history(shown):
    history, image = shown[0].children[:2]
    assert [value for _, value in image.options] == [0, 1, 4, 7]
    image.value = 7
    history.value = "Ben"
    assert image.value == 0
    assert [value for _, value in image.options] == [0, 2, 5]


def test_the_widget_scores_what_is_chosen(monkeypatch):
    asked = []
    monkeypatch.setattr(masking, "show_widget", lambda widget, static: asked.append(widget))

    def spy(history, masked):
        asked.append((history.tolist(), masked))
        return score(history, masked)

    masking.show_masking(DATASET, HISTORIES, spy)
    history, image = asked[-1].children[:2]
    history.value, image.value = "Ben", 5
    assert asked[-2:] == [([2, 5], 0), ([2, 5], 5)]


def test_the_static_view_masks_the_ends_of_the_first_two_histories(shown):
    html = shown[1].data
    assert re.findall(r"<label[^>]*>([^<]*)</label>", html) == [
        f"{name}, {end} image masked" for name in HISTORIES for end in ("most recent", "oldest")
    ]
    assert html.count("<small>masked</small>") == 4

"""cards.py: hostile text stays text, pictures survive as data, and a static view works without a script."""

import base64
import io
import re
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pytest
from IPython.display import HTML
from PIL import Image

from mmrec_helpers.display import cards

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
PICTURE = Image.new("RGB", (20, 10), (200, 30, 40))


@pytest.mark.parametrize("html", [
    cards.card(PICTURE, HOSTILE, [HOSTILE]),
    cards.card(None, HOSTILE, [HOSTILE]),
    cards.static_view({HOSTILE: "panel"}, HOSTILE).data,
    cards.titled_rows({HOSTILE: []}).data,
])  # fmt: skip
def test_hostile_text_is_escaped(html):
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html


FORMULAS = ["$$", "$5 to $9", "$x$", "\\(x\\)", "\\[x\\]", "\\begin{equation}x\\end{equation}"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_becomes_a_formula(text):
    """A formula begins and ends in one run of characters between tags."""
    shown = [
        cards.card(PICTURE, text, [text]),
        cards.static_view({text: ""}, text).data,
        cards.titled_rows({text: []}).data,
    ]
    for html in shown:
        runs = re.sub("<style>.*?</style>", "", html, flags=re.DOTALL)
        runs = re.split("<[^>]*>", runs)
        assert text in "".join(runs)
        assert {"$", "\\"} >= {run for run in runs if "$" in run or "\\" in run} != set()


def test_a_picture_is_held_with_its_size_and_colour():
    encoded = cards.data_uri(PICTURE).removeprefix("data:image/png;base64,")
    decoded = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    assert decoded.size == PICTURE.size
    assert np.abs(np.asarray(decoded, int) - np.asarray(PICTURE, int)).max() <= 8


def test_every_picture_has_its_title_as_alternative_text():
    assert 'alt="red mug"' in cards.card(PICTURE, "red mug")


def test_a_missing_picture_says_so():
    assert "no image" in cards.card(None, "red mug")


def test_each_row_has_its_cards_below_its_title():
    html = cards.titled_rows({"first": ["card 1", "card 2"], "second": ["card 3"]}).data
    order = [html.index(text) for text in ("first", "card 1", "card 2", "second", "card 3")]
    assert order == sorted(order)


def test_a_static_view_shows_one_panel_a_tab_and_opens_the_first():
    html = cards.static_view({"one": "first panel", "two": HTML("<b>second</b> panel")}, "two panels").data
    assert html.count('type="radio"') == html.count("<label") == html.count('class="panel') == 2
    assert html.count(" checked>") == 1
    assert "first panel" in html
    assert "<b>second</b> panel" in html


def test_two_static_views_do_not_share_their_tabs():
    first, second = (cards.static_view({"a": "x"}, name).data for name in ("this", "that"))
    group = first.split('name="')[1].split('"')[0]
    assert group not in second
    assert cards.static_view({"a": "x"}, "this").data == first


def test_a_widget_is_shown_with_its_static_view(monkeypatch):
    shown = []
    monkeypatch.setattr(cards, "display", lambda bundle, raw: shown.append((bundle, raw)))
    cards.show_widget(ipywidgets.IntSlider(), HTML("<p>static</p>"))
    (bundle, raw) = shown[0]
    assert raw
    assert bundle["text/html"] == "<p>static</p>"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_widget_of_ipywidgets_7_is_shown_as_it_shows_itself(monkeypatch):
    shown = []
    monkeypatch.setattr(cards, "display", lambda *arguments, **options: shown.append("static view"))
    cards.show_widget(SimpleNamespace(_ipython_display_=lambda: shown.append("widget")), HTML("<p>static</p>"))
    assert shown == ["widget"]

"""preferences.py: a step shows its items and facts, escaped; the static view has the first user's blocks."""

import re

import matplotlib.pyplot as plt
import pandas as pd
from small_data import rec_dataset

from mmrec_helpers.display import preferences
from mmrec_helpers.display.preferences import Step, plot_drift, show_steps, step_panel

DATASET = rec_dataset([(0, item, item) for item in range(1, 6)])
TEXTS = ["", *(f"text <{item}>" for item in range(1, 6))]
STEPS = [Step([1, 2], [2], {"preference": "<b>red</b>", "true taste": "blue"}), Step([3], [], {"preference": "x"})]


def test_a_panel_has_items_texts_and_facts():
    html = step_panel(DATASET, STEPS[0], TEXTS).data
    assert re.findall(r"<b>thing (\d)</b>", html) == ["1", "2"]
    assert html.count("card changed") == 1
    assert "text &lt;1&gt;" in html
    assert "&lt;b&gt;red&lt;/b&gt;" in html
    assert html.index("preference") < html.index("true taste")


def test_recommended_items_are_cards_below_the_other_facts_and_not_marked():
    step = Step([1, 2], [2], {"preference": "x", "recommended": [5, 3], "none": []})
    before, _, after = step_panel(DATASET, step, TEXTS).data.partition("recommended")
    recommended, none = after.split("none</div>")
    assert re.findall(r"<b>thing (\d)</b>", before) == ["1", "2"]
    assert re.findall(r"<b>thing (\d)</b>", recommended) == ["5", "3"]
    assert "text &lt;5&gt;" in recommended
    assert "card changed" not in recommended
    assert "<b>" not in none


def test_the_widget_shows_every_user_and_its_static_view_all_blocks_of_the_first(monkeypatch):
    shown = []
    monkeypatch.setattr(preferences, "show_widget", lambda *parts: shown.append(parts))
    show_steps(DATASET, lambda user: STEPS[user:], 2, TEXTS)
    ((browse, static),) = shown
    assert re.findall(r"<label[^>]*>(.*?)</label>", static.data) == ["block 1", "block 2"]
    panels = []
    monkeypatch.setattr(preferences, "display", panels.append)
    browse.children[0].value, browse.children[1].value = 1, 2  # the second user has one block
    browse.f(user=1, block=2)
    assert "thing 3" in panels[-1].data


def test_a_drift_plot_has_a_line_for_each_summariser():
    curve = pd.DataFrame({"new": [0.1, 0.5], "old": [0.6, 0.2]}, index=[0, 3])
    plot_drift({"recurrent": curve, "direct": curve})
    left, right = plt.gcf().axes
    assert [len(axis.lines) for axis in (left, right)] == [2, 2]
    assert left.lines[0].get_ydata().tolist() == [0.1, 0.5]
    assert right.lines[0].get_ydata().tolist() == [0.6, 0.2]
    plt.close("all")

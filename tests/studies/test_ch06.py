"""studies/ch06.py: metrics by hand on three candidates, words by hand, and the widget's panel."""

import re

import numpy as np
import pytest

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies import ch06
from mmrec_helpers.studies.ch06 import answer_panel, candidate_metrics, shared_words, within_user_correlation

TEXTS = ["", "a red mug", "a blue t-shirt"]


def test_metrics_are_those_of_the_target_in_column_0():
    metrics = candidate_metrics(np.array([[3, 1, 2], [1, 3, 2], [0, 0, 0]]))
    assert metrics["AUC"].tolist() == [1, 0, 0.5]
    assert metrics["MRR@5"][:2].tolist() == [1, pytest.approx(1 / 3)]
    assert metrics["HR@5"].tolist() == [1, 1, 1]  # three candidates


def test_shared_words_are_counted_once_and_whole_words_only():
    candidates = np.array([[1, 2], [2, 0]])
    found = shared_words(["They like Red, red. They buy mug.", "They like shirt, t-shirt"], TEXTS, candidates)
    assert found.tolist() == [[2, 0], [1, 0]]


def test_a_users_own_level_of_scores_does_not_correlate():
    rng = np.random.default_rng(0)
    one, levels = rng.normal(size=(20, 5)), 100 * rng.normal(size=(20, 1))
    assert within_user_correlation(one, 2 * one + levels) == pytest.approx(1)
    assert within_user_correlation(one, -one) == pytest.approx(-1)


def test_the_panel_shows_the_profile_and_the_most_probable_candidates_first():
    dataset = load_shop(0, "tiny")[0]
    texts = [f"text {item}" for item in range(dataset.num_items + 1)]
    html = answer_panel(dataset, "They like <red>", [1, 2, 3, 4, 5], np.array([0.0, -9, 3, 1, 2]), texts).data
    assert "They like &lt;red&gt;" in html
    shown = [part.partition("<")[0] for part in html.split("<small>text ")[1:]]
    assert shown == ["1", "3", "5", "4"]  # the true item, then by probability
    assert html.index("p = 0.50") < html.index("p = 0.95")


def test_the_widget_has_a_static_view_of_the_first_users(monkeypatch):
    dataset, views = load_shop(0, "tiny")[0], []
    monkeypatch.setattr(ch06, "show_widget", lambda widget, static: views.append(static.data))
    texts, candidates = ["x"] * (dataset.num_items + 1), np.arange(1, 9).reshape(4, 2)
    ch06.show_answers(dataset, [f"profile {user}" for user in range(4)], candidates, np.zeros((4, 2)), texts)
    assert [f"profile {user}" in views[0] for user in range(4)] == [True, True, True, False]


def test_the_rank_of_the_true_item_is_shown_beside_each_kind_of_profile(monkeypatch):
    dataset, views = load_shop(0, "tiny")[0], []
    monkeypatch.setattr(ch06, "show_widget", lambda widget, static: views.append(static.data))
    scores = {"before": np.array([[1, 2, 3], [3, 2, 1]]), "after": np.array([[9, 2, 3], [1, 2, 0]])}
    profiles = {kind: [f"{kind} {user}" for user in range(2)] for kind in scores}
    ch06.show_leak(dataset, np.array([[5, 6, 7], [8, 9, 1]]), profiles, scores)
    shown = re.findall(r"(?:before|after): (before|after) (\d).*?rank (\d) of 3", views[0], re.DOTALL)
    assert shown == [("before", "0", "3"), ("after", "0", "1"), ("before", "1", "1"), ("after", "1", "2")]

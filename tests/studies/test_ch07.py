"""ch07.py: drawings differ by what they should; examples of events are those of a loop, without the held-out ones."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies import ch07
from mmrec_helpers.studies.ch07 import (
    CONTEXT,
    SENSES,
    ambiguous_shop,
    colour_pairs,
    count_sessions,
    event_log,
    history_means,
    look_up_rate,
    redrawn,
    view_examples,
    with_clicks,
)


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")


def test_an_item_in_its_own_colour_is_its_image(shop):
    dataset, truth = shop
    for item in np.flatnonzero(dataset.has_image)[:5]:
        fields = dataset.item(int(item))
        own = redrawn(truth, fields["item_id"], truth.facts(fields["item_id"])["colour"])
        assert own.tobytes() == fields["image"].convert("RGB").tobytes()


def test_twins_share_their_text_and_differ_in_the_colour_of_the_image_alone():
    dataset, truth, twins = ambiguous_shop(1, 96, 50)
    assert len(twins) == 24
    for pair in twins.tolist():
        rows = [dataset.validate().item(item) for item in pair]
        facts = [truth.facts(row["item_id"]) for row in rows]
        colours = {own.pop("colour") for own in facts}
        (word,) = (word for word, senses in SENSES.items() if set(senses) == colours)
        assert facts[0] == facts[1]
        assert all(rows[0][name] == rows[1][name] for name in ("title", "description", "price"))
        assert word in rows[0]["description"]
        assert f"an {word}" not in rows[0]["description"]
        assert not colours & set(re.findall(r"\w+", rows[0]["description"]))
        assert rows[0]["image"].tobytes() != rows[1]["image"].tobytes()


def test_pairs_are_of_users_with_a_preferred_colour_and_of_items_that_mention_none(shop):
    dataset, truth = shop
    queries = dataset.leave_one_out().queries("test", 200)
    chosen, items, (liked, others) = colour_pairs(dataset, truth, queries, 40)
    assert len(np.unique(chosen.users)) == len(items) == len(liked) == len(others) == 40
    assert not truth.mentions[items - 1, 0].any()
    assert dataset.has_image[items].all()
    for row in range(10):
        item, step = dataset.item(int(items[row]))["item_id"], int((chosen.histories[row] > 0).sum())
        preferred = truth.taste(dataset.user_ids[chosen.users[row]], step)["colour"]
        assert liked[row].tobytes() == redrawn(truth, item, preferred).tobytes() != others[row].tobytes()
    again = colour_pairs(dataset, truth, queries, 40)
    assert np.array_equal(again[1], items)


@pytest.fixture(scope="module")
def log(shop):
    return event_log(*shop)


def test_the_log_of_other_data_is_their_purchases_and_says_what_is_missing(shop, capsys):
    dataset, _ = shop
    days = dataset.interactions.assign(time=lambda frame: frame["time"] // 86_400 * 86_400)
    log = event_log(replace(dataset, interactions=days, name="week"), None)
    assert capsys.readouterr().out.splitlines() == [
        "week has no searches, views, clicks, dwell times and devices: all events are purchases.",
        "Its times are days: a session is what a user does on a day, whatever the gap.",
    ]
    assert len(log) == dataset.num_interactions
    assert (log["event"] == "purchase").all()
    event_log(replace(dataset, timed=False), None)
    assert "orders, not times" in capsys.readouterr().out


def test_without_clicks_the_shop_takes_the_place_of_the_data(shop, log, monkeypatch, capsys):
    dataset, truth = shop
    assert with_clicks(dataset, truth, log) == (dataset, truth, log)
    monkeypatch.setattr(ch07, "load_shop", lambda: shop)
    other = with_clicks(dataset, None, log[:5])
    assert other[:2] == shop
    assert other[2].equals(log)
    assert "goes on with the Pocket Shop" in capsys.readouterr().out


def test_means_of_histories_are_those_of_a_loop(shop):
    dataset, _ = shop
    means = history_means(dataset)
    vectors = np.random.default_rng(0).normal(size=(dataset.num_items + 1, 3)).astype(np.float32)
    found, seen = means @ vectors, []
    user, item = (dataset.interactions[name].tolist() for name in ("user", "item"))
    for row in range(300):
        seen = seen if row and user[row] == user[row - 1] else []
        expected = vectors[seen].mean(axis=0) if seen else np.zeros(3)
        np.testing.assert_allclose(found[row], expected, atol=1e-5)
        seen.append(item[row])


def test_views_have_the_history_at_their_visit_and_none_of_the_held_out_ones_is_for_training(shop, log):
    dataset, _ = shop
    split = dataset.leave_one_out()
    views, context = view_examples(split, log)
    assert context.shape == (len(views), len(CONTEXT))
    assert (context[:, :4].sum(axis=1) == 1).all()
    assert (context[:, 4:7].sum(axis=1) == 1).all()
    assert 0.15 < views["clicked"].mean() < 0.35
    user = dataset.interactions["user"].to_numpy()
    train = views[views["train"]]
    owner = user[train["row"]]
    assert (split.part[train["row"] - 1] == 0).all()
    assert (user[train["row"] - 1] == owner).all()
    targets = {(u, i) for u, i in zip(user[split.part > 0], dataset.interactions["item"][split.part > 0], strict=True)}
    leaked = [(u, i) in targets for u, i in zip(owner, train["item"], strict=True)]
    assert np.mean(np.array(leaked)[train["clicked"]]) < 0.05  # browsed by chance, not the click before the target


def test_sessions_are_counted_against_the_visits():
    log = pd.DataFrame({"event": ["click", "purchase", "click", "click"], "visit": [0, 0, 1, 1]})
    assert count_sessions(log, np.array([0, 1, 1, 1])) == {"sessions": 2, "with purchase": 0.5, "split": 1, "merged": 1}
    assert "split" not in count_sessions(log[["event"]], np.array([0, 1, 1, 1]))


def test_the_look_up_recommends_the_latest_clicks_without_purchases():
    rows = [(0, "click", 1, 0), (0, "purchase", 1, 0), (0, "click", 2, 0), (0, "click", 3, 0), (0, "purchase", 2, 2)]
    rows += [(1, "click", 4, 2), (1, "purchase", 4, 2)]
    acts = pd.DataFrame(rows, columns=["user", "event", "item", "part"])
    part = acts.pop("part").to_numpy()
    assert look_up_rate(acts, part) == 0.5
    assert look_up_rate(acts, part, k=1) == 0

"""protocol_lab.py: the released rule against brute force, tables by protocol, systems, pictures, the records."""

import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from experiments import results
from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.published import PUBLISHED, ROUNDING
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.sequential import SASRec
from mmrec_helpers.studies.ch03 import (
    ASKED,
    DRAWN,
    by_protocol,
    confidence,
    format_interval,
    gallery,
    mixed_core,
    next_items,
    plot_leaderboard,
    popular_part,
    popularity_among,
    rank_reversals,
    rule_table,
    sequences_of,
    study_rule,
    with_interval,
)


@pytest.fixture(scope="module")
def dataset():
    return load_shop(0, "tiny")[0]


# Whose history --------------------------------------------------------------------------------------------------------


def test_mixed_core_is_the_largest_part_that_keeps_both_limits(dataset):
    left = mixed_core(dataset, 7, 5)
    frame = left.interactions
    assert np.bincount(frame["user"]).min() >= 7
    assert np.bincount(frame["item"])[1:].min() >= 5
    assert mixed_core(left, 7, 5) is left
    assert set(dataset.k_core(7).user_ids) <= set(left.user_ids)  # a stricter core lies within


def test_a_core_that_ends_empty_is_not_available(dataset):
    longest = int(np.bincount(dataset.interactions["user"]).max())
    for make in (mixed_core, study_rule):
        with pytest.raises(NotAvailable, match=f"{re.escape(dataset.name)} has no part .* {longest + 1} interactions"):
            make(dataset, longest + 1, 5)


def test_sequences_are_the_interactions(dataset):
    sequences = sequences_of(dataset)
    by_hand = dataset.interactions.groupby("user")["item"].agg(list)
    assert [row[row > 0].tolist() for row in sequences] == by_hand.tolist()


def test_popular_part_is_the_most_popular_in_order_of_time():
    sequences = np.array([[1, 2, 3, 4], [4, 2, 5, 0], [2, 4, 3, 0], [4, 6, 2, 0]])
    assert popular_part(sequences, keep=2).tolist() == [[2, 4], [4, 2], [2, 4], [4, 2]]
    assert popular_part(sequences, keep=3).tolist() == [[2, 3, 4], [4, 2, 5], [2, 4, 3], [4, 6, 2]]


def test_popular_part_never_takes_padding():
    assert popular_part(np.array([[3, 1, 0, 0], [2, 4, 5, 6]]), keep=2).all()


def test_popularity_counts_other_users_only():
    # Two items are had by nobody but user 0, who has both; everybody has item 3; 4 to 30 nobody.
    sequences = np.array([[1, 2, 3], [3, 0, 0], [3, 0, 0], [3, 0, 0]])
    target_ranks = popularity_among(sequences, sequences[:, 0], num_items=30)
    assert target_ranks.candidates.tolist() == [DRAWN + 1] * 4
    assert target_ranks.better[0].tolist() == [0]  # nobody has any of the drawn either:
    assert target_ranks.equal[0].tolist() == [DRAWN + 1]  # the user's own purchase does not lift item 1
    assert target_ranks.better[1:].ravel().tolist() == [0, 0, 0]
    assert target_ranks.equal[1:].ravel().tolist() == [1, 1, 1]  # three others have item 3


def test_drawn_items_are_never_the_users():
    sequences = np.tile([1, 2, 3], (50, 1))  # drawn, 1 and 2 would be above 3 without the user's own purchase
    target_ranks = popularity_among(sequences, sequences[:, 2], num_items=30)
    assert not target_ranks.better.any()
    assert (target_ranks.equal == 1).all()
    with pytest.raises(NotAvailable, match="A user has 15 of the 30 items"):
        popularity_among(np.arange(1, 16)[None], np.array([1]), num_items=30)


def test_released_rule_lifts_popularity(dataset):
    found = study_rule(dataset)
    assert 0 < found["same target"] < 1
    for metric in ("AUC", "HR@5", "MRR@5"):
        assert found["released"][metric][1] > found["last item"][metric][2]
    assert found["users"] == mixed_core(dataset).num_users


def test_the_rules_table_leaves_out_what_is_not_available(dataset):
    found = study_rule(dataset)
    table = rule_table({"shop": found, "other": None})
    assert list(table.index) == ["shop: released", "shop: last item"]
    assert table.loc["shop: released", "AUC"] == format_interval(found["released"]["AUC"])


def test_without_popularity_the_rule_lifts_nothing(dataset):
    """The control: where all items are equally popular by chance alone, the fair number is near that of guessing."""
    rng = np.random.default_rng(0)
    frame = dataset.interactions.assign(item=0)
    for rows in frame.groupby("user").indices.values():
        frame.iloc[rows, frame.columns.get_loc("item")] = rng.permutation(dataset.num_items)[: len(rows)] + 1
    found = study_rule(replace(dataset, interactions=frame))
    assert abs(found["last item"]["AUC"][0] - 0.5) < 0.05


# What comes next ------------------------------------------------------------------------------------------------------


def test_following_is_what_the_user_took_next(dataset):
    ahead = next_items(dataset, 3)
    frame = dataset.interactions
    for row in (0, 7, len(frame) - 1, len(frame) - 2):
        later = frame.iloc[row + 1 : row + 4].query("user == @frame['user'].iloc[@row]")["item"].tolist()
        assert ahead[row].tolist() == later + [0] * (3 - len(later))


# Protocols ------------------------------------------------------------------------------------------------------------


def test_turned_pairs_are_those_of_two_orders():
    one, other = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 3.0, "c": 2.0}
    assert rank_reversals(one, other) == [("a", "b"), ("a", "c")]
    assert rank_reversals(one, one) == []
    assert rank_reversals({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}) == []  # equal is no order


def test_table_by_protocol_holds_what_evaluate_says(dataset):
    split = dataset.leave_one_out()
    systems = [Popularity().fit(split), Random().fit(split)]
    table = by_protocol(systems, split)
    assert list(table.columns) == list(ASKED)
    run = evaluate(systems[0], split, protocol=ASKED["20 uniform"])
    assert table.loc["popularity", "20 uniform"] == run.metric("NDCG@10").mean()
    assert (table["full ranking"] < table["20 uniform"]).all()


def test_interval_holds_the_mean():
    mean, low, high = with_interval(np.random.default_rng(0).random(500))
    assert low < mean < high
    assert high - low < 0.1


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_confidence_is_a_share(dataset, loss):
    split = dataset.leave_one_out()
    system = SASRec(loss=loss, epochs=1, dim=8, num_layers=1).fit(split)
    found = confidence(system, split)
    assert all(0 <= share <= 1 for share in found.values())
    if loss == "bce":
        assert found["says of its first"] > 3 * found["and it is right"]  # the overconfidence of the chapter


# To be seen -----------------------------------------------------------------------------------------------------------


def test_gallery_shows_history_truth_and_lists_and_escapes_them(dataset):
    items = dataset.items.select(range(dataset.num_items)).map(lambda row: row | {"title": "<script>"})
    told = replace(dataset, items=items)
    split = told.leave_one_out()
    runs = [evaluate(system.fit(split), split) for system in (Popularity(), ItemKNN())]
    user = int(runs[0].users[np.argmax(runs[1].metric("HR@10"))])
    shown = gallery(told, runs, user, shown=10).data
    assert "<script>" not in shown
    assert shown.count("class='cards'") == 4
    assert shown.count("<b>found</b>") == int(runs[0].metric("HR@10")[runs[0].users == user][0]) + 1


def test_league_draws_a_row_a_system():
    plot_leaderboard({"a": [0.1, 0.2], "b": [0.3, 0.3]}, "NDCG@10")
    assert [label.get_text() for label in plt.gca().get_yticklabels()] == ["a", "b"]
    plt.close()


# What was printed -----------------------------------------------------------------------------------------------------


def test_printed_tables_are_whole():
    assert set(PUBLISHED) == set(ROUNDING)
    assert [len(rows) for rows in PUBLISHED.values()] == [10, 11, 11, 11]
    for rows in PUBLISHED.values():
        table = pd.DataFrame(rows).T
        assert not table.isna().any().any()
        assert table.drop(columns="novelty", errors="ignore").to_numpy().min() >= 0
        assert table.to_numpy().max() <= 1
    assert PUBLISHED["MLLM-MSR, Baby"]["Trans2D"] == {"HR@5": 0.2894, "MRR@5": 0.4591}
    assert PUBLISHED["MM-GPT2Rec"]["Matrix Factorization"]["MRR"] == 0.064


def test_recorded_rule_is_of_these_shops():
    recorded = json.loads((results.RESULTS / "rule.json").read_text())
    for seed in results.SEEDS:
        dataset = load_shop(seed)[0]
        found, left = recorded["rule"][f"Pocket Shop, seed {seed}"], mixed_core(dataset)
        assert (found["users"], found["items"]) == (left.num_users, left.num_items)
    again = study_rule(load_shop(0)[0])
    assert recorded["rule"]["Pocket Shop, seed 0"] == results.four_digits(again)

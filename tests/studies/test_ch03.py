"""ch03.py: the released preprocessing against brute force, tables by protocol, confidence, pictures."""

import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from mmrec_helpers.data.dataset import NotAvailable
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.tables import leaderboard
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.studies.ch03 import (
    NUM_NEGATIVES,
    PROTOCOLS,
    by_protocol,
    gallery,
    item_sequences,
    most_popular_items,
    next_items,
    plot_attention,
    popularity_ranks,
    preprocessing_runs,
    rank_reversals,
)


@pytest.fixture(scope="module")
def dataset():
    return load_shop(0, "tiny")[0]


# Whose history --------------------------------------------------------------------------------------------------------


def test_a_core_that_ends_empty_is_not_available(dataset):
    longest = int(np.bincount(dataset.interactions["user"]).max())
    for make in (lambda data, *limits: item_sequences(data.k_core(*limits)), preprocessing_runs):
        with pytest.raises(NotAvailable, match=f"{re.escape(dataset.name)} has no users and items with enough"):
            make(dataset, longest + 1, 5)


def test_sequences_are_the_interactions(dataset):
    sequences = item_sequences(dataset)
    by_hand = dataset.interactions.groupby("user")["item"].agg(list)
    assert [row[row > 0].tolist() for row in sequences] == by_hand.tolist()


def test_most_popular_items_is_the_most_popular_in_order_of_time():
    sequences = np.array([[1, 2, 3, 4], [4, 2, 5, 0], [2, 4, 3, 0], [4, 6, 2, 0]])
    assert most_popular_items(sequences, num=2).tolist() == [[2, 4], [4, 2], [2, 4], [4, 2]]
    assert most_popular_items(sequences, num=3).tolist() == [[2, 3, 4], [4, 2, 5], [2, 4, 3], [4, 6, 2]]


def test_most_popular_items_never_takes_padding():
    assert most_popular_items(np.array([[3, 1, 0, 0], [2, 4, 5, 6]]), num=2).all()


def test_popularity_counts_other_users_only():
    # Two items are had by nobody but user 0, who has both; everybody has item 3; 4 to 30 nobody.
    sequences = np.array([[1, 2, 3], [3, 0, 0], [3, 0, 0], [3, 0, 0]])
    target_ranks = popularity_ranks(sequences, sequences[:, 0], num_items=30)
    assert target_ranks.num_candidates.tolist() == [NUM_NEGATIVES + 1] * 4
    assert target_ranks.num_higher[0].tolist() == [0]  # nobody has any of the drawn either:
    assert target_ranks.num_tied[0].tolist() == [NUM_NEGATIVES + 1]  # the user's own purchase does not lift item 1
    assert target_ranks.num_higher[1:].ravel().tolist() == [0, 0, 0]
    assert target_ranks.num_tied[1:].ravel().tolist() == [1, 1, 1]  # three others have item 3


def test_drawn_items_are_never_the_users():
    sequences = np.tile([1, 2, 3], (50, 1))  # drawn, 1 and 2 would be above 3 without the user's own purchase
    target_ranks = popularity_ranks(sequences, sequences[:, 2], num_items=30)
    assert not target_ranks.num_higher.any()
    assert (target_ranks.num_tied == 1).all()
    with pytest.raises(NotAvailable, match="A user has 15 of the 30 items"):
        popularity_ranks(np.arange(1, 16)[None], np.array([1]), num_items=30)


def test_released_preprocessing_lifts_popularity(dataset):
    released, last = preprocessing_runs(dataset)
    for metric in ("AUC", "HR@5", "MRR@5"):
        table = leaderboard([released, last], [metric], reference=last.system)
        assert table[metric].loc[released.system, "difference_ci_low"] > 0


def test_runs_of_the_released_preprocessing_are_of_the_core_and_of_one_set_of_users(dataset):
    runs, core = preprocessing_runs(dataset), dataset.k_core(7, 5)
    sequences = item_sequences(core)
    released, last = (run.targets[:, 0] for run in runs)
    assert [run.system for run in runs] == ["popularity, released target", "popularity, last item"]
    assert last.tolist() == [row[row > 0][-1] for row in sequences]
    assert all(target in row for target, row in zip(released, sequences, strict=True))
    for run, targets in zip(runs, (released, last), strict=True):
        assert run.users.tolist() == list(range(core.num_users))
        wanted = popularity_ranks(sequences, targets, core.num_items)
        assert np.array_equal(run.target_ranks.num_higher, wanted.num_higher)
        assert run.scalars == {
            "users": core.num_users,
            "items": core.num_items,
            "same target": pytest.approx((released == last).mean()),
        }
        assert run.stamp["fingerprint"] == dataset.fingerprint
    assert 0 < runs[0].scalars["same target"] < 1


def test_without_popularity_the_rule_lifts_nothing(dataset):
    """The control: where all items are equally popular by chance alone, the fair number is near that of guessing."""
    rng = np.random.default_rng(0)
    frame = dataset.interactions.assign(item=0)
    for rows in frame.groupby("user").indices.values():
        frame.iloc[rows, frame.columns.get_loc("item")] = rng.permutation(dataset.num_items)[: len(rows)] + 1
    _, last = preprocessing_runs(replace(dataset, interactions=frame))
    assert abs(last.metric("AUC").mean() - 0.5) < 0.05


# What comes next ------------------------------------------------------------------------------------------------------


def test_following_is_what_the_user_took_next(dataset):
    ahead = next_items(dataset, 3)
    frame = dataset.interactions
    for row in (0, 7, len(frame) - 1, len(frame) - 2):
        later = frame.iloc[row + 1 : row + 4].query("user == @frame['user'].iloc[@row]")["item"].tolist()
        assert ahead[row].tolist() == later + [0] * (3 - len(later))


# Protocols ------------------------------------------------------------------------------------------------------------


def test_rank_reversals_are_pairs_in_two_orders():
    one, other = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 3.0, "c": 2.0}
    assert rank_reversals(one, other) == [("a", "b"), ("a", "c")]
    assert rank_reversals(one, one) == []
    assert rank_reversals({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}) == []  # equal is no order


def test_table_by_protocol_holds_what_evaluate_says(dataset):
    split = dataset.leave_one_out()
    systems = [Popularity().fit(split), Random().fit(split)]
    values = by_protocol(systems, split)
    assert list(values) == list(PROTOCOLS)
    run = evaluate(systems[0], split, protocol=PROTOCOLS["20 uniform"])
    assert values["20 uniform"]["popularity"].tolist() == run.metric("NDCG@10").tolist()
    assert (values["full ranking"].mean() < values["20 uniform"].mean()).all()


# To be seen -----------------------------------------------------------------------------------------------------------


def test_gallery_shows_history_truth_and_lists_and_escapes_them(dataset):
    items = dataset.items.select(range(dataset.num_items)).map(lambda row: row | {"title": "<script>"})
    told = replace(dataset, items=items)
    split = told.leave_one_out()
    runs = [evaluate(system.fit(split), split) for system in (Popularity(), ItemKNN())]
    user = int(runs[0].users[np.argmax(runs[1].metric("HR@10"))])
    shown = gallery(told, runs, user, length=10).data
    assert "<script>" not in shown
    assert shown.count("class='cards'") == 4
    assert shown.count("<b>found</b>") == int(runs[0].metric("HR@10")[runs[0].users == user][0]) + 1


def test_attention_has_a_cell_for_each_pair_of_positions_that_the_mask_allows():
    weights = np.tril(np.ones((3, 3))) / [[1], [2], [3]]
    _, axes = plt.subplots()
    plot_attention(axes, weights, ["start", "$$", "$5 to $9"])
    axes.figure.canvas.draw()  # $$ is a category of prices, and no mathematics
    assert [text.get_text() for text in axes.get_xticklabels()][1:] == [r"\$\$", r"\$5 to \$9"]
    shown = axes.collections[0].get_array().reshape(3, 3)
    assert np.array_equal(shown.mask, np.triu(np.ones((3, 3), bool), 1))
    assert np.array_equal(shown.compressed(), weights[np.tril_indices(3)])
    plt.close()

"""protocol_lab.py: the released rule against brute force, tables by protocol, systems, pictures, the records."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import results

from mmrec_helpers.baselines.counting import ItemKNN, Popularity, Random
from mmrec_helpers.baselines.sequential import SASRec
from mmrec_helpers.evaluation import evaluate
from mmrec_helpers.metrics import Placing, ndcg
from mmrec_helpers.pocket_shop.shop import open_shop
from mmrec_helpers.protocol_lab import (
    ASKED,
    DRAWN,
    Inferring,
    Oracle,
    by_protocol,
    confidence,
    counting,
    draw_league,
    following,
    gallery,
    image_features,
    mixed_core,
    popular_part,
    popularity_among,
    sequences_of,
    study_rule,
    text_features,
    turned,
    with_interval,
)
from mmrec_helpers.published import LAST_DIGIT, PUBLISHED


@pytest.fixture(scope="module")
def shop():
    return open_shop(0, "tiny")


@pytest.fixture(scope="module")
def dataset(shop):
    return shop[0]


# Whose history --------------------------------------------------------------------------------------------------------


def test_mixed_core_is_the_largest_part_that_keeps_both_limits(dataset):
    left = mixed_core(dataset, 7, 5)
    frame = left.interactions
    assert np.bincount(frame["user"]).min() >= 7
    assert np.bincount(frame["item"])[1:].min() >= 5
    assert mixed_core(left, 7, 5) is left
    assert set(dataset.k_core(7).user_ids) <= set(left.user_ids)  # a stricter core lies within


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
    placing = popularity_among(sequences, sequences[:, 0], num_items=30)
    assert placing.candidates.tolist() == [DRAWN + 1] * 4
    assert placing.better[0].tolist() == [0]  # nobody has any of the drawn either:
    assert placing.equal[0].tolist() == [DRAWN + 1]  # the user's own purchase does not lift item 1
    assert placing.better[1:].ravel().tolist() == [0, 0, 0]
    assert placing.equal[1:].ravel().tolist() == [1, 1, 1]  # three others have item 3


def test_drawn_items_are_never_the_users(dataset):
    sequences = sequences_of(dataset)
    counts = np.bincount(sequences.ravel(), minlength=dataset.num_items + 1)
    most, rare = int(counts[1:].argmax()) + 1, int(counts[1:].argmin()) + 1
    everybody = np.full(len(sequences), most)
    assert not popularity_among(sequences, everybody, dataset.num_items).better.any()  # nothing is above the first
    placing = popularity_among(sequences, np.full(len(sequences), rare), dataset.num_items)
    assert np.median(placing.better) == DRAWN
    with pytest.raises(ValueError, match="too few"):
        popularity_among(np.arange(1, 16)[None], np.array([1]), num_items=30)


def test_released_rule_lifts_popularity(dataset):
    found = study_rule(dataset)
    assert 0 < found["same target"] < 1
    for metric in ("AUC", "HR@5", "MRR@5"):
        assert found["released"][metric][1] > found["last item"][metric][2]
    assert found["users"] == mixed_core(dataset).num_users


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
    ahead = following(dataset, 3)
    frame = dataset.interactions
    for row in (0, 7, len(frame) - 1, len(frame) - 2):
        later = frame.iloc[row + 1 : row + 4].query("user == @frame['user'].iloc[@row]")["item"].tolist()
        assert ahead[row].tolist() == later + [0] * (3 - len(later))


# Protocols ------------------------------------------------------------------------------------------------------------


def test_turned_pairs_are_those_of_two_orders():
    one, other = {"a": 3.0, "b": 2.0, "c": 1.0}, {"a": 1.0, "b": 3.0, "c": 2.0}
    assert turned(one, other) == [("a", "b"), ("a", "c")]
    assert turned(one, one) == []
    assert turned({"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 2.0}) == []  # equal is no order


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


# Systems --------------------------------------------------------------------------------------------------------------


def test_ceilings_stand_above_popularity(shop):
    dataset, truth = shop
    split = dataset.leave_one_out()
    some = split.histories("test").take(slice(60))
    reached = {}
    for system in (Oracle(truth), Inferring(truth), Popularity()):
        scores = system.fit(split).score(some)
        assert scores.shape == (60, dataset.num_items + 1)
        reached[system.name] = ndcg(Placing.of(scores, some.targets[:, :1], some.items), 10).mean()
    assert reached["omniscient oracle"] > reached["inferring ceiling"] > 2 * reached["popularity"]


def test_counting_systems_rank_every_user(dataset):
    split = dataset.leave_one_out()
    systems = counting(dataset, "pocket-clip")
    names = [system.name for system in systems]
    assert len(set(names)) == len(names)
    for system in systems:
        assert len(evaluate(system.fit(split), split).users) == len(split.histories("test"))


def test_features_leave_padding_and_missing_pictures_at_zero(dataset):
    pictures = image_features(dataset, "pocket-clip")
    assert (pictures.any(axis=1) == dataset.has_image).all()
    texts = text_features(dataset)
    assert texts.shape == (dataset.num_items + 1, 64)
    assert not texts[0].any()


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_confidence_is_a_share(dataset, loss):
    split = dataset.leave_one_out()
    system = SASRec(loss=loss, epochs=1, width=8, layers=1).fit(split)
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
    draw_league({"a": [0.1, 0.2], "b": [0.3, 0.3]}, "NDCG@10")
    assert [label.get_text() for label in plt.gca().get_yticklabels()] == ["a", "b"]
    plt.close()


# What was printed -----------------------------------------------------------------------------------------------------


def test_printed_tables_are_whole():
    assert set(PUBLISHED) == set(LAST_DIGIT)
    assert [len(rows) for rows in PUBLISHED.values()] == [10, 11, 11, 11]
    for rows in PUBLISHED.values():
        table = pd.DataFrame(rows).T
        assert not table.isna().any().any()
        assert table.drop(columns="novelty", errors="ignore").to_numpy().min() >= 0
        assert table.to_numpy().max() <= 1
    assert PUBLISHED["MLLM-MSR, Baby"]["Trans2D"] == {"HR@5": 0.2894, "MRR@5": 0.4591}
    assert PUBLISHED["MM-GPT2Rec"]["Matrix Factorization"]["MRR"] == 0.064


@pytest.mark.parametrize("name", ["league-pocket", "league-real", "protocols", "losses"])
def test_record_is_of_these_shops_and_has_no_holes(name):
    path = results.RESULTS / f"{name}.json"
    if not path.exists():
        pytest.skip(f"{name} is not recorded yet")
    recorded = json.loads(path.read_text())
    assert recorded["commit"]
    if "fingerprints" in recorded:
        assert recorded["fingerprints"] == [open_shop(seed)[0].fingerprint for seed in results.SEEDS]
    if name == "league-pocket":
        assert all(len(means) == len(results.SEEDS) for means in recorded["rows"].values())
        assert {"popularity", "SASRec", "omniscient oracle", "inferring ceiling"} <= set(recorded["rows"])
    if name == "league-real":
        assert set(recorded["sets"]) == set(results.LEAGUES)
    if name == "protocols":
        assert "MicroLens-50k" in recorded["rule"]
        assert all(set(columns) == set(ASKED) for columns in recorded["means"].values())
    if name == "losses":
        assert [list(shop) for shop in recorded["shops"].values()] == [["ce", "bce", "gbce"]] * len(results.SEEDS)

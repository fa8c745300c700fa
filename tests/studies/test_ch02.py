"""ch02.py: the study on small shops, and its helpers against brute force."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from pairs import ColourWords, features

from mmrec_helpers.lessons.overlap import recall_at_k
from mmrec_helpers.pocket_shop.catalogue import COLOURS
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch02 import (
    calibrated_bias,
    control_groups,
    encode_pairs,
    groups_of,
    nearest_images,
    nearest_texts,
    pair_similarities,
    plot_gap,
    plot_intervals,
    plot_probabilities,
    recalls,
    study_by_length,
    study_features,
    subsample_items,
    sweep_parameter,
    tiny_dual_encoders,
    training_pairs,
)


def test_study_leaves_out_items_without_a_picture_or_a_text():
    vectors = np.random.default_rng(0).normal(size=(30, 6))
    groups = control_groups(["mug"] * 15 + ["cap"] * 15)
    found = study_features(features(vectors, absent=[0, 1]), features(vectors, absent=[1, 2]), groups)
    assert found["pairs"] == 27
    assert found["recall@10"] == [1.0, 10 / 27]
    assert list(found["table"]) == ["matched", "random", "same category"]
    assert found["table"]["matched"][0] == pytest.approx(1)
    assert found["table"]["random"][3] == 1
    assert found["control"] == {"random": 27, "same category": 27}


def test_recalls_are_of_as_many_candidates_as_they_name():
    rng = np.random.default_rng(0)
    similarity = rng.normal(size=(1000, 1000)) + 3 * np.eye(1000)
    found = recalls(similarity)
    assert list(found) == ["recall@1 of 100", "recall@1 of 1000", "recall@10 of 1000"]
    assert found["recall@10 of 1000"][0] == pytest.approx(recall_at_k(similarity, 10))
    assert found["recall@1 of 1000"][0] < found["recall@1 of 100"][0]
    assert all(low < middle < high for middle, low, high, _ in found.values())
    chance = recalls(np.zeros((250, 250)))
    assert list(chance) == ["recall@1 of 100"]  # 250 pairs are too few for the others
    assert chance["recall@1 of 100"] == pytest.approx([0.01] * 4)


def test_a_calibrated_bias_balances_matched_and_control_pairs():
    rng = np.random.default_rng(0)
    matched, control = rng.normal(0.5, 0.1, 300), rng.normal(0.1, 0.1, 900)
    bias = calibrated_bias(matched, control, 20)
    assert bias == pytest.approx(-20 * 0.3, abs=0.3)  # even odds in the middle of two kinds that vary alike
    assert calibrated_bias(matched + 0.2, control + 0.2, 20) == pytest.approx(bias - 4)  # what moves all moves the bias
    assert calibrated_bias(np.ones(3), np.ones(2), 50) == pytest.approx(-50)


def test_subsample_keeps_the_items_that_the_study_draws():
    dataset, _ = load_shop(size="tiny")
    both = np.flatnonzero(dataset.has_image[1:])  # all have a description
    assert subsample_items(dataset, len(both)) is dataset
    drawn = np.sort(np.random.default_rng(0).permutation(both)[:50])
    drawn = drawn[np.isin(drawn + 1, dataset.interactions["item"])]
    cut = subsample_items(dataset, 50)
    assert cut.items["item_id"][:] == [dataset.items["item_id"][row] for row in drawn.tolist()]
    assert cut.has_image[1:].all()


def test_subsample_keeps_one_item_of_each_description():
    dataset, _ = load_shop(size="tiny")
    items = dataset.items.map(lambda row: {"description": f"a {row['category']}"}, load_from_cache_file=False)
    kept = subsample_items(replace(dataset, items=items)).items
    assert sorted(kept["category"]) == sorted(set(dataset.items["category"]))


def test_pairs_are_the_items_that_have_both():
    dataset, _ = load_shop(size="tiny")
    rows, images, texts = encode_pairs(dataset, "pocket-clip")
    assert rows.tolist() == np.flatnonzero(dataset.has_image[1:]).tolist()
    for vectors in (images, texts):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(rows)), atol=1e-5)
    assert recall_at_k((images @ texts.T).numpy(), 10) > 0.5


def test_groups_know_colours_only_with_the_facts():
    facts = [{"category": "mug", "colour": "red"}, {"category": "cap", "colour": "red"}]
    assert "same category and colour" not in control_groups(["mug", "cap"])
    assert control_groups(["mug", "cap"], facts)["same category and colour"].tolist() == ["mug red", "cap red"]


def test_groups_know_the_colours_of_a_shop_with_such_a_column():
    dataset, truth = load_shop(size="tiny")
    known = groups_of(dataset.items, truth)
    colours = [truth.facts(item_id)["colour"] for item_id in dataset.items["item_id"]]
    read = groups_of(dataset.items.add_column("colour", colours), None)
    assert "same category and colour" not in groups_of(dataset.items, None)
    assert all((read[name] == known[name]).all() for name in known)


def test_a_parameter_changes_the_texts_only():
    found = sweep_parameter("overlap", (0.0, 1.0), ColourWords(), seed=0, size="tiny")
    assert [row["pairs"] for row in found.values()] == [240, 240]
    shops = [load_shop(0, "tiny", missing_images=0.0, overlap=value)[0] for value in (0.0, 1.0)]
    pictures = [[np.asarray(picture) for picture in shop.items["image"]] for shop in shops]
    assert all((one == other).all() for one, other in zip(*pictures, strict=True))
    assert shops[0].items["description"][:] != shops[1].items["description"][:]


def test_fresh_pairs_are_in_range_and_of_their_own_seed():
    pictures, bags, category = training_pairs(seed=77, pixels=8)
    assert pictures.shape == (1200, 3, 8, 8)
    assert pictures.abs().max() <= 1
    assert torch.allclose(bags.sum(1), torch.ones(1200))
    assert len(category) == 1200


def test_quarters_by_length_hold_all_texts():
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 100, 200)
    found = study_by_length(rng.normal(size=(200, 200)), lengths, np.array(["a", "b"] * 100))
    assert len(found) == 4
    assert next(iter(found)).startswith(f"{lengths.min()} to ")
    assert list(found)[-1].endswith(f" to {lengths.max()} tokens")


def test_cosines_of_pairs_skip_who_is_alone():
    matrix = np.arange(9.0).reshape(3, 3)
    found = pair_similarities(matrix, {"random": np.array([2, -1, 0])})
    assert found["matched"].tolist() == [0, 4, 8]
    assert found["random"].tolist() == [2, 6]


def test_browsing_shows_own_texts_and_escapes_them():
    dataset = load_shop(0, "tiny", missing_images=0.0)[0]
    items = dataset.items.select(range(4)).map(lambda row: row | {"description": "<script> red"})
    shown = nearest_texts(1, np.eye(4), items).data
    assert shown.count("matched, 1.00") == 1
    assert "<script>" not in shown
    assert nearest_images("red", torch.eye(4, len(COLOURS)), items, ColourWords()).data.count("<img") == 4


def test_intervals_are_marked_where_they_are_and_left_out_where_there_are_none():
    rows = {"a": {"one": [0.5, 0.4, 0.7], "other": [0.1, 0.0, 0.2]}, "b": {"one": [0.9, 0.8, 1.0]}}
    plot_intervals(rows, "share", 0.5)
    panel = plt.gcf().axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    marks = [container.lines[0].get_xdata().tolist() for container in panel.containers]
    assert marks == [[0.5, 0.9], [0.1]]
    ends = panel.containers[0].lines[2][0].get_segments()
    assert [segment[:, 0].tolist() for segment in ends] == [pytest.approx([0.4, 0.7]), pytest.approx([0.8, 1.0])]
    plt.close()


def test_the_gap_is_plotted_along_the_line_between_the_means():
    rng = np.random.default_rng(0)
    images, texts = (torch.from_numpy(rng.normal(mean, 0.1, size=(40, 6))).float() for mean in (0.5, -0.5))
    plot_gap(images, texts)
    panel = plt.gcf().axes[0]
    along = [points.get_offsets()[:, 0] for points in panel.collections]
    assert along[0].min() > 0 > along[1].max()
    assert f"{(images.mean(0) - texts.mean(0)).norm():.2f}" in panel.get_xlabel()
    plt.close()


def test_probabilities_are_shares_of_each_kind_of_pairs():
    pairs = {"matched": np.array([0.9, 0.8]), "random": np.array([0.1] * 7)}
    plot_probabilities(pairs, 10, {"low": -20, "high": 0})
    low, high = ([[bar.get_height() for bar in bars] for bars in panel.containers] for panel in plt.gcf().axes)
    assert [bars[0] for bars in low] == pytest.approx([1, 1])
    assert high[0][-1] == pytest.approx(1)
    assert high[1][7] == pytest.approx(1)  # sigmoid(1) is 0.73
    plt.close()


def test_tiny_encoders_give_the_same_pairs_each_time():
    (clip, siglip, inputs), again = tiny_dual_encoders(), tiny_dual_encoders()[2]
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    assert (siglip.logit_scale.exp().item(), siglip.logit_bias.item()) == pytest.approx((10, -10))
    assert clip(**inputs).logits_per_image.shape == (5, 5)

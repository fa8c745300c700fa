"""ch02.py: the study on small shops, its helpers against brute force, and the record of today's code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import ch02
from experiments.cells import cell_of
from experiments.record import RESULTS
from mmrec_helpers.encoders.features import Features
from mmrec_helpers.encoders.models import Encoder
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.lessons.overlap import recall_at_k
from mmrec_helpers.pocket_shop.catalogue import COLOURS
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch02 import (
    ATTRIBUTES,
    MIN_ITEMS,
    bags_of_words,
    calibrated_bias,
    control_groups,
    embed_captions,
    groups_of,
    nearest_images,
    nearest_texts,
    overlap_table,
    pair_similarities,
    recall_table,
    recalls,
    study_by_length,
    study_features,
    study_probes,
    study_sigmoid,
    subsample_items,
    sweep_parameter,
    training_pairs,
)


class ColourWords(Encoder):
    """Sees the mean shade of a picture and reads the words of colours; needs no weights."""

    def __init__(self):
        self.name = "colour words"

    def images(self, images):
        pixels = torch.from_numpy(np.stack([np.asarray(picture.resize((4, 4)), np.float32) for picture in images]))
        return torch.nn.functional.pad(pixels.mean((1, 2)), (0, len(COLOURS) - 3))

    def texts(self, texts):
        found = [[float(colour in text.split()) for colour in COLOURS] for text in texts]
        return torch.tensor(found) + 0.1, torch.tensor([len(text) > 400 for text in texts])


def features(vectors: np.ndarray, absent=()) -> Features:
    present = torch.ones(len(vectors), dtype=torch.bool)
    present[list(absent)] = False
    return Features(torch.from_numpy(vectors).float(), present, torch.zeros(len(vectors), dtype=torch.bool))


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


def test_sigmoid_similarities_follow_the_bias():
    rng = np.random.default_rng(0)
    images, noise = rng.normal(size=(2, 200, 16))
    groups = {"random": np.zeros(200), "alone": np.arange(200)}  # the latter has no pairs
    low, high = (
        study_sigmoid(features(images), features(images + noise), groups, scale=10, bias=bias) for bias in (-12, 12)
    )
    assert list(low["table"]) == ["learned", "random"]
    assert max(row[0] for row in low["table"]["learned"].values()) < 0.2
    assert min(row[0] for row in high["table"]["learned"].values()) > 0.8
    assert low["table"]["random"] == high["table"]["random"]  # once calibrated, what was learned does not matter
    means = {kind: row[0] for kind, row in low["table"]["random"].items()}
    assert means["matched"] + means["random"] == pytest.approx(1)
    assert means["matched"] > 0.8


def test_probes_find_what_each_side_has():
    rng = np.random.default_rng(0)
    images, texts = rng.normal(size=(2, 400, 5))
    seen, read, rare = images[:, 0] > 0, texts[:, 0] > 0, np.full(400, "a")
    rare[: MIN_ITEMS - 1], rare[-MIN_ITEMS:] = "b", "c"
    labels = {"seen": seen, "either": seen.astype(int) + 2 * read, "rare": rare, "own": np.arange(400)}
    found = study_probes(features(images), features(texts), labels)
    assert found["seen"]["image"][0] > 0.9 > found["seen"]["text"][0] + 0.2
    assert found["either"]["both"][0] > found["either"]["image"][0] + 0.2
    gain, low, high = found["either"]["both - image"]
    assert gain == pytest.approx(found["either"]["both"][0] - found["either"]["image"][0])
    assert 0 < low < gain < high
    assert (found["rare"]["items"], found["rare"]["values"]) == (191, 2)
    assert "own" not in found
    assert found["rare"]["majority"][0] > 0.9


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


def test_bags_hold_the_most_frequent_words():
    bags, words = bags_of_words(["A red mug, a cap.", "the red t-shirt", "red"], max_words=2)
    assert words == ["red", "a"]
    assert bags.tolist() == [[1, 1], [1, 0], [1, 0]]


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


def test_captions_of_a_folder_count_each_photograph_once(tmp_path):
    (tmp_path / "images").mkdir()
    lines = ["image,caption"]
    for row in range(6):
        Image.new("RGB", (20, 10), (40 * row, 100, 200)).save(tmp_path / "images" / f"{row}.jpg")
        lines += [f"{row}.jpg,a {COLOURS[row]} wall", f"{row}.jpg,another one"]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    images, texts = embed_captions(tmp_path, ColourWords())
    assert len(images.vectors) == len(texts.vectors) == 6
    assert (texts.vectors[:, :6].argmax(1) == torch.arange(6)).all()


def test_browsing_shows_own_texts_and_escapes_them():
    dataset = load_shop(0, "tiny", missing_images=0.0)[0]
    items = dataset.items.select(range(4)).map(lambda row: row | {"description": "<script> red"})
    shown = nearest_texts(1, np.eye(4), items).data
    assert shown.count("matched, 1.00") == 1
    assert "<script>" not in shown
    assert nearest_images("red", torch.eye(4, len(COLOURS)), items, ColourWords()).data.count("<img") == 4


def test_record_is_of_these_shops_and_has_no_holes():
    runs = load_runs(RESULTS / "ch02.parquet")
    assert {cell_of(run).name for run in runs} == {cell.name for cell in ch02.plan([])}
    for run in runs:
        scalars, protocol = run.scalars, run.stamp["protocol"]
        if protocol == ch02.PROBES:
            assert set(scalars) == set(ATTRIBUTES)
        else:
            rows = scalars if protocol == ch02.SWAPS else scalars["table"]
            assert all(np.isfinite(row[0]) for row in rows.values())
        assert ("sigmoid" in scalars) == (protocol == ch02.PHOTOS and run.system == "photo-siglip")


def test_tables_of_recorded_studies_show_each_number_once():
    pairs = {"matched": [0.5, 0.4, 0.6, *[np.nan] * 3], "random": [0.1, 0.0, 0.2, 0.9, 0.8, 0.95]}
    scalars = {"table": pairs, "recalls": {"recall@1 of 100": [0.3, 0.2, 0.4, 0.01]}}
    names = ("photo-clip, shuffled pairs", "photo-clip")
    runs = [Run.unranked({"data": "x", "seed": 1, "system": name}, scalars) for name in names]
    assert overlap_table(runs[:1]).to_dict() == {"seed 1": {("x", "random"): "0.90 (0.80 to 0.95)"}}
    assert overlap_table(runs[:1], 0).loc[("x", "matched"), "seed 1"] == "0.50 (0.40 to 0.60)"
    table = recall_table(runs)
    assert table.index.tolist() == ["photo-clip", "photo-clip, shuffled pairs"]
    assert set(table["x"]) == {"0.30 (0.20 to 0.40)"}

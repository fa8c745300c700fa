"""ch02.py: the study on small shops, its helpers against brute force, and the record of today's code."""

import numpy as np
import pytest
import torch
from PIL import Image

from experiments import ch02
from experiments.cells import cell_of
from experiments.record import RESULTS
from mmrec_helpers.encoders.features import Features
from mmrec_helpers.encoders.models import Encoder
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.pocket_shop.catalogue import COLOURS
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch02 import (
    bags_of_words,
    control_groups,
    nearest_images,
    nearest_texts,
    pair_similarities,
    study_by_length,
    study_captions,
    study_features,
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


def test_subsample_keeps_the_items_that_the_study_draws():
    dataset, _ = load_shop(size="tiny")
    both = np.flatnonzero(dataset.has_image[1:])  # all have a description
    assert subsample_items(dataset, len(both)) is dataset
    drawn = np.sort(np.random.default_rng(0).permutation(both)[:50])
    drawn = drawn[np.isin(drawn + 1, dataset.interactions["item"])]
    cut = subsample_items(dataset, 50)
    assert cut.items["item_id"][:] == [dataset.items["item_id"][row] for row in drawn.tolist()]
    assert cut.has_image[1:].all()


def test_groups_know_colours_only_with_the_facts():
    facts = [{"category": "mug", "colour": "red"}, {"category": "cap", "colour": "red"}]
    assert "same category and colour" not in control_groups(["mug", "cap"])
    assert control_groups(["mug", "cap"], facts)["same category and colour"].tolist() == ["mug red", "cap red"]


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
    found = study_captions(tmp_path, ColourWords())
    assert found["pairs"] == 6
    assert list(found["table"]) == ["matched", "random"]


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
        rows = run.scalars if run.stamp["protocol"] == ch02.SWAPS else run.scalars["table"]
        assert all(np.isfinite(row[0]) for row in rows.values())

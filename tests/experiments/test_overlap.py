"""overlap.py: what is recorded of pairs that are known, and the record of today's code."""

import numpy as np
import pytest
import torch
from pairs import ColourWords, features
from PIL import Image

from experiments import ch02
from experiments.cells import cell_of
from experiments.overlap import ATTRIBUTES, MIN_ITEMS, embed_captions, study_probes, study_sigmoid
from experiments.record import RESULTS
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.pocket_shop.catalogue import COLOURS


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

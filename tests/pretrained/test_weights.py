"""The weights of the pocket models: whole, of today's shop, and as good as they must be on held-out worlds."""

import hashlib
import json

import pytest

from mmrec_helpers.checkpoints import POCKET, WEIGHTS
from mmrec_helpers.pocket_shop.drawing import DRAWING_VERSION
from mmrec_helpers.pocket_shop.shop import SHOP_VERSION
from mmrec_helpers.pocket_shop.wording import WORDING_VERSION
from mmrec_helpers.pretrained.corpus import HELD_OUT_SEEDS, TRAINING_SEEDS, draw_corpus
from mmrec_helpers.pretrained.measure import measure

BARS = dict.fromkeys(("category", "colour", "pattern", "style"), 0.95)
"""For a probe of pictures."""
MEGABYTES = 30


@pytest.fixture(scope="module")
def held_out():
    """Two worlds that no model was trained on."""
    return [draw_corpus((seed,)) for seed in HELD_OUT_SEEDS[:2]]


@pytest.fixture(scope="module")
def record(root):
    return json.loads((root / "book" / "results" / "pretrained.json").read_text())


@pytest.mark.parametrize("name", POCKET)
def test_the_shop_has_not_changed_since_the_weights_were_trained(name):
    stamp = json.loads((WEIGHTS / name / "stamp.json").read_text())
    assert (stamp["drawing"], stamp["wording"], stamp["shop"]) == (DRAWING_VERSION, WORDING_VERSION, SHOP_VERSION), (
        "run `make pretrained`: the weights know an older shop"
    )


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < MEGABYTES * 1e6


def test_no_picture_and_no_text_of_a_held_out_world_was_trained_on(held_out):
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)
    texts = frozenset(held_out[0].descriptions)
    pictures = {hashlib.sha256(pixels).digest() for pixels in held_out[0].pixels}
    trained = draw_corpus(TRAINING_SEEDS[:4], without=texts)
    assert not texts & set(trained.descriptions)
    assert not pictures & {hashlib.sha256(pixels).digest() for pixels in trained.pixels}


@pytest.mark.parametrize("name", POCKET)
def test_weights_do_what_the_record_says_and_clear_their_bars(name, held_out, record):
    found = measure(name, *held_out)
    for asked, share in found.items():
        assert share == pytest.approx(record["rows"][f"{name}, {asked}"][0], abs=0.005)
    for attribute, bar in BARS.items():
        assert found[f"probe of pictures: {attribute}"] >= bar

"""Chapter 2's cells of photographs, with the pocket models and the Pocket Shop in the place of real ones; and real."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import ch02
from experiments.cells import Cell
from experiments.datasets import SEEDS, Unavailable
from experiments.overlap import ATTRIBUTES
from mmrec_helpers.encoders.checkpoints import WEIGHTS
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch02 import subsample_items

CACHED = (ch02.photo_features, ch02.photo_items, ch02.load_photo)


@pytest.fixture
def encoders(monkeypatch):
    """Encoders that need no training: models that come with the book."""

    def use(kind: str) -> None:
        monkeypatch.setattr(ch02, "photo_encoder", lambda loss, seed, control: load_encoder(f"{kind}-{loss}"))
        if kind == "pocket":
            monkeypatch.setattr(ch02, "lite0", lambda is_random: None)  # pocket-clip is whole

    for function in CACHED:
        function.cache_clear()
    yield use
    for function in CACHED:
        function.cache_clear()


def scalars(system: str, protocol: str, data: str = ch02.HM_WEEK) -> dict:
    ((_, run),) = ch02.run([Cell(study="ch02", data=data, protocol=protocol, system=system)], None)
    return run.scalars


def test_photographs_are_studied_by_three_trainings_and_controls():
    cells = [cell for cell in ch02.plan([]) if cell.protocol == ch02.PHOTOS]
    for data in ch02.REAL:
        of_data = [(cell.system, cell.seed) for cell in cells if cell.data == data]
        assert sorted(of_data) == sorted(
            [(system, seed) for system in ch02.LOSSES for seed in SEEDS] + [(system, 0) for system in ch02.CONTROLS]
        )


def test_a_shop_with_columns_of_attributes_stands_for_hm_week(monkeypatch, encoders):
    dataset, truth = load_shop(size="tiny")
    facts = [truth.facts(item_id) for item_id in dataset.items["item_id"]]
    items = dataset.items
    for column, attribute in {"department": "style", "colour": "colour", "pattern": "pattern"}.items():
        items = items.add_column(column, [fact[attribute] for fact in facts])
    dataset = replace(dataset, items=items)
    monkeypatch.setattr(ch02, "open_data", lambda name, seed: (dataset, None, None))
    encoders("pocket")
    found = scalars("photo-siglip", ch02.PHOTOS)
    means = {kind: row[0] for kind, row in found["table"].items()}
    assert sorted(means, key=means.get) == ["random", "same category", "same category and colour", "matched"]
    assert found["recalls"]["recall@1 of 100"][0] > 0.1
    assert set(found["sigmoid"]["biases"]) == {"learned", *found["control"]}
    assert "sigmoid" not in scalars("photo-clip", ch02.PHOTOS)
    probes = scalars("photo-clip", ch02.PROBES)
    assert set(probes) == set(ATTRIBUTES)
    assert probes["category"]["image"][0] > 0.7 > probes["category"]["majority"][0]


def test_without_the_models_a_cell_is_unavailable(monkeypatch, encoders):
    encoders("missing")
    with pytest.raises(Unavailable, match="missing-clip"):
        scalars("photo-clip", ch02.PHOTOS)


@pytest.mark.skipif(not (WEIGHTS / "photo-clip").is_dir(), reason="photo-clip has not been made")
def test_photo_clip_sees_more_than_the_category(real, monkeypatch, encoders):
    few = subsample_items(ch02.open_data(ch02.HM_WEEK, 0)[0], 100)
    monkeypatch.setattr(ch02, "open_data", lambda name, seed: (few, None, None))
    encoders("photo")
    try:
        found = scalars("photo-clip", ch02.PHOTOS)
    except Unavailable as error:
        pytest.skip(str(error))
    areas = {kind: row[3] for kind, row in found["table"].items()}
    assert areas["random"] > 0.85 > areas["same category"]
    assert found["recalls"]["recall@1 of 100"][1] > 0.1
    assert np.isfinite(found["table"]["same category and colour"]).all()


def test_images_that_were_seen_are_not_encoded_again():
    encoder = load_encoder("pocket-resnet")
    memory, images = ch02.StagesMemory(encoder), load_shop(size="tiny")[0].items["image"][:5]
    images = [image.convert("RGB") for image in images]
    torch.testing.assert_close(memory.stages(images), encoder.stages(images))
    memory.encoder = None
    torch.testing.assert_close(memory.stages(images[::-1]), encoder.stages(images).flip(0))

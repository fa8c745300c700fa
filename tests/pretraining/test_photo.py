import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from mmrec_helpers.encoders.checkpoints import PHOTO, find_checkpoint
from mmrec_helpers.encoders.features import embed_images, embed_texts
from mmrec_helpers.encoders.models import randomly_initialised
from pretraining import photo

WORDS = ("red", "green", "blue", "yellow", "grey", "pink")


def pairs_of(num_photographs=300, texts_each=2, seed=0):
    """Photographs and texts that share 8 of their dimensions; the last two texts are equal."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(num_photographs, 8))
    rows = np.repeat(np.arange(num_photographs), texts_each)
    images = np.concatenate([shared, rng.normal(size=(num_photographs, 4))], axis=1)
    views = np.stack([images, images + 0.1 * rng.normal(size=images.shape)], axis=1)
    texts = np.concatenate([shared[rows] @ rng.normal(size=(8, 6)), rng.normal(size=(len(rows), 2))], axis=1)
    keys = np.minimum(np.arange(len(rows)), len(rows) - 2)
    return photo.Pairs(*(torch.from_numpy(array).float() for array in (views, texts)), rows, keys)


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(photo, "source_pairs", lambda source, random_images=False: pairs_of())
    for name, value in {"STEPS": 100, "BATCH_SIZE": 128, "HELD_OUT": 0.2, "DROPOUT": 0.0}.items():
        monkeypatch.setattr(photo, name, value)


def held_out_recall(model):
    return photo.recall_at_1(model, pairs_of(), np.arange(300) < 50)


@pytest.mark.parametrize("loss", photo.LOSSES)
def test_pairs_are_aligned_but_shuffled_ones(made_up, loss):
    aligned, _ = photo.train_projections(loss, 0)
    shuffled, _ = photo.train_projections(loss, 0, photo.SHUFFLED)
    assert held_out_recall(aligned) > 0.4 > 5 * held_out_recall(shuffled)
    scale = aligned.logit_scale.exp()
    assert scale > 1
    assert (aligned.logit_bias < 0) == (loss == "siglip")


def test_a_seed_gives_the_same_projections(made_up):
    first, second, other = (photo.train_projections("clip", seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["image.2.weight"], other["image.2.weight"])


def test_a_batch_has_no_false_negatives(monkeypatch):
    pairs = pairs_of(20, texts_each=3)
    texts = np.arange(9, 60)
    images, sampled = photo.sample_batch(pairs, texts, np.random.default_rng(0))
    assert len(images) == len(sampled) <= 17
    row_of = {tuple(text.tolist()): row for text, row in zip(pairs.texts, pairs.rows, strict=True)}
    rows = [row_of[tuple(text.tolist())] for text in sampled]
    assert len(set(rows)) == len(rows)
    assert min(rows) >= 3
    for image, row in zip(images, rows, strict=True):
        assert any(torch.equal(image, view) for view in pairs.images[row])


def test_crops(monkeypatch):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8))
    rng, areas = np.random.default_rng(0), []
    for _ in range(200):
        part = photo.crop(image, rng)
        assert part.width / part.height == pytest.approx(40 / 60, abs=0.05)
        areas.append(part.width * part.height / 2400)
    assert photo.MIN_CROP - 0.05 < min(areas) < 0.6
    assert 0.9 < max(areas) <= 1


@pytest.fixture
def installed():
    for name in ("lite0", "minilm"):
        try:
            find_checkpoint(name)
        except FileNotFoundError as error:
            pytest.skip(str(error))


def test_from_files_to_an_encoder(installed, monkeypatch, tmp_path):
    """Plain colours are found by their names, from photographs in the layout of hm-products."""
    (tmp_path / "hm-products" / "images").mkdir(parents=True)
    lines, rng = ["item,title,description"], np.random.default_rng(0)
    for number in range(240):
        colour = WORDS[number % len(WORDS)]
        image = Image.new("RGB", (40, 60), colour)
        image.paste(tuple(rng.integers(0, 256, 3).tolist()), (0, 0, 10, 10))
        image.save(tmp_path / "hm-products" / "images" / f"{number:03}.jpg")
        description = "" if number % 2 else f"All {colour} number {number}."
        lines.append(f'{number:03},"A {colour} thing, number {number}",{description}')
    (tmp_path / "hm-products" / "items.csv").write_text("\n".join(lines))
    monkeypatch.setenv("MMREC_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(photo, "SOURCES", {"hm-products": photo.SOURCES["hm-products"]})
    monkeypatch.setattr(photo, "held_out_texts", lambda: {"All red number 0."})
    for name, value in {"STEPS": 100, "BATCH_SIZE": 64, "NUM_VIEWS": 2}.items():
        monkeypatch.setattr(photo, name, value)
    photo.source_pairs.cache_clear()
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path / "cache"))
    pairs = photo.source_pairs("hm-products")
    assert pairs.images.shape == (240, 2, 1792)
    assert len(pairs.texts) == 359  # blank descriptions are none, and those of held-out photographs are left out
    encoder = photo.photo_encoder("clip", 0)
    images = normalize(embed_images([Image.new("RGB", (40, 60), colour) for colour in WORDS], encoder).vectors)
    texts = normalize(embed_texts([f"A {colour} thing" for colour in WORDS], encoder).vectors)
    assert ((images @ texts.T).argmax(1) == torch.arange(len(WORDS))).float().mean() > 0.6
    control = randomly_initialised(encoder)
    assert (embed_images([Image.new("RGB", (40, 60), "red")], control).vectors - images[:1]).norm() > 0.1
    assert encoder.image_encoder is not control.image_encoder
    again = photo.photo_encoder("clip", 0)
    assert torch.equal(again.model.image[2].weight, encoder.model.image[2].weight)
    photo.source_pairs.cache_clear()


def test_data_that_are_not_there(installed, monkeypatch, tmp_path):
    monkeypatch.setenv("MMREC_DATA_HOME", str(tmp_path))
    photo.source_pairs.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"(captions|items)\.csv is not a file"):
        photo.source_pairs("flickr8k-train")


@pytest.mark.parametrize("name", PHOTO)
def test_what_ships_is_small(name):
    folder = find_checkpoint(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3e6

"""images.py: a picture is what a viewer shows of it, for encoders and cards alike; ordinary ones keep their pixels."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from small_data import rec_dataset

from mmrec_helpers.data import images
from mmrec_helpers.data.cleaning import _image_paths
from mmrec_helpers.data.images import TooLargeError, open_image, thumbnail, to_rgb
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.display.cards import item_card
from mmrec_helpers.encoders.features import embed_images

RNG = np.random.default_rng(0)
SHADES = RNG.integers(0, 65_536, (30, 40)).astype(np.uint16)
COLOURS = RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (30, 40), dtype=np.uint8)
GREY = (SHADES / 257).round().astype(np.uint8)


def on_white(colours: np.ndarray) -> np.ndarray:
    share = ALPHA[:, :, None] / 255
    return colours * share + 255 * (1 - share)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def key_on_white(shown: np.ndarray, is_key: np.ndarray) -> np.ndarray:
    return np.where(is_key[:, :, None], 255, shown)


KEY = tuple(int(value) for value in COLOURS[3, 4])
PALETTE = Image.fromarray(COLOURS).quantize(16)
PICTURES = {
    "rgb": (Image.fromarray(COLOURS), {}, COLOURS),
    "grey": (Image.fromarray(GREY), {}, three(GREY)),
    "grey 16": (Image.fromarray(SHADES), {}, three(GREY)),
    "grey 16 key": (
        Image.fromarray(SHADES),
        {"transparency": int(SHADES[3, 4])},
        key_on_white(three(GREY), SHADES[3, 4] == SHADES),
    ),
    "rgba": (Image.fromarray(np.dstack([COLOURS, ALPHA])), {}, on_white(COLOURS)),
    "grey and alpha": (Image.fromarray(np.dstack([GREY, ALPHA])), {}, on_white(three(GREY))),
    "rgb key": (Image.fromarray(COLOURS), {"transparency": KEY}, key_on_white(COLOURS, (COLOURS == KEY).all(2))),
    "palette": (
        PALETTE,
        {"transparency": 3},
        key_on_white(np.asarray(PALETTE.convert("RGB")), np.asarray(PALETTE) == 3),
    ),
    "black and white": (Image.fromarray(GREY > 99), {}, three(np.where(GREY > 99, 255, 0))),
}
"""Name -> picture, options of its file, and what a viewer shows on white."""


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_what_a_viewer_shows_of_it(name):
    image, options, shown = PICTURES[name]
    opened = open_image(png(image, **options))
    assert opened.mode == "RGB"
    assert np.abs(np.asarray(opened) - shown.astype(float)).max() <= 1
    assert to_rgb(opened) is opened


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_upright(turn):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    content = png(Image.fromarray(COLOURS), exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert np.array_equal(open_image(content), upright)
    assert thumbnail(content).size == upright.shape[1::-1]


@pytest.mark.parametrize("name", PICTURES)
def test_encoders_and_cards_get_the_same_picture(name):
    image, options, shown = PICTURES[name]
    image = Image.open(io.BytesIO(png(image, **options)))
    dataset = rec_dataset([(0, 1, 0)], image=[image])
    pictures = []

    def encode(batch):
        pictures.extend(np.asarray(one).astype(float) for one in batch)
        return torch.zeros(len(batch), 2)

    embed_images(dataset.items["image"], "pocket-resnet", encode)
    assert np.abs(pictures[-1] - shown).max() <= 1
    source = re.search(r"base64,([^\"]+)", item_card(dataset, 1))
    card = np.asarray(Image.open(io.BytesIO(base64.b64decode(source[1]))).convert("RGB")).astype(float)
    assert np.abs(card - shown).mean() < 16  # 128 colours are left of noise


def test_a_large_picture_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 1_199)
    with pytest.raises(TooLargeError, match=r"more than 1,199 pixels"):
        open_image(png(Image.fromarray(COLOURS)))


def test_a_page_of_photographs_has_thumbnails():
    blurred = Image.fromarray(COLOURS).resize((2_000, 1_500), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    blurred.save(buffer, "JPEG")
    dataset = rec_dataset([(0, 1, 0)], image=[Image.open(buffer)])
    assert dataset.item(1, small=True)["image"].size == (256, 192)
    assert dataset.image(1).size == (2_000, 1_500)
    assert len(item_card(dataset, 1)) * 60 < 1_000_000
    assert len(item_card(dataset, 1, image=blurred)) * 60 < 1_000_000


def test_readers_check_by_the_same_function(tmp_path):
    for number, (image, options, _) in enumerate(PICTURES.values()):
        (tmp_path / f"{number}.png").write_bytes(png(image, **options))
    (tmp_path / "cut.png").write_bytes(png(Image.fromarray(COLOURS))[:-500])
    ids = {*map(str, range(len(PICTURES))), "cut"}
    assert set(_image_paths(tmp_path, ids, CleaningReport("test"))) == ids - {"cut"}

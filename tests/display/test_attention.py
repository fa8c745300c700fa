"""attention.py: brightness follows the weights, and the static view has a card for each word."""

import numpy as np
from PIL import Image
from small_data import rec_dataset

from mmrec_helpers.display import attention
from mmrec_helpers.display.attention import SIZE, attention_map, show_attention


def test_a_patch_is_bright_where_its_weight_is_large():
    weights = np.array([0.0, 0.25, 0.375, 0.375])
    pixels = np.asarray(attention_map(Image.new("RGB", (8, 8), "white"), weights), int).sum(2)
    upper, lower = pixels[: SIZE // 2], pixels[SIZE // 2 :]
    assert upper[0, 0] < upper[0, -1] < lower[0, 0] == lower[0, -1] == 3 * 255


def test_the_static_view_shows_the_words_of_each_item(monkeypatch):
    dataset = rec_dataset([(0, 1, 0), (0, 2, 1)])
    words = {1: [f"one-{number}" for number in range(8)], 2: ["<b>", "two"]}
    pages = []
    monkeypatch.setattr(attention, "show_widget", lambda _, static: pages.append(static.data))
    show_attention(dataset, words, np.full((3, 8, 4), 0.25))
    (page,) = pages
    assert all(f"one-{number}" in page for number in range(1, 7))
    assert "<b><b>" not in page
    assert page.count("largest weight 0.250") == 7

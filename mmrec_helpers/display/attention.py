"""Attention of an item's words to the patches of its image, as a widget."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
from IPython.display import HTML, display
from PIL import Image

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.images import to_rgb
from mmrec_helpers.display.cards import card, row_of, show_widget, static_view

SIZE = 96
"""Of an image, in pixels."""


def attention_map(image: Image.Image, weights: np.ndarray) -> Image.Image:
    """The image with (P,) weights of a square grid of patches as brightness: half at 1 / P, full from 1.5 / P on."""
    side = int(len(weights) ** 0.5)
    brightness = np.clip(weights.reshape(side, side) * len(weights) - 0.5, 0, 1)
    mask = Image.fromarray((255 * brightness).astype(np.uint8)).resize((SIZE, SIZE), Image.Resampling.NEAREST)
    return Image.composite(to_rgb(image).resize((SIZE, SIZE)), Image.new("RGB", (SIZE, SIZE), "#10141a"), mask)


def word_cards(dataset: RecDataset, item: int, words: Sequence[str], weights: np.ndarray) -> HTML:
    """A card for each of some words, with the map of its row of the (L, P) weights and the largest of them."""
    image = dataset.item(item)["image"]
    cards = [
        card(attention_map(image, row), word, [f"largest weight {row.max():.3f}"], width=SIZE + 18)
        for word, row in zip(words, weights, strict=False)  # after the last word there is padding
    ]
    return row_of(cards)


def show_attention(dataset: RecDataset, words: dict[int, list[str]], weights: np.ndarray) -> None:
    """Show the widget: choose an item and a word. Its static view has the first six words of each item.

    ``words`` are those of items with images, ``weights`` are (I + 1, L, P).
    """

    def show(item: int, word: int) -> None:
        number = min(word, len(words[item])) - 1
        display(word_cards(dataset, item, words[item][number : number + 1], weights[item, number : number + 1]))

    browse = ipywidgets.interactive(show, item=list(words), word=(1, weights.shape[1]))
    panels = {
        dataset.item(item)["title"]: word_cards(dataset, item, own[1:7], weights[item, 1:7])
        for item, own in words.items()
    }
    show_widget(browse, static_view(panels, "attention of words to patches"))

"""Summaries of items by language models: of their texts, of their images, and of both."""

from collections.abc import Collection
from dataclasses import dataclass

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.llm.replies import Replies

REQUEST, IMAGE_REQUEST = "Summarise it.", "Describe the picture."
MAX_TOKENS = 40
"""Of a summary."""
FIELDS = ("title", "brand", "category", "description")
"""What the model is given of an item, as in figure 8 of {cite}`kim2025illmrec`."""


def summarise(
    dataset: RecDataset, model: str, items: Collection[int] | None = None, max_tokens: int = MAX_TOKENS
) -> list[str]:
    """(I + 1,) summaries of the items' texts by a language model; empty for the padding and where there is no text.

    Of some ``items`` only, if they are given. Raises the errors of ``Replies``.
    """
    texts = [". ".join(map(str, filter(None, row))) for row in zip(*map(dataset.column, FIELDS), strict=True)]
    messages = {row: f"{texts[row]}\n{REQUEST}" for row in _chosen(dataset, items) if texts[row]}
    return _spread(dataset, messages, Replies(model, max_tokens)([*messages.values()]))


def describe(
    dataset: RecDataset, model: str, items: Collection[int] | None = None, max_tokens: int = MAX_TOKENS
) -> list[str]:
    """(I + 1,) descriptions of the items' images by a multimodal language model; arguments as of ``summarise``."""
    shown = {item: image for item in _chosen(dataset, items) if (image := dataset.image(item)) is not None}
    return _spread(dataset, shown, Replies(model, max_tokens)([IMAGE_REQUEST] * len(shown), [*shown.values()]))


@dataclass(frozen=True)
class ItemSummaries:
    """What language models write about items, (I + 1,) each; empty for the padding, and where there is nothing.

    Attributes:
        texts: summaries of title, brand, category and description.
        images: descriptions of the images.
        fused: summaries of an item's description and summary together; where one of the two is empty, the other.
    """

    texts: list[str]
    images: list[str]
    fused: list[str]


def summarise_items(
    dataset: RecDataset,
    text_model: str,
    image_model: str,
    items: Collection[int] | None = None,
    max_tokens: int = MAX_TOKENS,
) -> ItemSummaries:
    """Summarise text and image of each item apart, then fuse the two {cite}`ye2025mllmmsr`. Otherwise as ``summarise``.

    Args:
        dataset: of the items.
        text_model: that summarises texts and fuses; a language model.
        image_model: that describes images; a multimodal language model, which may be the same.
        items: to summarise; all if None.
        max_tokens: of a text summary and of an image description, so that both have similar lengths.

    Raises the errors of ``Replies``.
    """
    images, texts = describe(dataset, image_model, items, max_tokens), summarise(dataset, text_model, items, max_tokens)
    # The image comes first: where the two contradict each other, pocket-lm repeats what it has met first.
    both = {row: f"{images[row]}. {texts[row]}\n{REQUEST}" for row, image in enumerate(images) if image and texts[row]}
    fused = _spread(dataset, both, Replies(text_model, MAX_TOKENS)([*both.values()]))
    return ItemSummaries(texts, images, [f or t or i for f, t, i in zip(fused, texts, images, strict=True)])


def _chosen(dataset: RecDataset, items: Collection[int] | None) -> list[int]:
    return sorted(range(1, dataset.num_items + 1) if items is None else items)


def _spread(dataset: RecDataset, rows: Collection[int], replies: list[str]) -> list[str]:
    """(I + 1,) the replies at their rows."""
    spread = [""] * (dataset.num_items + 1)
    for row, reply in zip(rows, replies, strict=True):
        spread[row] = reply
    return spread

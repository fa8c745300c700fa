"""A widget that masks the image of an item in a history, and shows how the ranked list changes."""

from collections.abc import Callable, Mapping

import ipywidgets
import numpy as np
from IPython.display import HTML, display

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.display.cards import card, item_card, show_widget, static_view, titled_rows

ScoreMasked = Callable[[np.ndarray, int], np.ndarray]
"""A (T,) history and the item whose image is masked, 0 for none -> (I + 1,) scores of all items."""
WIDTH = 108
"""Of a card, in CSS pixels."""


def masked_lists(dataset: RecDataset, history: np.ndarray, masked: int, score: ScoreMasked, length: int = 5) -> HTML:
    """A history, and the first items that it does not contain: ranked with all images, and with one masked.

    ``history`` are (T,) items, oldest first; ``masked`` is 0 for none. Items that only the second list has are marked.
    """
    with_all, with_masked = (_ranked(score(history, item), history) for item in (0, masked))
    ranks = 1 + np.argsort(with_all)  # of each item, with all images
    items = [
        card(None, dataset.item(item)["title"], ["masked"], WIDTH, "changed")
        if item == masked
        else item_card(dataset, item, width=WIDTH)
        for item in history.tolist()
    ]
    before = [item_card(dataset, int(item), [f"rank {ranks[item]}"], width=WIDTH) for item in with_all[:length]]
    after = []
    for rank, item in enumerate(with_masked[:length].tolist(), 1):
        lines, mark = [f"rank {rank}, was {ranks[item]}"], "changed" if ranks[item] > length else ""
        after.append(item_card(dataset, item, lines, width=WIDTH, extra=mark))
    return titled_rows({"history": items, "ranking with all images": before, "ranking with the image masked": after})


def show_masking(dataset: RecDataset, histories: Mapping[str, np.ndarray], score: ScoreMasked, length: int = 5) -> None:
    """Show the widget: choose a history, label -> (T,) items, oldest first, and the item whose image is masked.

    Its static view masks the most recent and the oldest image of the first two histories.
    """

    def lists_of(label: str, masked: int) -> HTML:
        return masked_lists(dataset, histories[label], masked, score, length)

    history, image = ipywidgets.Dropdown(options=list(histories)), ipywidgets.Dropdown()

    def offer_images(_: object = None) -> None:
        items = histories[history.value].tolist()
        image.options = [("no image", 0), *((dataset.item(item)["title"], item) for item in items)]

    history.observe(offer_images, "value")  # before the widget's own observer, which reads the image
    offer_images()
    browse = ipywidgets.interactive(
        lambda history, masked: display(lists_of(history, masked or 0)),  # None while the options change
        history=history,
        masked=image,
    )
    ends = {"most recent": -1, "oldest": 0}
    panels = {
        f"{label}, {end} image masked": lists_of(label, int(items[position]))
        for label, items in list(histories.items())[:2]
        for end, position in ends.items()
    }
    show_widget(browse, static_view(panels, "rankings with one image masked"))


def _ranked(scores: np.ndarray, history: np.ndarray) -> np.ndarray:
    """(I + 1,) items, best first; at the end those of the history, and the padding."""
    kept = np.array(scores, float)
    kept[[0, *history]] = -np.inf
    return np.argsort(-kept, kind="stable")

"""What chapter 7's notebooks share: systems of chapter 3, items drawn again with one attribute changed."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.pocket_shop.catalogue import COLOURS, MENTIONABLE, TASTE_ATTRIBUTES
from mmrec_helpers.pocket_shop.rendering import render_item
from mmrec_helpers.pocket_shop.shop import Truth
from mmrec_helpers.recommenders.registry import build_system, system_inputs


def runs_of_chapter_3(names: Sequence[str], split: Split, truth: Truth | None, record: str, encoder: str) -> list[Run]:
    """Its systems on the test part, by full ranking: recorded on the Pocket Shop, trained here on other data."""
    if truth:
        where = {"data": "pocket", "split": "leave-one-out", "part": "test", "protocol": "full"}
        return load_runs(record, **where, seed=0, system=tuple(names))
    inputs = system_inputs(split.dataset, encoder)
    return [evaluate(build_system(name, inputs).fit(split), split) for name in names]


def redrawn(truth: Truth, item_id: str, colour: str) -> Image.Image:
    """The image of an item in a colour; everything else stays, such as its shape, tilt and background."""
    catalogue, row = truth.catalogue, int(item_id.rpartition("-")[2])
    facts, brand = catalogue.facts(row), catalogue.attributes[row, TASTE_ATTRIBUTES.index("brand")]
    visible = facts["category"], colour, facts["pattern"], facts["style"], catalogue.marks[brand]
    return render_item(*visible, int(catalogue.image_seed[row]))


def colour_pairs(
    dataset: RecDataset, truth: Truth, queries: Queries, size: int, seed: int = 0
) -> tuple[Queries, np.ndarray, list[list[Image.Image]]]:
    """Items of the whole shop, drawn in the colour that a user prefers, and in another one.

    Returns:
        N of the queries, with whole histories, whose users have a preferred colour; (N,) items with an image whose
        descriptions mention no colour; the N images in the preferred colour, and the N in another one.
    """
    rng = np.random.default_rng(seed)
    users, steps = dataset.user_ids[queries.users], (queries.histories > 0).sum(axis=1)
    liked = [truth.taste(*pair).get("colour") for pair in zip(users, steps, strict=True)]
    chosen = np.sort(rng.choice(np.flatnonzero([colour is not None for colour in liked]), size, replace=False))
    is_silent = ~truth.mentions[:, MENTIONABLE.index("colour")] & dataset.has_image[1:]
    items = rng.choice(1 + np.flatnonzero(is_silent), size)
    colours = [str(liked[row]) for row in chosen]
    others = [str(rng.choice([other for other in COLOURS if other != colour])) for colour in colours]
    ids = dataset.column("item_id")[items]
    drawings = [[redrawn(truth, *pair) for pair in zip(ids, own, strict=True)] for own in (colours, others)]
    return queries.take(chosen), items, drawings

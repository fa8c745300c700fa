"""The shop's images: the same everywhere, different where they should be, and classifiable by a small network."""

import hashlib
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COLOURS, MARK_BADGES, MARK_GLYPHS, PATTERNS, STYLES
from mmrec_helpers.pocket_shop.rendering import (
    BADGE,
    GLOSS_BANDS,
    GLYPHS,
    LABEL_OF,
    RENDERING_VERSION,
    SHAPES,
    TRIM_OF,
    render_item,
)

ITEM = {"category": "mug", "colour": "blue", "pattern": "dotted", "style": "classic", "mark": (3, 0), "seed": 7}
SAMPLE = [
    (category, COLOURS[i % 8], PATTERNS[i % 6], STYLES[i % 4], (i % 8, i % 2), i)
    for i, category in enumerate(CATEGORIES)
]


def pixels(size: int = 64, **changes: Any) -> np.ndarray:
    """The picture of ITEM with some changes, as (size, size, 3) whole numbers."""
    return np.asarray(render_item(**(ITEM | changes), size=size)).astype(int)


def sample_digest() -> str:
    """One digest of a few pictures, in two sizes."""
    digest = hashlib.sha256()
    for attributes in SAMPLE:
        for size in (64, 96):
            digest.update(render_item(*attributes, size=size).tobytes())
    return digest.hexdigest()


def test_version_1_looks_as_it_always_did() -> None:
    """Fails when a pixel changes: raise RENDERING_VERSION then, and put the new digest here."""
    assert RENDERING_VERSION == 1
    assert sample_digest() == "daf7eb19a0bf74bda0da3eb7bf2aadd69afbe599576418e37f21785b7ac54561"


def test_shapes_are_drawn_for_everything_in_the_catalogue() -> None:
    """Each category and each glyph has its shapes, and no tone is misspelt."""
    assert tuple(SHAPES) == CATEGORIES
    assert tuple(GLYPHS) == MARK_GLYPHS
    assert set(TRIM_OF) == set(CATEGORIES)
    every = [*SHAPES.values(), *GLYPHS.values(), *TRIM_OF.values(), BADGE, GLOSS_BANDS]
    assert {shape.tone for shapes in every for shape in shapes} <= set(LABEL_OF)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_a_fresh_process_draws_the_same_pixels(hash_seed: str) -> None:
    """Nothing depends on the process or on the order of its sets."""
    answer = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == sample_digest()


def test_the_order_of_drawing_does_not_matter() -> None:
    """What is kept between pictures does not change them."""
    forwards = [render_item(*attributes).tobytes() for attributes in SAMPLE]
    backwards = [render_item(*attributes).tobytes() for attributes in reversed(SAMPLE)]
    assert forwards == backwards[::-1]


@pytest.mark.parametrize("size", [32, 64, 100, 256])
def test_size_and_mode(size: int) -> None:
    """A picture is as large as asked for, and RGB."""
    picture = render_item(**ITEM, size=size)
    assert picture.size == (size, size)
    assert picture.mode == "RGB"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("category", CATEGORIES)
def test_every_product_lies_within_the_picture_and_stands_out(category: str, style: str) -> None:
    """The coloured part is large enough and does not touch the edge."""
    for seed in range(12):
        red, blue = (pixels(category=category, style=style, seed=seed, colour=colour) for colour in ("red", "blue"))
        coloured = np.abs(red - blue).max(axis=2) > 40
        rows, columns = np.nonzero(coloured)
        assert coloured.mean() > 0.08
        assert min(rows.min(), columns.min()) >= 1
        assert max(rows.max(), columns.max()) <= 62


@pytest.mark.parametrize(
    "change",
    [{"category": "teapot"}, {"colour": "purple"}, {"pattern": "zigzag"}, {"style": "rustic"},
     {"mark": (4, 0)}, {"mark": (3, 1)}, {"seed": 8}],
    ids=str,
)  # fmt: skip
def test_each_argument_changes_the_picture(change: dict[str, Any]) -> None:
    """No argument is left out of account."""
    assert (np.abs(pixels() - pixels(**change)).max(axis=2) > 30).sum() >= 10


@pytest.mark.parametrize("name", ["category", "style", "pattern"])
def test_every_two_values_of_an_attribute_differ_in_many_pixels(name: str) -> None:
    """Values can be told apart by looking."""
    values = {"category": CATEGORIES, "style": STYLES, "pattern": PATTERNS}[name]
    pictures = [pixels(**{name: value}) for value in values]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            assert (np.abs(one - other).max(axis=2) > 30).mean() > 0.02


def test_the_mark_changes_only_its_corner() -> None:
    """The brand's mark leaves the product alone."""
    changed = np.abs(pixels() - pixels(mark=(5, 1))).max(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert min(rows.min(), columns.min()) >= 48


@pytest.mark.parametrize("attributes", SAMPLE, ids=CATEGORIES)
def test_a_large_picture_shows_the_same_as_a_small_one(attributes: tuple) -> None:
    """The size only adds detail."""
    small = np.asarray(render_item(*attributes)).astype(int)
    large = np.asarray(render_item(*attributes, size=256).reduce(4)).astype(int)
    assert np.abs(small - large).mean() < 4


@pytest.mark.parametrize("name", ["category", "colour", "pattern", "style"])
def test_an_unknown_value_is_named_with_what_is_allowed(name: str) -> None:
    """The error names the value and those that are allowed."""
    with pytest.raises(ValueError, match=rf"unknown {name} 'nonsense'; allowed: \w+, \w+"):
        render_item(**(ITEM | {name: "nonsense"}))


@pytest.mark.parametrize(("mark", "name"), [((8, 0), "glyph"), ((-1, 0), "glyph"), ((0, 2), "badge")])
def test_an_unknown_mark_is_refused(mark: tuple[int, int], name: str) -> None:
    """The error says which half of the mark is wrong."""
    with pytest.raises(ValueError, match=f"unknown {name}"):
        render_item(**(ITEM | {"mark": mark}))


# --- A network that sees only the image -------------------------------------------------------------------------------
HEADS = {"category": CATEGORIES, "colour": COLOURS, "pattern": PATTERNS, "style": STYLES, "glyph": MARK_GLYPHS}
NUM_TRAIN, NUM_TEST, EPOCHS, BATCH = 6_000, 1_500, 5, 64


def random_items(count: int, first_seed: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (count, 3, 64, 64) from -1 to 1 and targets (count, heads); the seeds count up from ``first_seed``."""
    targets = np.stack([rng.integers(len(values), size=count) for values in HEADS.values()], axis=1)
    badges = rng.integers(len(MARK_BADGES), size=count)
    pictures = np.empty((count, 64, 64, 3), dtype=np.uint8)
    for i, (category, colour, pattern, style, glyph) in enumerate(targets.tolist()):
        names = CATEGORIES[category], COLOURS[colour], PATTERNS[pattern], STYLES[style]
        pictures[i] = render_item(*names, (glyph, int(badges[i])), first_seed + i)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(targets)


def accuracies(seed: int) -> dict[str, float]:
    """Share of held-out items, per attribute, that a small network names from their pictures."""
    rng = np.random.default_rng(seed)
    train_pictures, train_targets = random_items(NUM_TRAIN, 0, rng)
    test_pictures, test_targets = random_items(NUM_TEST, NUM_TRAIN, rng)
    torch.manual_seed(seed)
    layers, widths = [], (3, 16, 32, 64, 128)
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    sizes = [len(values) for values in HEADS.values()]
    network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 4 * widths[-1], sum(sizes)))  # the heads side by side
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    steps = EPOCHS * (NUM_TRAIN // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(NUM_TRAIN)[: NUM_TRAIN // BATCH * BATCH].split(BATCH):
            answers = network(train_pictures[batch]).split(sizes, dim=1)
            loss = sum(
                nn.functional.cross_entropy(answer, train_targets[batch, head]) for head, answer in enumerate(answers)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.inference_mode():
        answers = network(test_pictures).split(sizes, dim=1)
    right = [(answer.argmax(dim=1) == test_targets[:, head]).float().mean() for head, answer in enumerate(answers)]
    return dict(zip(HEADS, map(float, right), strict=True))


@pytest.mark.slow("mmrec_helpers.pocket_shop.rendering:RENDERING_VERSION", "torch==")
def test_who_sees_only_the_picture_can_name_its_attributes() -> None:
    """A small network reads the attributes of new items from their pictures."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads wait for each other whenever another process has one of two cores
    try:
        accuracy = accuracies(seed=0)
    finally:
        torch.set_num_threads(threads)
    print({name: round(value, 3) for name, value in accuracy.items()})
    assert min(accuracy[name] for name in ("category", "colour", "pattern", "style")) >= 0.95
    assert accuracy["glyph"] >= 0.90


if __name__ == "__main__":  # what the fresh processes run
    print(sample_digest())

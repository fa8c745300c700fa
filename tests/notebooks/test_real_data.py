"""Chapters run from top to bottom on real data (``MMREC_DATA_HOME``) and on a reader's own small folder."""

import random

import nbformat
import pytest
from PIL import Image

import notebooks as tool
from experiments import results

COUNTS = {
    "MovieLens": "610 users, 9,724 items, 100,836 interactions",
    "Gift Cards": "458 users, 148 items, 2,969 interactions",
    "Magazines": "348 users, 157 items, 2,328 interactions",
    "MicroLens": "50,000 users, 19,220 items, 359,708 interactions",
}
"""As data/README.md of the data's folder, less what the clean-up counts (tests/sources/test_real_files.py)."""
WITHOUT_PICTURES = "goes on with the Pocket Shop"
"""What chapter 2 says where there are no pictures to compare with texts, chapter 3 where there are too few items."""


def printed(nb) -> str:
    """All that a notebook's cells printed."""
    outputs = [out for cell in nb.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    return "".join(out.get("text", "") for out in outputs)


def execute(monkeypatch, tmp_path, data: str, only: str = "") -> dict[str, str]:
    """Notebook -> all that it printed on these data; the stored notebooks stay as they are."""
    monkeypatch.setenv("MMREC_DATA", data)
    monkeypatch.setattr(tool, "EXECUTED", tmp_path / "executed")
    stored = {path: path.read_bytes() for path in [*tool.paths(), tool.STATUS]}
    tool.execute(only)
    assert {path: path.read_bytes() for path in stored} == stored
    executed = {path.stem: nbformat.read(tmp_path / "executed" / path.name, 4) for path in tool.paths(only)}
    return {name: printed(nb) for name, nb in executed.items()}


@pytest.mark.parametrize("name", COUNTS)
def test_chapters_run_on_real_data(real, monkeypatch, tmp_path, name):
    # Where there are no pictures, chapter 2 does the same on all: once is enough.
    only = "" if name in ("MovieLens", "Gift Cards") else "01"
    said = execute(monkeypatch, tmp_path, results.REAL_DATA[name].format(home=real), only)
    for text in said.values():
        assert COUNTS[name] in text
        assert "interactions kept" in text  # the report of the clean-up
    if not only:
        assert (WITHOUT_PICTURES in said["02_image_text_overlap"]) == (name != "MovieLens")
        assert (WITHOUT_PICTURES in said["03_yardsticks_and_baselines"]) == (name != "MovieLens")  # too few items


@pytest.mark.parametrize(
    ("users", "items", "most", "last"),
    [
        pytest.param(30, 25, 12, 10**7, id="small"),
        pytest.param(9, 8, 2, 0, id="no item 18, nobody to test on, one moment"),
    ],
)
def test_chapter_1_runs_on_a_folder_of_ones_own(monkeypatch, tmp_path, users, items, most, last):
    count = write_shop(tmp_path / "shop", users, items, most, last)
    for text in execute(monkeypatch, tmp_path, f"folder:{tmp_path / 'shop'}", only="01").values():
        assert f"{count} interactions kept" in text


def test_chapter_3_runs_on_a_folder_without_pictures_ratings_and_reviews(monkeypatch, tmp_path):
    count = write_shop(tmp_path / "shop", users=300, items=280, most=40, last=10**7)
    for text in execute(monkeypatch, tmp_path, f"folder:{tmp_path / 'shop'}", only="03").values():
        assert f"{count:,} interactions kept" in text
        assert WITHOUT_PICTURES not in text


KINDS = {"week": "folder", "orders": "microlens"}
"""Name -> reader of the small shops that stand for H&M's week and for MicroLens."""
NO_CORE = " has no part in which each user has 7 interactions or more and each item 5."
LACKS = {
    "week": {"week has no temporal split: too many interactions": 1, f"week{NO_CORE}": 2},
    "orders": {"orders has orders, not times, so it has no temporal split.": 1, f"orders{NO_CORE}": 2},
}
"""Name -> sentence in the place of what the shop cannot have -> how often it stands in chapter 3."""


@pytest.fixture(scope="module")
def small_shops(tmp_path_factory):
    """Name -> what MMREC_DATA names it by, and how many interactions it has."""
    home = tmp_path_factory.mktemp("shops")
    count = {"week": write_week(home / "week"), "orders": write_orders(home / "orders")}
    return {name: (f"{kind}:{home / name}", count[name]) for name, kind in KINDS.items()}


@pytest.mark.parametrize("only", ["03", "04_", "04b"])
@pytest.mark.parametrize("name", KINDS)
def test_chapters_that_train_run_on_days_and_on_orders(small_shops, monkeypatch, tmp_path, name, only):
    data, count = small_shops[name]
    (text,) = execute(monkeypatch, tmp_path, data, only).values()
    assert f"{count:,} interactions kept" in text
    assert WITHOUT_PICTURES not in text
    assert ("has no pictures" in text) == (name == "orders")
    for sentence in LACKS[name]:
        assert text.count(sentence) == (LACKS[name][sentence] if only == "03" else 0)


def write_week(folder, users: int = 220, items: int = 240) -> int:
    """A shop like H&M's week: times are days, most users buy on one of them, items have pictures; its interactions."""
    rng, kinds = random.Random(0), ("dress", "sock", "coat", "hat", "shirt")
    (folder / "images").mkdir(parents=True)
    rows = [
        f"u{user},i{item},{(18_521 + day) * 86_400}"
        for user in range(users)
        for first in [rng.randrange(7)]
        for item in rng.sample(range(items), rng.randint(3, 6))
        for day in [rng.randrange(7) if user % 5 == 0 else first]
    ]
    texts = [f"i{item},{kinds[item % 5]} {item},A {kinds[item % 5]} of colour {item % 7}" for item in range(items)]
    (folder / "interactions.csv").write_text("\n".join(["user,item,time", *rows]))
    (folder / "items.csv").write_text("\n".join(["item,title,description", *texts]))
    for item in range(items):
        Image.new("RGB", (16, 16), (item, 30 * (item % 7), 99)).save(folder / "images" / f"i{item}.jpg")
    return len(rows)


def write_orders(folder, users: int = 220, items: int = 240) -> int:
    """A shop like MicroLens: orders without times, short histories, titles without pictures; its interactions."""
    rng, kinds = random.Random(0), ("rain", "snow", "cats", "dogs", "birds")
    folder.mkdir()
    rows = [rng.sample(range(items), rng.randint(3, 6)) for _ in range(users)]
    lines = [f"{user}\t{' '.join(map(str, row))}" for user, row in enumerate(rows)]
    (folder / "orders_pairs.tsv").write_text("\n".join(lines))
    titles = [f"{item},A film of {kinds[item % 5]} {item}" for item in range(items)]
    (folder / "orders_titles.csv").write_text("\n".join(["item,title", *titles]))
    return sum(map(len, rows))


def write_shop(folder, users: int, items: int, most: int, last: int) -> int:
    """A folder of random interactions, up to so many a user, within so many seconds; how many there are."""
    rng = random.Random(0)
    folder.mkdir()
    rows = [
        f"u{user},i{item},{10**9 + rng.randint(0, last)}"
        for user in range(users)
        for item in rng.sample(range(items), rng.randint(1, most))
    ]
    (folder / "interactions.csv").write_text("\n".join(["user,item,time", *rows]))
    (folder / "items.csv").write_text("\n".join(["item,title", *(f"i{item},Thing {item}" for item in range(items))]))
    return len(rows)

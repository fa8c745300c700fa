"""Chapters run from top to bottom on real data (``MMREC_DATA_HOME``) and on a reader's own small folder.

Each run is a slow test: it is made again when its notebook, the package, its models or the locked set have changed.
"""

import random

import nbformat
import pytest
from PIL import Image

import notebooks as tool
from experiments.datasets import REAL_DATA
from mmrec_helpers.loading import load_paired_data
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.settings import load_settings

COUNTS = {
    "movielens": "610 users, 9,724 items, 100,836 interactions",
    "gift-cards": "458 users, 148 items, 2,969 interactions",
    "magazines": "348 users, 157 items, 2,328 interactions",
    "microlens": "50,000 users, 19,220 items, 359,708 interactions",
}
"""As data/README.md of the data's folder, less what the report counts (tests/data/readers/test_real_files.py)."""
FALLBACK = "goes on with the Pocket Shop"
"""What chapter 2 says where there are no pictures to compare with texts, later ones where there are too few items."""


def printed(nb) -> str:
    """All that a notebook's cells printed."""
    outputs = [out for cell in nb.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.output_type == "error"]
    return "".join(out.get("text", "") for out in outputs)


def execute(monkeypatch, tmp_path, data: str, only: str = "", home: str = "") -> dict[str, str]:
    """Notebook -> all that it printed on these data; the stored notebooks stay as they are.

    ``home`` is the folder of the real data sets, in which chapter 1 explores the H&M week if it is there.
    """
    monkeypatch.setenv("MMREC_DATA", data)
    monkeypatch.setenv("MMREC_DATA_HOME", home)
    monkeypatch.setattr(tool, "EXECUTED", tmp_path / "executed")
    stored = {path: path.read_bytes() for path in [*tool.paths(), tool.STATUS]}
    tool.execute(only)
    assert {path: path.read_bytes() for path in stored} == stored
    executed = {path.stem: nbformat.read(tmp_path / "executed" / path.name, 4) for path in tool.paths(only)}
    return {name: printed(nb) for name, nb in executed.items()}


PACKAGE = ("mmrec_helpers/**/*.py", "mmrec_helpers/pocket_shop/*.json", "mmrec_helpers/pretrained/weights/*/*")
MADE_OF = (*PACKAGE, "experiments/datasets.py", "tools/notebooks.py", "requirements.lock")
"""What a notebook runs on, beside its data."""


def run_of(*values: str):
    """A run of a notebook, the last of the values."""
    return pytest.param(*values, marks=pytest.mark.slow(f"notebooks/{values[-1]}*.ipynb", *MADE_OF))


def later_chapter(number: str, study: str):
    """A chapter that takes minutes on MovieLens, beside what it is made of; on small shops it runs more often."""
    inputs = (f"notebooks/{number}*.ipynb", f"mmrec_helpers/studies/{study}.py")
    return pytest.param("movielens", number, id=f"movielens-{number}", marks=pytest.mark.slow(*inputs))


CHAPTER_3 = ("03c", "03d", "03e")
LATER = [later_chapter(only, "ch03") for only in ("03b", *CHAPTER_3)]
LATER += [later_chapter(*row) for row in (("02b", "ch02"), ("02c", "ch02"), ("04b", "ch04"), ("04c", "ch04"))]


CHAPTER_1 = ("01a", "01b", "01c")
ON_REAL = [run_of(name, only) for name in COUNTS for only in CHAPTER_1]


@pytest.mark.parametrize(("name", "only"), [*ON_REAL, *LATER])
def test_chapters_run_on_real_data(real, monkeypatch, tmp_path, name, only):
    """Chapter 1 on all of them; the later ones on MovieLens, as Gift Cards would only make them fall back."""
    (text,) = execute(monkeypatch, tmp_path, REAL_DATA[name].format(home=real), only).values()
    assert COUNTS[name] in text
    assert f"{COUNTS[name].split()[-2]} interactions kept" in text  # the cleaning report
    assert FALLBACK not in text


@pytest.mark.slow("notebooks/01a*.ipynb", *MADE_OF)
@pytest.mark.parametrize("has_week", [True, False])
def test_chapter_1_explores_the_hm_week_where_it_is(real, monkeypatch, tmp_path, has_week):
    data = REAL_DATA["gift-cards"].format(home=real)
    (text,) = execute(monkeypatch, tmp_path, data, "01a", home=str(real if has_week else tmp_path)).values()
    assert ("users who bought on one day only: 80%" in text) == has_week
    assert ("Skipped: MMREC_DATA_HOME" in text) != has_week


@pytest.mark.parametrize("only", [*map(run_of, CHAPTER_1)])
def test_chapter_1_runs_on_a_folder_of_ones_own_with_hardly_anything_in_it(monkeypatch, tmp_path, only):
    """There is no item 18, nobody to test on, and all happened at one moment."""
    count = write_shop(tmp_path / "shop", users=9, items=8, most=2, last=0)
    (text,) = execute(monkeypatch, tmp_path, f"folder:{tmp_path / 'shop'}", only).values()
    assert f"{count} interactions kept" in text


@pytest.mark.parametrize("only", [*map(run_of, CHAPTER_3)])
def test_chapter_3_runs_on_a_folder_without_pictures_ratings_and_reviews(monkeypatch, tmp_path, only):
    count = write_shop(tmp_path / "shop", users=300, items=280, most=40, last=10**7)
    (text,) = execute(monkeypatch, tmp_path, f"folder:{tmp_path / 'shop'}", only).values()
    assert f"{count:,} interactions kept" in text
    assert FALLBACK not in text


KINDS = {"week": "folder", "orders": "microlens"}
"""Name -> reader of the small shops that stand for H&M's week and for MicroLens."""
NO_CORE = " has no users and items with enough interactions."
NO_SPLIT = {
    "week": "week has no temporal split: too many interactions",
    "orders": "orders has orders, not times, so it has no temporal split.",
}
"""Name -> what is said in the place of its temporal split: once in chapter 1, once in 3."""


@pytest.fixture(scope="module")
def small_shops(tmp_path_factory):
    """Name -> what MMREC_DATA names it by, and how many interactions it has."""
    home = tmp_path_factory.mktemp("shops")
    count = {"week": write_week(home / "week"), "orders": write_orders(home / "orders")}
    return {name: (f"{kind}:{home / name}", count[name]) for name, kind in KINDS.items()}


LESSONS = (*CHAPTER_1, "03a", "03b", *CHAPTER_3, "04b", "04c")
RUNS = [run_of("week", only) for only in ("02b", "02c")]
RUNS += [run_of(name, only) for name in KINDS for only in LESSONS]


@pytest.mark.parametrize(("name", "only"), RUNS)
def test_chapters_run_on_days_and_on_orders(small_shops, monkeypatch, tmp_path, name, only):
    data, count = small_shops[name]
    (text,) = execute(monkeypatch, tmp_path, data, only).values()
    assert f"{count:,} interactions kept" in text
    assert FALLBACK not in text
    assert ("has no images" in text) == (name == "orders" and only not in CHAPTER_1)
    assert text.count(NO_SPLIT[name]) == (only in ("01b", "03d"))
    assert text.count(f"{name}{NO_CORE}") == (2 if only == "03d" else 0)


def test_chapter_2_goes_on_with_the_pocket_shop_where_there_are_no_pictures(small_shops, capsys):
    """So it is not executed on orders: what follows its opening is the book's own run."""
    data, count = small_shops["orders"]
    dataset, truth = load_paired_data(load_settings({"MMREC_DATA": data}))
    printed_text = capsys.readouterr().out
    assert f"{count:,} interactions kept" in printed_text
    assert FALLBACK in printed_text
    assert dataset.fingerprint == load_shop()[0].fingerprint
    assert truth is not None
    for only in ("02b", "02c"):
        (path,) = tool.paths(only)
        assert "dataset, truth = load_paired_data(settings)" in path.read_text()


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

"""Chapters run from top to bottom on real data (``MMREC_DATA_HOME``) and on a reader's own small folder."""

import random

import nbformat
import pytest
import results

import notebooks as tool

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

"""README, introduction and status page agree on which chapters exist."""

import re

import yaml

from notebooks import WIDGET_VIEW

NUM_CHAPTERS = 9


def chapters(numbers: list[str]) -> set[int]:
    """Chapters as numbers."""
    return {int(number) for number in numbers}


def test_documents_agree_on_what_is_planned(root):
    parts = yaml.safe_load((root / "_toc.yml").read_text())["parts"]
    files = [entry["file"] for part in parts for entry in part["chapters"]]
    built = chapters(re.findall(r"book/chapter-(\d)", " ".join(files)))
    absent = set(range(1, NUM_CHAPTERS + 1)) - built
    readme, intro, status = ((root / name).read_text() for name in ("README.md", "book/intro.md", "book/status.md"))
    for text in (readme, intro):
        named = re.findall(r"hapters? ([\d, and]+) (?:are|is) planned", text)
        assert chapters(re.findall(r"\d", "".join(named))) == absent
    planned = chapters(re.findall(r"^\| Chapter (\d),.*\| planned \|", status, re.MULTILINE))
    assert absent <= planned, "the others are chapters that exist in part"
    assert chapters(re.findall(r"^\| (\d) \|.*\| planned \|", intro, re.MULTILINE)) == planned
    assert chapters(re.findall(r"^\| Chapter (\d),.*\| in 0", status, re.MULTILINE)) == built


def test_the_introduction_has_the_study_times_of_the_notebooks(root):
    cards = re.findall(r":link: \.\./(notebooks/\w+)\n((?:(?!:::).*\n)+)", (root / "book/intro.md").read_text())
    times = {name: re.findall(r"^(\d+) minutes", text, re.MULTILINE) for name, text in cards}
    for notebook in (root / "notebooks").glob("*.ipynb"):
        assert times[f"notebooks/{notebook.stem}"] == re.findall(r"\*\*Study time\*\* (\d+)", notebook.read_text())


def test_each_chapter_has_a_page_with_its_notebooks_and_exercises(root):
    parts = yaml.safe_load((root / "_toc.yml").read_text())["parts"]
    pages = {entry["file"]: entry["sections"] for part in parts for entry in part["chapters"] if "sections" in entry}
    notebooks = sorted((root / "notebooks").glob("*.ipynb"))
    assert [page["file"] for own in pages.values() for page in own] == [f"notebooks/{path.stem}" for path in notebooks]
    for number, (page, own) in enumerate(pages.items(), 1):
        assert page == f"book/chapter-{number}"
        text = (root / f"{page}.md").read_text()
        items = re.findall(r"^\[\]\(\.\./(notebooks/(\w{3})\w+)\.ipynb\)\n: \2, {study-time}`\2`\.", text, re.MULTILINE)
        assert [name for name, _ in items] == [entry["file"] for entry in own]
        cells = "".join((root / f"{name}.ipynb").read_text() for name, _ in items)
        named = set(re.findall(r"exercise (\d\.\d+)", text))
        assert named <= set(re.findall(r"Exercise (\d\.\d+):", cells))
        goals = re.findall(r"^- .*exercise \d.*$", text, re.MULTILINE)
        assert 3 <= len(goals) == text.count("\n- ") <= 5


def test_what_make_book_executed_is_rendered_with_static_views(root):
    """Stored outputs lack the views of widgets; what was just executed has them, and they are dead on a page."""
    config = yaml.safe_load((root / "_config.yml").read_text())["sphinx"]["config"]
    assert ["html", WIDGET_VIEW, None] in config["nb_mime_priority_overrides"]


def test_the_map_marks_the_path_of_six_steps(root):
    cards = re.findall(r"grid-item-card\} (\d)\. ((?:(?!:::).*\n)+)", (root / "book/intro.md").read_text())
    steps = [(chapter, *re.findall(r"\*Step (\d) of 6", text)) for chapter, text in cards if "of 6" in text]
    assert steps == [("1", "1"), ("2", "2"), ("4", "3"), ("5", "4"), ("6", "5"), ("8", "6")]

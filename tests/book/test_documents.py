"""README, introduction and status page agree on which chapters exist."""

import re

import yaml

NUM_CHAPTERS = 9


def chapters(numbers: list[str]) -> set[int]:
    """Chapters as numbers."""
    return {int(number) for number in numbers}


def test_documents_agree_on_what_is_planned(root):
    parts = yaml.safe_load((root / "_toc.yml").read_text())["parts"]
    files = [entry["file"] for part in parts for entry in part["chapters"]]
    built = chapters(re.findall(r"notebooks/(\d\d)", " ".join(files)))
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

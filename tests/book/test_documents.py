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
    planned = set(range(1, NUM_CHAPTERS + 1)) - built
    first, last = min(planned), max(planned)
    assert planned == set(range(first, last + 1))
    readme, intro, status = ((root / name).read_text() for name in ("README.md", "book/intro.md", "book/status.md"))
    for text in (readme, intro):
        assert f"hapters {first} to {last} are planned" in text
    assert f"chapters 1 to {max(built)}" in readme
    assert f"chapters 1 to {max(built)}" in status
    assert chapters(re.findall(r"^\| (\d) \|.*\| planned \|", intro, re.MULTILINE)) == planned
    assert chapters(re.findall(r"^\| Chapter (\d),.*\| planned \|", status, re.MULTILINE)) == planned
    assert chapters(re.findall(r"^\| Chapter (\d),.*\| in 0", status, re.MULTILINE)) == built

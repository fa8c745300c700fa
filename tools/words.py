"""Words of the book's early versions, which the field's own terms have replaced: where they have come back."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("mmrec_helpers", "experiments", "pretraining", "tools")
REPLACED = {
    r"bends?": "activation function",
    r"shortcuts?": "residual connection",
    r"yardsticks?|rulers?": "metric, measure",
    r"leagues?": "leaderboard, benchmark",
    r"knobs?": "parameter",
    r"likeness(?:es)?": "similarity",
    r"newborn|unread": "randomly initialised",
    r"soiled": "noisy",
    r"mend(?:s|ed|ing)?": "fix",
    r"surprises?|surprisal": "negative log-likelihood",
    r"counted out": "excluded",
    r"bought before": "history",
    r"turned pairs?": "rank reversals",
    r"clear of zero|holds? zero": "the 95 % interval contains / excludes 0",
}
"""Pattern of a word -> what takes its place. Names of files and other identifiers with underscores do not match."""
PATTERNS = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): instead for pattern, instead in REPLACED.items()}


def texts(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Where a text is, and the text: cells of notebooks, pages, and code with its docstrings and comments."""
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            yield f"{path.name}, cell {number}", cell.source
    pages = [*root.glob("*.md"), *(root / "book").glob("*.md")]
    code = [path for folder in FOLDERS for path in (root / folder).rglob("*.py") if path.name != Path(__file__).name]
    for path in sorted([*pages, *code]):
        yield str(path.relative_to(root)), path.read_text()


def lint(root: Path = ROOT) -> list[str]:
    """What is to be replaced, one sentence each."""
    return [
        f"{place}: {match[0]!r}; write {instead}"
        for place, text in texts(root)
        for pattern, instead in PATTERNS.items()
        for match in pattern.finditer(text)
    ]


if __name__ == "__main__":
    raise SystemExit("\n".join(lint()) or 0)

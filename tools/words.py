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
    r"(?:both|two|three|higher|lower|larger|smaller|tuned|best) rates?": "learning rate",
    r"(?:each|every|per|\d+) pass(?:es)?|(?:one|two) pass(?:es)? (?:of|over|through)": "epoch, forward pass",
    r"(?:pretrained|frozen|random|trained|transformer|GPT-2|same|whole) (?:body|bodies)": "backbone",
    r"(?<!RGB )(?<!\d )(?<!fewer )(?<!for )channels?(?![\"),])": "modality",
    r"chances?(?![\"`])": "probability, random",
    r"(?:negatives|samples|candidates) (?:are |were )?drawn|drawn (?:at random|uniformly)": "sampled",
    r"(?:users?|somebody|nobody|who) (?:has |have |had )?(?:took|taken)": "interacted with",
    r"(?:tuned|default|optimal) settings?": "hyperparameter",
    r"(?:a|the|as) floors?(?! function)": "baseline, random baseline",
    r"(?:embedding|hidden|model|same|larger|smaller) widths?": "dimension",
    r"(?:attention|models?|network|head|layer|decoder) (?:does not |only )?looks?(?! (?:up|like))": "attends to",
}
"""Pattern of a word -> what takes its place. Names of files and other identifiers with underscores do not match.

Words that the field uses in another sense (hit rate, forward pass, 64 channels) have patterns of the wrong sense only.
"""
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

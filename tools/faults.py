"""Write book/faults.md: what happens with each case of tests/fault_cases.py. A test makes each row again."""

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "faults.md"
HEAD = """# What happens when ...

The book opens your files, published data, weights of models, and what it has written itself. Any of these may be
wrong. This page says what then happens. Each row is a test: it makes the fault, opens the file, and compares what
happens with this page.

- **refused**: an error says what is wrong, in which file and line, and how to fix it.
- **counted**: the data are read, and the cleaning report counts what was dropped, repaired or noted; its first such
  line is shown.
- **rebuilt**: the book has made the file and makes it again, with one line of notice.
- **read right**: the data are as without the fault, and nothing needs to be done.

"""


def row(fault: str, outcome: str, words: str) -> str:
    """A line of a table; words are code, in which nothing but the bar that ends a cell has a meaning."""
    words = words.replace("|", "\\|")
    return f"| {fault} | **{outcome}** `` {words} `` |" if words else f"| {fault} | **{outcome}** |"


def page(rows: Sequence[tuple[str, str]]) -> str:
    """The page of (group, row of a table), in the order of the groups."""
    groups: dict[str, list[str]] = {}
    for group, line in rows:
        groups.setdefault(group, []).append(line)
    counts = Counter(line.split("**")[1] for _, line in rows)
    text = HEAD + f"{len(rows)} cases: {', '.join(f'{count} {name}' for name, count in counts.most_common())}.\n"
    for group, lines in groups.items():
        text += f"\n## {group}\n\n| What is wrong | What happens |\n|---|---|\n" + "\n".join(lines) + "\n"
    return text


def main() -> None:
    """Run all cases."""
    sys.path += [str(ROOT / "tests"), str(ROOT)]
    from fault_cases import CASES, observe

    rows = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append((case.group, row(case.fault, *observe(case, Path(folder).resolve()))))
    PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()

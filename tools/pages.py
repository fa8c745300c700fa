"""What is changed in the built pages, because the theme, pandas and docutils write it so that a screen reader stumbles.

Each rule is one that axe-core reports; the page tests run it.
"""

import re
from pathlib import Path

RULES = (
    # The label hides what stands there: "Show a solution".
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    # In the sidebar the arrow that unfolds a chapter has no name; the link before it has one.
    (
        r'(>([^<>]+)</a><details(?: open="open")?><summary)(?=><span class="toctree-toggle")',
        r'\1 aria-label="Notebooks of \2"',
    ),
    # The name lacks the keys that are shown beside it.
    (r'(class="btn search-button-field[^>]*) aria-label="Search"', r"\1"),
    # The title in the sidebar lies in no landmark.
    (r'(<div class="bd-sidebar-primary bd-sidebar")>', r'\1 role="complementary" aria-label="Book">'),
    # The corner of a table with row labels is not a header.
    (r'<th(?: class="head[^"]*")?>(?:<p></p>)?</th>', "<td></td>"),
    # A role that was withdrawn.
    (r' role="doc-biblioentry"', ' role="listitem"'),
)
"""Pattern and replacement. A rule leaves alone what it has changed."""


def accessible(html: str) -> str:
    """A page with these rules applied."""
    for pattern, replacement in RULES:
        html = re.sub(pattern, replacement, html)
    return html


def mend_pages(folder: Path) -> None:
    """Apply the rules to each page below a folder."""
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if (changed := accessible(text)) != text:
            path.write_text(changed, encoding="utf-8")

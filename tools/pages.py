"""What is changed in the built pages: what axe-core reports of the theme, pandas and docutils, and what only weighs."""

import re
from html import escape
from pathlib import Path

from PIL import Image

HEAVY = 50_000  # bytes of an image

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
    (r'<th( class="[^"]*")?\s*>(?:<p></p>|&nbsp;)?</th>', r"<td\1></td>"),
    # A role that was withdrawn.
    (r' role="doc-biblioentry"', ' role="listitem"'),
    # 1.5 MB of icons as a script, and the fonts of logos: the theme's style sheet has the icons, and asks for a font
    # when a page shows one of it.
    (r'<script src="[^"]*/fontawesome/[^"]*/all\.min\.js[^>]*></script>\n?', ""),
    (r'<link rel="preload" as="font"[^>]*/fa-(?:brands|regular)-[^>]*>\n?', ""),
)
"""Pattern and replacement. A rule leaves alone what it has changed."""


def preview(title: str, text: str, base: str, name: str) -> str:
    """What a link to a page shows elsewhere: title, first words and picture.

    Args:
        title: of the page.
        text: its first paragraph.
        base: the site's address; while it is empty, the picture's is relative, which few services follow.
        name: the page's file, relative to it.
    """
    words = " ".join(text.split())
    short = words if len(words) <= 200 else words[:200].rpartition(" ")[0] + " …"
    image = "_static/preview.png"
    tags = {"title": title, "description": short, "type": "article", "image:alt": "A history of items and the next one"}
    tags["image"] = base + image if base else "../" * name.count("/") + image
    if base:
        tags["url"] = base + name
    lines = [f'<meta property="og:{key}" content="{escape(value)}" />' for key, value in tags.items()]
    return "\n".join([f'<meta name="description" content="{escape(short)}" />', *lines])


def sitemap(base: str, names: list[str]) -> str:
    """The list of pages for search engines; ``names`` are relative to ``base``."""
    rows = "".join(f"<url><loc>{escape(base + name)}</loc></url>\n" for name in sorted(names))
    schema = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="{schema}">\n{rows}</urlset>\n'


def accessible(html: str) -> str:
    """A page with these rules applied."""
    for pattern, replacement in RULES:
        html = re.sub(pattern, replacement, html)
    return html


def lighten(image: Path) -> None:
    """Replace a PNG by a WebP of the same pixels, with half of its bytes."""
    with Image.open(image) as opened:
        opened.save(image.with_suffix(".webp"), lossless=True)
    image.unlink()


def mend_pages(folder: Path) -> None:
    """Apply the rules to each page below a folder, and lighten the heavy images in its ``_images``."""
    heavy = [path for path in (folder / "_images").glob("*.png") if path.stat().st_size > HEAVY]
    for path in heavy:
        lighten(path)
    light = {f"_images/{path.name}": f"_images/{path.stem}.webp" for path in heavy}
    for path in folder.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        changed = re.sub(r"_images/[\w.-]+", lambda name: light.get(name[0], name[0]), accessible(text))
        if changed != text:
            path.write_text(changed, encoding="utf-8")

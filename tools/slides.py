"""Slides of lectures: ``book/slides.yml`` names what they show of a notebook; nbconvert makes reveal.js pages of it.

A slide has a title and a few lines of its own. Formulas, code, outputs and pictures are those of the notebook; what is
named must be there exactly once. The pages need no network.
"""

import ast
import base64
import re
import sys
from html import escape
from importlib.metadata import files
from pathlib import Path
from typing import Any

import yaml
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from npm import npm_files

import notebooks

ROOT = Path(__file__).resolve().parent.parent
SLIDES = ROOT / "book" / "slides.yml"
REVEAL = "6.0.2"  # under the MIT licence: fetched, no part of the book
REVEAL_SHA512 = "JYIg5D9aoxoaLeb84O+OvAwsKWdIavVgEDScxtYEXFCT6t6TQrhNtSgogcjdCpdLsWglhJn3zyE3fUOwiH5KEg=="
REVEAL_FILES = ("dist/reveal.css", "dist/theme/white.css", "dist/reveal.js", "dist/plugin/notes.js")
MOST_LINES = 16
"""Lines of code that a slide can show."""
WIDTH, HEIGHT = 1280, 720
TEMPLATE = """\
{% extends "index.html.j2" %}
{% block html_head_js %}{% endblock %}
{% block html_head_js_mathjax %}
<script>window.MathJax = {tex: {inlineMath: [["$", "$"]]}, svg: {fontCache: "none"}};</script>
<script src="tex-svg-full.js"></script>
{% endblock %}
{% block html_head_css %}
<style>
.reveal .jp-Cell, .reveal .jp-MarkdownOutput { padding: 0; overflow: visible }
.reveal .jp-InputPrompt, .reveal .jp-Collapser { display: none }
.reveal .jp-RenderedHTMLCommon { font-size: 30px; line-height: 1.35; text-align: left; width: 100%; padding: 0 }
.reveal .jp-RenderedHTMLCommon h2 { font-size: 44px; text-transform: none; margin: 0 0 20px }
.reveal .jp-RenderedHTMLCommon img { display: block; margin: 12px auto; max-width: 100%; object-fit: contain }
.reveal .jp-RenderedHTMLCommon .highlight { margin: 12px 0; background: #f6f8fa }
.reveal .jp-RenderedHTMLCommon pre { font-size: 22px !important; line-height: 1.3; margin: 0; padding: 12px }
.reveal .jp-RenderedHTMLCommon pre { box-shadow: none }
</style>
{% endblock %}
{% block footer_js %}
<script src="dist/reveal.js"></script>
<script src="dist/plugin/notes.js"></script>
<script>
Reveal.initialize({
  width: WIDTH, height: HEIGHT, margin: 0.05, center: false, hash: true, slideNumber: "c/t", transition: "none",
  plugins: [RevealNotes],
});
</script>
{% endblock %}
""".replace("WIDTH", str(WIDTH)).replace("HEIGHT", str(HEIGHT))


# What a slide takes from its notebook ---------------------------------------------------------------------------------


def only(found: list[Any], what: str) -> Any:  # noqa: ANN401
    """The one thing that was found.

    Raises:
        ValueError: there is none, or more than one.
    """
    if len(found) != 1:
        raise ValueError(f"book/slides.yml names {what!r}, which its notebook has {len(found)} times, not once")
    return found[0]


def sources(nb: NotebookNode, kind: str) -> list[str]:
    """The sources of the cells of a kind, exercises left out."""
    return [cell.source for cell in nb.cells if cell.cell_type == kind and notebooks.role(cell) in ("", "answer")]


def formula(nb: NotebookNode, text: str) -> str:
    """The displayed formula that contains a text."""
    shown = re.findall(r"^\$\$\n.*?\n\$\$$", "\n\n".join(sources(nb, "markdown")), re.DOTALL | re.MULTILINE)
    return only([one for one in shown if text in one], text)


def code(nb: NotebookNode, text: str) -> str:
    """A function or class by its name, or else the cell that contains a text.

    Raises:
        ValueError: a slide is too small for it.
    """
    cells = [re.sub(r"^#\|.*\n", "", source, flags=re.MULTILINE) for source in sources(nb, "code")]
    found = [
        ast.get_source_segment(source, node)
        for source in cells
        for node in ast.parse(source).body
        if getattr(node, "name", "") == text
    ]
    lines = only(found or [source for source in cells if text in source], text).strip()
    if len(lines.splitlines()) > MOST_LINES:
        raise ValueError(f"{text!r} has {len(lines.splitlines())} lines; a slide has room for {MOST_LINES}")
    return f"```python\n{lines}\n```"


def output(nb: NotebookNode, text: str) -> str:
    """What the cell that contains a text prints, and the table that it ends with."""
    cell = only([cell for cell in nb.cells if cell.cell_type == "code" and text in cell.source], text)
    texts = [(out.get("text") or out.data["text/plain"]).strip("\n") for out in cell.outputs]
    return "```text\n" + "\n\n".join(texts) + "\n```"


def figure(nb: NotebookNode, name: str) -> str:
    """A plot, by the name of its figure."""
    shown = [cell for cell in nb.cells if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name]
    cell = only(shown, name)
    data = only([out.data["image/png"] for out in cell.outputs if "image/png" in out.get("data", {})], name)
    return image("png", data, cell.metadata.mystnb.image.alt)


def diagram(nb: NotebookNode, name: str) -> str:
    """A diagram of book/assets, with the alternative text of the notebook."""
    directive = re.compile(rf"```{{figure}} \.\./book/assets/{re.escape(name)}\n(?::.*\n)*?:alt: (.*)")
    alt = only(directive.findall("\n".join(sources(nb, "markdown"))), name)
    return image("svg+xml", base64.b64encode((ROOT / "book" / "assets" / name).read_bytes()).decode(), alt)


def image(kind: str, data: str, alt: str) -> str:
    """A picture inside the page."""
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data.strip()}">'


PARTS = {"formula": formula, "code": code, "output": output, "figure": figure, "diagram": diagram}


def slides(lecture: dict[str, Any]) -> NotebookNode:
    """A lecture as a notebook whose cells have the metadata of a slideshow.

    Raises:
        ValueError: a slide names what its notebook does not have.
    """
    path = only(notebooks.paths(lecture["notebook"]), lecture["notebook"])
    nb, cells = notebooks.read(path), []
    for slide in lecture["slides"]:
        if unknown := set(slide) - {"title", "text", "notes", *PARTS}:
            raise ValueError(f"{path.stem}, {slide['title']}: unknown {', '.join(sorted(unknown))}")
        taken = [make(nb, slide[name]) for name, make in PARTS.items() if name in slide]
        height = 340 if "text" in slide or len(taken) > 1 else 560  # of a picture
        text = "\n\n".join([f"## {slide['title']}", slide.get("text", ""), *taken])
        text = text.replace("<img ", f'<img style="height: {height}px" ')
        cells.append(new_markdown_cell(text, metadata={"slideshow": {"slide_type": "slide"}}))
        if "notes" in slide:
            cells.append(new_markdown_cell(slide["notes"], metadata={"slideshow": {"slide_type": "notes"}}))
    made = new_notebook(cells=cells, metadata={"title": lecture["title"]})
    notebooks.tidy(made)
    made.metadata["title"] = lecture["title"]
    return made


# Pages ----------------------------------------------------------------------------------------------------------------


def mathjax() -> bytes:
    """MathJax in one file, as the book's own pages have it."""
    (path,) = (path for path in files("sphinx-mathjax-offline") or [] if path.match("mathjax/tex-svg-full.js"))
    return Path(str(path.locate())).read_bytes()


def build(folder: Path) -> list[Path]:
    """Write the lectures' pages, and beside them the scripts that they load."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = npm_files("reveal.js", REVEAL, REVEAL_SHA512, REVEAL_FILES)
    for name, content in zip(REVEAL_FILES, contents, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "tex-svg-full.js").write_bytes(mathjax())
    exporter = SlidesExporter(raw_template=TEMPLATE, reveal_url_prefix=".", reveal_theme="white")
    pages = []
    for lecture in yaml.safe_load(SLIDES.read_text()):
        pages.append(folder / f"{lecture['notebook']}.html")
        pages[-1].write_text(exporter.from_notebook_node(slides(lecture))[0])
    return pages


if __name__ == "__main__":
    for made in build(Path(sys.argv[1])):
        print(made)

"""Items, histories and widgets as safe HTML: every text of a data set stays a text, and there are no scripts."""

import base64
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from html import escape

import ipywidgets
from IPython.display import HTML, display
from PIL import Image, ImageOps

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.images import THUMBNAIL, to_rgb

MAX_COLOURS = 4_096
"""Of a drawing; a photograph has more, and is smaller and faster to write as a JPEG."""
# Foreground and background colours are set, so that cards look the same on a light and on a dark page.
TITLE_STYLE = "background:#fff;color:#1f2328;font-weight:bold;padding:2px 6px"
STYLE = """<style>
.cards{display:flex;flex-wrap:wrap;gap:10px;margin:6px 0}
.card{background:#fff;color:#1f2328;border:1px solid #d0d4d9;border-radius:8px;padding:8px;font-size:13px;
 line-height:1.35;box-sizing:border-box;overflow-wrap:anywhere}
.card img,.card .no-image{display:block;width:100%;border-radius:5px;margin:0 0 6px;background:#eceff1}
.card .no-image{aspect-ratio:1;display:flex;align-items:center;justify-content:center;color:#59636e}
.card b{display:block}.card small{display:block;color:#59636e;font-size:12px}
.card.changed{border-color:#b3261e;border-left:5px solid #b3261e}
.static-view{margin:6px 0}.static-view>label{display:inline-block;padding:3px 10px;margin:0 4px 4px 0;cursor:pointer;
 background:#e7ebef;color:#1f2328;border:1px solid #b8c0c8;border-radius:14px;font-size:13px}
.static-view>input{position:absolute;opacity:0}
.static-view>input:checked+label{background:#0b5cad;color:#fff}
.static-view>input:focus-visible+label{outline:2px solid #0b5cad;outline-offset:2px}
.static-view>.panel{display:none}
</style>"""


def plain(text: str) -> str:
    """HTML that shows a text as it is. Between two $ notebooks and pages typeset a formula, unless tags part them."""
    return re.sub(r"[$\\]", r"<span>\g<0></span>", escape(text))


def data_uri(image: Image.Image) -> str:
    """An image, with edges of at most THUMBNAIL, as a data URI for the ``src`` of an <img>."""
    image, buffer, kind = to_rgb(image), io.BytesIO(), "png"
    if max(image.size) > THUMBNAIL:
        image = ImageOps.contain(image, (THUMBNAIL, THUMBNAIL))
    if image.getcolors(MAX_COLOURS):
        image.quantize(128).save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=60)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def card(image: Image.Image | None, title: str, lines: Sequence[str] = (), width: int = 130, extra: str = "") -> str:
    """HTML of one card.

    Args:
        image: The image; None shows a placeholder.
        title: The title, also the image's alternative text.
        lines: Shown in small letters below the title.
        width: In CSS pixels.
        extra: Another CSS class: ``changed`` marks a change of taste.
    """
    figure = '<span class="no-image">no image</span>'
    if image is not None:
        figure = f'<img src="{data_uri(image)}" alt="{escape(title, quote=True)}">'
    small = "".join(f"<small>{plain(str(line))}</small>" for line in lines)
    style = f"flex:0 1 {width}px;min-width:min(100%,{width}px)"
    body = f"{figure}<b>{plain(title)}</b>{small}"
    return f'<div class="card {escape(extra, quote=True)}" style="{style}">{body}</div>'


def row_of(cards: Sequence[str]) -> HTML:
    """Cards beside each other."""
    return HTML(f'{STYLE}<div class="cards">{"".join(cards)}</div>')


def titled_rows(rows: Mapping[str, Sequence[str]]) -> HTML:
    """Rows of cards below each other, each under its title."""
    parts = [
        f'<div style="{TITLE_STYLE}">{plain(title)}</div><div class="cards">{"".join(cards)}</div>'
        for title, cards in rows.items()
    ]
    return HTML(STYLE + "".join(parts))


def item_card(
    dataset: RecDataset,
    item: int,
    lines: Sequence[str] = (),
    image: Image.Image | None = None,
    width: int = 130,
    extra: str = "",
) -> str:
    """HTML of an item's card: its image (or a larger one of the same item), its title, and some lines."""
    fields = dataset.item(item, small=True)
    return card(image or fields["image"], fields["title"], lines, width, extra)


def static_view(panels: Mapping[str, str | HTML], name: str) -> HTML:
    """Some states of a widget for the rendered page, tab label -> HTML; works without Python and without scripts.

    The name is that of the group of tabs, for screen readers.
    """
    # Two views on one page must not share their buttons; the same view must give the same text in each run.
    group = f"view-{zlib.crc32(name.encode()):08x}"
    parts, rules = [], []
    for number, label in enumerate(panels):
        key, checked = f"{group}-{number}", "" if number else " checked"
        parts.append(f'<input type="radio" name="{group}" id="{key}"{checked}>')
        parts.append(f'<label for="{key}">{plain(label)}</label>')
        rules.append(f"#{key}:checked~.{key}{{display:block}}")
    for number, panel in enumerate(panels.values()):
        text = panel.data if isinstance(panel, HTML) else panel
        parts.append(f'<div class="panel {group}-{number}">{text}</div>')
    style = f"<style>{''.join(rules)}</style>"
    body = f'<div class="static-view" role="group" aria-label="{escape(name, quote=True)}">{"".join(parts)}</div>'
    return HTML(STYLE + style + body)


def show_widget(widget: ipywidgets.Widget, static: HTML) -> None:
    """Show a widget where a kernel runs, and its static view on a rendered page."""
    if hasattr(widget, "_ipython_display_"):  # ipywidgets 7, which Colab has: no page is rendered there
        return widget._ipython_display_()
    return display({**widget._repr_mimebundle_(), "text/html": static.data}, raw=True)

"""What is changed in built pages: each rule meets what it is for, and changes nothing twice."""

from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from book_extension import finish
from pages import accessible, mend_pages, preview, sitemap
from PIL import Image

CHANGES = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '1. Data</a><details open="open"><summary><span class="toctree-toggle"': 'aria-label="Notebooks of 1. Data"><span',
    '<button class="btn search-button-field" title="Search" aria-label="Search" data-x>': 'title="Search" data-x>',
    '<div class="bd-sidebar-primary bd-sidebar">': 'role="complementary"',
    "<tr><th></th><th>Items</th></tr>": "<tr><td></td><th>Items</th></tr>",
    '<tr><th class="head right"><p></p></th><th>Items</th></tr>': '<tr><td class="head right"></td><th>Items',
    '<th class="blank level0" >&nbsp;</th><th class="level0">a</th>': '<td class="blank level0"></td><th',
    '<script src="../_static/vendor/fontawesome/6.5.2/js/all.min.js?digest=1"></script>': "<a></a>",
    '<link rel="preload" as="font" crossorigin href="../_static/fa-brands-400.woff2" />': "<a></a>",
    '<div class="citation" id="id1" role="doc-biblioentry">': 'role="listitem">',
}


@pytest.mark.parametrize("before", CHANGES)
def test_a_rule_changes_what_it_is_for_once(before, tmp_path):
    page = f"<a>{before}</a>"
    path = tmp_path / "below" / "page.html"
    path.parent.mkdir()
    path.write_text(page)
    mend_pages(tmp_path)
    changed = path.read_text()
    assert CHANGES[before] in changed
    assert accessible(changed) == changed != page


def test_a_heavy_image_gets_lighter_and_keeps_its_pixels(tmp_path):
    (tmp_path / "_images").mkdir()
    rows = np.random.default_rng(0).integers(0, 255, size=(1, 300, 3), dtype=np.uint8)
    pixels = np.repeat(rows, 300, axis=0)
    images = {name: tmp_path / "_images" / f"{name}.png" for name in ("heavy", "light")}
    for image, compressed in zip(images.values(), (0, 9), strict=True):
        Image.fromarray(pixels).save(image, compress_level=compressed)
    page = tmp_path / "page.html"
    page.write_text('<img src="_images/heavy.png"><img src="_images/light.png">')
    mend_pages(tmp_path)
    assert page.read_text() == '<img src="_images/heavy.webp"><img src="_images/light.png">'
    assert sorted(path.name for path in (tmp_path / "_images").iterdir()) == ["heavy.webp", "light.png"]
    assert (np.asarray(Image.open(tmp_path / "_images" / "heavy.webp")) == pixels).all()


def test_a_link_to_a_page_shows_title_first_words_and_picture(root):
    tags = preview('Masks & "heads"', "word " * 100, "https://example.org/book/", "notebooks/04a.html")
    assert '<meta property="og:title" content="Masks &amp; &quot;heads&quot;" />' in tags
    assert '<meta property="og:image" content="https://example.org/book/_static/preview.png" />' in tags
    assert '<meta property="og:url" content="https://example.org/book/notebooks/04a.html" />' in tags
    assert f'<meta property="og:description" content="{"word " * 39}word …" />' in tags
    with Image.open(root / "book" / "assets" / "preview.png") as picture:
        assert picture.size == (1200, 630)
    hidden = preview("Masks", "Short.", "", "notebooks/04a.html")
    assert 'content="../_static/preview.png"' in hidden
    assert "og:url" not in hidden


def test_a_sitemap_lists_the_pages_of_a_public_book(tmp_path):
    found = ElementTree.fromstring(sitemap("https://example.org/book/", ["b.html", "a.html?x&y"]))
    places = [place.text for place in found.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert places == ["https://example.org/book/a.html?x&y", "https://example.org/book/b.html"]
    app = SimpleNamespace(
        builder=SimpleNamespace(format="html", get_target_uri=lambda name: f"{name}.html"),
        env=SimpleNamespace(found_docs={"intro"}),
        config=SimpleNamespace(html_baseurl=""),
        outdir=tmp_path,
    )
    finish(app, None)
    assert list(tmp_path.iterdir()) == []  # no address, no list
    app.config.html_baseurl = "https://example.org/book"
    finish(app, None)
    assert "https://example.org/book/intro.html" in (tmp_path / "sitemap.xml").read_text()

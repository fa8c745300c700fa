"""What is changed in built pages: each rule meets what it is for, and changes nothing twice."""

import numpy as np
import pytest
from pages import accessible, mend_pages
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

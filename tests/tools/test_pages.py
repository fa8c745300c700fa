"""What is changed in built pages: each rule meets what it is for, and changes nothing twice."""

import pytest
from pages import accessible, mend_pages

CHANGES = {
    '<summary aria-label="Toggle hidden content">': "<summary>",
    '1. Data</a><details open="open"><summary><span class="toctree-toggle"': 'aria-label="Notebooks of 1. Data"><span',
    '<button class="btn search-button-field" title="Search" aria-label="Search" data-x>': 'title="Search" data-x>',
    '<div class="bd-sidebar-primary bd-sidebar">': 'role="complementary"',
    "<tr><th></th><th>Items</th></tr>": "<tr><td></td><th>Items</th></tr>",
    '<tr><th class="head text-right"><p></p></th><th class="head"><p>Items</p></th></tr>': "<tr><td></td><th class",
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

"""words.py: finds what was replaced, in cells, pages and docstrings, and nothing in this book."""

import nbformat
import pytest
import words


@pytest.mark.parametrize("word", ["Bend", "yardstick", "LEAGUE", "holds zero", "surprise", "lower rate", "each pass"])
def test_a_replaced_word_is_found_in_a_cell_a_page_and_a_docstring(tmp_path, word):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "book").mkdir()
    (tmp_path / "tools").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"One {word}.")])
    nbformat.write(notebook, tmp_path / "notebooks" / "01.ipynb")
    (tmp_path / "book" / "page.md").write_text(f"A ({word})")
    (tmp_path / "tools" / "code.py").write_text(f'"""The {word}, it is."""')
    places = [fault.partition(": ")[0] for fault in words.lint(tmp_path)]
    assert places == ["01.ipynb, cell 0", "book/page.md", "tools/code.py"]


@pytest.mark.parametrize("text", ["03_yardsticks_and_baselines", "bender", "league_table", "a recommender"])
def test_identifiers_and_longer_words_are_not_found(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert words.lint(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "the hit rate, a learning rate and the dropout rate",
        "one forward pass of the tower, each backward pass; gradients pass through",
        "the body of a function and of a request",
        "RGB channels, and 64 channels of 4 by 4 positions",
        "the floor function",
        "the width of an interval, half the width",
        "a look-up, the look-ahead; the network looks up a row",
        "a histogram is drawn; time taken",
        "in the two settings of the benchmark, default of settings.py",
    ],
)
def test_phrases_of_the_field_are_allowed(tmp_path, text):
    (tmp_path / "README.md").write_text(text)
    assert words.lint(tmp_path) == []


def test_the_book_uses_the_words_of_the_field():
    assert words.lint() == []

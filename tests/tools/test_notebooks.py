"""The notebooks' and the book's tools: cells are generated as promised, each rule of style catches its fault."""

import importlib.util
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import book_extension
import nbformat
import pytest
import yaml
from jupyter_cache import get_cache
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks as tool

REAL = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
REAL_METADATA = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SOLUTION = """\
def add(a, b):
    \"""Sum of two numbers.\"""
    ### BEGIN SOLUTION
    total = a + b
    return total
    ### END SOLUTION


check_add(add)"""
STUB = """\
def add(a, b):
    \"""Sum of two numbers.\"""
    raise NotImplementedError("Use +.")


attempt(check_add, add)"""


@pytest.fixture
def good():
    """A notebook without faults: setup cell, a figure in cell 3, prose and code, one exercise; 25 cells executed."""
    exercise = {"number": "1.1", "title": "Add", "difficulty": 2, "minutes": 3, "hint": "Use +.", "check": "check_add"}

    def part(role, **more):
        return {"book": {"role": role, "check": "check_add", **more}}

    figure = {"mystnb": {"figure": {"caption": "A dot.", "name": "fig-dot"}, "image": {"alt": "A dot, alone."}}}
    cells = [new_markdown_cell("# Title"), new_code_cell("", metadata={"book": {"role": "setup"}})]
    cells += [new_markdown_cell("A figure."), new_code_cell("draw()", metadata=figure)]
    for number in range(8):
        cells += [new_markdown_cell(f"Prose {number}."), new_code_cell(f"print({number})")]
    cells.append(new_markdown_cell("Add two numbers.", metadata=part("prompt")))
    cells.append(new_code_cell("def check_add(add):\n    assert add(1, 2) == 3", metadata=part("check")))
    cells.append(new_code_cell("", metadata=part("stub")))
    cells.append(new_code_cell(SOLUTION, metadata=part("solution", exercise=exercise)))
    cells.append(new_markdown_cell("Take-away."))
    nb = new_notebook(cells=cells)
    tool.generate(nb)
    tool.tidy(nb)
    for count, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    nb.cells[3].outputs = [new_output("display_data", {"image/png": PIXEL})]
    return nb


def cell_with(nb, role):
    return next(cell for cell in nb.cells if cell.metadata.get("book", {}).get("role") == role)


# Generated cells -------------------------------------------------------------------------------------------------


def test_stub_is_the_solution_without_what_lies_between_the_markers():
    assert tool.stub_of(SOLUTION, "check_add", "Use +.") == STUB


def test_what_follows_the_markers_is_not_for_the_stub():
    assert tool.stub_of(SOLUTION + "  # because + adds", "check_add", "Use +.") == STUB


def test_hint_may_hold_quotes():
    scope = {"attempt": lambda check, answer: answer(1, 2), "check_add": None}
    with pytest.raises(NotImplementedError, match='Say "plus"'):
        exec(tool.stub_of(SOLUTION, "check_add", 'Say "plus".'), scope)


@pytest.mark.parametrize("marker", ["### BEGIN SOLUTION\n", "### END SOLUTION\n"])
def test_solution_without_markers_is_refused(marker):
    with pytest.raises(ValueError, match="check_add"):
        tool.stub_of(SOLUTION.replace(f"    {marker}", ""), "check_add", "Use +.")


def test_label_holds_number_title_difficulty_and_minutes():
    label = tool.label_of({"number": "1.2", "title": "Count", "difficulty": 4, "minutes": 10})
    assert label == "### Exercise 1.2: Count\n\n*Difficulty ★★★★☆, 10 minutes.*"


def test_generate_writes_label_stub_setup_and_folds(good):
    assert cell_with(good, "prompt").source.startswith("### Exercise 1.1: Add")
    assert cell_with(good, "prompt").source.endswith("\n\nAdd two numbers.")
    assert cell_with(good, "stub").source == STUB
    assert cell_with(good, "setup").source == tool.setup_source()
    assert cell_with(good, "check").metadata.tags == cell_with(good, "solution").metadata.tags == ["hide-cell"]


def test_generate_twice_changes_nothing(good):
    once = nbformat.writes(good)
    tool.generate(good)
    assert nbformat.writes(good) == once


def test_tidy_takes_out_widgets_noise_and_times(good):
    html = {"text/html": "<b>static</b>", tool.WIDGET_VIEW: {"model_id": "1"}}
    good.cells[3].outputs = [new_output("display_data", html), new_output("stream", name="stderr", text="9%")]
    good.cells[3].metadata.execution = {"shell.execute_reply": "now"}
    good.metadata.widgets = {"state": {}}
    tool.tidy(good)
    assert "widgets" not in good.metadata
    assert "execution" not in good.cells[3].metadata
    assert [dict(out.data) for out in good.cells[3].outputs] == [{"text/html": "<b>static</b>"}]


# The setup cell --------------------------------------------------------------------------------------------------


def without_helpers(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mmrec_helpers" else find(name))


def test_setup_cell_runs_twice_and_prints_one_line(capsys):
    scope = {}
    for _ in range(2):
        exec(tool.setup_source(), scope)
        printed = capsys.readouterr().out
        assert printed.startswith("mmrec_helpers ")
        assert printed.count("\n") == 1


def test_setup_cell_without_package_and_address_says_what_to_do(monkeypatch):
    without_helpers(monkeypatch)
    with pytest.raises(SystemExit, match="run `make setup`"):
        exec(tool.SETUP_CELL.format(url=""), {})


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """A machine without the package and the book, on which nothing is really fetched: the commands that it gets."""
    calls = []

    def fetch(command):
        calls.append(command)
        if command[0] == "git":
            (command[-1] / "notebooks").mkdir(parents=True)

    without_helpers(monkeypatch)
    monkeypatch.setattr(subprocess, "check_output", lambda command, **options: calls.append(command) or "numpy==1.0\n")
    monkeypatch.setattr(subprocess, "check_call", fetch)
    monkeypatch.chdir(tmp_path)
    return calls


def test_setup_cell_on_colab_holds_preinstalled_packages_and_goes_to_the_records(colab, tmp_path):
    exec(tool.SETUP_CELL.format(url="https://example.org/book"), {})
    clone, listing, install = colab
    book = tmp_path / "mmrec-book"
    assert clone == ["git", "clone", "-q", "--depth", "1", "https://example.org/book", book]
    assert listing[1:] == ["-m", "pip", "list", "--format=freeze"]
    assert install[1:] == ["-m", "pip", "install", "-q", "-c", book / "held.txt", book]
    assert (book / "held.txt").read_text() == "numpy==1.0\n"
    assert Path.cwd() == book / "notebooks"


def test_setup_cell_goes_to_the_records_after_a_restart_too_and_stays_there(colab, tmp_path, monkeypatch):
    exec(tool.SETUP_CELL.format(url="https://example.org/book"), {})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: "installed")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # a kernel that was restarted, and a cell that is run again
        exec(tool.SETUP_CELL.format(url="https://example.org/book"), {})
        assert Path.cwd() == tmp_path / "mmrec-book" / "notebooks"
    assert len(colab) == 3


# The rules -------------------------------------------------------------------------------------------------------


def faults_of(nb, folder):
    path = folder / "10_made.ipynb"
    nbformat.write(nb, path)
    return tool.lint(path)


def source(text):
    return lambda nb: nb.cells[5].update(source=text)


def output(data):
    return lambda nb: nb.cells[5].update(outputs=[new_output("display_data", data)])


def printed(text):
    return lambda nb: nb.cells[5].update(outputs=[new_output("stream", text=text)])


def edit(role, text):
    return lambda nb: cell_with(nb, role).update(source=text)


FAULTS = {
    "long cell": (source("a = 1\n" * 26), "26 lines, more than 25"),
    "wide line": (source("a = " + "1" * 100), "a line of 104 characters"),
    "no prose": (lambda nb: nb.cells.pop(4), "no prose before this code cell"),
    "caption": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("caption"), "a figure without caption"),
    "name": (lambda nb: nb.cells[3].metadata.mystnb.figure.pop("name"), "a figure without name"),
    "alt": (lambda nb: nb.cells[3].metadata.mystnb.image.update(alt=""), "a figure without alt"),
    "table beside a figure": (
        lambda nb: nb.cells[3].outputs.append(new_output("execute_result", {"text/plain": "a table"})),
        "a named figure beside another output",
    ),
    "bare figure": (lambda nb: nb.cells[3].metadata.pop("mystnb"), "a figure without alt"),
    "img": (output({"text/html": '<img src="data:,">'}), "<img> without alternative text"),
    "np.random": (source("np.random.rand(3)"), "randomness without a seed"),
    "default_rng": (source("rng = np.random.default_rng()"), "randomness without a seed"),
    "short default_rng": (source("rng = default_rng()"), "randomness without a seed"),
    "import random": (source("import random"), "randomness without a seed"),
    "from random": (source("from random import shuffle"), "randomness without a seed"),
    "path in code": (source('open("/home/me/data.csv")'), "an absolute path: /home/"),
    "path in prose": (lambda nb: nb.cells[4].update(source="Look into `/tmp/shop`."), "an absolute path: /tmp/"),
    "path in output": (printed("saved in /usr/share\n"), "an absolute path: /usr/"),
    "drive in code": (source('open(r"C:\\data.csv")'), "an absolute path: C:"),
    "drive in output": (printed("saved in D:\\shop\n"), "an absolute path: D:"),
    "error": (
        lambda nb: nb.cells[5].update(outputs=[new_output("error", ename="KeyError")]),
        "a stored error: KeyError",
    ),
    "missing outputs": (lambda nb: nb.cells[5].update(execution_count=None), "stored outputs are missing"),
    "order": (lambda nb: nb.cells[5].update(execution_count=9), "not made in one run from top to bottom"),
    "widget state": (lambda nb: nb.metadata.update(widgets={}), "widget state is stored"),
    "widget view": (output({"application/vnd.jupyter.widget-view+json": {}}), "a stored widget view"),
    "size": (output({"text/plain": "x" * 2_000_000}), "2.0 MB, more than 2"),
    "setup edited": (edit("setup", "print(1)"), "a generated cell differs"),
    "stub edited": (edit("stub", STUB.replace("Use +.", "Think.")), "a generated cell differs"),
    "label edited": (edit("prompt", "### Exercise 9.9: Add"), "a generated cell differs"),
    "no setup cell": (lambda nb: cell_with(nb, "setup").metadata.pop("book"), "there must be one setup cell"),
    "too short": (lambda nb: nb.update(cells=nb.cells[:10]), "a chapter has 20 to"),
}


def test_good_notebook_has_no_faults(good, tmp_path):
    assert faults_of(good, tmp_path) == []


@pytest.mark.parametrize("rule", FAULTS)
def test_rule_catches_its_fault(good, tmp_path, rule):
    spoil, message = FAULTS[rule]
    spoil(good)
    assert message in "\n".join(faults_of(good, tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "rng = np.random.default_rng(0)",
        "rng = np.random.default_rng(settings.seed)",
        "def draw(rng: np.random.Generator): ...",
        'page = "https://example.org/home/index.html"',
        "half = total/work/2",
    ],
)
def test_rules_let_good_code_pass(good, tmp_path, text):
    good.cells[5].source = text
    assert faults_of(good, tmp_path) == []


def test_rules_let_a_line_that_ends_in_a_colon_pass(good, tmp_path):
    printed("PLAN B:\nnone\n")(good)
    assert faults_of(good, tmp_path) == []


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_notebook_has_no_faults(path):
    assert tool.lint(path) == []


FORM = {
    "few cells": (lambda cells: cells[:20], "20 cells, not 25 to 45"),
    "many cells": (lambda cells: cells * 2, "60 cells, not 25 to 45"),
    "long cells": (lambda cells: [*cells[:-16], *map(code_of_lines(9), cells[-16:])], "9 lines in the median"),
    "some very long": (lambda cells: [*cells[:-4], *map(code_of_lines(17), cells[-4:])], "not nine in ten"),
    "few words": (lambda cells: [without(cell, "word word ") for cell in cells], "fewer than 100"),
    "no formula": (lambda cells: [without(cell, "$$") for cell in cells], "no displayed formula"),
    "no diagram": (lambda cells: [without(cell, ".svg") for cell in cells], "no diagram"),
    "branches": (lambda cells: [*cells, *[new_code_cell("if truth:\n    1")] * 2], "`if truth` 2 times"),
}


def code_of_lines(num):
    return lambda cell: new_code_cell("a = 1\n" * num) if cell.cell_type == "code" else cell


def without(cell, text):
    return {**cell, "source": cell.source.replace(text, "")}


def in_form():
    """Thirty cells, fifteen of them code."""
    prose = new_markdown_cell("$$x$$\n```{figure} ../book/assets/a.svg\n```\n" + "word " * 110)
    return [cell for _ in range(15) for cell in (prose, new_code_cell("a = 1"))]


def faults_of_form(cells):
    return "\n".join(tool.form_faults(nbformat.from_dict({"cells": cells})))


def test_a_notebook_in_form_has_no_faults():
    assert faults_of_form(in_form()) == ""


@pytest.mark.parametrize("rule", FORM)
def test_form_is_checked(rule):
    spoil, message = FORM[rule]
    assert message in faults_of_form(spoil(in_form()))


@pytest.mark.parametrize("beginning", tool.IN_FORM)
def test_what_is_held_to_the_form_exists(beginning):
    assert tool.paths(beginning)


# The launch buttons ----------------------------------------------------------------------------------------------


GITHUB = "https://github.com/example/book"
HUB = "https://hub.example.org"


@pytest.mark.parametrize(
    ("url", "buttons"),
    [
        ("", {"colab_url": "", "binderhub_url": "", "jupyterhub_url": ""}),
        (GITHUB, book_extension.LAUNCHERS | {"jupyterhub_url": HUB}),
        ("https://example.org/book", book_extension.LAUNCHERS | {"colab_url": "", "jupyterhub_url": HUB}),
    ],
)
def test_buttons_follow_the_address(url, buttons):
    options = {"repository_url": url, "launch_buttons": {"thebe": False, "jupyterhub_url": HUB}}
    book_extension.follow_repository(app=None, config=SimpleNamespace(html_theme_options=options))
    assert options["launch_buttons"] == {"thebe": False} | buttons
    assert options["use_repository_button"] is options["use_issues_button"] is bool(url)


def test_a_built_page_has_the_buttons_of_its_address(tmp_path):
    """A book of two pages, configured as this one, but for what other pages need. (Without one: test_pages.py.)"""
    config = yaml.safe_load((tool.ROOT / "_config.yml").read_text())
    config["repository"]["url"], config["launch_buttons"]["jupyterhub_url"] = GITHUB, HUB
    config["sphinx"]["local_extensions"] = {"book_extension": str(tool.ROOT / "tools")}
    config["sphinx"]["config"] |= {"html_static_path": [], "html_css_files": []}
    config["html"]["favicon"], config["bibtex_bibfiles"] = "", ["none.bib"]
    (tmp_path / "none.bib").write_text("")
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: intro\nchapters:\n- file: notebooks/01a\n")
    (tmp_path / "intro.md").write_text("# Intro\n\nText.\n")
    (tmp_path / "notebooks").mkdir()
    nb = new_notebook(cells=[new_markdown_cell("# Title\n\nText."), new_code_cell("1")], metadata=REAL_METADATA)
    nbformat.write(nb, tmp_path / "notebooks" / "01a.ipynb")
    build = ["-c", "from jupyter_book.cli.main import main; main()", "build", tmp_path, "-W", "-n", "--quiet"]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[:3000]
    pages = [(tmp_path / "_build" / "html" / name).read_text() for name in ("notebooks/01a.html", "intro.html")]
    path = "notebooks/01a.ipynb"
    expected = [
        f'href="https://colab.research.google.com/github/example/book/blob/main/{path}"',
        f'href="https://mybinder.org/v2/gh/example/book/main?urlpath=lab/tree/{path}"',
        f'href="{HUB}/hub/user-redirect/git-pull?repo=https%3A//github.com/example/book&urlpath=lab/tree/book/{path}',
    ]
    assert [link for link in expected if link not in pages[0]] == []
    assert not any(link.split("?")[0] in pages[1] for link in expected)


# The cache of `make book` ----------------------------------------------------------------------------------------

NOTEBOOKS = {
    "01a_good": "21 * 2",
    "01b_slow": "'slow'",
    "02a_raises": "1 / 0",
    "02b_dies": "import os\nos._exit(1)",
    "03a_draft": "'not in the table of contents'",
}


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of small notebooks, each of which notes in a file that it was executed."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(tool, "STATUS", tmp_path / "notebooks.json")
    monkeypatch.setattr(tool.signal, "signal", lambda *_: None)
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks.json").write_text('{"01a_good": {"seconds": 1}, "01b_slow": {"seconds": 9}}')
    (tmp_path / "_config.yml").write_text("execute:\n  timeout: 60\n")
    for name, code in NOTEBOOKS.items():
        note = f"print('{name}', file=open('../executed.txt', 'a'))"
        cells = [new_markdown_cell(f"# {name}"), new_code_cell(note), new_code_cell(code)]
        nbformat.write(new_notebook(cells=cells, metadata=REAL_METADATA), tmp_path / "notebooks" / f"{name}.ipynb")
    return tmp_path


def executed(book, *names):
    """Fill the cache of a book of these notebooks; in which order they were executed."""
    (book / "_toc.yml").write_text("chapters:\n" + "".join(f"  - file: notebooks/{name}\n" for name in names))
    (book / "executed.txt").write_text("")
    tool.fill()
    return (book / "executed.txt").read_text().split()


def test_the_cache_is_filled_from_the_slowest_on_and_once(book, monkeypatch):
    monkeypatch.setattr(tool, "AT_ONCE", 1)
    assert executed(book, "01a_good", "01b_slow") == ["01b_slow", "01a_good"]
    assert executed(book, "01a_good", "01b_slow") == []
    nb = nbformat.read(book / "notebooks" / "01a_good.ipynb", as_version=4)
    _, cached = get_cache(tool.CACHE).merge_match_into_notebook(nb)  # as jupyter-book looks for it
    assert cached.cells[2].outputs[0].data == {"text/plain": "42"}
    nb.cells[2].source = "21 * 3"
    nbformat.write(nb, book / "notebooks" / "01a_good.ipynb")
    assert executed(book, "01a_good", "01b_slow") == ["01a_good"]


def test_what_fails_is_named_with_its_cell_and_runs_again_alone(book, capsys):
    names = ["01a_good", "02a_raises", "02b_dies"]
    with pytest.raises(SystemExit, match="2 of 3 notebooks failed") as stop:
        executed(book, *names)
    runs = Counter((book / "executed.txt").read_text().split())
    assert runs == {"01a_good": 1, "02a_raises": 2, "02b_dies": 2}
    assert "FAILED: 02b_dies.ipynb, cell 2: DeadKernelError" in capsys.readouterr().out
    assert "02a_raises.ipynb, cell 2: CellExecutionError" in str(stop.value)
    assert "ZeroDivisionError" in str(stop.value)
    assert "02b_dies.ipynb, cell 2: DeadKernelError" in str(stop.value)
    assert executed(book, "01a_good") == []
    with pytest.raises(SystemExit, match="1 of 1 notebooks failed"):
        executed(book, *names[:2])
    assert (book / "executed.txt").read_text().split() == ["02a_raises"]


def test_what_fails_beside_others_has_a_second_chance_alone(book, capsys):
    path = book / "notebooks" / "02a_raises.ipynb"
    nb = nbformat.read(path, as_version=4)
    nb.cells[2].source = "assert open('../executed.txt').read().count('02a_raises') == 2"
    nbformat.write(nb, path)
    assert sorted(executed(book, "01a_good", "02a_raises")) == ["01a_good", "02a_raises", "02a_raises"]
    assert "FAILED: 02a_raises.ipynb, cell 2: CellExecutionError" in capsys.readouterr().out


# The lessons -----------------------------------------------------------------------------------------------------


def code_of(module):
    """A module's text without nbdev's comments, which name paths."""
    return [line for line in module.read_text().splitlines() if not line.startswith("# ")]


def test_a_lesson_is_what_its_notebook_exports(tmp_path):
    cells = ["#| default_exp toy", "#| export\ndef double(x):\n    return 2 * x", "double(2)"]
    notebook = tmp_path / "02_toy.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), notebook)
    tool.export_lesson(notebook, tmp_path / "lessons")
    names = {}
    exec((tmp_path / "lessons" / "toy.py").read_text(), names)
    assert names["double"](21) == 42
    assert "double(2)" not in code_of(tmp_path / "lessons" / "toy.py")


def test_lessons_are_exported_anew_after_each_change(tmp_path):
    for path in REAL:
        tool.export_lesson(path, tmp_path)
    fresh = {module.name: code_of(module) for module in tmp_path.glob("*.py")}
    stored = {module.name: code_of(module) for module in tool.LESSONS.glob("*.py") if module.name != "__init__.py"}
    assert fresh == stored, "run `make export`"


def test_a_notebook_whose_kernel_does_not_answer_is_run_once_more(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    (tmp_path / "_config.yml").write_text("execute: {timeout: 2}")
    slow_once = f"import pathlib, time\nflag = pathlib.Path({str(tmp_path / 'flag')!r})\n"
    slow_once += "known = flag.exists()\nflag.touch()\ntime.sleep(0 if known else 30)\nprint(known)"
    nb = new_notebook(cells=[new_code_cell(slow_once)])
    tool.run(nb, tmp_path / "slow.ipynb")
    assert nb.cells[0].outputs[0].text == "True\n"
    printed = capfd.readouterr()
    assert "slow.ipynb: " in printed.out
    assert "WARNING" not in printed.err, "of the connection, by each kernel"

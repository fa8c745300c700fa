"""Progress bars: shown to readers, never in an output that is stored or rendered, whichever bar tqdm chooses."""

import os

import nbformat
import pytest
import tasks
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

# tqdm.auto takes the notebook's bar where ipywidgets is installed; the console's is what a front end without it shows.
CELLS = {
    "notebook": "from mmrec_helpers.progress import progress\nfor _ in progress(range(3), desc='training'):\n    pass",
    "console": "import mmrec_helpers.progress as bars\nfrom tqdm import tqdm\nbars.tqdm = tqdm\n"
    "for _ in bars.progress(range(3), desc='training'):\n    pass",
}


def outputs(cell: str) -> list[nbformat.NotebookNode]:
    """What an executed cell leaves."""
    nb = new_notebook(cells=[new_code_cell(cell)])
    NotebookClient(nb, timeout=60, kernel_name="python3").execute()
    return nb.cells[0].outputs


@pytest.mark.parametrize("kind", CELLS)
def test_bar_is_no_output_where_notebooks_are_executed_for_the_book(monkeypatch, kind):
    for name, value in tasks.EXECUTION.items():
        monkeypatch.setenv(name, value)
    assert outputs(CELLS[kind]) == []


@pytest.mark.parametrize("kind", CELLS)
def test_bar_is_shown_to_a_reader(monkeypatch, kind):
    for name in tasks.EXECUTION:
        monkeypatch.delenv(name, raising=False)
    assert "training" in str(outputs(CELLS[kind]))


def test_every_bar_is_made_in_one_place(root):
    sources = [*root.glob("mmrec_helpers/**/*.py"), *root.glob("notebooks/*.ipynb")]
    assert [path.name for path in sources if "from tqdm" in path.read_text()] == ["progress.py"]


@pytest.mark.parametrize("command", ["book", "notebooks", "test"])
def test_commands_that_execute_notebooks_switch_bars_off_and_let_threads_wait(monkeypatch, tmp_path, command):
    def run(*_, **__):
        environments.append({name: os.environ[name] for name in tasks.EXECUTION})

    environments = []
    for name in tasks.EXECUTION:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(tasks, "setup", lambda: None)
    monkeypatch.setattr(tasks, "run", run)
    monkeypatch.setattr(tasks, "build_html", lambda *_: None)
    monkeypatch.setattr(tasks, "BUILD", tmp_path)
    tasks.TASKS[command]()
    assert environments[-1] == tasks.EXECUTION

"""replay.py: nbval compares what was executed with what is stored, without executing it again."""

import re
import subprocess
import sys

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

CONFTEST = """\
import sys
from pathlib import Path

sys.path.insert(0, {tests!r})
import replay

replay.use(Path(__file__).parent / "cache")
"""


def toy(*outputs, code="1 / 0"):
    """A notebook whose second code cell, which would fail if it were executed, has these outputs."""
    cells = [new_code_cell("x = 1", execution_count=1), new_markdown_cell("Prose.")]
    cells.append(new_code_cell(code, execution_count=2, outputs=list(outputs)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def result(text):
    return new_output("execute_result", {"text/plain": text}, execution_count=2)


@pytest.fixture
def run(tmp_path, root):
    """Compare a stored notebook with an executed one: how many cells passed and failed, and all that was printed."""
    (tmp_path / "none.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST.format(tests=str(root / "tests")))

    def run(stored, executed):
        nbformat.write(stored, tmp_path / "toy.ipynb")
        cache = get_cache(tmp_path / "cache")
        cache.cache_notebook_bundle(CacheBundleIn(executed, "toy.ipynb"), check_validity=False, overwrite=True)
        options = ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-c", "none.ini", "--nbval", "toy.ipynb"]
        environment = {"PYTHONPATH": str(root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "HOME": str(tmp_path)}
        command = [sys.executable, "-m", "pytest", *options]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return counts(done.stdout), done.stdout

    return run


def counts(printed):
    return {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", printed.splitlines()[-1])}


def test_equal_outputs_pass_and_nothing_is_executed(run):
    """A stream counts as one, in however many parts it came."""
    stored = toy(stream("a\nb\n"), result("3"))
    assert run(stored, toy(stream("a\n"), stream("b\n"), result("3")))[0] == {"passed": 2}


@pytest.mark.parametrize(
    "outputs",
    [[result("4")], [], [stream("3")], [result("3"), stream("careful", "stderr")]],
    ids=["value", "none", "kind", "warning"],
)
def test_other_outputs_fail(run, outputs):
    found, printed = run(toy(result("3")), toy(*outputs))
    assert found == {"passed": 1, "failed": 1}
    assert "Cell outputs differ" in printed


def test_other_code_is_executed(run):
    found, printed = run(toy(result("3"), code="1 / 0  # changed"), toy(result("3")))
    assert found == {"passed": 1, "failed": 1}
    assert "ZeroDivisionError" in printed

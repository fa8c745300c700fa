"""Outputs that `make book` has just executed, for nbval to compare with the stored ones: ``make test BOOK=1``.

For continuous integration, so that it executes each notebook once and not twice. The rules of `make book` decide
whether an execution still counts; a notebook without one is executed, as it is by a plain ``make test``.
"""

from itertools import count
from pathlib import Path
from queue import Empty

from jupyter_cache import get_cache
from nbval.plugin import IPyNbFile


class Replay:
    """A kernel, as nbval sees it, that answers with the outputs of an execution.

    Args:
        nb: the executed notebook.
    """

    language = "python"

    def __init__(self, nb):
        self.cells = iter([cell for cell in nb.cells if cell.cell_type == "code"])
        self.ids, self.messages = count(), []

    def execute_cell_input(self, source, allow_stdin=None):
        """Go on to the cell of this code; nbval leaves out none but those that are marked to be skipped."""
        parent = {"msg_id": str(next(self.ids))}
        outputs = next(cell for cell in self.cells if cell.source == source).outputs
        answers = [(out.output_type, out) for out in outputs] + [("status", {"execution_state": "idle"})]
        self.messages = [{"msg_type": kind, "content": out, "parent_header": parent} for kind, out in answers]
        return parent["msg_id"]

    def get_message(self, stream, timeout=None):
        """The next output of the cell."""
        if not self.messages:
            raise Empty
        return self.messages.pop(0)

    def await_reply(self, msg_id, timeout=None):
        """The cell has been executed."""

    await_idle = await_reply

    def is_alive(self):
        """Until it is stopped, which ends nothing."""
        return True

    def stop(self):
        """Nothing runs."""


def use(cache_path: Path) -> None:
    """Let nbval take outputs of the same code from a cache of executed notebooks, where it has them."""
    cache, start_kernel = get_cache(cache_path), IPyNbFile.setup

    def setup(self):
        try:
            _, executed = cache.merge_match_into_notebook(self.nb)
        except KeyError:
            start_kernel(self)
        else:
            self.kernel = Replay(executed)
            self.setup_sanitize_files()

    IPyNbFile.setup = setup

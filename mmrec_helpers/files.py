"""Atomic writes: a file or folder has its old content or its complete new one."""

import glob
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER = 86_400
"""Age in seconds from which a temporary folder is one of a killed process."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` when the block ends, and is deleted if it fails.

    Processes that write the same path do not disturb each other: the last one to finish wins. Parent folders are made.

    Args:
        path: a file or a folder; an existing one is replaced.

    Yields:
        Where to write, on the same disk and with the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with suppress(FileNotFoundError):  # another process has just finished with it
            if time.time() - folder.stat().st_mtime > LEFT_OVER:
                shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as private:
        part = Path(private) / path.name
        yield part
        try:
            part.replace(path)
        except OSError:
            if not part.is_dir():
                raise
            path.rename(Path(private) / "old")  # a folder cannot replace one that is not empty
            part.replace(path)

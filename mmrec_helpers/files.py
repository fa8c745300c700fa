"""Files and folders that are written whole or not at all."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a private path to write to; it becomes ``path`` when the block ends, and vanishes if it fails.

    Two processes that write the same path do not meet: the last one to finish wins. Parent folders are made.

    Args:
        path: a file or a folder; what is there is replaced.

    Yields:
        Where to write, on the same disk and with the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as private:
        part = Path(private) / path.name
        yield part
        if part.is_dir() and path.is_dir():  # a folder cannot be renamed onto one that holds something
            path.rename(Path(private) / "old")
        part.replace(path)

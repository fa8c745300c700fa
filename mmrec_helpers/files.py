"""Files with their old content or their complete new one, and checks that they are as they were written."""

import ctypes
import errno
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LEFT_OVER = 86_400
"""Age in seconds from which a temporary folder is one of a killed process."""
REFUSED = ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "EACCES", "EPERM", "ENOTDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"]
"""Errors of a disk or folder that cannot be written to."""
DIGESTS = "digests.json"
"""File of a folder with the digests of the others."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``path`` when the block ends, and is deleted if it fails.

    Processes that write the same path do not disturb each other: the last one to finish wins. Parent folders are made.
    The content is on the disk before it gets its name, so that not even a power cut leaves half of it.

    Args:
        path: a file or a folder; an existing one is replaced.

    Yields:
        Where to write, on the same disk and with the same name.

    Raises:
        OSError: the disk is full or cannot be written to; the message names the path and the fix.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.parent.glob(f".{glob.escape(path.name)}.*"):
            with suppress(FileNotFoundError):  # another process has just finished with it
                if time.time() - folder.stat().st_mtime > LEFT_OVER:
                    shutil.rmtree(folder, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as private:
            part = Path(private) / path.name
            yield part
            for written in (*part.rglob("*"), part):
                _flush(written)
            _replace(part, path)
            with suppress(OSError):  # some network disks cannot flush a folder
                _flush(path.parent)
    except (OSError, RuntimeError) as error:
        cause = error.__context__ if isinstance(error, RuntimeError) else error  # PyTorch raises one while it cleans up
        if errno.errorcode.get(getattr(cause, "errno", None) or 0) not in REFUSED:
            raise
        fix = "make room or permit writing there, or choose another folder (the cache's is set by MMREC_CACHE)"
        raise OSError(f"{path} cannot be written ({cause}): {fix}") from error


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(part: Path, path: Path) -> None:
    """Move a file or folder to a path. One that is there is swapped with it in one step, where the system can."""
    try:
        part.replace(path)
    except OSError:
        if not part.is_dir():
            raise
        names, swap = (os.fsencode(part), os.fsencode(path)), 2
        libc, here = ctypes.CDLL(None), -100
        with suppress(AttributeError):  # of systems that cannot
            mac = sys.platform == "darwin"
            if not (libc.renamex_np(*names, swap) if mac else libc.renameat2(here, names[0], here, names[1], swap)):
                return
        path.rename(part.with_name("old"))
        part.replace(path)


def write_digests(folder: Path, name: str = DIGESTS) -> None:
    """Write the digests of all files of a folder into one more."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / name)
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / name).write_text(json.dumps(digests, indent=1))


def damaged(folder: Path, name: str = DIGESTS) -> Path | None:
    """The first file that is not as ``write_digests`` read it, or that of the digests; None if a folder is whole."""
    path = folder / name
    try:
        digests = json.loads(path.read_text())
        for file, digest in digests.items():
            path = folder / file
            if _digest(path) != digest:
                return path
        return None if digests else path
    except (OSError, ValueError, AttributeError, RecursionError):
        return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_zip(path: Path) -> None:
    """Compare a zip file with its checksums. PyTorch, whose files are some, does not: it would load other weights.

    Raises:
        ValueError: they differ. Damaged headers make it raise anything.
    """
    with zipfile.ZipFile(path) as members:
        if name := members.testzip():
            raise ValueError(f"the checksum of {name} is wrong")


def say_rebuilt(path: Path) -> None:
    """Print that something generated is damaged, and is made again."""
    print(f"{path} is damaged: it is made again", file=sys.stderr, flush=True)

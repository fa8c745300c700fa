"""A release: the built pages, the wheel and the sdist, and their checksums; the same bytes from the same commit."""

import gzip
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "recommenders-that-see-and-read"
SUMS = "SHA256SUMS"
# Calls of the build backend: they need no network and, unlike pip, no copy of what is installed.
BUILD = "from setuptools import build_meta; build_meta.build_{kind}({folder!r})"


def commit_time() -> int:
    """Seconds of the last commit: the time of every file in a release."""
    command = ["git", "log", "-1", "--format=%ct"]
    return int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def pack(folder: Path, archive: Path, name: str, seconds: int) -> None:
    """Write a folder's files to a .tar.gz below the folder ``name``: in order, of one time, of nobody."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
        member.mode = 0o644
        return member

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", mtime=seconds, fileobj=raw) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            tar.add(path, f"{name}/{path.relative_to(folder).as_posix()}", filter=plain)


def distributions(folder: Path, seconds: int) -> None:
    """Build the package's wheel and sdist from the commit's files, not from what else lies here."""
    with tempfile.TemporaryDirectory() as scratch:
        source, built = Path(scratch) / "source", Path(scratch) / "built"
        source.mkdir()
        listing = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", source], input=listing.stdout, check=True)
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(seconds)}
        for kind, where in (("wheel", folder), ("sdist", built)):
            call = [sys.executable, "-c", BUILD.format(kind=kind, folder=str(where))]
            done = subprocess.run(call, cwd=source, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"the {kind} does not build:\n{done.stderr[-2000:]}")
        (made,) = built.glob("*.tar.gz")  # setuptools gives its files the time of today: pack them again
        with tarfile.open(made) as tar:
            tar.extractall(built, filter="data")
        name = made.name.removesuffix(".tar.gz")
        pack(built / name, folder / made.name, name, seconds)


def checksums(folder: Path) -> str:
    """The SHA-256 of each file of a folder, as ``sha256sum --check`` reads them."""
    paths = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in paths)


def main(html: Path, folder: Path) -> None:
    """Write a release.

    Raises:
        SystemExit: the book is not built, or the folder holds something already.
    """
    if not (html / "index.html").exists():
        raise SystemExit(f"{html} has no index.html: run `make book` first")
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty: delete it, or name another one with TO=")
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    seconds = commit_time()
    pack(html, folder / f"{NAME}-{version}-pages.tar.gz", f"{NAME}-{version}", seconds)
    distributions(folder, seconds)
    (folder / SUMS).write_text(checksums(folder))
    print(f"The release: {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

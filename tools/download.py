"""Fetch the public files that the readers open, from their own homes.

- The hosts are tried in order. A partial file is kept as ``NAME.part``; the next host or the next call resumes it.
- A second download into a folder waits for the first. Files are asked for as they are: none is unpacked on the way.
- A file gets its name once it is complete and verified. Existing files are neither overwritten nor fetched again.
- Some checksums are in SHA256 below. Those of other files are written to ``SHA256SUMS`` in the folder at the first
  download and are verified from then on; without a checksum, a gzip file must at least unpack to its end.
- A file put there by hand is as good as a downloaded one.
"""

import fcntl
import gzip
import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from mmrec_helpers.files import atomic
from mmrec_helpers.progress import progress

HOMES = {
    "movielens": "https://grouplens.org/datasets/movielens/",
    "microlens": "https://github.com/westlake-repl/MicroLens",
    "amazon-2018": "https://nijianmo.github.io/amazon/index.html",
    "amazon-2023": "https://amazon-reviews-2023.github.io/",
}
"""Data set -> the page with its terms."""
HOSTS = {
    "movielens": ("https://files.grouplens.org/datasets/movielens",),
    "microlens": ("https://recsys.westlake.edu.cn/MicroLens-50k-Dataset",),
    "amazon-2018": (
        "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_v2",
        "https://jmcauley.ucsd.edu/data/amazon_v2",
    ),
    # The copy on the Hugging Face Hub is not packed: other bytes under other names, so no second host for these files.
    "amazon-2023": ("https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw",),
}
PATHS = {
    "movielens": ("ml-latest-small.zip",),
    "microlens": ("MicroLens-50k_pairs.tsv", "MicroLens-50k_titles.csv"),
    "amazon-2018": ("categoryFilesSmall/{category}_5.json.gz", "metaFiles2/meta_{category}.json.gz"),
    "amazon-2023": ("review_categories/{category}.jsonl.gz", "meta_categories/meta_{category}.jsonl.gz"),
}
SHA256 = {
    # As TensorFlow Datasets and others recorded it; we never had this zip. Others' checksums of its members are those
    # of the copy that our tests read, once its line ends are CR LF, as published.
    "ml-latest-small.zip": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    # Of the copies that our tests read. Others published the titles' too, and a digest of all that includes the pairs'.
    "MicroLens-50k_pairs.tsv": "46be22f478aa891b9c2a4b357c1df2ac2478793a99d58d07336e6277b6bf426d",
    "MicroLens-50k_titles.csv": "244aad5380cbbe0fb43458cfcda5ebe820f534384602f80a64dbbcd07dd30e49",
    # Of the copies that our tests read. Names and times of 2019 and 2021 in their gzip headers show that they were not
    # packed again; no other checksums were found.
    "Gift_Cards_5.json.gz": "41e1f0e50d3c1c9d7d949fb6315944c8bde51ea6b7429a29fdd0d02cbc07ef25",
    "meta_Gift_Cards.json.gz": "24ac90af3eb47d9c04458a61a44a76a882419190e027c6ec14ee0a993549c34a",
    "Magazine_Subscriptions_5.json.gz": "95c124603d62d6acdfd1bd62284934fb6c513db836ea64c2e8176c14256426f2",
    "meta_Magazine_Subscriptions.json.gz": "147cb78dac0f9ce04849b196e2e13cad6a504bff45d53500b7a1fe8121d91595",
}
MOVIELENS_MEMBERS = ("ratings.csv", "movies.csv", "links.csv", "tags.csv", "README.txt")
MAX_SIZE = 100 << 30
"""Bytes of a file; the largest of the data sets has a third of it."""
TIMEOUT = 30
"""Seconds without an answer after which a host counts as failed."""


@dataclass(frozen=True)
class PublicFile:
    """A file to download.

    Attributes:
        name: in the folder.
        addresses: http or https, in the order to try.
        sha256: if known.
        home: the page of the data set, for messages.
    """

    name: str
    addresses: tuple[str, ...]
    sha256: str = ""
    home: str = ""

    def __post_init__(self) -> None:
        for address in self.addresses:
            if not address.startswith(("https://", "http://")):
                raise ValueError(f"{address!r} is no address of http or https; correct it")


class _HostFailedError(Exception):
    """Why one address failed, in few words."""


def download(name: str, folder: Path | str) -> str:
    """Fetch those of a data set's files that are not in a folder yet.

    Args:
        name: ``movielens``, ``microlens``, ``amazon-2018:CATEGORY`` or ``amazon-2023:CATEGORY``.
        folder: where to put them; it is made if it does not exist.

    Returns:
        The value for ``MMREC_DATA``, such as ``microlens:/home/ann/data``.

    Raises:
        ValueError: the name is unknown, or a file is there that is not the published one.
        ConnectionError: no address gave a file; the message says what to fetch by hand and where to put it.
    """
    files, folder = public_files(name), Path(folder).expanduser().resolve()
    paths = [fetch(file, folder) for file in files]
    if name == "microlens":
        return f"microlens:{folder}"
    if name == "movielens":
        _unpack(paths[0], folder)
        return f"folder:{folder}"
    return f"amazon:{paths[0]}"


def public_files(name: str) -> list[PublicFile]:
    """The files of a data set, named as for ``download``.

    Raises:
        ValueError: the name is unknown, or a category has other characters than letters, digits and underscores.
    """
    source, colon, category = name.partition(":")
    if source not in HOSTS or bool(colon) != source.startswith("amazon"):
        forms = ", ".join(f"{known}:CATEGORY" if known.startswith("amazon") else known for known in HOSTS)
        raise ValueError(f"{name!r} is no data set to fetch; write one of {forms}")
    if colon and not re.fullmatch("[A-Za-z0-9_]+", category):
        raise ValueError(
            f"{category!r} is no category: it has letters, digits and underscores only; "
            f"write it as in the files' names at {HOMES[source]}, such as {source}:Gift_Cards"
        )
    files = []
    for path in PATHS[source]:
        path = path.format(category=category)
        file = path.rpartition("/")[2]
        addresses = tuple(f"{host}/{path}" for host in HOSTS[source])
        files.append(PublicFile(file, addresses, SHA256.get(file, ""), HOMES[source]))
    return files


def fetch(file: PublicFile, folder: Path | str) -> Path:
    """Fetch one file into a folder, unless it is there already; verify it and return its path.

    Raises:
        ValueError: the file is there, but is not the published one; or ``SHA256SUMS`` has a faulty line.
        ConnectionError: no address gave the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        return _fetch(file, folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process downloads into a folder. The lock is freed when this one ends, however it does."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _fetch(file: PublicFile, folder: Path) -> Path:
    target, sums = folder / file.name, folder / "SHA256SUMS"
    recorded = _recorded(sums)
    checksum = file.sha256 or recorded.get(file.name, "")
    hint = f" (if it was published anew, delete its line in {sums})" if checksum and not file.sha256 else ""
    if target.exists():
        if fault := _fault(target, checksum):
            raise ValueError(f"{target}: {fault}; delete it or move it away, and it is fetched again{hint}")
    else:
        part = target.with_name(f"{file.name}.part")
        faults = []
        for address in file.addresses:
            try:
                _fetch_verified(address, part, checksum)
                break
            except _HostFailedError as fault:
                faults.append(f"  {address}: {fault}\n")
        else:
            kept = f"; {part.stat().st_size:,} bytes are kept for the next try" if part.exists() else ""
            raise ConnectionError(
                f"{file.name} could not be fetched{hint}{kept}:\n{''.join(faults)}"
                f"Try again later; or fetch it by hand from there{f' or from {file.home}' if file.home else ''}, "
                f"put it at\n  {target}\nand make the same call again: it goes on from there"
            )
        part.replace(target)
    if not checksum:
        checksums = {**recorded, file.name: _sha256(target)}
        _write(sums, "".join(f"{checksum}  {name}\n" for name, checksum in checksums.items()).encode())
    return target


def _fetch_verified(address: str, part: Path, checksum: str) -> None:
    """Make ``part`` the complete, verified file, or raise _HostFailedError."""
    while True:
        resumed = _transfer(address, part)
        fault = _fault(part, checksum)
        if not fault:
            return
        part.unlink()
        if not resumed:  # if it was, the part may have been of another file: fetch all of it
            raise _HostFailedError(fault)


def _transfer(address: str, part: Path) -> bool:
    """Get the rest of the file, or all of it where the host cannot resume; return whether it was resumed."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "mmrec-helpers", "Accept-Encoding": "identity"} | (
        {"Range": f"bytes={start}-"} if start else {}
    )
    with _network(urlopen, Request(address, headers=headers), None, TIMEOUT) as response:
        if address.startswith("https:") and not response.url.startswith("https:"):
            raise _HostFailedError(f"leads to {response.url}, which is not https")
        if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise _HostFailedError(f"sends the file encoded ({encoding}), which was not requested")
        first, size_in_header = _content_range(response.headers.get("Content-Range", ""))
        if start and response.status == 416 and size_in_header == start:
            return True  # the part was complete already
        resumed = bool(start) and response.status == 206 and first == start
        if start and response.status in (206, 416) and not resumed:
            part.unlink()  # the host sends another range than requested, or the part is too long
            return _transfer(address, part)
        if response.status != 200 and not resumed:
            raise _HostFailedError(f"HTTP {response.status} {response.reason}")
        start = start if resumed else 0
        total = None if response.length is None else start + response.length
        if resumed and size_in_header is not None:
            total = size_in_header  # a host may send less of the rest than requested
        if total is None and not response.chunked:
            raise _HostFailedError("sends no length, so a broken connection could not be noticed")
        if (total or 0) > MAX_SIZE:
            raise _HostFailedError(f"sends {total:,} bytes, more than any file that is known")
        bar = progress(desc=part.stem, total=total, initial=start, unit="B", unit_scale=True)
        with bar, part.open("ab" if resumed else "wb") as out:
            while block := _network(response.read, 1 << 16):
                bar.update(out.write(block))
                if out.tell() > MAX_SIZE:
                    break
            size = out.tell()
    if size > MAX_SIZE:
        part.unlink()
        raise _HostFailedError(f"sends more than {MAX_SIZE:,} bytes")
    if total is not None and size < total:
        raise _HostFailedError(f"broke off after {size:,} of {total:,} bytes")
    return resumed


def _content_range(header: str) -> tuple[int | None, int | None]:
    """The first byte and the size of the file in a Content-Range header, None where it has none."""
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", header)
    first, size = match.groups() if match else (None, None)
    return int(first) if first else None, int(size) if size and size != "*" else None


def _network(call: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401, whatever the call returns
    """The result of a network call or its HTTP error; other errors become _HostFailedError, unlike those of disks."""
    try:
        return call(*args)
    except HTTPError as answer:
        return answer
    except (OSError, HTTPException) as error:
        cause = getattr(error, "reason", error)  # of a URLError
        raise _HostFailedError(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__) from error


def _fault(path: Path, checksum: str) -> str:
    """Why a file is not the published one, empty where it may be."""
    if not path.stat().st_size:
        return "the file is empty"
    if checksum:
        actual = _sha256(path)
        return "" if actual == checksum else f"wrong checksum (SHA-256 {actual[:12]}…, not {checksum[:12]}…)"
    if ".gz" in path.suffixes:  # it may be an error page with status 200, or begin with a part of another file
        try:
            with gzip.open(path) as unpacked:
                while unpacked.read(1 << 20):
                    pass
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            return f"no complete gzip file ({error})"
    return ""


def _sha256(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _recorded(sums: Path) -> dict[str, str]:
    """File name -> SHA-256, of a file in the format of sha256sum."""
    checksums = {}
    for number, line in enumerate(sums.read_text("utf-8", "replace").splitlines() if sums.exists() else [], 1):
        match = re.fullmatch(r"([0-9a-f]{64}) [ *](.+)", line)
        if not match:
            raise ValueError(f"{sums}, line {number}: not SHA-256, two spaces and a name; correct it or delete it")
        checksums[match[2]] = match[1]
    return checksums


def _write(target: Path, content: bytes) -> None:
    """Write a file atomically."""
    with atomic(target) as part:
        part.write_bytes(content)


def _unpack(archive: Path, folder: Path) -> None:
    """Write MovieLens's files into the folder; never overwrite."""
    with zipfile.ZipFile(archive) as packed:  # members are looked up by name: none decides where it is written
        for name in MOVIELENS_MEMBERS:
            target, content = folder / name, packed.read(f"{archive.stem}/{name}")
            if not target.exists():
                _write(target, content)
            elif target.read_bytes() != content:
                raise ValueError(f"{target}: not the file in {archive.name}; move it away, or name another folder")


def main(name: str, folder: str) -> None:
    """``python tools/download.py NAME FOLDER``: fetch a data set and print how to open it."""
    try:
        home = public_files(name)[0].home
        print(f"The terms of {name} are at {home}", flush=True)
        print(f"Open it with MMREC_DATA={download(name, folder)}")
    except (ValueError, ConnectionError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(*sys.argv[1:])

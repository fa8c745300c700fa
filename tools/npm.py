"""A file of an npm package: fetched once into the book's cache, and compared with what was published."""

import base64
import hashlib
import shutil
import subprocess
import tarfile

from mmrec_helpers.settings import load_settings


def npm_files(name: str, version: str, sha512: str, files: tuple[str, ...]) -> list[bytes]:
    """The contents of files of a package.

    Raises:
        FileNotFoundError: npm is missing, or cannot fetch it.
        ValueError: the package is not the one that was published.
    """
    folder = load_settings().cache / "npm"
    path = folder / f"{name}-{version}.tgz"
    if not path.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise FileNotFoundError(f"no npm, and {path} does not exist: install Node.js")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", "--silent", "--fetch-retries=1", f"{name}@{version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise FileNotFoundError(f"npm cannot fetch {name} {version}: {done.stderr.strip()[-500:]}")
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != sha512:
        raise ValueError(f"{path} is not the file that was published: delete it")
    with tarfile.open(path) as archive:
        members = [archive.extractfile(f"package/{file}") for file in files]
        return [member.read() for member in members if member]

"""Run notebooks as on Colab: in Python 3.12, with Colab's preinstalled versions, and without the rest of the book.

The environment is made once, from ``tools/colab.txt``. A notebook lies alone in a folder; its setup cell, with the
address of this clone, fetches the last commit and installs the package. No preinstalled version may change.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import nbformat

import notebooks
from mmrec_helpers.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
PINS = Path(__file__).with_name("colab.txt")
WEEKS = 10
"""Weeks after which every notebook has run, if a tenth of them runs each week."""
PROGRAM = "import sys; raise SystemExit(f'{sys.version_info[0]}.{sys.version_info[1]}' != sys.argv[1])"


def interpreter(wanted: str = "3.12") -> str:
    """Colab's Python: COLAB_PYTHON, or what this machine calls it; if it has none, this one."""
    for name in (os.environ.get("COLAB_PYTHON"), f"python{wanted}"):
        program = name and shutil.which(name)
        if program and not subprocess.run([program, "-c", PROGRAM, wanted], capture_output=True).returncode:
            return program
    print(f"No Python {wanted}: COLAB_PYTHON can name one. This is not Colab's: {sys.version.split()[0]}")
    return sys.executable


def versions(python: Path) -> dict[str, str]:
    """Package -> version, of an environment."""
    listing = subprocess.check_output([python, "-m", "pip", "list", "--format=json"], text=True, env=environment())
    return {row["name"]: row["version"] for row in json.loads(listing)}


def environment() -> dict[str, str]:
    """This process' environment, without what would let a notebook find the book, and with a cache of its own."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return own | {"MMREC_CACHE": str(load_settings().cache / "colab" / "cache")}


def prepare(home: Path, program: str) -> tuple[Path, dict[str, str]]:
    """The environment's Python and its preinstalled versions; made if it is missing, and cleared of what came later."""
    python, record = home / "bin" / "python", home / "preinstalled.json"
    pins = PINS.read_text() + subprocess.check_output([program, "-c", "import sys; print(sys.version)"], text=True)
    known = json.loads(record.read_text()) if record.exists() else {}
    if known.get("pins") != pins:
        print(f"Installing {PINS.name} into {home} (some GB, minutes) ...", flush=True)
        subprocess.run([program, "-m", "venv", "--clear", home], check=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", str(PINS)]
        subprocess.run(command, check=True, env=environment())
        known = {"pins": pins, "versions": versions(python)}
        record.write_text(json.dumps(known, indent=1))
    held = known["versions"]
    if added := sorted(set(versions(python)) - set(held)):
        subprocess.run([python, "-m", "pip", "uninstall", "-q", "-y", *added], check=True, env=environment())
    if moved := changes(held, versions(python)):
        raise SystemExit(f"{home} is not as it was installed, delete it: {', '.join(moved)}")
    return python, held


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Packages of ``before`` that are gone or have another version."""
    return [
        f"{name} {version} -> {after.get(name, 'none')}"
        for name, version in before.items()
        if after.get(name) != version
    ]


def on_colab(path: Path, address: str) -> nbformat.NotebookNode:
    """A notebook whose setup cell has an address of the book."""
    nb = notebooks.read(path)
    for cell in nb.cells:
        if notebooks.role(cell) == "setup":
            cell.source = notebooks.SETUP_CELL.format(url=address)
    return nb


def printed(nb: nbformat.NotebookNode) -> list[str]:
    """What each code cell prints, but for those whose output is of a machine or an hour."""
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if "nbval-ignore-output" not in cell.metadata.get("tags", [])]
    return ["".join(out.text for out in cell.outputs if out.get("name") == "stdout") for cell in cells]


def this_week(paths: list[Path]) -> list[Path]:
    """A tenth of the notebooks, by the number of the week."""
    return paths[date.today().toordinal() // 7 % WEEKS :: WEEKS]


def run(python: Path, paths: Iterable[Path], folder: Path, address: str) -> list[str]:
    """Execute notebooks one after the other in one folder, as in one session of Colab: those that failed.

    The kernel is that of the environment; what talks to it is this process, as on Colab it is no part of the image.
    """
    from nbclient import NotebookClient

    kernel = folder / "jupyter" / "kernels" / "colab"
    kernel.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}))
    os.environ["JUPYTER_PATH"] = str(folder / "jupyter")
    failed = []
    for path in paths:
        nb, start = on_colab(path, address), time.monotonic()
        stored = printed(nb)
        client = NotebookClient(nb, timeout=900, kernel_name="colab", resources={"metadata": {"path": str(folder)}})
        try:
            client.execute(env=environment())
        except Exception as error:  # of a cell, of its time, or of a kernel that died
            failed.append(path.stem)
            print(f"{path.stem}: {type(error).__name__}\n{str(error)[-2000:]}", flush=True)
            continue
        pairs = [pair for pair in zip(stored, printed(nb), strict=True) if any(pair)]
        same = sum(before == after for before, after in pairs)
        seconds = time.monotonic() - start
        print(f"{path.stem}: ok in {seconds:.0f} s, {same} of {len(pairs)} cells print what is stored", flush=True)
    return failed


def main(only: str = "") -> None:
    """Run the notebooks whose names begin with ``only``; without it, this week's.

    Raises:
        SystemExit: no notebook has such a name, one failed, or the setup cell changed a preinstalled version.
    """
    chosen = notebooks.paths(only) if only else this_week(notebooks.paths())
    if not chosen:
        raise SystemExit(f"no notebook's name begins with {only!r}")
    program = interpreter()
    python, held = prepare(load_settings().cache / "colab" / "environment", program)
    with tempfile.TemporaryDirectory() as folder:
        failed = run(python, chosen, Path(folder), ROOT.as_uri())
    after = versions(python)
    moved = changes(held, after)
    added = ", ".join(f"{name} {version}" for name, version in after.items() if name not in held)
    print(f"{len(held)} packages were preinstalled, {len(moved)} changed; installed beside them: {added}")
    if moved or failed:
        raise SystemExit(f"changed: {', '.join(moved) or 'none'}; failed: {', '.join(failed) or 'none'}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Where runs are recorded, and their stamp: from what, on what and at which cost each was made."""

import fcntl
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

from experiments.cells import Cell, cell_of
from mmrec_helpers.evaluation.runs import Run, load_runs, save_runs
from mmrec_helpers.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"
RUNNING = ROOT / "_build" / "results"
"""Cells that are finished while others of their study are not, one file each, and checkpoints of trainings."""


# Files ----------------------------------------------------------------------------------------------------------------


def cell_file(cell: Cell, suffix: str = ".parquet") -> Path:
    """The file of a finished cell that is not in its study's file yet; with another suffix, of its fit."""
    name = cell.name if suffix == ".parquet" else cell.fit
    return RUNNING / cell.study / f"{sha256(name.encode()).hexdigest()[:16]}{suffix}"


@contextmanager
def alone() -> Iterator[None]:
    """Keep other processes from recording in this clone: two would delete each other's files.

    Raises:
        SystemExit: one does.
    """
    RUNNING.mkdir(parents=True, exist_ok=True)
    with (RUNNING / "lock").open("w") as lock:  # freed by the system when this process ends, however it does
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another process records in {ROOT}: wait for it, or use another clone") from None
        yield


def checkpoints(path: Path) -> list[Path]:
    """The file of a running training and those of its parts, as far as they are there."""
    return list(path.parent.glob(f"{path.stem}*{path.suffix}"))


def recorded(study: str) -> dict[str, Run]:
    """Cell name -> run, for all finished cells of a study: those of its file, and over them those still running."""
    files = [RESULTS / f"{study}.parquet", *sorted((RUNNING / study).glob("*.parquet"))]
    runs = [run for path in files if path.exists() for run in load_runs(path)]
    return {cell_of(run).name: run for run in runs}


def collect(study: str, names: Collection[str] | None = None) -> None:
    """Move a study's finished cells into its one file.

    Args:
        study: the chapter's.
        names: the cells that are kept; all if None.
    """
    running = list((RUNNING / study).glob("*.parquet"))
    runs = recorded(study)
    kept = [runs[name] for name in sorted(runs) if names is None or name in names]
    if running or len(kept) < len(runs):
        save_runs(RESULTS / f"{study}.parquet", kept)
    for path in running:
        path.unlink()


# Stamps ---------------------------------------------------------------------------------------------------------------


def stamped(run: Run, cell: Cell, commit: str) -> Run:
    """The run with the stamp of its cell and of this process."""
    threads = max([torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())])
    cost = run.stamp.get("cost", {})
    peak = max(peak_memory(), cost.get("peak_bytes", 0))  # a cell that measures its stages begins anew after each
    cost = cost | {"peak_bytes": peak, "threads": threads}
    stamp = {
        "commit": commit if commit.endswith("-dirty") or current_commit() == commit else f"{commit}-dirty",
        "device": device_name(),
        "profile": load_settings().profile,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mmrec-helpers", "numpy", "torch", "transformers")},
        "cost": cost,
    }
    return replace(run, stamp=run.stamp | cell.stamp | stamp)


def current_commit(root: Path = ROOT) -> str:
    """The commit of a working tree, with ``-dirty`` if any file differs from it; empty outside of git.

    Recorded results do not count: a run may follow another one.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!book/results")
    return git("rev-parse", "--verify", "--quiet", "HEAD") + ("-dirty" if changed else "")


def reset_peak_memory() -> None:
    """Begin to measure ``peak_memory`` anew, where the system can: a worker runs many cells."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Bytes that this process has held at most, since ``reset_peak_memory`` on Linux."""
    status = Path("/proc/self/status")
    if not status.exists():  # macOS counts in bytes
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # On Linux ru_maxrss begins with the memory of the process that started this one; VmHWM does not.
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def device_name() -> str:
    """Processor and number of cores, and the GPU if there is one: ``2 cores of Intel Xeon ..., NVIDIA H100``."""
    processor = platform.processor() or platform.machine()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        processor = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or processor
    elif (cpuinfo := Path("/proc/cpuinfo")).exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        processor = models[0] if models else processor
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{os.cpu_count()} cores of {processor}{gpu}"

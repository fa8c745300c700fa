"""How a run is recorded: one JSON file in book/results, stamped with where and from what it was made."""

import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path

import torch

from mmrec_helpers.files import atomic
from mmrec_helpers.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "book" / "results"


def save_record(name: str, run: dict) -> None:
    """Write ``book/results/NAME.json``, whole or not at all."""
    with atomic(RESULTS / f"{name}.json") as part:
        part.write_text(json.dumps(run, indent=1) + "\n")


def read_record(name: str) -> dict:
    """Read ``book/results/NAME.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def stamp(seconds: float, commit: str) -> dict:
    """Where and with what this process made a run.

    Args:
        seconds: that the run took.
        commit: see ``current_commit``, when the run began.
    """
    return {
        "minutes": round(seconds / 60, 1),
        "peak_gb": round(peak_memory() / 1e9, 1),
        "profile": load_settings().profile,
        "commit": commit,
        "device": device_name(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mmrec-helpers", "numpy", "torch")},
    }


def current_commit(root: Path = ROOT) -> str:
    """The commit of a working tree, with ``-dirty`` if any file differs from it; empty outside of git.

    Recorded results do not count: a run may follow another one.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", ".", ":!book/results")
    return git("rev-parse", "--verify", "--quiet", "HEAD") + ("-dirty" if changed else "")


def peak_memory() -> int:
    """Bytes that this process, or the largest of its finished workers, has held at most."""
    status = Path("/proc/self/status")
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    if not status.exists():  # macOS counts in bytes
        return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, children)
    # On Linux ru_maxrss begins with the memory of the process that started this one; VmHWM does not.
    own = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * max(int(own.split()[1]), children)


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


def worker_pool() -> ProcessPoolExecutor:
    """A process for each core, each with one thread, so that no result depends on the number of cores."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(os.cpu_count(), context, initializer=torch.set_num_threads, initargs=(1,))


def round_significant(numbers: dict, digits: int = 6) -> dict:
    """Round each number to significant digits."""
    return json.loads(json.dumps(numbers), parse_float=lambda text: float(f"{float(text):.{digits}g}"))


def round_decimals(numbers: dict, decimals: int = 4) -> dict:
    """Round each number to some decimals; what is not a number, where there is nothing to compare, becomes None."""
    text = json.dumps(numbers, default=float)
    return json.loads(text, parse_float=lambda text: round(float(text), decimals), parse_constant=lambda _: None)

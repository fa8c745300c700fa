"""Record the long runs of the book into book/results, one stamped JSON a run."""

import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from separations import measure

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
SEEDS = (0, 1, 2)


def stamp(seconds: float) -> dict:
    """Where and with what a run was made."""
    return {
        "minutes": round(seconds / 60, 1),
        "device": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mmrec-helpers", "numpy", "torch")},
    }


def record(name: str, run: dict) -> None:
    """Write a result whole or not at all."""
    part = RESULTS / f"{name}.part"
    part.write_text(json.dumps(run, indent=1) + "\n")
    part.replace(RESULTS / f"{name}.json")


def separations() -> None:
    """What each system reaches on three Pocket Shops, drawn from three seeds."""
    start, rows = time.time(), {}
    for seed in SEEDS:
        for system, ndcg in measure(seed).items():
            rows.setdefault(system, []).append(round(float(ndcg.mean()), 4))
    record("separations", {"metric": "NDCG@10", "seeds": SEEDS, "rows": rows, **stamp(time.time() - start)})


if __name__ == "__main__":
    separations()

"""Record the long runs of the book into book/results, one stamped JSON a run."""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
from separations import measure

from mmrec_helpers.dataset import RecDataset
from mmrec_helpers.lessons.leakage import bootstrap_interval, hit_at_10, window_scores
from mmrec_helpers.pocket_shop import shoppers
from mmrec_helpers.pocket_shop.shop import open_shop
from mmrec_helpers.settings import load_settings

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
SEEDS = (0, 1, 2)
LENGTHS = (10, 20, 40, 80, 160, 320)
"""Days that the recommenders of the leakage lab may look at."""


def stamp(seconds: float) -> dict:
    """Where and with what a run was made."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "minutes": round(seconds / 60, 1),
        "peak_gb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6), 1
        ),
        "profile": load_settings().profile,
        "commit": commit,
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
            print(f"seed {seed}: {system} {rows[system][-1]}", flush=True)
    run = {"metric": "NDCG@10", "seeds": SEEDS, "rows": rows}
    run["fingerprints"] = [open_shop(seed)[0].fingerprint for seed in SEEDS]
    record("separations", run | stamp(time.time() - start))


def leakage_gain(dataset: RecDataset, shuffle: bool) -> np.ndarray:
    """(N,) HR@10 that a best-seller list gains by looking past the test moment; chapter 1's leakage lab."""
    split = dataset.leave_one_out()
    train = split.interactions("train").sort_values("time", kind="stable")
    times, items = train["time"].to_numpy(), train["item"].to_numpy()
    if shuffle:
        items = np.random.default_rng(0).permutation(items)

    def hits(part: str, begin: float, end: float) -> np.ndarray:
        case = split.histories(part)
        scores = window_scores(items, times, case.times, begin, end, dataset.num_items)
        return hit_at_10(scores, case.items, case.targets[:, 0])

    tested = []
    for before, after in ((1, 0), (0.5, 0.5)):
        on_valid = {days: hits("valid", -before * days, after * days).mean() for days in LENGTHS}
        best = max(on_valid, key=on_valid.get)
        tested.append(hits("test", -before * best, after * best))
    return tested[1] - tested[0]


def leakage() -> None:
    """What the future is worth under leave-one-out, on five shops, with two controls."""
    start, gains = time.time(), {"as it was": [], "items shuffled": [], "no fashion": []}
    for seed in range(5):
        dataset, _ = open_shop(seed)
        gains["as it was"].append(leakage_gain(dataset, shuffle=False))
        gains["items shuffled"].append(leakage_gain(dataset, shuffle=True))
        with tempfile.TemporaryDirectory() as cache, mock.patch.object(shoppers, "FASHION", 0.0):
            dataset, _ = open_shop(seed, cache=Path(cache))
        gains["no fashion"].append(leakage_gain(dataset, shuffle=False))
    run = {"metric": "gain in HR@10", "seeds": list(range(5))}
    run["fingerprints"] = [open_shop(seed)[0].fingerprint for seed in run["seeds"]]
    run["rows"] = {name: [round(float(gain.mean()), 4) for gain in shops] for name, shops in gains.items()}
    run["intervals"] = {
        name: bootstrap_interval(np.concatenate(shops)).round(4).tolist() for name, shops in gains.items()
    }
    record("leakage", run | stamp(time.time() - start))


RUNS = {"separations": separations, "leakage": leakage}

if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        RUNS[name]()

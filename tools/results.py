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
from mmrec_helpers.lessons.exploration import bootstrap_interval, leakage_lab
from mmrec_helpers.opening import open_data
from mmrec_helpers.pocket_shop import shoppers
from mmrec_helpers.pocket_shop.shop import open_shop
from mmrec_helpers.portrait import curves, portrait
from mmrec_helpers.settings import load_settings
from mmrec_helpers.sources.cleanup import CleanUp

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
SEEDS = (0, 1, 2)
REAL_DATA = {
    "MovieLens": "folder:{home}/movielens-posters",
    "Gift Cards": "amazon:{home}/amazon-2018-raw/Gift_Cards_5.json.gz",
    "Magazines": "amazon:{home}/amazon-2018-raw/Magazine_Subscriptions_5.json.gz",
    "MicroLens": "microlens:{home}/microlens-50k",
}
"""What MMREC_DATA is for each real data set in the folder MMREC_DATA_HOME."""


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
    lab = leakage_lab(dataset, shuffle)
    return lab["peeking"][1] - lab["honest"][1]


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


def real_data() -> None:
    """Chapter 1's numbers on the Pocket Shop and on the real data sets of MMREC_DATA_HOME."""
    home = os.environ.get("MMREC_DATA_HOME")
    if not home:
        raise SystemExit("real_data needs MMREC_DATA_HOME: the folder that holds the real data sets")
    start, sets = time.time(), {}
    for name, data in {"Pocket Shop": "pocket", **REAL_DATA}.items():
        dataset, _, cleanup = open_data(load_settings({**os.environ, "MMREC_DATA": data.format(home=home)}))
        sets[name] = {"fingerprint": dataset.fingerprint, **numbers_of(dataset)}
        if cleanup:
            sets[name]["clean-up"] = changes(cleanup)
        if dataset.timed:
            gains = {"as it was": leakage_gain(dataset, False), "items shuffled": leakage_gain(dataset, True)}
            sets[name]["peeking gains"] = {
                kind: np.round([gain.mean(), *bootstrap_interval(gain)], 4).tolist() for kind, gain in gains.items()
            }
        print(name, flush=True)
    record("real-data", {"seeds": [0], "sets": sets} | stamp(time.time() - start))


def changes(cleanup: CleanUp) -> list[dict]:
    """Everything that was dropped or repaired while reading, one entry a reason."""
    return cleanup.table().query("action in ('dropped', 'repaired')").to_dict("records")


def numbers_of(dataset: RecDataset) -> dict[str, dict]:
    """Portrait and curves of a data set as they are recorded, with six digits."""
    exact = json.dumps({"portrait": portrait(dataset), "curves": curves(dataset)})
    return json.loads(exact, parse_float=lambda text: float(f"{float(text):.6g}"))


RUNS = {"separations": separations, "leakage": leakage, "real-data": real_data}

if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        RUNS[name]()

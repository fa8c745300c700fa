"""Chapter 1's runs: how much a recommender gains from the future, and the statistics of each data set."""

import tempfile
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from experiments.benchmarks import POCKET_SHOP, REAL_DATA, data_home, open_real
from experiments.record import round_significant
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.lessons.exploration import bootstrap_interval, leakage_lab
from mmrec_helpers.pocket_shop import choice_model
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.studies.ch01 import dataset_curves, dataset_statistics

SHOPS = tuple(range(5))
NUM_ORDERS = 20
"""Random orders, or shuffles of the control, whose results are averaged."""


def leakage() -> dict:
    """The gain from the future under leave-one-out on five Pocket Shops, with two controls."""
    honest, fingerprints = [], []
    gains: dict[str, list[np.ndarray]] = {"as it was": [], "items shuffled": [], "no fashion": []}
    for seed in SHOPS:
        dataset, _ = load_shop(seed)
        fingerprints.append(dataset.fingerprint)
        hits, gain = leakage_gain(dataset)
        honest.append(float(hits.mean()))
        gains["as it was"].append(gain)
        shuffles = [leakage_gain(dataset, shuffle_seed)[1] for shuffle_seed in range(NUM_ORDERS)]
        gains["items shuffled"].append(np.mean(shuffles, axis=0))
        with tempfile.TemporaryDirectory() as cache, mock.patch.object(choice_model, "FASHION_UTILITY", 0.0):
            dataset, _ = load_shop(seed, cache=Path(cache))
        gains["no fashion"].append(leakage_gain(dataset)[1])
    pairs = zip(gains["as it was"], gains["items shuffled"], strict=True)
    gains["the difference"] = [original - shuffled for original, shuffled in pairs]
    return {
        "metric": "gain in HR@10",
        "seeds": SHOPS,
        "honest": np.round(honest, 4).tolist(),
        "fingerprints": fingerprints,
        "rows": {name: [round(float(gain.mean()), 4) for gain in shops] for name, shops in gains.items()},
        "intervals": {
            name: bootstrap_interval(np.concatenate(shops)).round(4).tolist() for name, shops in gains.items()
        },
    }


def real_data() -> dict:
    """Statistics, cleaning and leakage of the Pocket Shop and of the real data sets."""
    data_home()
    sets = {POCKET_SHOP: record_of(load_shop(0)[0], None)}
    for name in REAL_DATA:
        sets[name] = record_of(*open_real(name))
        print(name, flush=True)
    return {"seeds": [0], "sets": sets}


def record_of(dataset: RecDataset, report: CleaningReport | None) -> dict:
    """What is recorded of one data set."""
    record = {"fingerprint": dataset.fingerprint, **statistics_of(dataset)}
    if report:
        record["clean-up"] = changes(report)
    if dataset.timed:
        record["leakage"] = round_significant(leakage_with_ties(dataset))
    return record


def statistics_of(dataset: RecDataset) -> dict[str, dict]:
    """Statistics and curves of a data set with six significant digits."""
    return round_significant({"statistics": dataset_statistics(dataset), "curves": dataset_curves(dataset)})


def changes(report: CleaningReport) -> list[dict]:
    """Everything that was dropped or repaired while reading, one entry a reason."""
    return report.table().query("action in ('dropped', 'repaired')").to_dict("records")


def leakage_gain(dataset: RecDataset, shuffle_seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(N,) HR@10 of the honest best-seller list, and (N,) what a list gains that counts later sales, too."""
    lab = leakage_lab(dataset, shuffle_seed)
    honest, peeking = lab["honest"][1], lab["peeking"][1]
    return honest, peeking - honest


def leakage_with_ties(dataset: RecDataset) -> dict[str, list[float]]:
    """The leakage lab, averaged over NUM_ORDERS random orders of each user's interactions of the same time.

    Where times are days, the order of the file would decide which interaction is the last one, the test target. The
    shuffled control has another shuffle in each order.

    Returns:
        Kind -> the honest list's HR@10, the gain from the future, and the 95 % interval of the gain.
    """
    honest: dict[str, list[np.ndarray]] = {"as it was": [], "items shuffled": []}
    gains: dict[str, list[np.ndarray]] = {"as it was": [], "items shuffled": []}
    for seed in range(NUM_ORDERS):
        frame = dataset.interactions.sample(frac=1, random_state=seed).sort_values(["user", "time"], kind="stable")
        ordered = replace(dataset, interactions=frame.reset_index(drop=True))
        for kind, shuffle_seed in (("as it was", None), ("items shuffled", seed)):
            hits, gain = leakage_gain(ordered, shuffle_seed)
            honest[kind].append(hits)
            gains[kind].append(gain)
    averages = {kind: np.mean(orders, axis=0) for kind, orders in gains.items()}  # (N,) the same users in each order
    return {
        kind: [float(np.mean(honest[kind])), gain.mean(), *bootstrap_interval(gain)] for kind, gain in averages.items()
    }

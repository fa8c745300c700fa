"""Chapter 3's runs: tuning, the benchmark of all systems, and MLLM-MSR's released rule."""

import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from typing import cast

import numpy as np

from experiments.benchmarks import POCKET_SHOP, SEEDS, benchmark_data, benchmark_split, data_home, open_real
from experiments.pocket_shop import NUM_INFERRED
from experiments.record import read_record, round_decimals, worker_pool
from mmrec_helpers.evaluation.intervals import mean_interval
from mmrec_helpers.evaluation.metrics import TargetRanks, hit_rate, ndcg
from mmrec_helpers.evaluation.protocols import Recommender, evaluate
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.ceilings import BayesCeiling, Oracle
from mmrec_helpers.recommenders.registry import GRIDS, SystemSpec, benchmark_systems
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch03 import by_protocol, confidence, study_preprocessing

REAL_BENCHMARKS = ("MovieLens", "Gift Cards", "MicroLens")
"""Real data sets of the benchmark."""


@cache
def systems_of(name: str, seed: int) -> dict[str, SystemSpec]:
    """The systems of a benchmark by name, and the oracle where there is one."""
    dataset, truth = benchmark_data(name, seed)
    systems = {system.name: system for system in benchmark_systems(dataset, load_settings().models["clip"], seed)}
    if truth is not None:
        systems[Oracle.name] = SystemSpec(Oracle.name, Oracle.name, partial(Oracle, truth))
    return systems


def tuning() -> dict:
    """The same number of settings for each family of systems, validated on one Pocket Shop."""
    tried = {}
    last = {system.family: system.name for system in systems_of(POCKET_SHOP, 0).values()}
    with worker_pool() as pool:
        jobs = {
            family: [pool.submit(try_settings, last[family], settings) for settings in candidates]
            for family, candidates in GRIDS.items()
        }
        for family, running in jobs.items():
            tried[family] = [job.result() for job in running]
            print(family, tried[family], flush=True)
    return round_decimals({"seeds": [0], "fingerprint": benchmark_data(POCKET_SHOP, 0)[0].fingerprint, "tried": tried})


def try_settings(system: str, settings: dict) -> dict:
    """A system's settings, their NDCG@10 on a Pocket Shop's validation part, and the CPU seconds of training."""
    return validate(systems_of(POCKET_SHOP, 0)[system].build(**settings), settings)


def validate(system: Recommender, settings: dict) -> dict:
    """Fit a system on the first Pocket Shop and validate it."""
    split, start = benchmark_split(POCKET_SHOP, 0), time.process_time()
    score = float(evaluate(system.fit(split), split, part="valid").metric("NDCG@10").mean())
    return settings | {"valid NDCG@10": score, "CPU seconds": time.process_time() - start}


def chosen(family: str) -> dict:
    """The settings of a family that were best in validation."""
    return best_of(read_record("tuning")["tried"].get(family, []))


def best_of(tried: list[dict]) -> dict:
    """The settings with the best validation; none if none were tried."""
    best = max(tried, key=lambda settings: settings["valid NDCG@10"], default={})
    return {key: value for key, value in best.items() if key not in ("valid NDCG@10", "CPU seconds")}


def benchmark_row(name: str, seed: int, system: str) -> tuple[dict, np.ndarray]:
    """What a benchmark's record keeps of one system, and (N,) its NDCG@10 for each user."""
    split, spec = benchmark_split(name, seed), systems_of(name, seed)[system]
    start = time.process_time()
    fitted = spec.build(**chosen(spec.family)).fit(split)
    seconds, run = time.process_time() - start, evaluate(fitted, split)
    row = {metric: mean_interval(run.metric(metric)) for metric in ("HR@10", "NDCG@10")} | {"fit CPU seconds": seconds}
    row["protocols"] = by_protocol([fitted], split).loc[system].to_dict()
    if spec.family in ("SASRec", "SASRec, BCE", "SASRec, gBCE"):
        row |= confidence(cast(SASRec, fitted), split)
    return row, run.metric("NDCG@10")


def benchmark(name: str, seed: int, pool: ProcessPoolExecutor) -> dict:
    """Every system on one data set under leave-one-out and full ranking, with its difference to SASRec."""
    running = {system: pool.submit(benchmark_row, name, seed, system) for system in systems_of(name, seed)}
    results = {system: job.result() for system, job in running.items()}
    rows = {}
    for system, (row, values) in results.items():
        rows[system] = row | {"more than SASRec": mean_interval(values - results["SASRec"][1])}
        print(f"{name}, seed {seed}: {system} {rows[system]}", flush=True)
    dataset, truth = benchmark_data(name, seed)
    if truth is not None:
        queries = benchmark_split(name, seed).queries("test").take(slice(NUM_INFERRED))
        scores = BayesCeiling(truth).fit(benchmark_split(name, seed)).score(queries)
        target_ranks = TargetRanks.of(scores, queries.targets[:, :1], queries.histories)
        rows[BayesCeiling.name] = {
            "HR@10": mean_interval(hit_rate(target_ranks, 10)),
            "NDCG@10": mean_interval(ndcg(target_ranks, 10)),
        }
    sizes = {"users": dataset.num_users, "items": dataset.num_items, "interactions": dataset.num_interactions}
    return {"fingerprint": dataset.fingerprint} | sizes | {"systems": rows}


def benchmark_pocket() -> dict:
    """The benchmark on three Pocket Shops, each system and each shop with the same seed."""
    with worker_pool() as pool:
        shops = {str(seed): benchmark(POCKET_SHOP, seed, pool) for seed in SEEDS}
    return round_decimals({"seeds": SEEDS, "shops": shops})


def benchmark_real() -> dict:
    """The benchmark on real data sets."""
    with worker_pool() as pool:
        sets = {name: benchmark(name, 0, pool) for name in REAL_BENCHMARKS}
    return round_decimals({"seeds": [0], "sets": sets})


def rule() -> dict:
    """The study of MLLM-MSR's released rule on three Pocket Shops and on real data."""
    data_home()
    datasets = {f"{POCKET_SHOP}, seed {seed}": load_shop(seed)[0] for seed in SEEDS}
    datasets |= {"MovieLens": open_real("MovieLens")[0], "MicroLens-50k": open_real("MicroLens")[0]}
    return round_decimals(
        {"seeds": SEEDS, "rule": {name: study_preprocessing(dataset) for name, dataset in datasets.items()}}
    )

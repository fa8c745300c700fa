"""Benchmarks, printed as ratios against a named reference in the same run; medians of alternating repetitions."""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median

import bench_evaluation
import bench_gpt2
import bench_illmrec
import bench_msr
import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from mmrec_helpers.data.dataset import RecDataset, k_core_mask
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.pocket_shop.shop import load_shop

REPETITIONS = 5


def race(name: str, ours: Callable, reference: Callable, reference_name: str) -> None:
    """Time two functions in turn and print how many times faster ours is."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPETITIONS):
        for place, function in enumerate((ours, reference)):
            start = time.perf_counter()
            function()
            times[place].append(time.perf_counter() - start)
    mine, other = map(median, times)
    print(f"{name:28s} {mine * 1e3:9.1f} ms   {other / mine:7.1f} times as fast as {reference_name}")


def k_core_by_pandas(frame: pd.DataFrame, k: int) -> pd.DataFrame:
    """The k-core by groupby and transform, the usual recipe."""
    while True:
        enough = (frame.groupby("user")["item"].transform("size") >= k) & (
            frame.groupby("item")["user"].transform("size") >= k
        )
        if enough.all():
            return frame
        frame = frame[enough]


def histories_by_groupby(dataset: RecDataset, length: int) -> np.ndarray:
    """Padded leave-one-out histories, one group at a time."""
    rows = []
    for _, items in dataset.interactions.groupby("user")["item"]:
        history = items.to_numpy()[:-1][-length:]
        rows.append(np.pad(history, (length - len(history), 0)))
    return np.stack(rows)


def write_shop(folder: Path, count: int) -> None:
    """A folder for ``read_folder`` with ``count`` interactions: few users and items have many, many have few.

    Rows stand in no order, so that no sort has it easy, and one in a thousand stands twice.
    """
    rng = np.random.default_rng(0)

    def ids(first: str, length: int, weight: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        """Names such as B0K3ZQ81XA, and which of them each interaction has."""
        signs = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "S1")
        drawn = signs[rng.integers(len(signs), size=(len(weight), length))]
        drawn[:, 0] = first
        names = pa.array(drawn.view(f"S{length}")[:, 0]).cast(pa.string())
        return names, rng.choice(len(names), count, p=weight / weight.sum())

    user_ids, user = ids("A", 14, rng.lognormal(sigma=1.2, size=count // 10))
    item_ids, item = ids("B", 10, 1 / np.arange(10, count // 50 + 10))  # Zipf's law with a blunted head
    joined = rng.integers(1_400_000_000, 1_700_000_000, len(user_ids))  # from 2014 to 2023
    row = np.arange(count)
    row[rng.integers(count, size=count // 1000)] = rng.integers(count, size=count // 1000)
    interactions = {
        "user": user_ids.take(pa.array(user)),
        "item": item_ids.take(pa.array(item)),
        "time": joined[user] + rng.exponential(2e7, count).astype(int),
        "rating": rng.choice([1, 2, 3, 4, 5], count, p=[0.06, 0.05, 0.09, 0.2, 0.6]),
    }
    items = {"item": item_ids, "title": item_ids, "price": rng.lognormal(3, size=len(item_ids)).round(2)}
    folder.mkdir()
    arrow_csv.write_csv(pa.table(interactions).take(pa.array(row)), folder / "interactions.csv")
    arrow_csv.write_csv(pa.table(items), folder / "items.csv")


def real_data(folder: Path) -> dict[str, int]:
    """Read a folder, filter it and split it twice; the sizes of what comes out."""
    core = read_folder(folder)[0].k_core(5)
    sizes = {"users": core.num_users, "items": core.num_items}
    for split in (core.leave_one_out(), core.temporal_split()):
        sizes |= {f"{split.name} {part}": count for part, count in split.counts().items()}
    return sizes


def real_data_by_pandas(folder: Path) -> dict[str, int]:
    """The same by the usual idioms, which check and count nothing."""
    frame, items = pd.read_csv(folder / "interactions.csv"), pd.read_csv(folder / "items.csv")
    frame["user"], user_ids = pd.factorize(frame["user"])
    frame["item"], item_ids = pd.factorize(frame["item"])
    frame = frame.drop_duplicates(["user", "item", "time"]).sort_values(["user", "time"])
    core = k_core_by_pandas(frame, 5)
    items = items.drop_duplicates("item").set_index("item").loc[item_ids[core["item"].unique()]]
    sizes = {"users": len(user_ids[core["user"].unique()]), "items": len(items)}
    from_end = core.groupby("user").cumcount(ascending=False).clip(upper=2)
    early, late = core["time"].quantile([0.75, 0.9], interpolation="lower")
    moment = 2 - (core["time"] > early) - (core["time"] > late)
    for name, left in (("leave-one-out", from_end), ("temporal", moment)):
        counts = left.value_counts()
        sizes |= {f"{name} {part}": int(counts[code]) for code, part in ((2, "train"), (1, "valid"), (0, "test"))}
    return sizes


def measured(job: Callable, folder: Path) -> tuple[float, float, dict[str, int]]:
    """Seconds, this process's peak memory in GB, and what the job returns."""
    pa.set_cpu_count(2)  # all else runs on one core
    start = time.perf_counter()
    sizes = job(folder)
    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, sizes


def race_real_data() -> None:
    """Read, filter (5-core) and split generated shops of two sizes, each time in a fresh process."""
    taken = {}
    jobs = (real_data, real_data_by_pandas)
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as fresh,
    ):
        for millions, repetitions in ((1, 3), (10, 1)):
            shop = Path(folder) / f"{millions} million"
            fresh.submit(write_shop, shop, millions * 1_000_000).result()
            runs = [[fresh.submit(measured, job, shop).result() for job in jobs] for _ in range(repetitions)]
            sizes = runs[0][0][2]
            assert all(run[2] == sizes for pair in runs for run in pair), runs
            seconds = [median(pair[job][0] for pair in runs) for job in range(2)]
            peaks = [median(pair[job][1] for pair in runs) for job in range(2)]
            taken[millions] = seconds
            name = f"real data in, {millions} million"
            print(
                f"{name:28s} {seconds[0] * 1e3:9.1f} ms   {seconds[1] / seconds[0]:7.1f} times as fast as pandas, "
                f"{peaks[0] / peaks[1]:.1f} times its peak memory ({peaks[0]:.1f} GB), runs: {repetitions}"
            )
    growth = [large / small / 10 for small, large in zip(taken[1], taken[10], strict=True)]
    print("  demanded of 10 million on 2 cores: 60 s, 6 GB")
    print(f"  time per interaction: {growth[0]:.1f} times that of 1 million (pandas: {growth[1]:.1f} times)")


def main() -> None:
    """Run all benchmarks."""
    race_real_data()  # first: a new process counts the peak memory of the one that starts it as its own
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        load_shop(0, cache=Path(cache))
        generated = time.perf_counter() - start
        start = time.perf_counter()
        dataset, _ = load_shop(0, cache=Path(cache))
        loaded = time.perf_counter() - start
    name, ratio = "Pocket Shop, laptop size", generated / loaded
    print(f"{name:28s} {loaded * 1e3:9.1f} ms   {ratio:7.1f} times as fast as drawn anew")
    frame = dataset.interactions
    assert len(k_core_by_pandas(frame, 5)) == dataset.k_core(5).num_interactions
    user, item = frame["user"].to_numpy(), frame["item"].to_numpy()
    race(
        "k-core", lambda: k_core_mask(user, item, 5), lambda: k_core_by_pandas(frame, 5), "pandas groupby and transform"
    )
    split = dataset.leave_one_out()
    race(
        "padded histories",
        lambda: split.queries("test", 50),
        lambda: histories_by_groupby(dataset, 50),
        "one pandas group at a time",
    )
    bench_evaluation.main()
    bench_gpt2.main()
    bench_illmrec.main(race)
    bench_msr.main(race)


if __name__ == "__main__":
    main()

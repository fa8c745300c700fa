"""Benchmarks, printed as ratios against a named reference in the same run; medians of alternating repetitions."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from mmrec_helpers.dataset import RecDataset, k_core_mask
from mmrec_helpers.pocket_shop.shop import open_shop

REPETITIONS = 5


def race(name: str, ours: Callable, reference: Callable, reference_name: str) -> None:
    """Time two functions in turn and print how many times faster ours is."""
    times = [], []
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


def main() -> None:
    """Run all benchmarks."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        open_shop(0, cache=Path(cache))
        generated = time.perf_counter() - start
        start = time.perf_counter()
        dataset, _ = open_shop(0, cache=Path(cache))
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
        lambda: split.histories("test", 50),
        lambda: histories_by_groupby(dataset, 50),
        "one pandas group at a time",
    )


if __name__ == "__main__":
    main()

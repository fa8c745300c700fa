"""The data sets that the chapters' runs share: seeds, real data, and those of the benchmarks of chapters 3 and 4."""

import os
from functools import cache

import numpy as np

from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.loading import load_data
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.settings import load_settings

SEEDS = (0, 1, 2)
POCKET_SHOP = "Pocket Shop"
REAL_DATA = {
    "MovieLens": "folder:{home}/movielens-posters",
    "Gift Cards": "amazon:{home}/amazon-2018-raw/Gift_Cards_5.json.gz",
    "Magazines": "amazon:{home}/amazon-2018-raw/Magazine_Subscriptions_5.json.gz",
    "MicroLens": "microlens:{home}/microlens-50k",
}
"""``MMREC_DATA`` of each real data set in the folder ``MMREC_DATA_HOME``."""
NUM_MICROLENS = 2_000
"""Users of MicroLens in the benchmark."""


class NoRealData(Exception):
    """The run needs real data, and ``MMREC_DATA_HOME`` is not set."""


def data_home() -> str:
    """The folder that holds the real data sets.

    Raises:
        NoRealData: ``MMREC_DATA_HOME`` is not set.
    """
    try:
        return os.environ["MMREC_DATA_HOME"]
    except KeyError:
        raise NoRealData("set MMREC_DATA_HOME to the folder that holds the real data sets") from None


def open_real(name: str) -> tuple[RecDataset, CleaningReport | None]:
    """One of ``REAL_DATA``, and the report of its cleaning."""
    data = REAL_DATA[name].format(home=data_home())
    return load_data(load_settings({**os.environ, "MMREC_DATA": data}))[::2]


@cache
def benchmark_data(name: str, seed: int) -> tuple[RecDataset, Truth | None]:
    """A benchmark's data set, and the truth of a Pocket Shop.

    MovieLens is its 5-core. MicroLens is reduced to the users with 7 and the items with 5 interactions or more, and to
    NUM_MICROLENS random users of these: all of them would train for hours.
    """
    if name == POCKET_SHOP:
        return load_shop(seed)
    dataset, _ = open_real(name)
    if name == "MovieLens":
        dataset = dataset.k_core(5)
    if name == "MicroLens":
        dataset = dataset.k_core(users=7, items=5)
        sampled = np.random.default_rng(0).permutation(dataset.num_users)[:NUM_MICROLENS]
        dataset = dataset.select_interactions(dataset.interactions["user"].isin(sampled).to_numpy())
    return dataset, None


@cache
def benchmark_split(name: str, seed: int) -> Split:
    """Leave-one-out of a benchmark's data set."""
    return benchmark_data(name, seed)[0].leave_one_out()

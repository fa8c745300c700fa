"""The data sets and splits of the cells, by name."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from experiments.splits import held_out_category, user_folds
from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.loading import load_data
from mmrec_helpers.pocket_shop.shop import SIZES, Truth, load_shop
from mmrec_helpers.settings import load_settings

SEEDS = (0, 1, 2)
POCKET, MORE_USERS, LARGE = "pocket", "pocket-24k", "pocket-100k"
LEAVE_ONE_OUT, TEMPORAL, NEXT_DAY, UNSEEN_CATEGORY = "leave-one-out", "temporal", "next day", "unseen category"
REAL_DATA = {
    "movielens": "folder:{home}/movielens-posters",
    "gift-cards": "amazon:{home}/amazon-2018-raw/Gift_Cards_5.json.gz",
    "magazines": "amazon:{home}/amazon-2018-raw/Magazine_Subscriptions_5.json.gz",
    "microlens": "microlens:{home}/microlens-50k",
    "hm-week": "folder:{home}/hm-week",
}
"""``MMREC_DATA`` of each real data set in the folder ``MMREC_DATA_HOME``."""
IMAGE_ENCODERS = {"movielens": "photo-clip", "hm-week": "photo-clip"}
"""Real data set with pictures -> their encoder; the Pocket Shop has the laptop profile's."""
NUM_MICROLENS = 2_000
"""Users of MicroLens in the benchmark."""
NUM_FOLDS = 5


SIZES[MORE_USERS] = (SIZES["laptop"][0], 8 * SIZES["laptop"][1])
"""The laptop's catalogue with eight times as many users."""
SIZES[LARGE] = (100_000, 8_000)
"""Too large a catalogue to compare systems on; its events are counted."""


class Unavailable(Exception):
    """A cell needs data or a model that this machine does not have."""


def data_home() -> Path:
    """The folder that holds the real data sets.

    Raises:
        Unavailable: ``MMREC_DATA_HOME`` does not name it.
    """
    if not os.environ.get("MMREC_DATA_HOME"):
        raise Unavailable("set MMREC_DATA_HOME to the folder that holds the real data sets")
    return Path(os.environ["MMREC_DATA_HOME"])


def require_model(name: str) -> None:
    """Find a model.

    Raises:
        Unavailable: it is not on this machine.
    """
    try:
        find_checkpoint(name)
    except FileNotFoundError as error:
        raise Unavailable(str(error)) from error


def stamp_of(dataset: RecDataset) -> dict[str, str]:
    """The fields of a stamp that say on what a run was made."""
    return {"dataset": dataset.name, "fingerprint": dataset.fingerprint}


def replace_columns(dataset: RecDataset, columns: Mapping[str, Sequence[str | None]]) -> RecDataset:
    """The data set with other texts of its items 1 to I in some columns."""
    items = dataset.items
    for name, texts in columns.items():
        items = items.remove_columns(name).add_column(name, list(texts), feature=dataset.items.features[name])
    return replace(dataset, items=items.select_columns(dataset.items.column_names))


@cache
def open_data(name: str, seed: int) -> tuple[RecDataset, Truth | None, CleaningReport | None]:
    """A data set, the truth of a Pocket Shop, and the report of a real set's cleaning.

    Raises:
        Unavailable: it is not on this machine.
    """
    if name in (POCKET, MORE_USERS):
        return *load_shop(seed, "laptop" if name == POCKET else MORE_USERS), None
    data = REAL_DATA[name].format(home=data_home())
    if not Path(data.partition(":")[2]).exists():
        raise Unavailable(f"{data.partition(':')[2]} does not exist")
    return load_data(load_settings({**os.environ, "MMREC_DATA": data}))


@cache
def benchmark_data(name: str, seed: int) -> RecDataset:
    """A data set as systems are trained on it.

    MovieLens is its 5-core. MicroLens is reduced to the users with 7 and the items with 5 interactions or more, and to
    NUM_MICROLENS random users of these: all of them would train for hours.
    """
    dataset = open_data(name, seed if name in (POCKET, MORE_USERS) else 0)[0]
    if name == "movielens":
        dataset = dataset.k_core(5)
    if name == "microlens":
        dataset = dataset.k_core(users=7, items=5)
        sampled = np.random.default_rng(0).permutation(dataset.num_users)[:NUM_MICROLENS]
        dataset = dataset.select_interactions(dataset.interactions["user"].isin(sampled).to_numpy())
    return dataset


@cache
def benchmark_split(name: str, seed: int, split: str) -> Split:
    """One of the splits of ``benchmark_data``: ``leave-one-out``, ``temporal``, ``next day``, ``fold 1 of 5``, ....

    ``unseen category`` holds out the seed's category, in alphabetical order.
    """
    dataset = benchmark_data(name, seed)
    if split.startswith("fold"):
        return user_folds(dataset, NUM_FOLDS)[int(split.split()[1]) - 1]
    if split == UNSEEN_CATEGORY:
        return held_out_category(dataset, sorted(set(dataset.column("category")[1:]))[seed])
    return {
        LEAVE_ONE_OUT: dataset.leave_one_out,
        TEMPORAL: dataset.temporal_split,
        NEXT_DAY: dataset.next_day_split,
    }[split]()

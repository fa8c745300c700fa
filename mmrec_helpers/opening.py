"""Open the data that MMREC_DATA names: the Pocket Shop with its truth, or real files with their clean-up's report."""

from pathlib import Path

from mmrec_helpers.dataset import RecDataset
from mmrec_helpers.pocket_shop.shop import Truth, open_shop
from mmrec_helpers.settings import Settings
from mmrec_helpers.sources.amazon import read_amazon
from mmrec_helpers.sources.cleanup import CleanUp
from mmrec_helpers.sources.folder import read_folder
from mmrec_helpers.sources.microlens import read_microlens

READERS = {"folder": read_folder, "amazon": read_amazon, "microlens": read_microlens}


def open_data(settings: Settings) -> tuple[RecDataset, Truth | None, CleanUp | None]:
    """Open the data of ``settings.data``.

    Returns:
        The data set; the truth, which only the Pocket Shop has; the report of the clean-up, which only real data have.

    Raises:
        FileNotFoundError: the path, or a file that belongs to it, does not exist.
        ValueError: a file is faulty (the message names file, line and mend).
    """
    if settings.data == "pocket":
        return *open_shop(settings.seed, settings.shop_size), None
    source, _, path = settings.data.partition(":")
    dataset, cleanup = READERS[source](Path(path).expanduser())
    return dataset, None, cleanup

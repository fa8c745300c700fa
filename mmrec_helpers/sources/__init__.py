"""Real raw files as a RecDataset, with a report that counts every row that was dropped or repaired."""

from pathlib import Path

from mmrec_helpers.dataset import RecDataset
from mmrec_helpers.sources.amazon import read_amazon
from mmrec_helpers.sources.cleanup import CleanUp
from mmrec_helpers.sources.folder import read_folder
from mmrec_helpers.sources.microlens import read_microlens

READERS = {"folder": read_folder, "amazon": read_amazon, "microlens": read_microlens}


def open_data(data: str) -> tuple[RecDataset, CleanUp]:
    """Read what ``MMREC_DATA`` names: ``folder:PATH``, ``amazon:PATH`` or ``microlens:PATH``.

    Raises:
        ValueError: ``data`` names no source or no path, or a file is faulty (the message names file, line and mend).
        FileNotFoundError: the path, or a file that belongs to it, does not exist.
    """
    source, _, path = data.partition(":")
    if source not in READERS or not path.strip():
        forms = ", ".join(f"{name}:PATH" for name in READERS)
        raise ValueError(f"{data!r} names no real data; write one of {forms}")
    return READERS[source](Path(path).expanduser())

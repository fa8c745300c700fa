"""A study whose cells take no time, for the tests of the runner; copied into a tree of its own as experiments/ch01.py.

Each started and each finished cell leaves a line in the file ``log`` of the current folder. While there is a file
``hold``, the cells of a system whose name begins with ``held`` wait for its end.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import torch

from experiments.cells import Cell
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.runs import Run

SYSTEMS = ("a", "held 1", "b", "c", "held 2", "300 MB", "small")


def cell(system: str, protocol: str = "full", part: str = "test", **hyperparameters: object) -> Cell:
    """A cell of the study."""
    return Cell(study="ch01", data="none", split="s", part=part, protocol=protocol, system=system,
                hyperparameters=hyperparameters)  # fmt: skip


def fake_run(cell: Cell) -> Run:
    """Ranks, values and scalars that depend on the name of the cell alone, and on how sums are rounded."""
    rng = np.random.default_rng(crc32(cell.name.encode()))
    higher, targets = rng.integers(50, size=(2, 20, 1))
    ranks = TargetRanks(higher, np.ones((20, 1), int), np.full(20, 100))
    numbers = torch.from_numpy(rng.normal(size=(20, 4_000)).astype(np.float32))
    stamp = {"fingerprint": "f", "dataset": "none", "cost": {"fit seconds": 0.5}}
    values = {"norm": (numbers @ numbers.T).sum(dim=1).double().numpy()}
    return Run(np.arange(20), higher[:, :0], targets + 1, ranks, stamp, values, {"sum": float(numbers.sum())})


def plan(runs: Sequence[Run]) -> list[Cell]:
    """Two cells of each system, which share what is fitted."""
    return [cell(system, protocol) for system in SYSTEMS for protocol in ("full", "20 uniform")]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        log(f"resumed {cells[0].system}")
    for path in (checkpoint, checkpoint.with_suffix(".text.pt")):
        path.write_text("half a training")
    for one in cells:
        log(f"started {one.name}")
        while Path("hold").exists() and one.system.startswith("held") and one.protocol != "full":
            time.sleep(0.05)
        if one.system == "300 MB":
            np.ones(300_000_000, np.int8)
        yield one, fake_run(one)
        log(f"finished {one.name}")


def log(line: str) -> None:
    """Append a line, with the process that writes it."""
    with Path("log").open("a") as file:
        file.write(f"{os.getpid()} {line}\n")

"""A large shop and its event log: minutes, memory and disk of what is generated in pieces."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from experiments.cells import Cell
from experiments.datasets import LARGE
from experiments.record import peak_memory, reset_peak_memory
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.pocket_shop.events import sample_events, write_events
from mmrec_helpers.pocket_shop.shop import load_shop

CELL = Cell(study="ch07", data=LARGE, protocol="event log", system="Pocket Shop")
ROWS = 100_000
"""Events that are read back at a time."""


def run_event_log(cell: Cell) -> Run:
    """Generate the cell's shop with its images, write its log chunk by chunk, and read it back batch by batch.

    The last stage has the whole log in memory, as the chapter's notebooks have it, to compare with.

    Returns:
        ``products``, ``images``, ``users``, ``file bytes``, the number of each kind of event, and for each stage its
        ``seconds`` and ``peak bytes``, with what the process held before it.
    """
    scalars: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        with measured("start", scalars):
            pass
        with measured("shop", scalars):
            dataset, truth = load_shop(cell.seed, cell.data, Path(folder))
        with measured("write", scalars):
            write_events(truth, path)
        with measured("read", scalars):
            events = count_events(path)
        with measured("at once", scalars):
            whole = sample_events(truth)
        assert events == Counter(whole["event"])
        assert events["purchase"] == len(dataset.interactions)
        images = dataset.num_items - dataset.items.data["image"].null_count
        scalars |= {"products": dataset.num_items, "images": images, "users": dataset.num_users}
        scalars |= {"file bytes": path.stat().st_size, **events}
    cost = {"peak_bytes": max(number for name, number in scalars.items() if name.endswith("peak bytes"))}
    return Run.unranked({"dataset": dataset.name, "cost": cost}, scalars)


@contextmanager
def measured(stage: str, scalars: dict[str, float]) -> Iterator[None]:
    """Add the seconds and the peak memory of a block to the scalars."""
    reset_peak_memory()
    start = time.perf_counter()
    yield
    scalars |= {f"{stage} seconds": time.perf_counter() - start, f"{stage} peak bytes": peak_memory()}


def count_events(path: Path) -> Counter[str]:
    """Kind -> number of its events in a file of ``write_events``, ROWS at a time."""
    counts: Counter[str] = Counter()
    for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=["event"]):
        counts.update(batch["event"].to_pylist())
    return counts

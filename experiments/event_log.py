"""A large shop and its event log: seconds, memory and disk of what is generated in pieces."""

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
from mmrec_helpers.pocket_shop.shop import PIXELS, load_shop

CELL = Cell(
    study="ch07", data=LARGE, protocol="event log", system="Pocket Shop", hyperparameters={"missing_images": 1.0}
)
"""Without images, which take most of the time and which no event needs."""
ROWS, IMAGES = 100_000, 200
"""Events that are read back at a time, and images that are rendered to measure what one takes."""


def run_event_log(cell: Cell) -> Run:
    """Generate the cell's shop, write its log chunk by chunk, and read it back batch by batch.

    The last stage has the whole log in memory, as the chapter's notebooks have it, to compare with.

    Returns:
        ``products``, ``users``, ``file bytes``, the number of each kind of event, and for each stage its ``seconds`` of
        the processor and ``peak bytes``, with what the process held before it; ``image ms``, of rendering one.
    """
    scalars: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "events.parquet"
        with measured("start", scalars):
            pass
        with measured("shop", scalars):
            dataset, truth = load_shop(cell.seed, cell.data, Path(folder), **cell.hyperparameters)
        with measured("write", scalars):
            write_events(truth, path)
        with measured("read", scalars):
            events = count_events(path)
        with measured("at once", scalars):
            whole = sample_events(truth)
        with measured("images", scalars):
            for item in dataset.items["item_id"][:IMAGES]:
                truth.image(item, PIXELS)
        assert events == Counter(whole["event"])
        assert events["purchase"] == len(dataset.interactions)
        scalars |= {"products": dataset.num_items, "users": dataset.num_users, "file bytes": path.stat().st_size}
        scalars |= {"image ms": 1e3 * scalars["images seconds"] / IMAGES, **events}
    cost = {"peak_bytes": max(number for name, number in scalars.items() if name.endswith("peak bytes"))}
    return Run.unranked({"dataset": dataset.name, "cost": cost}, scalars)


@contextmanager
def measured(stage: str, scalars: dict[str, float]) -> Iterator[None]:
    """Add the processor's seconds, which other processes do not lengthen, and the peak memory of a block."""
    reset_peak_memory()
    start = time.process_time()
    yield
    scalars |= {f"{stage} seconds": time.process_time() - start, f"{stage} peak bytes": peak_memory()}


def count_events(path: Path) -> Counter[str]:
    """Kind -> number of its events in a file of ``write_events``, ROWS at a time."""
    counts: Counter[str] = Counter()
    for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=["event"]):
        counts.update(batch["event"].to_pylist())
    return counts

"""Retrieval from generated item vectors: recall@100, speed and size of inverted lists beside the exact index.

HNSW is left to the notebook, with fewer items: to build it over a million takes many times as long as all of this.
"""

from collections.abc import Iterator
from time import process_time
from typing import Any

import faiss
import numpy as np

from mmrec_helpers.lessons.faster import item_vectors, user_vectors

DIM, QUERIES, K, TRAINED = 128, 200, 100, 50_000
"""Of the vectors; number of queries; items to retrieve; items from which an index of lists learns them."""
PROBES = (8, 16, 32, 64, 128)
"""Lists that a query visits, from fast to accurate."""


def searched(index: faiss.Index, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """(N, K) found items, and milliseconds of CPU time for one query."""
    start = process_time()
    found = np.concatenate([index.search(query[None], K)[1] for query in queries])  # type: ignore[call-arg]
    return found, 1000 * (process_time() - start) / len(queries)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact K items that are found, the mean over queries."""
    return float(np.mean([len(np.intersect1d(*pair)) / K for pair in zip(found, exact, strict=True)]))


def rows(num_items: int) -> Iterator[dict[str, str | float]]:
    """The exact search; for each index and number of lists, recall and speed against it. Single queries, one thread."""
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    items = item_vectors(num_items, DIM, rng)
    queries = user_vectors(items, QUERIES, rng)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(items)  # type: ignore[call-arg]
    exact, reference = searched(flat, queries)
    yield {"index": "exact", "CPU ms": reference, "recall@100": 1.0, "speed": 1.0, "MB": items.nbytes / 1e6}
    for name, storage in {"lists": "Flat", "lists, 8 bits": "SQ8"}.items():
        start, lists = process_time(), int(np.sqrt(num_items))
        index: Any = faiss.index_factory(DIM, f"IVF{lists},{storage}", faiss.METRIC_INNER_PRODUCT)
        index.train(items[:TRAINED])
        index.add(items)
        built, size = process_time() - start, len(faiss.serialize_index(index)) / 1e6
        for index.nprobe in PROBES:
            found, cost = searched(index, queries)
            own = {"CPU ms": cost, "recall@100": recall(found, exact), "speed": reference / cost}
            yield {"index": name, "nprobe": index.nprobe, **own, "MB": size, "build CPU s": built}

"""Approximate retrieval over a million item vectors: recall@100 and speed against the exact search, single queries."""

import time

import faiss
import numpy as np

from mmrec_helpers.lessons.search import item_vectors, user_vectors

ITEMS, DIM, QUERIES, K = 1_000_000, 128, 200, 100
TRAINED = 50_000
"""Items from which an inverted index learns its lists."""
EFFORTS = {"efSearch": (100, 200, 400, 800, 1600), "nprobe": (8, 16, 32, 64, 128)}
"""Parameter of a search -> its values, from fast to accurate."""


def searched(index: faiss.Index, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """(N, K) found items, and milliseconds of CPU time a query."""
    start = time.process_time()
    found = np.concatenate([index.search(query[None], K)[1] for query in queries])
    return found, 1000 * (time.process_time() - start) / len(queries)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact K items that are found, the mean over queries."""
    return float(np.mean([len(np.intersect1d(*pair)) / K for pair in zip(found, exact, strict=True)]))


def build(index: faiss.Index, items: np.ndarray, name: str) -> None:
    """Train and fill an index, and print what that takes."""
    start = time.process_time()
    index.train(items[:TRAINED])
    index.add(items)
    megabytes = len(faiss.serialize_index(index)) / 1e6
    print(f"  {name}: built in {time.process_time() - start:.0f} CPU s, {megabytes:.0f} MB", flush=True)


def main(number: int = ITEMS) -> None:
    """Print a row for each index and effort, on one thread."""
    faiss.omp_set_num_threads(1)
    rng = np.random.default_rng(0)
    items = item_vectors(number, DIM, rng)
    queries = user_vectors(items, QUERIES, rng)
    flat = faiss.IndexFlatIP(DIM)
    flat.add(items)
    exact, reference = searched(flat, queries)
    print(f"retrieval, {number:,} x {DIM}: exact {reference:.2f} CPU ms a query, {items.nbytes / 1e6:.0f} MB")
    print("  demanded: recall@100 of .99 at 5 times the exact speed")
    hnsw = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
    hnsw.hnsw.efConstruction = 64
    lists = int(np.sqrt(number))
    indexes = {
        "IVF": (faiss.index_factory(DIM, f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT), "nprobe"),
        "IVF, 8 bits": (faiss.index_factory(DIM, f"IVF{lists},SQ8", faiss.METRIC_INNER_PRODUCT), "nprobe"),
        "HNSW, 16 links": (hnsw, "efSearch"),
    }
    for name, (index, parameter) in indexes.items():
        build(index, items, name)
        for value in EFFORTS[parameter]:
            setattr(index.hnsw if parameter == "efSearch" else index, parameter, value)
            found, milliseconds = searched(index, queries)
            speed, share = reference / milliseconds, recall(found, exact)
            print(f"  {name}, {parameter} {value}: recall {share:.4f}, {speed:.1f} times as fast as exact", flush=True)


if __name__ == "__main__":
    main()

"""Interactions, histories and features as matrices whose columns or rows are items 0..I, the padding included."""

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from mmrec_helpers.data.dataset import Queries, Split


def interaction_counts(split: Split) -> sparse.csr_array:
    """(U, I + 1) number of training interactions of each user with each item."""
    frame, shape = split.interactions("train"), (split.dataset.num_users, split.dataset.num_items + 1)
    ones = np.ones(len(frame), np.float32)
    return sparse.csr_array((ones, (frame["user"].to_numpy(), frame["item"].to_numpy())), shape=shape)


def history_counts(queries: Queries, num_items: int) -> sparse.csr_array:
    """(N, I + 1) number of occurrences of each item in each history."""
    row, position = np.nonzero(queries.histories)
    ones = np.ones(len(row), np.float32)
    return sparse.csr_array((ones, (row, queries.histories[row, position])), shape=(len(queries), num_items + 1))


def presence(matrix: sparse.csr_array) -> sparse.csr_array:
    """The matrix with 1 at each stored entry."""
    return sparse.csr_array((np.ones_like(matrix.data), matrix.indices, matrix.indptr), shape=matrix.shape)


def unit(rows: np.ndarray | sparse.csr_array) -> np.ndarray | sparse.csr_array:
    """The rows at length 1, in float32; rows of zeros stay so."""
    return (normalize(rows) if rows.shape[0] else rows).astype(np.float32)  # sklearn refuses an empty matrix


def directions(features: np.ndarray | sparse.sparray) -> np.ndarray | sparse.csr_array:
    """(I + 1, F) features at length 1; dense ones are centred on the mean of the items first.

    The embeddings of an encoder share a large common part, which does not distinguish items. Items without features,
    which are rows of zeros, keep zeros and are not in the mean.
    """
    if sparse.issparse(features):
        return unit(sparse.csr_array(features))
    features = np.ascontiguousarray(features, float)
    known = features.any(axis=1)
    centred = np.zeros_like(features)
    if known.any():
        centred[known] = features[known] - features[known].mean(axis=0)
    rounding = np.abs(centred) < 1e-9 * np.abs(features).max(initial=0)
    return unit(np.where(rounding, 0, centred))


def check_rows(features: np.ndarray | sparse.sparray, split: Split, name: str) -> None:
    """Check that features have a row for the padding and one for each item.

    Raises:
        ValueError: the number of rows differs.
    """
    num_rows = split.dataset.num_items + 1
    if features.shape[0] != num_rows:
        rows = f"{num_rows} rows, one for the padding and one for each item"
        raise ValueError(f"{name}: the features have {features.shape[0]} rows, not {rows}")


def nearest(similarity: sparse.csr_array, num_neighbors: int) -> sparse.csr_array:
    """The largest entries of each row; of equal ones those in the first columns."""
    similarity.sort_indices()
    rows = zip(similarity.indptr[:-1], similarity.indptr[1:], strict=True)
    kept = [start + np.argsort(-similarity.data[start:end], kind="stable")[:num_neighbors] for start, end in rows]
    indptr = np.concatenate([[0], np.cumsum([len(entries) for entries in kept])])
    entries = np.concatenate([*kept, np.array([], int)]).astype(int)
    return sparse.csr_array((similarity.data[entries], similarity.indices[entries], indptr), shape=similarity.shape)

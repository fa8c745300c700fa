"""Runs: what a system did for each query, from which all tables are made; files of recorded runs."""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec_helpers.evaluation import metrics
from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.files import atomic

METRICS = {
    "HR": metrics.hit_rate,
    "P": metrics.precision,
    "R": metrics.recall,
    "NDCG": metrics.ndcg,
    "MRR": metrics.reciprocal_rank,
    "MAP": metrics.average_precision,
}
"""Short names of the metrics with a cut-off, as tables print them: NDCG@10."""
CELL = ("study", "data", "seed", "split", "part", "protocol", "system", "hyperparameters")
"""Fields of a stamp that name a recorded run: two runs of a record differ in one of them."""
RANKS = tuple(one.name for one in fields(TargetRanks))
_TEXTS = tuple(name for name in CELL if name not in ("seed", "hyperparameters"))
Value = str | int | np.integer
_MARK = b"sha256: "
"""Before the digest of a recorded file."""
_INTS = pa.list_(pa.int32())
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("seed", pa.int32()),
        ("stamp", pa.string()),
        ("scalars", pa.string()),
        ("users", _INTS),
        ("targets", _INTS),
        *((name, _INTS) for name in RANKS),
        ("values", pa.map_(pa.string(), pa.list_(pa.float64()))),
    ]
)


@dataclass(frozen=True, eq=False)
class Run:
    """The result of a system for N users.

    Attributes:
        users: (N,) user numbers.
        lists: (N, K) the K candidates with the highest scores, best first; 0 if there are fewer. A recorded run has
            none, K = 0: what needs them is in ``scalars``.
        targets: (N, M) items, 0 for padding.
        target_ranks: the ranks of the targets among the candidates; None if nothing was ranked.
        stamp: the system, data, protocol, cost and versions.
        values: other numbers of each user by name, (N,).
        scalars: numbers of the whole run by name, such as the coverage of its lists.
    """

    users: np.ndarray
    lists: np.ndarray
    targets: np.ndarray
    target_ranks: TargetRanks | None
    stamp: dict = field(default_factory=dict)
    values: dict[str, np.ndarray] = field(default_factory=dict)
    scalars: dict = field(default_factory=dict)

    @classmethod
    def unranked(
        cls, stamp: dict, scalars: dict, users: np.ndarray | None = None, values: dict[str, np.ndarray] | None = None
    ) -> "Run":
        """A run that ranks nothing: numbers of the whole, or of each of (N,) users by name."""
        users = np.zeros(0, np.int64) if users is None else users
        none = np.zeros((len(users), 0), np.int64)
        return cls(users, none, none, None, stamp, values or {}, scalars)

    @property
    def system(self) -> str:
        """The name of the system."""
        return self.stamp["system"]

    def metric(self, name: str) -> np.ndarray:
        """(N,) one of ``values``, or a metric by its short name: ``NDCG@10``, ``MRR`` (without cut-off) or ``AUC``.

        Raises:
            ValueError: there is no such metric.
        """
        if name in self.values:
            return self.values[name]
        if self.target_ranks is None:
            raise ValueError(f"{self.system} ranks nothing and has no {name!r}; it has {', '.join(self.values)}")
        if name == "AUC":
            return metrics.auc(self.target_ranks)
        if name == "MRR":
            return metrics.reciprocal_rank(self.target_ranks)
        short, _, k = name.partition("@")
        if short not in METRICS or not re.fullmatch(r"[1-9]\d*", k):
            known = ", ".join([*METRICS, *self.values])
            raise ValueError(f"there is no metric {name!r}; there are AUC, MRR and, as in HR@10, {known}")
        return METRICS[short](self.target_ranks, int(k))


# Files ----------------------------------------------------------------------------------------------------------------


def save_runs(path: Path, runs: Sequence[Run]) -> None:
    """Write runs, without their lists, into one Parquet file; an older file is replaced, whole or not at all."""
    table = pa.Table.from_pylist([_row(run) for run in runs], schema=_SCHEMA)
    with atomic(path) as part:
        pq.write_table(
            table, part, compression="zstd", compression_level=19, row_group_size=64, write_page_checksum=True
        )
        # The digest is put between the footer and its length. There readers expect a signature, or nothing.
        body, length = part.read_bytes()[:-8], part.read_bytes()[-8:-4]
        end = (int.from_bytes(length, "little") + len(_MARK) + 32).to_bytes(4, "little") + b"PAR1"
        part.write_bytes(body + _MARK + hashlib.sha256(body + end).digest() + end)


def load_runs(path: str | Path, **where: Value | Collection[Value] | dict) -> list[Run]:
    """Read recorded runs.

    Args:
        path: a file of ``book/results``.
        where: fields of the stamp (CELL) and their values, or a collection of values: only these runs are read, as in
            ``load_runs(path, data="pocket", system=("SASRec", "popularity"))``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no record or is damaged; a field is unknown; no run is left.
    """
    path = Path(path)
    if unknown := [name for name in where if name not in CELL]:
        raise ValueError(f"runs are not chosen by {', '.join(unknown)}; there are {', '.join(CELL)}")
    filters = [_condition(name, value) for name, value in where.items() if name != "hyperparameters"] or None
    try:
        content = path.read_bytes()
        body, mark, digest, end = (content[a:b] for a, b in ((0, -48), (-48, -40), (-40, -8), (-8, len(content))))
        if mark == _MARK and digest != hashlib.sha256(body + end).digest():  # earlier versions wrote none
            raise ValueError("its digest differs")
        table = pq.read_table(pa.BufferReader(content), filters=filters, page_checksum_verification=True)
        names = table.column_names
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path}: there are no recorded runs; `make results` makes them") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged ({error}): make it again by `make results`") from error
    if missing := set(_SCHEMA.names) - set(names):
        raise ValueError(f"{path} has no columns {', '.join(sorted(missing))}: make it again by `make results`")
    runs = [_run({name: table[name][row] for name in names}) for row in range(len(table))]
    if "hyperparameters" in where:
        runs = [run for run in runs if run.stamp["hyperparameters"] == where["hyperparameters"]]
    if where and not runs:
        chosen = ", ".join(f"{name}={value!r}" for name, value in where.items())
        raise ValueError(f"{path} has no runs with {chosen}")
    return runs


def _condition(name: str, value: Value | Collection[Value]) -> tuple[str, str, list[Value]]:
    """That a field is a value, or one of a collection."""
    kind = int if name == "seed" else str
    values = [value] if isinstance(value, Value) else list(value)
    values = [int(one) if isinstance(one, np.integer) else one for one in values]
    if not values or not all(isinstance(one, kind) for one in values):
        raise ValueError(f"runs are chosen by {name} as {kind.__name__} or a list of some, not by {value!r}")
    return name, "in", values


def _row(run: Run) -> dict:
    ranks = run.target_ranks
    row = {name: run.stamp[name] for name in (*_TEXTS, "seed")}
    row |= {"stamp": json.dumps(run.stamp), "scalars": json.dumps(run.scalars, default=float)}  # numpy's numbers
    row |= {"users": run.users, "targets": run.targets.ravel()}
    for name in RANKS:
        row[name] = None if ranks is None else getattr(ranks, name).ravel()
    return row | {"values": list(run.values.items())}


def _run(row: dict[str, pa.Scalar]) -> Run:
    """The run of a row of the file."""
    users, targets = (row[name].values.to_numpy() for name in ("users", "targets"))
    shape = (len(users), len(targets) // max(len(users), 1))
    ranks = None
    if row["num_candidates"].is_valid:
        higher, tied, candidates = (row[name].values.to_numpy() for name in RANKS)
        ranks = TargetRanks(higher.reshape(shape), tied.reshape(shape), candidates)
    values = {name: np.array(numbers, float) for name, numbers in row["values"].as_py()}
    stamp, scalars = (json.loads(row[name].as_py()) for name in ("stamp", "scalars"))
    return Run(users, np.zeros((len(users), 0), np.int32), targets.reshape(shape), ranks, stamp, values, scalars)

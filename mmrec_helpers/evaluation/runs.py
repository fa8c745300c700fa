"""Runs: the lists and target ranks of a system for each query, from which all tables are made."""

import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec_helpers.data.dataset import RecDataset
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


@dataclass(frozen=True, eq=False)
class Run:
    """The result of a system for N users.

    Attributes:
        users: (N,) user numbers.
        lists: (N, K) the K candidates with the highest scores, best first; 0 if there are fewer.
        targets: (N, M) items, 0 for padding.
        target_ranks: the ranks of the targets among the candidates.
        stamp: the system, data, protocol, cost and versions.
    """

    users: np.ndarray
    lists: np.ndarray
    targets: np.ndarray
    target_ranks: TargetRanks
    stamp: dict = field(default_factory=dict)

    @property
    def system(self) -> str:
        """The name of the system."""
        return self.stamp["system"]

    def metric(self, name: str) -> np.ndarray:
        """(N,) a metric by its short name, such as ``NDCG@10``, ``MRR`` (without cut-off) or ``AUC``.

        Raises:
            ValueError: there is no such metric.
        """
        if name == "AUC":
            return metrics.auc(self.target_ranks)
        if name == "MRR":
            return metrics.reciprocal_rank(self.target_ranks)
        short, _, k = name.partition("@")
        if short not in METRICS or not re.fullmatch(r"[1-9]\d*", k):
            raise ValueError(f"there is no metric {name!r}; there are AUC, MRR and, as in HR@10, {', '.join(METRICS)}")
        return METRICS[short](self.target_ranks, int(k))

    def save(self, folder: Path) -> None:
        """Write ``users.parquet`` and ``stamp.json``, both or neither; an older run in the folder is replaced."""
        columns = {"user": self.users, "list": self.lists, "target": self.targets}
        columns |= {one.name: getattr(self.target_ranks, one.name) for one in fields(TargetRanks)}
        with atomic(folder) as part:
            part.mkdir()
            pq.write_table(
                pa.table({name: pa.array(list(column)) for name, column in columns.items()}), part / "users.parquet"
            )
            (part / "stamp.json").write_text(json.dumps(self.stamp, indent=1) + "\n")


def load_run(folder: Path, dataset: RecDataset) -> Run:
    """Read a saved run.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was made on other data.
    """
    if not (folder / "stamp.json").exists():
        raise FileNotFoundError(f"{folder}: there is no run, which would be stamp.json and users.parquet")
    stamp = json.loads((folder / "stamp.json").read_text())
    if stamp["fingerprint"] != dataset.fingerprint:
        raise ValueError(
            f"{folder}: the run was made on {stamp['dataset']} with the fingerprint {stamp['fingerprint']}, and "
            f"{dataset.name} has {dataset.fingerprint}: make the run again, or open the data it was made on"
        )
    table = pq.read_table(folder / "users.parquet")
    columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    users, lists, targets = (columns.pop(name) for name in ("user", "list", "target"))
    return Run(users, lists, targets, TargetRanks(**columns), stamp)

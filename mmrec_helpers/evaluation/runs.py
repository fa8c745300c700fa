"""Runs: what a system produced for each query, from which every table is made."""

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation import metrics
from mmrec_helpers.evaluation.metrics import TargetRanks

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
    """What a system produced for N users, from which every table is made.

    Attributes:
        users: (N,) user numbers.
        lists: (N, K) the best K candidates, best first; 0 where there were fewer.
        targets: (N, M) the items to be found, 0 for padding.
        target_ranks: where the targets stand among the candidates.
        stamp: which system, on what, under which protocol, at what cost, with which versions.
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
        """(N,) a metric by its short name, such as ``NDCG@10``, ``MRR`` (no cut-off) or ``AUC``.

        Raises:
            ValueError: there is no such metric.
        """
        short, _, cut = name.partition("@")
        if name == "AUC":
            return metrics.auc(self.target_ranks)
        if name == "MRR":
            return metrics.reciprocal_rank(self.target_ranks)
        if short not in METRICS or not re.fullmatch(r"[1-9]\d*", cut):
            raise ValueError(f"there is no metric {name!r}; there are AUC, MRR and, as in HR@10, {', '.join(METRICS)}")
        return METRICS[short](self.target_ranks, int(cut))

    def save(self, folder: Path) -> None:
        """Write ``users.parquet`` and ``stamp.json``, both or neither; an older run in the folder is replaced."""
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        columns = {"user": self.users, "list": self.lists, "target": self.targets}
        columns |= {name: getattr(self.target_ranks, name) for name in ("better", "equal", "candidates")}
        table = pa.table({name: pa.array(list(column)) for name, column in columns.items()})
        pq.write_table(table, part / "users.parquet")
        (part / "stamp.json").write_text(json.dumps(self.stamp, indent=1) + "\n")
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load_run(folder: Path, dataset: RecDataset) -> Run:
    """Read a run that was saved.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it was made on other data.
    """
    if not (folder / "stamp.json").exists():
        raise FileNotFoundError(f"{folder}: there is no run; it would hold stamp.json and users.parquet")
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

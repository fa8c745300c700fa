"""Cells: what is recorded, one run each; and the interface of a chapter's study."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.tuning import Settings

TIMING = "timing"
"""The protocol of a cell that is timed, and therefore runs alone."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: a system with its hyperparameters on one part of one split of some data, under one protocol.

    Attributes:
        study: the chapter's, such as ``ch03``.
        data: a key of ``experiments.datasets.DATA``.
        seed: of the system, and of the Pocket Shop.
        split, part, protocol: of the evaluation; empty where nothing is split or ranked.
        system: its name in tables.
        hyperparameters: that differ from the system's own; JSON.
    """

    study: str
    data: str
    seed: int = 0
    split: str = ""
    part: str = ""
    protocol: str = ""
    system: str
    hyperparameters: Settings = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``study/data-seed/split/system/hyperparameters/part/protocol``, which ``ONLY`` matches."""
        return f"{self.fit}/{self.part}/{self.protocol}"

    @property
    def fit(self) -> str:
        """The part of the name that cells with the same fitted system share."""
        chosen = ",".join(f"{key}={json.dumps(value)}" for key, value in sorted(self.hyperparameters.items()))
        return f"{self.study}/{self.data}-{self.seed}/{self.split}/{self.system}/{chosen}"

    @property
    def stamp(self) -> dict[str, Any]:
        """The fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


def cell_of(run: Run) -> Cell:
    """The cell of a recorded run."""
    return Cell(**{one.name: run.stamp[one.name] for one in fields(Cell)})


class Study(Protocol):
    """A chapter's module."""

    def plan(self, runs: Sequence[Run]) -> list[Cell]:
        """All cells of the study that can be told: what is tested depends on what was best in validation.

        Args:
            runs: what is recorded, of all studies.
        """

    def run(self, cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
        """Run cells that share a fitted system.

        Args:
            cells: with the same ``Cell.fit``.
            checkpoint: file of the training, which resumes if it was killed.
        """

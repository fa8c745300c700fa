"""Scores that an interruption does not lose: those of systems for which a language model reads every candidate."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.files import atomic, check_zip
from mmrec_helpers.recommenders.base import BaseRecommender, part_checkpoint

SCORED = 50
"""Users whose scores are computed together: as many are lost by an interruption."""
COUNTED = ("num_truncated", "num_unanswered")
"""Attributes of a system that count something of its last call of ``score``."""


@dataclass(eq=False)
class StoredScores:
    """A fitted system whose scores are written, SCORED users at a time, beside the checkpoint of its training.

    They are read again where the same system, by its ``identity``, has the same queries and candidates. Whoever
    deletes the checkpoints deletes them, too: see ``record.checkpoints``.

    Args:
        system: fitted on the split.
        split: whose queries are scored.
        checkpoint: of the training.

    Attributes:
        counts: those of COUNTED that the system has, summed over all that it has scored.
    """

    system: BaseRecommender
    split: Split
    checkpoint: Path
    counts: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.identity = self.system.identity(self.split)

    @property
    def name(self) -> str:
        """The system's."""
        return self.system.name

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """See ``BaseRecommender``."""
        parts = []
        for start in range(0, len(queries), SCORED):
            rows = slice(start, start + SCORED)
            parts.append(self.part(queries.take(rows), None if candidates is None else candidates[rows]))
        return np.concatenate(parts)

    def part(self, queries: Queries, candidates: np.ndarray | None) -> np.ndarray:
        """The scores of some users, from their file if it is there."""
        sha = sha256(self.identity.encode())
        for array in (queries.users, queries.histories, *([] if candidates is None else [candidates])):
            sha.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        path = part_checkpoint(self.checkpoint, f"scores-{sha.hexdigest()[:16]}")
        assert path is not None
        if not path.exists():
            scores = torch.from_numpy(np.asarray(self.system.score(queries, candidates)))
            counts = {name: int(getattr(self.system, name)) for name in COUNTED if hasattr(self.system, name)}
            with atomic(path) as part:
                torch.save({"scores": scores, "counts": counts}, part)
        check_zip(path)
        state: dict[str, Any] = torch.load(path, weights_only=True)
        for name, count in state["counts"].items():
            self.counts[name] = self.counts.get(name, 0) + count
        return state["scores"].numpy()

"""What chapter 8 audits: tables whose lists exist, made from recorded runs, and the same with a wrong number."""

from collections.abc import Sequence

import numpy as np

from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.audit import distance, outcomes_of

METRICS = ("HR@5", "P@5", "R@5", "NDCG@5", "MRR@5", "MAP@5", "MRR")
USERS, UNIT = 100, 0.001


def audit_samples(runs: Sequence[Run], num_rows: int, wrong: bool = False, seed: int = 0) -> np.ndarray:
    """(num_rows,) distances from possible of printed rows whose lists exist, in units of the last digit.

    A row has the rounded means over USERS of the users of a recorded run, or all of them, both sampled. A ``wrong`` one
    has a number, at random, from another row.
    """
    rng, distances = np.random.default_rng(seed), []
    for _ in range(num_rows):
        row, num_relevant = _sample(runs, rng)
        if wrong:
            name = str(rng.choice(METRICS))
            row[name] = _sample(runs, rng)[0][name]
        distances.append(distance(row, outcomes_of(5, *num_relevant), UNIT))
    return np.array(distances)


def _sample(runs: Sequence[Run], rng: np.random.Generator) -> tuple[dict[str, float], tuple[int, int]]:
    """A printed row, and how many relevant items its users have, at least and at most."""
    run = runs[int(rng.integers(len(runs)))]
    users = rng.permutation(len(run.users))[:USERS]
    row = {name: round(float(run.metric(name)[users].mean()), 3) for name in METRICS}
    counts = (run.targets[users] > 0).sum(axis=1)
    return row, (int(counts.min()), int(counts.max()))

"""scores.py: what was scored before an interruption is not scored again, and nothing else is read for it."""

from dataclasses import dataclass

import numpy as np
import pytest

from experiments import scores
from experiments.record import checkpoints
from experiments.scores import StoredScores
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.base import BaseRecommender


@dataclass(eq=False)
class Counting(BaseRecommender):
    """Scores depend on user, item and ``slope``; users with even numbers are unanswered. It notes whom it scored."""

    slope: float = 1.0
    fails_at: int = -1
    name = "counting"
    num_unanswered = 0

    def __post_init__(self):
        self.scored = []

    def identity(self, split):
        return f"{self.slope}"

    def score(self, queries, candidates=None):
        if self.fails_at in queries.users:
            raise KeyboardInterrupt
        self.scored += queries.users.tolist()
        self.num_unanswered = int((queries.users % 2 == 0).sum())
        items = np.arange(9)[None] if candidates is None else candidates
        return (self.slope * items + queries.users[:, None]).astype(np.float32)


@pytest.fixture
def split(monkeypatch):
    monkeypatch.setattr(scores, "SCORED", 4)
    return load_shop(size="tiny")[0].leave_one_out()


def test_what_was_scored_before_a_kill_is_not_scored_again(split, tmp_path):
    queries, checkpoint = split.queries("test").take(slice(10)), tmp_path / "x.pt"
    candidates = np.random.default_rng(0).integers(1, 200, (10, 5))
    whole = Counting()
    wanted = whole.score(queries, candidates)
    killed = StoredScores(Counting(fails_at=int(queries.users[9])), split, checkpoint)
    with pytest.raises(KeyboardInterrupt):
        killed.score(queries, candidates)
    assert len(checkpoints(checkpoint)) == 2, "the runner deletes parts as it deletes the checkpoint"
    resumed = StoredScores(Counting(), split, checkpoint)
    np.testing.assert_array_equal(resumed.score(queries, candidates), wanted)
    assert resumed.system.scored == queries.users[8:].tolist()
    assert resumed.counts == {"num_unanswered": whole.num_unanswered}


def test_other_systems_users_and_candidates_are_scored_anew(split, tmp_path):
    queries, checkpoint = split.queries("test").take(slice(4)), tmp_path / "x.pt"
    candidates = np.arange(1, 13).reshape(4, 3)
    StoredScores(Counting(), split, checkpoint).score(queries, candidates)
    others = split.queries("test").take(slice(1, 5))
    for slope, asked, items in ((2.0, queries, candidates), (1.0, others, candidates), (1.0, queries, candidates[::-1]),
                                (1.0, queries, None)):  # fmt: skip
        system = Counting(slope)
        found = StoredScores(system, split, checkpoint).score(asked, items)
        assert system.scored == asked.users.tolist()
        np.testing.assert_array_equal(found, Counting(slope).score(asked, items))


def test_damaged_scores_are_refused(split, tmp_path):
    queries, checkpoint = split.queries("test").take(slice(4)), tmp_path / "x.pt"
    StoredScores(Counting(), split, checkpoint).score(queries)
    (path,) = checkpoints(checkpoint)
    content = bytearray(path.read_bytes())
    content[content.index(b"\x00\x00\x80?")] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="checksum"):
        StoredScores(Counting(), split, checkpoint).score(queries)

"""runs.py: runs that survive on disk, metrics by name."""

import numpy as np
import pytest

from mmrec_helpers.evaluation import runs
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.evaluation.runs import load_run
from tests.evaluation.random_data import Scores, random_scores, random_split


def test_a_run_survives_on_disk(split, tmp_path):
    run = evaluate(Scores(random_scores(levels=8)), split, num_targets=2)
    run.stamp["cost"]["fit seconds"] = 1.5
    run.save(tmp_path / "run")
    read = load_run(tmp_path / "run", split.dataset)
    assert read.stamp == run.stamp
    assert read.stamp["cost"]["fit seconds"] == 1.5
    for name in ("users", "lists", "targets"):
        np.testing.assert_array_equal(getattr(read, name), getattr(run, name))
    for name in ("HR@10", "NDCG@5", "MRR", "MRR@5", "MAP@5", "P@5", "R@5", "AUC"):
        np.testing.assert_array_equal(read.metric(name), run.metric(name))
    other = evaluate(Scores(random_scores(1)), split)
    other.save(tmp_path / "run")
    assert load_run(tmp_path / "run", split.dataset).metric("MRR").tolist() == other.metric("MRR").tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_of_other_data_is_refused(split, tmp_path):
    evaluate(Scores(random_scores()), split).save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"run was made on random with the fingerprint \w+, and random has \w+: make"):
        load_run(tmp_path / "run", random_split(1).dataset)
    with pytest.raises(FileNotFoundError, match="there is no run"):
        load_run(tmp_path / "none", split.dataset)


def test_a_run_that_could_not_be_written_leaves_the_old_one(split, tmp_path, monkeypatch):
    run = evaluate(Scores(random_scores()), split)
    run.save(tmp_path / "run")
    monkeypatch.setattr(runs.json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate(Scores(random_scores(1)), split).save(tmp_path / "run")
    assert load_run(tmp_path / "run", split.dataset).metric("MRR").tolist() == run.metric("MRR").tolist()


def test_unknown_metrics_are_refused(split):
    run = evaluate(Scores(random_scores()), split)
    for name in ("HR", "HR@0", "AUC@5", "hits@5", "HR@five"):
        with pytest.raises(ValueError, match="there is no metric"):
            run.metric(name)

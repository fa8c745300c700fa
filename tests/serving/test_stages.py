"""stages.py: three processes answer as one, and one that dies, hangs or fails costs no request and comes back."""

import os
import signal
import time

import pytest
from loopback import serve

from mmrec_helpers.serving import stages, versions
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Request, WorkerGone
from mmrec_helpers.serving.stages import StagedPipeline

REQUESTS = [Request((3, 7), 5), Request((), 24), Request((1, 2, 3, 4), 3, "mug")]
BODY = {"history": ["id-3", "id-7"], "k": 5}


def until_back(ask):
    """The first answer after a restart."""
    until = time.time() + 120
    while time.time() < until:
        try:
            return ask()
        except WorkerGone:
            time.sleep(0.05)
    raise TimeoutError


def test_three_processes_answer_as_one_also_after_one_was_killed_or_hung(folder, monkeypatch):
    one, staged = versions.load(folder, "two"), StagedPipeline(folder, "two")
    pids = {os.getpid(), *(worker.process.pid for worker in staged.workers.values())}
    assert len(pids) == 3
    expected = one.recommend(REQUESTS)
    assert staged.recommend(REQUESTS) == expected
    for stage, sent in ((versions.RANKER, signal.SIGKILL), (versions.RETRIEVER, signal.SIGSTOP)):
        with monkeypatch.context() as patch:
            patch.setattr(stages, "PATIENCE", 0.2)
            os.kill(staged.workers[stage].process.pid, sent)
            with pytest.raises(WorkerGone, match="has died"):
                staged.recommend(REQUESTS)
        with pytest.raises(WorkerGone, match="starts"):
            staged.recommend(REQUESTS)
        assert until_back(lambda: staged.recommend(REQUESTS)) == expected
    with pytest.raises(AttributeError):  # a fault of the model is passed on, and its process stays
        staged.workers[versions.RANKER].ask("no queries")
    assert staged.recommend(REQUESTS) == expected
    workers = list(staged.workers.values())
    staged.close()
    assert all(worker.process.exitcode is not None for worker in workers)


def test_a_killed_process_costs_no_request_and_the_model_is_back(folder):
    versions.activate(folder, "two")
    loaded = []

    def load(root, version):
        loaded.append(StagedPipeline(root, version))
        return loaded[-1]

    with serve(folder, token="secret", limits=Limits(timeout=60), load=load) as client:
        answer = client.post("/recommend", json=BODY).json()
        retrieval, ranking = loaded[0].workers.values()
        os.kill(ranking.process.pid, signal.SIGKILL)
        killed = client.post("/recommend", json=BODY)
        assert (killed.status_code, killed.json()["fallback"]) == (200, "worker gone")
        until = time.time() + 120
        while client.post("/recommend", json=BODY).json()["fallback"] and time.time() < until:
            time.sleep(0.05)
        assert client.post("/recommend", json=BODY).json() == answer
        before = [retrieval.process, ranking.process]
        headers = {"Authorization": "Bearer secret"}
        assert client.post("/version", json={"version": "one"}, headers=headers).status_code == 200
        assert all(process.exitcode is not None for process in before)
        assert client.post("/recommend", json=BODY).json()["version"] == "one"


def test_what_cannot_be_loaded_is_refused(folder):
    with pytest.raises(FileNotFoundError):
        StagedPipeline(folder, "three")
    with pytest.raises(ValueError, match="is no name"):
        StagedPipeline(folder, "../one")

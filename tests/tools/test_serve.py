"""tools/serve.py: popularity answers at once, a first version is trained meanwhile, later calls serve it."""

import threading
import time

import httpx
import numpy as np
import pytest
import serve
import uvicorn
from small_data import rec_dataset

from mmrec_helpers.serving import app, versions
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Request


@pytest.fixture
def dataset():
    rng = np.random.default_rng(0)
    rows = [(user, int(item) + 1, time) for user in range(10) for time, item in enumerate(rng.permutation(20)[:5])]
    return rec_dataset(rows)


@pytest.fixture
def root(monkeypatch, tmp_path, dataset):
    """The folder of the versions, of a small shop and a short training."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(serve, "EPOCHS", 1)
    monkeypatch.setattr(serve, "load_data_for_training", lambda settings: (dataset, None))
    monkeypatch.setattr(app.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(app, "Limits", lambda: Limits(timeout=60))  # the cores are busy with the training
    return tmp_path / "serving" / "pocket"


def wait_for(version, port):
    """The first answer of a version."""
    transport, body = httpx.HTTPTransport(retries=8), {"history": [], "k": 3}
    with httpx.Client(transport=transport, timeout=60) as client:
        for _ in range(600):
            answer = client.post(f"http://127.0.0.1:{port}/recommend", json=body).json()
            if answer["version"] == version:
                return answer
            assert answer["version"] == "popularity"
            time.sleep(0.1)
    raise AssertionError(f"version {version} did not answer")


def test_popularity_answers_until_the_first_version_is_trained(monkeypatch, root, dataset, unused_port):
    may_train, publish, servers = threading.Event(), versions.publish, []

    def run(application, **options):
        assert "host" not in options  # uvicorn's default is this machine alone
        servers.append(uvicorn.Server(uvicorn.Config(application, **options)))
        servers[-1].run()

    def publish_later(*arguments):
        assert may_train.wait(60)
        publish(*arguments)

    monkeypatch.setattr(app.uvicorn, "run", run)
    monkeypatch.setattr(versions, "publish", publish_later)
    service = threading.Thread(target=serve.main, args=(unused_port,), daemon=True)
    service.start()
    try:
        answer = wait_for("popularity", unused_port)
        assert answer["fallback"] is None
        popular = dataset.leave_one_out().interactions("train")["item"].value_counts()
        assert [row["score"] for row in answer["items"]] == popular.to_list()[:3]
        metrics = httpx.get(f"http://127.0.0.1:{unused_port}/metrics").text
        assert 'recommendations_total{by="popularity: no version"}' in metrics
        assert 'by="model"' not in metrics
        may_train.set()
        assert len(wait_for("first", unused_port)["items"]) == 3
    finally:
        may_train.set()
        for server in servers:
            server.should_exit = True
        service.join(60)
    assert versions.active(root) == "first"


def test_an_active_version_is_served_without_data_and_with_another_token(monkeypatch, root, dataset, capsys):
    catalogue = serve.Catalogue.of(dataset.leave_one_out())
    versions.publish(root, "mine", catalogue, serve.SASRec(epochs=1).fit(dataset.leave_one_out()))
    versions.activate(root, "mine")
    served = []
    monkeypatch.setattr(serve, "load_data_for_training", None)
    monkeypatch.setattr(app.uvicorn, "run", lambda _, **options: served.append(options["port"]))
    serve.main(8001)
    serve.main(8002)
    assert served == [8001, 8002]
    first, second = [line for line in capsys.readouterr().out.splitlines() if "Bearer" in line]
    assert first != second


@pytest.fixture
def switched(monkeypatch):
    """What the running service was asked for, and what it answers."""
    asked, answers = [], [httpx.Response(200)]

    def post(self, address, json):
        asked.append((address, json, self.headers["Authorization"]))
        return answers[-1]

    monkeypatch.setattr(httpx.Client, "post", post)
    return asked, answers


def train_and_switch(dataset, root):
    split = dataset.leave_one_out()
    serve.train_and_switch(split, serve.Catalogue.of(split), root, 8003, "secret")


def test_a_first_version_that_was_trained_but_not_activated_is_used(monkeypatch, root, dataset, switched):
    split = dataset.leave_one_out()
    versions.publish(root, "first", serve.Catalogue.of(split), serve.SASRec(epochs=1).fit(split))
    monkeypatch.setattr(serve.SASRec, "fit", None)
    train_and_switch(dataset, root)
    assert switched[0] == [("http://127.0.0.1:8003/version", {"version": "first"}, "Bearer secret")]


def test_a_version_that_another_service_has_published_meanwhile_is_used(monkeypatch, root, dataset, switched):
    publish = versions.publish

    def second(*arguments):
        publish(*arguments)
        publish(*arguments)

    monkeypatch.setattr(versions, "publish", second)
    train_and_switch(dataset, root)
    assert len(switched[0]) == 1


def test_a_failed_training_or_switch_is_said_in_one_line(monkeypatch, root, dataset, switched, capsys):
    switched[1].append(httpx.Response(422, json={"detail": "first is damaged"}))
    with pytest.raises(RuntimeError, match="first is damaged"):
        train_and_switch(dataset, root)
    monkeypatch.setattr(serve.versions, "publish", None)
    (root / "first").rename(root / "other")
    with pytest.raises(TypeError):
        train_and_switch(dataset, root)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "Version first cannot be served, popularity goes on: first is damaged"
    assert second.startswith("Version first cannot be served, popularity goes on: ")


def test_the_most_popular_items_are_filtered_as_the_fallback_is(dataset):
    catalogue = serve.Catalogue.of(dataset.leave_one_out())
    requests = [Request(), Request((1, 2), 5), Request(k=30), Request(query="thing 3")]
    assert serve.MostPopular(catalogue).recommend(requests) == [catalogue.most_popular(own) for own in requests]

"""app.py, over loopback: answers, limits, hostile requests, slow and failing models, switches, and the end."""

import contextlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from loopback import serve

from mmrec_helpers.recommenders.base import ARRAYS
from mmrec_helpers.serving import sessions, versions
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Pipeline

BODY = {"history": ["id-3", "id-7"], "k": 5}
PATIENT = Limits(timeout=60)
TOKEN = {"Authorization": "Bearer secret"}


@pytest.fixture
def client(folder):
    with serve(folder, token="secret", limits=PATIENT) as client:
        yield client


@pytest.fixture
def held(monkeypatch):
    """An event; while it is not set, models do not answer."""
    answer, goes = Pipeline.recommend, threading.Event()
    goes.set()

    def recommend(self, requests):
        assert goes.wait(60)
        return answer(self, requests)

    monkeypatch.setattr(Pipeline, "recommend", recommend)
    yield goes
    goes.set()


def popular(folder, k=5):
    """The fallback's answer to BODY."""
    catalogue = versions.load(folder, "one").catalogue
    answer = catalogue.most_popular(catalogue.request(BODY["history"], k, ""))
    return [{"item": catalogue.item_ids[item], "score": score} for item, score in answer]


# Answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_pipelines_by_the_names_of_the_shop(client, folder):
    answer = client.post("/recommend", json=BODY).json()
    pipeline = versions.load(folder, "one")
    ((*expected,),) = pipeline.recommend([pipeline.catalogue.request(BODY["history"], 5, "")])
    items = [{"item": pipeline.catalogue.item_ids[item], "score": pytest.approx(score)} for item, score in expected]
    assert answer == {"version": "one", "fallback": None, "items": items}
    mugs = client.post("/recommend", json={"category": "mug", "k": 100}).json()["items"]
    assert sorted(int(mug["item"][3:]) % 3 for mug in mugs) == [0] * 8


def test_a_search_is_answered_from_the_items_with_its_words(client):
    first, *rest = client.post("/recommend", json={"history": ["id-3"], "query": "Thing 5", "k": 100}).json()["items"]
    assert (first["item"], rest) == ("id-5", [])
    others = client.post("/recommend", json={"history": ["id-5"], "query": "Thing 5", "k": 100}).json()["items"]
    assert len(others) == 23  # all but one are things, too
    assert client.post("/recommend", json={"query": "sofa"}).json()["items"] == []


def test_without_a_version_the_process_is_healthy_but_not_ready(tmp_path):
    with serve(tmp_path) as client:
        assert client.get("/health").json() == {"status": "ok"}
        assert client.get("/ready").status_code == client.post("/recommend", json=BODY).status_code == 503


def test_metrics_count_answers_and_batches(client):
    for _ in range(3):
        client.post("/recommend", json=BODY)
    text = client.get("/metrics").text
    assert 'recommendations_total{by="model"} 3.0' in text
    assert "latency_seconds_count 3.0" in text
    assert "batch_size_sum 3.0" in text
    assert "process_cpu_seconds_total" in text


def test_a_session_remembers_what_it_sent(folder):
    body = {"session": "a", "k": 24}
    with serve(folder, limits=PATIENT) as client:
        client.post("/recommend", json=body | {"history": ["id-3", "id-7"]})
        client.post("/recommend", json=body | {"history": ["id-99"]})  # refused, so not kept
    with serve(folder, limits=PATIENT) as client:  # after a restart
        remembered = client.post("/recommend", json=body | {"history": ["id-5"]}).json()
        told = client.post("/recommend", json={"k": 24, "history": ["id-3", "id-7", "id-5"]}).json()
        assert remembered == told
        assert len(client.post("/recommend", json=body | {"session": "b"}).json()["items"]) == 24


def test_where_the_store_fails_requests_are_answered_without_their_session(folder):
    with serve(folder, limits=PATIENT) as client:
        client.post("/recommend", json=BODY | {"session": "a"})
        with contextlib.closing(sqlite3.connect(folder / "sessions.sqlite")) as other:
            other.execute("DROP TABLE events")
        answer = client.post("/recommend", json=BODY | {"session": "a"})
        assert answer.json() == client.post("/recommend", json=BODY).json()
        assert "session_errors_total 1.0" in client.get("/metrics").text
        assert client.get("/health").json() == {"status": "sessions are not kept"}


def test_while_redis_is_gone_requests_are_answered_without_their_session(folder, redis_server, monkeypatch):
    monkeypatch.setattr(sessions, "RETRY", 0.0)
    whole = ["id-3", "id-7", "id-5"]
    with serve(folder, limits=PATIENT, sessions=redis_server.url) as client:

        def items(history, **more):
            answer = client.post("/recommend", json={"k": 24, "history": history} | more)
            assert answer.status_code == 200
            return answer.json()["items"]

        items(whole[:2], session="a")
        redis_server.kill()
        assert items(whole[2:], session="a") == items(whole[2:])  # by what the request brings along
        assert client.get("/health").json() == {"status": "sessions are not kept"}
        redis_server.start()
        assert items(whole[2:], session="a") == items(whole)  # what was sent meanwhile is lost, the rest is back
        assert client.get("/health").json() == {"status": "ok"}
        assert "session_errors_total 1.0" in client.get("/metrics").text
    assert not (folder / "sessions.sqlite").exists()


# Limits and hostile requests --------------------------------------------------------------------------------------

FAULTY = {
    "no JSON": "{",
    "no object": "[]",
    "an unknown field": '{"user": "a"}',
    "k of zero": '{"k": 0}',
    "a query of 201 letters": f'{{"query": "{"a" * 201}"}}',
    "k too large": '{"k": 101}',
    "k as text": '{"k": "5"}',
    "k is NaN": '{"k": NaN}',
    "k beyond any float": '{"k": 1e999}',
    "k with a million digits": '{"k": %s}' % ("9" * 50_000),
    "a number as id": '{"history": [3]}',
    "an unknown id": '{"history": ["id-99"]}',
    "an empty id": '{"history": [""]}',
    "a long id": json.dumps({"history": ["x" * 65]}),
    "a long history": json.dumps({"history": ["id-1"] * 201}),
    "an unknown category": '{"category": "sofa"}',
    "deep nesting": '{"history": %s}' % ("[" * 20_000),
}
HOSTILE = [
    "'; DROP TABLE items; --",
    "<script>alert(1)</script>",
    "{{7*7}}${7*7}%s%n",
    "../../etc/passwd",
    "id-3\0",
    "\u202eid-3",
    "\ud800",
    "💥" * 64,
    "id-3\r\nSet-Cookie: a=b",
]


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_request_is_refused_with_one_short_sentence(name, client):
    refused = client.post("/recommend", content=FAULTY[name], headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 422)
    assert 0 < len(refused.json()["detail"]) < 400
    assert client.post("/recommend", json=BODY).status_code == 200


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_hostile_text_is_an_unknown_name_and_nothing_else(text, client):
    for body in ({"history": [text]}, {"category": text}, {text: 1}, {"session": text}):
        refused = client.post("/recommend", content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/json"
        assert "set-cookie" not in refused.headers
        assert len(refused.content) < 2_000
    headers = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=json.dumps({"query": text}), headers=headers).status_code in (200, 422)
    assert client.post("/recommend", json=BODY).status_code == 200


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_of_10_mb_is_refused(declared, client):
    content = b'{"history": ["' + b"x" * 10_000_000 + b'"]}'
    chunks = (content[start : start + 65_536] for start in range(0, len(content), 65_536))  # sent without a length
    headers = {"Content-Type": "application/json"}
    try:
        refused = client.post("/recommend", content=content if declared else chunks, headers=headers)
        assert refused.status_code == 413
    except httpx.WriteError:  # the service has closed the connection before all was sent
        pass
    assert client.post("/recommend", json=BODY).status_code == 200


# Slow and failing models ------------------------------------------------------------------------------------------


def test_a_slow_model_is_answered_for_by_popularity_and_comes_back(folder, held):
    with serve(folder, limits=Limits(timeout=0.2)) as client:
        held.clear()
        answer = client.post("/recommend", json=BODY).json()
        held.set()
        assert answer == {"version": "one", "fallback": "timeout", "items": popular(folder)}
        until = time.time() + 60
        while client.post("/recommend", json=BODY).json()["fallback"] and time.time() < until:
            pass  # a busy machine may need more than 0.2 s
        assert time.time() < until


def test_a_failing_model_is_answered_for_by_popularity(folder, client, monkeypatch):
    items = popular(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "recommend", lambda self, requests: 1 / 0)
        answer = client.post("/recommend", json=BODY).json()
        assert answer == {"version": "one", "fallback": "error", "items": items}
    assert client.post("/recommend", json=BODY).json()["fallback"] is None
    assert 'by="popularity: error"} 1.0' in client.get("/metrics").text


def test_overload_is_refused_and_all_that_was_accepted_is_answered(folder, held):
    limits = Limits(timeout=60, batch_size=2, wait=0, waiting=4)
    with serve(folder, limits=limits) as client, ThreadPoolExecutor(20) as pool:
        held.clear()
        answers = [pool.submit(client.post, "/recommend", json=BODY | {"session": "a"}) for _ in range(20)]
        while sum(answer.done() for answer in answers) < 20 - 6:  # the others are in a batch of 1 or 2, or wait
            time.sleep(0.01)
        held.set()
        codes = [answer.result().status_code for answer in answers]
        assert set(codes) == {200, 429}
        assert 5 <= codes.count(200) <= 6
        with contextlib.closing(sqlite3.connect(folder / "sessions.sqlite")) as store:
            kept = store.execute("SELECT count(*) FROM events").fetchone()
        assert kept == (len(BODY["history"]) * codes.count(200),)
        assert next(answer.result() for answer in answers if answer.result().status_code == 429).headers["retry-after"]


# Versions ---------------------------------------------------------------------------------------------------------


def test_a_switch_and_its_rollback_lose_no_request(client, folder):
    codes, names, stop = [], [], threading.Event()

    def ask():
        while not stop.is_set():
            answer = client.post("/recommend", json=BODY)
            codes.append(answer.status_code)
            names.append(answer.json()["version"])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for version, now in (("two", "two"), (None, "one")):
                assert client.post("/version", json={"version": version}, headers=TOKEN).json() == {"version": now}
                assert client.get("/ready").json() == {"version": now}
                assert client.post("/recommend", json=BODY).json()["version"] == now == versions.active(folder)
        finally:
            stop.set()
        [asked.result() for asked in asking]
    assert set(codes) == {200}
    assert set(names) <= {"one", "two"}
    assert client.post("/version", json={"version": None}, headers=TOKEN).status_code == 422


def test_a_damaged_version_changes_nothing(client, folder):
    path = folder / "two" / versions.RETRIEVER / ARRAYS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    refused = client.post("/version", json={"version": "two"}, headers=TOKEN)
    assert refused.status_code == 422
    assert "damaged" in refused.json()["detail"]
    assert client.post("/recommend", json=BODY).json()["version"] == versions.active(folder) == "one"


@pytest.mark.parametrize("name", ["../one", "/etc/passwd", "..", "%2e%2e%2fone", "one\0", "", "three", "x" * 10_000])
def test_the_name_of_a_version_leads_nowhere_else(name, client, folder):
    refused = client.post("/version", json={"version": name}, headers=TOKEN)
    assert refused.status_code == 422
    assert str(folder) not in refused.text
    assert client.get("/ready").json() == {"version": "one"}
    assert client.get(f"/ready/{name}" if name.isprintable() else "/ready/x").status_code in (200, 307, 404, 414)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Bearer secre", "Bearer s\xe9cret"])
def test_only_the_bearer_of_the_token_may_switch(token, client, folder):
    for version in ("two", None):
        refused = client.post("/version", json={"version": version}, headers={"Authorization": token.encode("latin-1")})
        assert refused.status_code == 401
    assert versions.active(folder) == "one"


def test_a_service_without_a_token_does_not_switch(folder):
    with serve(folder) as client:
        refused = client.post("/version", json={"version": "two"}, headers={"Authorization": "Bearer"})
        assert refused.status_code == 401


# The end ----------------------------------------------------------------------------------------------------------

SLOW = """
import pathlib, sys, time
import uvicorn
from mmrec_helpers.serving.app import create_app
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Pipeline

answer = Pipeline.recommend
def recommend(self, requests):
    if requests[0].history:
        print("asked", flush=True)
        time.sleep(1)
    return answer(self, requests)
Pipeline.recommend = recommend
app = create_app(pathlib.Path(sys.argv[1]), limits=Limits(timeout=60))
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", timeout_graceful_shutdown=60)
"""


def test_sigterm_answers_what_was_accepted(folder, unused_port):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, folder, str(unused_port)],
        stdout=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    address = f"http://127.0.0.1:{unused_port}"
    until = time.time() + 120
    while time.time() < until:
        try:
            httpx.get(f"{address}/health", timeout=60)
            break
        except httpx.ConnectError:
            time.sleep(0.1)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(httpx.post, f"{address}/recommend", json=BODY, timeout=60) for _ in range(5)]
        assert process.stdout.readline() == b"asked\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        answers = [answer.result() for answer in answers]
    assert [(answer.status_code, answer.json()["fallback"]) for answer in answers] == [(200, None)] * 5
    assert process.wait(60) in (0, -signal.SIGTERM)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{address}/health")


KEPT = {"history": ["id-3"], "k": 24, "session": "a"}


@pytest.fixture
def start(folder, unused_port):
    """Starts a service of the folder, and waits until it is ready."""
    started = []

    def start():
        command = [sys.executable, "-m", "mmrec_helpers.serving.app", str(folder), str(unused_port)]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        address, until = f"http://127.0.0.1:{unused_port}", time.time() + 120
        while time.time() < until:
            try:
                if httpx.get(f"{address}/ready").status_code == 200:
                    break
            except httpx.ConnectError:
                time.sleep(0.05)
        return started[-1], address

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_what_a_killed_process_had_confirmed_is_there_after_a_restart(start):
    process, address = start()
    assert httpx.post(f"{address}/recommend", json=KEPT, timeout=60).status_code == 200
    process.kill()
    process.wait()
    with pytest.raises(httpx.ConnectError):
        httpx.post(f"{address}/recommend", json=KEPT)
    process, address = start()
    body = KEPT | {"history": ["id-5"]}
    kept = httpx.post(f"{address}/recommend", json=body, timeout=60).json()
    told = httpx.post(f"{address}/recommend", json={"history": ["id-3", "id-5"], "k": 24}, timeout=60).json()
    assert kept["items"] == told["items"]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits the files of a running process")
def test_on_a_full_disk_requests_are_answered_and_sessions_are_back_with_the_space(start):
    process, address = start()

    def items(**body):
        answer = httpx.post(f"{address}/recommend", json={"k": 24} | body, timeout=60)
        assert answer.status_code == 200
        return answer.json()["items"]

    items(history=["id-3"], session="a")
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))  # from now on no file of the process may grow
    assert items(history=["id-5"], session="a") == items(history=["id-5"])
    assert httpx.get(f"{address}/health").json() == {"status": "sessions are not kept"}
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert items(history=["id-5"], session="a") == items(history=["id-3", "id-5"])
    assert httpx.get(f"{address}/health").json() == {"status": "ok"}

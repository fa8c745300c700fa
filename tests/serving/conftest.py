"""A small shop with two fitted systems, and a folder with two versions of a model."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from small_data import rec_dataset

from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.pipeline import Catalogue

NUM_ITEMS = 24


@pytest.fixture(scope="session")
def shop():
    """Leave-one-out of 30 users with 8 of 24 items each; items are of three categories."""
    rng = np.random.default_rng(0)
    rows = [
        (user, int(item) + 1, 86_400 * time)
        for user in range(30)
        for time, item in enumerate(rng.permutation(NUM_ITEMS)[:8])
    ]
    return rec_dataset(rows).leave_one_out()


@pytest.fixture(scope="session")
def catalogue(shop):
    return Catalogue.of(shop)


@pytest.fixture(scope="session")
def sasrec(shop):
    return SASRec(dim=16, max_len=10, num_layers=1, epochs=1).fit(shop)


@pytest.fixture(scope="session")
def knn(shop):
    return ItemKNN(5).fit(shop)


@pytest.fixture
def folder(tmp_path, catalogue, sasrec, knn):
    """Two versions: ``one``, which is active, and ``two``, with a ranker."""
    versions.publish(tmp_path, "one", catalogue, sasrec)
    versions.publish(tmp_path, "two", catalogue, sasrec, knn)
    versions.activate(tmp_path, "one")
    return tmp_path


class RedisServer:
    """A real redis-server on a free port of this machine, which writes each command to its file before it answers."""

    def __init__(self, port, folder):
        self.url = f"redis://127.0.0.1:{port}/0"
        self.command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = None

    def start(self):
        import redis

        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        until = time.time() + 60
        while time.time() < until:
            try:
                with redis.Redis.from_url(self.url) as db:
                    return db.ping()
            except redis.RedisError:
                time.sleep(0.02)
        raise TimeoutError("redis-server does not answer")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def redis_server(unused_port, tmp_path_factory):
    pytest.importorskip("redis", reason="the client of Redis is not installed: pip install redis")
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server on this machine")
    server = RedisServer(unused_port, tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()

"""tools/load.py: every request is counted once, and what it prints of a service agrees with what the service counts."""

import asyncio
import json

import numpy as np
from load import Load
from loopback import serve
from small_data import rec_dataset

from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Catalogue


def test_a_row_of_the_load_agrees_with_the_metrics(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(user, int(item) + 1, time) for user in range(10) for time, item in enumerate(rng.permutation(20)[:5])]
    split = rec_dataset(rows).leave_one_out()
    versions.publish(tmp_path, "one", Catalogue.of(split), SASRec(dim=16, epochs=1).fit(split))
    versions.activate(tmp_path, "one")
    bodies = [json.dumps({"history": [f"id-{item}"], "k": 3}).encode() for item in range(1, 21)]
    with serve(tmp_path, limits=Limits(timeout=60)) as client:
        load = Load("127.0.0.1", client.base_url.port)
        row = asyncio.run(load.run(bodies, rate=100, seconds=2))
        assert 'recommendations_total{by="model"} 200.0' in client.get("/metrics").text
    assert row["refused"] == row["fallback"] == 0
    assert 60 < row["offered"] < 140  # 200 arrivals of a Poisson process
    assert 0 < row["answered"] <= 1.01 * row["offered"]
    assert 0 < row["p50 ms"] <= row["p95 ms"] <= row["p99 ms"]
    assert row["CPU ms"] > 0
    assert load.in_flight == 0

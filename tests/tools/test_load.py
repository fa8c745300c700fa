"""tools/load.py: what it prints of a service agrees with what the service counts."""

import asyncio
import json

import numpy as np
from load import row
from loopback import serve
from small_data import rec_dataset

from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.batching import Limits
from mmrec_helpers.serving.pipeline import Catalogue
from mmrec_helpers.studies.ch09 import Client


def test_a_row_of_the_load_agrees_with_the_metrics(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(user, int(item) + 1, time) for user in range(10) for time, item in enumerate(rng.permutation(20)[:5])]
    split = rec_dataset(rows).leave_one_out()
    versions.publish(tmp_path, "one", Catalogue.of(split), SASRec(dim=16, epochs=1).fit(split))
    versions.activate(tmp_path, "one")
    bodies = [json.dumps({"history": [f"id-{item}"], "k": 3}).encode() for item in range(1, 21)]
    with serve(tmp_path, limits=Limits(timeout=60)) as client:
        found = asyncio.run(row(Client(client.base_url.port), bodies, load=100, seconds=2))
        assert 'recommendations_total{by="model"} 200.0' in client.get("/metrics").text
    assert found["requests"] == 200
    assert found["refused"] == found["fallback"] == 0
    assert 0 < found["p50 ms"] <= found["p95 ms"] <= found["p99 ms"]
    assert found["CPU ms"] > 0

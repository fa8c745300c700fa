"""experiments/retrieval.py: more lists find more, at the size that each index needs."""

import numpy as np
import pandas as pd

from experiments import retrieval


def test_recall_is_the_share_of_the_exact_items():
    exact = np.arange(2 * retrieval.K).reshape(2, -1)
    assert retrieval.recall(exact[:, ::-1], exact) == 1
    assert retrieval.recall(np.where(np.arange(retrieval.K) < 25, exact, -1), exact) == 0.25


def test_more_lists_find_more(monkeypatch):
    monkeypatch.setattr(retrieval, "QUERIES", 20)
    table = pd.DataFrame(retrieval.rows(2_000))
    for name, own in table[table["index"] != "exact"].groupby("index"):
        assert own["recall@100"].iloc[-1] > 0.9, name
        assert own["recall@100"].iloc[-1] >= own["recall@100"].iloc[0]
    size = table.groupby("index")["MB"].first()
    assert size["lists, 8 bits"] < size["exact"] / 2 < size["exact"] < size["lists"]

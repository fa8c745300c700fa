"""published.py: the tables of the papers are whole."""

import pandas as pd

from mmrec_helpers.evaluation.published import PUBLISHED, ROUNDING


def test_printed_tables_are_whole():
    assert set(PUBLISHED) == set(ROUNDING)
    assert [len(rows) for rows in PUBLISHED.values()] == [10, 4, 11, 11, 11, 10, 10, 10, 10, 10, 10, 4]
    for rows in PUBLISHED.values():
        table = pd.DataFrame(rows).T
        assert not table.isna().any().any()
        assert table.drop(columns="novelty", errors="ignore").to_numpy().min() >= 0
        assert table.to_numpy().max() <= 1
    assert PUBLISHED["MLLM-MSR, Baby"]["Trans2D"] == {"AUC": 0.666, "HR@5": 0.2894, "MRR@5": 0.4591}
    assert PUBLISHED["MM-GPT2Rec"]["Matrix Factorization"]["MRR"] == 0.064

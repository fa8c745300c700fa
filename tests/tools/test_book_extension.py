"""The page with the papers' headline numbers beside ours: each is made from a table or a record, or said to lack."""

import book_extension as extension
import numpy as np
import pytest
import yaml

from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.runs import Run, save_runs


@pytest.fixture
def rows(root):
    """Number of a paper -> what stands beside it."""
    return yaml.safe_load((root / "book" / "reproduction.yml").read_text())


def ends(number):
    """The two ends of an interval."""
    return [float(end) for end in number.partition("(")[2].rstrip(")").split("\xa0to\xa0")]


def test_every_number_of_a_paper_is_of_its_table_or_a_text(rows):
    for row in rows:
        assert set(row) == {"claim", "paper", "place", "what", "printed", "ours", "why", "cell"}
        assert extension.printed(row["printed"]).strip()
    numbers = [extension.printed(row["printed"]) for row in rows[:4]]
    assert numbers == ["0.833", "1.83", "2.93", "1.19"]


def test_numbers_of_ours_are_of_the_records(rows, root):
    """What chapters 3 to 5 recorded is there; the page's sentences on it hold."""
    found = {own["what"]: extension.ours(own, root / "book" / "results") for row in rows[:3] for own in row["ours"]}
    assert extension.NOT_RECORDED not in found.values()
    few, popular, on_features = (
        found[what]
        for what in (
            "the same among 20 sampled items",
            "by popularity among 20 sampled items",
            "relative to SASRec on the same features, without an ID embedding",
        )
    )
    assert float(few[:5]) > 0.833 > float(popular[:5]) > 0.8
    low, high = ends(on_features)
    assert low < 1 < high
    whole, summarised = list(found.values())[-2:]
    assert ends(summarised)[1] < 2.93 < ends(whole)[0]


def test_a_mean_a_ratio_and_what_is_missing(tmp_path):
    where = {"data": "pocket", "split": "leave-one-out", "part": "test", "protocol": "full", "seed": 0}
    stamp = where | {"study": "ch06", "fingerprint": "f", "hyperparameters": {}, "protocol options": {}, "targets": 1}
    runs = []
    for name, hits in {"ours": [1, 1, 1, 0], "theirs": [1, 1, 0, 0]}.items():
        higher = np.where(np.array(hits)[:, None] == 1, 0, 50)
        ranks = TargetRanks(higher, np.ones_like(higher), np.full(4, 100))
        none = np.zeros((4, 0), int)
        runs.append(Run(np.arange(4), none, np.ones((4, 1), int), ranks, stamp | {"system": name}))
    save_runs(tmp_path / "ch06.parquet", runs)
    row = {"study": "ch06", "system": "ours", "metric": "HR@5", "split": "leave-one-out", "protocol": "full"}
    assert extension.ours(row, tmp_path).startswith("0.750 (")
    assert extension.ours(row | {"over": {"ch06": "theirs"}, "ratio": True}, tmp_path).startswith("1.50 (1.00")
    for missing in (
        {"over": {"ch07": "theirs"}},
        {"over": {"ch06": "nobody"}},
        {"system": "nobody"},
        {"study": "ch07"},
    ):
        assert extension.ours(row | missing, tmp_path) == extension.NOT_RECORDED
    assert extension.ours({"what": "planned"}, tmp_path) == extension.NOT_RECORDED
    (tmp_path / "ch06.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        extension.ours(row, tmp_path)


def test_the_study_time_of_a_chapter_is_the_sum_of_its_notebooks(tmp_path):
    for name, text in {"01a": "**Study time** 60 minutes", "01b": "**Study time** 45 minutes", "01c": ""}.items():
        (tmp_path / name).write_text(text)
    assert extension.study_minutes([tmp_path / "01a", tmp_path / "01b"]) == 105
    for missing in ([], [tmp_path / "01a", tmp_path / "01c"]):
        with pytest.raises(ValueError, match="study time"):
            extension.study_minutes(missing)

"""ledger.py: comparisons from runs that a test makes, and what they make of a row."""

import ledger
import numpy as np
import pytest
from claims import Evidence
from ledger import judge, measure, printed_text, runs_in

from mmrec_helpers.evaluation.metrics import TargetRanks
from mmrec_helpers.evaluation.runs import Run, save_runs
from mmrec_helpers.evaluation.tables import compare

STAMP = {"data": "pocket", "split": "leave-one-out", "part": "test", "protocol": "full", "seed": 0, "study": "ch09"}
STAMP |= {"fingerprint": "f", "hyperparameters": {}, "protocol options": {}, "targets": 1}
USERS = 400


def run(system, hits, **stamp):
    """A run in which the first users have their target at rank 1."""
    higher = np.where(np.arange(USERS) < hits, 0, 50)[:, None]
    ranks = TargetRanks(higher, np.ones_like(higher), np.full(USERS, 100))
    warmth = {"warmth": np.arange(USERS) % 5.0}
    return Run(np.arange(USERS), np.zeros((USERS, 0), int), np.ones((USERS, 1), int), ranks,
               STAMP | {"system": system} | stamp, warmth)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A record of four systems: strong, good, alike and poor."""
    hits = {"strong": 300, "good": 200, "alike": 198, "poor": 100}
    runs = [run(name, number) for name, number in hits.items()]
    runs.append(run("good", 196, protocol="full; window 64"))
    seconds = {"long": {"10": [3.0, 3.3, 2.7]}, "short": {"10": [1.0, 1.0, 1.0]}}
    timing = STAMP | {"protocol": "timing", "part": "", "system": "item expressions"}
    numbers = {"seconds": seconds, "table": {"area": [0.6, 0.55, 0.65]}}
    values = {"tokens, a": np.full(5, 30.0), "tokens, b": np.arange(5.0)}
    save_runs(tmp_path / "ch09.parquet", [*runs, Run.unranked(timing, numbers, np.arange(5), values)])
    return tmp_path


def judged(folder, **row):
    """The verdict on a row with some comparisons of ch09."""
    ours = [({} if "table" in own else {"study": "ch09", "metric": "HR@5"}) | own for own in row.pop("ours", [])]
    (own,) = judge([{"claim": "", "theirs": "", "ours": ours} | row], runs_in(folder))
    return own


def test_differences_and_ratios_of_runs(folder):
    own = judged(folder, rule="better", ours=[{"system": "strong", "over": "poor"}, {"system": "good", "over": "poor"}])
    assert own.verdict == "holds"
    runs = runs_in(folder)("ch09", part="test", protocol="full")
    expected = compare(runs, "strong", "poor", "HR@5")[["mean", "ci_low", "ci_high"]]
    assert own.short.endswith(", HR@5, 1 shop; 1 more")
    assert own.lines[0] == "1 shop: HR@5, strong against poor: {:.3f} ({:.3f}\xa0to\xa0{:.3f})".format(*expected)
    assert judged(folder, rule="equal", ours=[{"system": "alike", "over": "good"}]).verdict == "holds"
    assert judged(folder, rule="better", ours=[{"system": "poor", "over": "good"}]).verdict == "fails"
    ratio = judged(folder, rule="above 2", ours=[{"system": "strong", "over": "poor", "ratio": True}])
    assert (ratio.verdict, ratio.short[:4]) == ("holds", "3.00")


def test_a_difference_counts_only_after_holms_correction(folder):
    one = {"system": "good", "over": "alike"}  # two users: the interval excludes 0 in no bootstrap, p is above .05
    assert judged(folder, rule="better", ours=[one]).sides == [0]
    values = np.r_[np.ones(6), np.zeros(394)]
    close = Evidence(what="", interval=[0.015, 0.005, 0.028], values=values)
    assert ledger._judge({"rule": "better", "theirs": ""}, [close], []).sides == [1]
    assert ledger._judge({"rule": "better", "theirs": ""}, [close] * 4, []).sides == [0] * 4


def test_other_comparisons(folder):
    runs = runs_in(folder)
    window = {"study": "ch09", "system": "good", "protocol": "full; window 64", "than": "full", "metric": "HR@5"}
    assert judged(folder, rule="equal", ours=[window]).verdict == "holds"
    cold = measure({"study": "ch09", "system": "strong", "over": "poor", "warmth": 0}, runs)
    assert len(cold.values) == USERS / 5
    time = measure({"study": "ch09", "slower": {"long": 10}, "faster": {"short": 10}}, runs)
    assert time.interval == [3.0, 2.7, 3.3]
    spec = {"study": "ch09", "protocol": "timing"}
    area = measure(spec | {"system": "item expressions", "scalar": ["table", "area"], "what": "area"}, runs)
    assert area.interval == [0.6, 0.55, 0.65]
    tokens = measure(spec | {"metric": "tokens, a", "less": "tokens, b", "what": "tokens"}, runs)
    assert tokens.values.tolist() == [30, 29, 28, 27, 26]


@pytest.mark.parametrize(
    "own",
    [
        {"study": "ch09", "system": "strong", "protcol": "timing"},
        {"study": "ch09", "system": "strong", "Metric": "HR@10"},
        {"study": "ch09", "slower": {"long": 10}, "faster": {"short": 10}, "split": "temporal"},
        {"table": "MM-GPT2Rec", "system": "MM-GPT2Rec", "over": "SASRec", "metric": "HR@5", "user": 100},
    ],
)
def test_a_field_that_would_be_ignored_is_refused(own, folder):
    with pytest.raises(ValueError, match=f"claims.yml: .* has '{[*own][-1]}', not one of"):
        measure(own, runs_in(folder))


def test_what_is_not_recorded_decides_nothing(folder):
    missing = [{"system": "nobody", "over": "poor"}, {"study": "ch10", "system": "good", "over": "poor"}]
    own = judged(folder, rule="better", ours=missing)
    assert (own.verdict, own.sides, own.short) == ("not tested yet", [], "not recorded yet")
    assert all(line.endswith("not recorded yet") for line in own.lines)
    partial = judged(folder, rule="better", ours=[*missing, {"system": "good", "over": "poor"}])
    assert (partial.verdict, partial.missing) == ("holds", 2)


def test_the_papers_own_numbers(folder):
    table = {"tables": ["MM-GPT2Rec"], "system": "MM-GPT2Rec", "over": ["VBPR"], "metrics": ["HR@5", "MRR"]}
    assert printed_text(table) == "higher in 1 of 2 cells of its table"
    assert judged(folder, rule="every cell", theirs=table).verdict == "inconsistent"
    assert judged(folder, rule="every cell", theirs=table | {"metrics": ["HR@5"]}).verdict == "not tested yet"
    row = {"table": "MM-GPT2Rec", "system": "VBPR", "over": "SASRec", "metrics": ["HR@5"]}
    assert printed_text(row) == "HR@5 0.456 against 0.456"
    quotient = {"value": 11.35, "quotient": [223263, 25411], "unit": 0.01}
    assert judged(folder, recomputed=[quotient]).verdict == "inconsistent"
    assert judged(folder, recomputed=[quotient | {"value": 8.79}]).verdict == "not tested yet"
    assert judged(folder, audit={"MLLM-MSR, Baby": ["Trans2D"]}).verdict == "inconsistent"
    assert judged(folder, audit={"MLLM-MSR, Baby": ["SASRec"]}).lines[0].startswith("SASRec: possible")
    few = {"table": "MLLM-MSR, MicroLens", "system": "MLLM-MSR", "over": "TALLRec", "metric": "HR@5", "users": 100}
    assert judged(folder, rule="better", ours=[few]).verdict == "not separated"
    assert judged(folder, rule="better", ours=[few | {"users": 10_000}]).verdict == "holds"


def test_asserts_of_notebooks_are_comparisons(folder):
    assert judged(folder, asserts={"holds": "x"}).verdict == "holds"
    assert judged(folder, asserts={"holds": "x", "fails": "y"}).verdict == "holds in part"
    assert judged(folder, asserts={"inconsistent": "x"}).verdict == "inconsistent"

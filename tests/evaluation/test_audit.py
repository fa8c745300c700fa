"""Tables are read with their units and faults, and the papers' tables get the verdicts that other means give them."""

import re
import sys
import time

import numpy as np
import pytest

from mmrec_helpers.evaluation.audit import audit_table, audit_text, main, read_table
from mmrec_helpers.evaluation.published import CANDIDATES, PUBLISHED, RELEVANT, ROUNDING


def audited(name):
    return audit_table(PUBLISHED[name], ROUNDING[name], RELEVANT[name], CANDIDATES[name])


def test_table_1_of_mmgpt2rec():
    verdicts = audited("MM-GPT2Rec")["verdict"]
    assert set(verdicts[verdicts == "possible"].index) == {"MM-GPT2Rec", "Popularity"}
    assert set(verdicts[verdicts == "weak"].index) == {"VBPR", "DeepCoNN", "NRMF", "SASRec"}


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name.startswith("I-LLMRec") and "," in name])
def test_two_cutoffs_as_by_hand(name):
    """The gain of NDCG between two cut-offs, by hand, finds the same rows as the linear program."""
    by_hand = set()
    for system, row in PUBLISHED[name].items():
        if "HR@10" in row:
            hits, gain = row["HR@10"] - row["HR@5"], row["NDCG@10"] - row["NDCG@5"]
            if not hits / np.log2(11) - 2e-4 <= gain <= hits / np.log2(7) + 2e-4:
                by_hand.add(system)
    verdicts = audited(name)["verdict"]
    assert set(verdicts[verdicts != "possible"].index) == by_hand


def test_a_row_takes_less_than_a_second():
    start = time.process_time()
    audited("MM-GPT2Rec")
    assert time.process_time() - start < 10


def test_a_table_in_percent():
    rows, unit = read_table("system, Hit@5, MRR @5\nA, 28.94%, 45.9 %\n\nB,1%,.5%\n")
    assert rows == {"A": {"HR@5": pytest.approx(0.2894), "MRR@5": pytest.approx(0.459)},
                    "B": {"HR@5": pytest.approx(0.01), "MRR@5": pytest.approx(0.005)}}  # fmt: skip
    assert unit == pytest.approx(1e-4)
    assert audit_text("s,HR@5,MRR@5\nA,28.94%,45.91%").loc["A", "verdict"] == "contradiction"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no rows"),
        ("system,HR@5", "has no rows"),
        ("system,FOO@5\nA,1", "row 1: no metric 'FOO@5'"),
        ("system,HR\nA,0.3", "HR needs a cut-off, such as HR@5"),
        ("system,HR@0\nA,0.3", "no such cut-off"),
        ("system,AUC@5\nA,0.3", "no such cut-off"),
        ("system,HR@5,Hit@5\nA,0.3,0.3", "one of them twice"),
        ("system\nA", "no metric"),
        ("system,HR@5\nA,0.3,0.2", "row 2 has 3 columns"),
        ("system,HR@5\nA,78.2", "row 2, HR@5: 78.2 is more than 1"),
        ("system,HR@5\nA,78.2%\nB,0.7", "row 3, HR@5: percentages and shares"),
        ("system,HR@5\nA,", "'' is no number"),
        ("system,HR@5\nA,-0.1", "'-0.1' is no number"),
        ("system,HR@5\nA,0." + "3" * 400, "3' is no number"),
        ("system,HR@5\nA,0.1\nA,0.2", "A is in the table already"),
    ],
)
def test_faults_name_row_and_column(text, fault):
    with pytest.raises(ValueError, match=re.escape(fault)):
        read_table(text)


def test_too_many_outcomes():
    with pytest.raises(ValueError, match="11,534,335 outcomes: narrow"):
        audit_table({"A": {"R@20": 0.3}}, 0.001, (1, 20))
    with pytest.raises(ValueError, match="3 to 2 relevant items"):
        audit_table({"A": {"R@5": 0.3}}, 0.001, (3, 2))
    for number in (-5, 1):
        with pytest.raises(ValueError, match=f"{number} candidates, 1 of them relevant, have no ranking"):
            audit_table({"A": {"AUC": 0.3}}, 0.001, num_candidates=number)


def test_a_table_with_line_ends_of_old_macs_is_read():
    assert read_table("system,HR@5\rA,0.3\rB,0.4") == ({"A": {"HR@5": 0.3}, "B": {"HR@5": 0.4}}, 0.1)


def test_the_command(tmp_path, monkeypatch, capsys):
    table = tmp_path / "table.csv"
    table.write_text("system,HR@5,MRR@5,AUC\nA,0.300,0.200,0.600\nB,0.300,0.400,0.600\n")
    monkeypatch.setattr(sys, "argv", ["audit", str(table), "--candidates", "21"])
    main()
    first, second = capsys.readouterr().out.splitlines()
    assert first == "A: possible, 0.0 units from possible."
    assert second.startswith("B: contradiction, 50.0 units from possible. with HR@5 = 0.3, MRR@5 is at most")
    table.write_text("system,HR\nA,0.3\n")
    with pytest.raises(SystemExit, match=re.escape(f"{table}, row 1: HR needs")):
        main()
    monkeypatch.setattr(sys, "argv", ["audit", str(tmp_path / "none.csv")])
    with pytest.raises(SystemExit, match=re.escape("none.csv")):
        main()

"""book/claims.yml: rows have what their verdict needs, name sections that exist, and accuse by place."""

import re
from pathlib import Path

import book_extension
import nbformat
import pytest
import yaml
from claims import NOT_RECORDED, NOT_TESTED, region
from ledger import INCONSISTENT, NOT_TESTABLE, VERDICTS

from mmrec_helpers.evaluation.published import PUBLISHED

ROOT = Path(__file__).resolve().parents[2]
ROWS = yaml.safe_load((ROOT / "book" / "claims.yml").read_text())
FIELDS = {"claim", "paper", "place", "theirs", "rule", "ours", "context", "asserts", "audit", "recomputed", "verdict"}
FIELDS |= {"because", "source", "note", "cell"}
NUMBER = re.compile(r"-?\.\d{2,}|\d+\.\d+")
PAPERS = {"olaniyi_mmgpt2rec", "kim2025illmrec", "ye2025mllmmsr", "thiyagarajan2025mllm"}

every_row = pytest.mark.parametrize("row", ROWS, ids=[row["claim"] for row in ROWS])


@pytest.fixture(scope="module")
def notebooks():
    """Number of a notebook, such as 04b -> its headings, and the sources of its code cells."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, 4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
        found[path.name[:3]] = re.findall(r"^#+ (.*)$", text, re.MULTILINE), code
    return found


def test_the_ledger_has_sixty_claims_of_four_papers():
    claims = [row["claim"] for row in ROWS]
    assert len(set(claims)) == len(claims) >= 60
    assert {row["paper"] for row in ROWS} == PAPERS


@every_row
def test_a_row_is_decided_in_one_way(row):
    assert FIELDS >= set(row) >= {"claim", "paper", "place", "theirs", "cell"}
    by_rule = bool({"ours", "asserts"} & set(row)) or row.get("rule") == "every cell"
    ways = [by_rule, "audit" in row, "recomputed" in row, "verdict" in row]
    assert sum(ways) == 1, "a verdict follows from comparisons, an audit, arithmetic, or a reason"
    assert ("verdict" in row) == ("because" in row)
    assert row.get("verdict", INCONSISTENT) in (INCONSISTENT, NOT_TESTED, NOT_TESTABLE)
    if "ours" in row:
        region(row["rule"])


@every_row
def test_a_row_names_sections_and_asserts_that_exist(row, notebooks):
    for name, heading in row["cell"].items():
        assert heading in notebooks[name][0], f"{name} has no section {heading!r}"
    for text in row.get("asserts", {}).values():
        assert any(text in notebooks[name][1] for name in row["cell"]), f"no such assert: {text}"


@every_row
def test_an_accusation_names_its_places(row):
    """Two places of the paper, or a row of a table and its rule, or file, commit and line of the released code."""
    of_code = row.get("verdict") == INCONSISTENT and "released" in row["because"]
    if row.get("verdict") == INCONSISTENT and not of_code and not ("t + 1" in row["theirs"] or ";" in row["place"]):
        assert len(re.findall(r"equation|section|table|figure", row["place"])) > 1 or " and " in row["place"]
    if "source" in row or of_code:
        assert re.search(r"^\S+/\S+, commit [0-9a-f]{7}, .*\.(py|ipynb), .*lines? \d", row["source"])
    for table, rows in row.get("audit", {}).items():
        assert set(rows) <= set(PUBLISHED[table])


@every_row
def test_prose_about_ours_has_no_number_of_a_record(row):
    """What is typed are numbers of the papers, of bounds, or of the shop's setting; ours come from the records."""
    assert NUMBER.findall(row.get("because", "")) == []
    allowed = {".00013", ".5805", ".5841", "354.8", "22.5", ".238", ".5", "4.1"}
    assert set(NUMBER.findall(row.get("note", ""))) <= allowed


def test_verdicts_and_numbers_are_of_the_records():
    """Every row gets a verdict; nothing that is recorded is missed by a misspelt name."""
    judged = book_extension.judged_claims(ROOT / "book")
    planned = ("ch05", "ch06", "ch09")
    for row, own in judged:
        assert own.verdict in VERDICTS
        specs = [*row.get("ours", ()), *row.get("context", ())]
        for spec, line in zip(specs, [*own.lines[: len(row.get("ours", ()))], *own.beside], strict=True):
            assert not line.endswith(NOT_RECORDED) or spec["study"] in planned, line
    assert sum(own.verdict not in (NOT_TESTED, NOT_TESTABLE) for _, own in judged) >= 60
    counts = book_extension.counts(judged)
    assert counts[0] == f"The ledger has {len(ROWS)} claims."
    assert sum(int(line.split("|")[2]) for line in counts[4:]) == len(ROWS)


def test_planned_systems_are_named_as_they_will_be_recorded():
    """Comparisons that are not recorded yet name systems and protocols that chapters 5, 6 and 9 plan."""
    from experiments import ch05, ch06, ch09

    inputs = ch06.INPUTS | ch06.OF_POSTERS
    systems = {"ch05": {*ch05.VARIANTS, *ch05.ON_REAL_DATA}, "ch06": {*ch06.VARIANTS, *ch06.BASELINES, *ch06.GRAPHS, *inputs}}
    systems["ch09"] = {*ch09.CONDITIONS, *ch09.SMALL, ch09.LATENCY}
    conditions = {*ch05.PROTOCOLS, *(own for some in ch05.CONDITIONS.values() for own in some)}
    for row in ROWS:
        for spec in [*row.get("ours", ()), *row.get("context", ())]:
            if "system" not in spec or spec.get("study") not in systems:
                continue
            over = spec.get("over", spec["system"])
            study, other = next(iter(over.items())) if isinstance(over, dict) else (spec["study"], over)
            assert spec["system"] in systems[spec["study"]]
            assert other in systems.get(study, {other})
            if spec["study"] == "ch05" and spec.get("data") != "hm-week":
                assert spec.get("protocol", "full") in conditions
                if "than" in spec:
                    assert spec["protocol"] in ch05.CONDITIONS[spec["system"]]

"""Audit of a published table: can any lists produce its rows? ``python -m mmrec_helpers.evaluation.audit``.

Chapter 8 builds what decides it; this reads tables and audits all rows.
"""

import argparse
import csv
import re
from collections.abc import Mapping
from math import comb
from pathlib import Path

import pandas as pd

from mmrec_helpers.lessons.audit import METRICS, POSSIBLE, Outcomes, distance, explain, outcomes_of

WEAK = 1 + 1e-6
"""Units of the last digit that different rounding rules in one row could explain."""
MOST_OUTCOMES = 100_000
NAMES = {"HIT": "HR", "HITRATE": "HR", "PRECISION": "P", "PREC": "P", "RECALL": "R"}
"""Other names of metrics, in capitals."""
WITHOUT_CUTOFF = ("MRR", "MAP", "NDCG", "AUC")
"""Metrics that may be of the whole ranking."""


def audit_table(
    rows: Mapping[str, Mapping[str, float]],
    unit: float,
    num_relevant: tuple[int, int] = (1, 1),
    num_candidates: int = 0,
) -> pd.DataFrame:
    """Verdicts on the rows of a table.

    Args:
        rows: system -> metric -> mean, a share of 1. What is no ranking metric is ignored.
        unit: what the last printed digit is worth.
        num_relevant: items that are relevant for a user, at least and at most.
        num_candidates: how many candidates are ranked, if all are; 0 if only the top of a list is known.

    Returns:
        A row a system: ``verdict``, ``possible``, ``weak`` or ``contradiction``; ``distance`` from possible in units of
        the last digit; ``explanation`` in a sentence.

    Raises:
        ValueError: the lists have too many outcomes.
    """
    audits = {}
    for system, row in rows.items():
        ranking = {name: value for name, value in row.items() if name.partition("@")[0] in METRICS}
        outcomes = _outcomes(ranking, num_relevant, num_candidates)
        missed = distance(ranking, outcomes, unit)
        verdict = "possible" if missed <= POSSIBLE else "weak" if missed <= WEAK else "contradiction"
        audits[system] = {"verdict": verdict, "distance": missed, "explanation": explain(ranking, outcomes, unit)}
    return pd.DataFrame.from_dict(audits, orient="index", columns=["verdict", "distance", "explanation"])


def _outcomes(row: Mapping[str, float], num_relevant: tuple[int, int], num_candidates: int) -> Outcomes:
    """The outcomes of lists as long as the row's largest cut-off, or of all candidates."""
    least, most = num_relevant
    if not 1 <= least <= most:
        raise ValueError(f"a user has {least} to {most} relevant items: give 1 or more, the smaller number first")
    if num_candidates and not most < num_candidates:
        raise ValueError(f"{num_candidates} candidates, {most} of them relevant, have no ranking: give more, or 0")
    cutoffs = [int(name.partition("@")[2]) for name in row if "@" in name]
    k = num_candidates or max(cutoffs, default=1)
    count = sum(comb(k, hits) for n in range(least, most + 1) for hits in range(min(n, k) + 1))
    if count > MOST_OUTCOMES:
        fix = "narrow the range of relevant items, or leave out the largest cut-off"
        raise ValueError(f"lists of {k} items with {least} to {most} relevant ones have {count:,} outcomes: {fix}")
    return outcomes_of(k, least, most, complete=bool(num_candidates))


def read_table(text: str, name: str = "the table") -> tuple[dict[str, dict[str, float]], float]:
    """The rows of a table in CSV, and what its last digit is worth.

    Args:
        text: a header with a metric a column, such as ``HR@5``; then a system a row. Numbers are shares of 1, or all
            have a percent sign.
        name: of the table in errors.

    Returns:
        System -> metric -> share of 1, and the unit of the last digit, that of the number with the most digits.

    Raises:
        ValueError: with row, column and fix: an unknown metric, a missing cut-off, a number that is none or no share,
            percentages beside shares, rows of different lengths, a system twice.
    """
    lines = [line for line in csv.reader(text.strip().splitlines()) if any(map(str.strip, line))]
    if len(lines) < 2:
        raise ValueError(f"{name} has no rows: the first line names the metrics, each other one is a system")
    metrics = [_metric(column, name) for column in lines[0][1:]]
    if not metrics or len(set(metrics)) < len(metrics):
        raise ValueError(f"{name}, row 1: no metric, or one of them twice, in {', '.join(lines[0])}")
    rows: dict[str, dict[str, float]] = {}
    units, percent = [], set()
    for number, line in enumerate(lines[1:], 2):
        place = f"{name}, row {number}"
        if len(line) != len(lines[0]):
            raise ValueError(f"{place} has {len(line)} columns, the first row has {len(lines[0])}")
        if (system := line[0].strip()) in rows:
            raise ValueError(f"{place}: {system} is in the table already; each system needs a name of its own")
        rows[system] = {}
        for metric, cell in zip(metrics, line[1:], strict=True):
            share, unit = _share(cell.strip(), f"{place}, {metric}")
            rows[system][metric] = share
            units.append(unit)
            percent.add("%" in cell)
            if len(percent) == 2:
                raise ValueError(f"{place}, {metric}: percentages and shares in one table; write all in one way")
    return rows, min(units)


def _metric(column: str, name: str) -> str:
    """A metric as METRICS names it, with its cut-off."""
    metric, _, cutoff = column.strip().upper().replace(" ", "").partition("@")
    metric = NAMES.get(metric, metric)
    if metric not in METRICS:
        raise ValueError(f"{name}, row 1: no metric {column.strip()!r}; there are {', '.join(METRICS)}")
    if cutoff and (not cutoff.isdecimal() or int(cutoff) < 1 or metric == "AUC"):
        raise ValueError(f"{name}, row 1: {column.strip()!r} has no such cut-off; write HR@5, or AUC")
    if not cutoff and metric not in WITHOUT_CUTOFF:
        raise ValueError(f"{name}, row 1: {metric} needs a cut-off, such as {metric}@5")
    return f"{metric}@{int(cutoff)}" if cutoff else metric


def _share(cell: str, place: str) -> tuple[float, float]:
    """A printed number as a share of 1, and what its last digit is worth."""
    match = re.fullmatch(r"(\d*)(?:\.(\d{1,17}))?\s*(%?)", cell)
    if not match or not (match[1] or match[2]):
        raise ValueError(f"{place}: {cell!r} is no number such as 0.289 or 28.9%")
    scale = 0.01 if match[3] else 1
    share = float(f"{match[1] or 0}.{match[2] or 0}") * scale
    if share > 1:
        raise ValueError(f"{place}: {cell} is more than 1; a percentage needs its sign, {cell}%")
    return share, scale * 10.0 ** -len(match[2] or "")


def audit_text(text: str, num_relevant: tuple[int, int] = (1, 1), num_candidates: int = 0) -> pd.DataFrame:
    """``audit_table`` of a table in CSV, see ``read_table``; distances with one digit."""
    return audit_table(*read_table(text), num_relevant, num_candidates).round({"distance": 1})


def main() -> None:
    """Print the audit of a file."""
    parser = argparse.ArgumentParser(prog="python -m mmrec_helpers.evaluation.audit", description=main.__doc__)
    parser.add_argument("file", type=Path, help="CSV: systems in the first column, a metric in each other one")
    parser.add_argument("--relevant", type=int, nargs=2, default=(1, 1), metavar=("LEAST", "MOST"))
    parser.add_argument("--candidates", type=int, default=0, help="if all candidates are ranked: how many")
    arguments = parser.parse_args()
    try:
        rows, unit = read_table(arguments.file.read_text("utf-8"), str(arguments.file))
        audit = audit_table(rows, unit, tuple(arguments.relevant), arguments.candidates)
    except (OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    for system, row in audit.iterrows():
        print(f"{system}: {row.verdict}, {row.distance:.1f} units from possible. {row.explanation}".rstrip())


if __name__ == "__main__":
    main()

"""The claims ledger: what recorded runs, printed tables and asserts make of the rows of book/claims.yml."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from claims import (
    FAILS,
    HOLDS,
    IN_PART,
    NOT_RECORDED,
    NOT_TESTED,
    OPEN,
    Evidence,
    side,
    verdict,
)

from mmrec_helpers.evaluation.audit import audit_table
from mmrec_helpers.evaluation.published import CANDIDATES, PUBLISHED, RELEVANT, ROUNDING
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.evaluation.tables import holm, p_value, pooled
from mmrec_helpers.lessons.exploration import bootstrap_interval

Spec = Mapping[str, Any]
RunsOf = Callable[..., list[Run]]
INCONSISTENT, NOT_TESTABLE = "inconsistent", "not testable here"
VERDICTS = (HOLDS, IN_PART, FAILS, OPEN, INCONSISTENT, NOT_TESTED, NOT_TESTABLE)
NAMES = {
    "hm-week": "H&M week",
    "movielens": "MovieLens",
    "gift-cards": "Gift Cards",
    "microlens": "MicroLens",
    "flickr8k": "Flickr8k",
}
FIELDS = {
    "table": "system over metric users",
    "slower": "study data faster",
    "scalar": "study data protocol system at what",
    "less": "study data protocol metric what",
    "": "study data split protocol part system over than metric ratio warmth",
}
"""Field by which a comparison is known -> the others that it may have."""
USUAL = ("", "leave-one-out", "next day", "full", "full, basket")
"""Splits and protocols that go without saying."""


@dataclass(frozen=True)
class Judged:
    """A row of the ledger when its numbers are in.

    Attributes:
        verdict: one of VERDICTS.
        sides: of what is recorded, see ``side``.
        missing: number of comparisons that are not recorded yet.
        short: the first recorded number.
        lines, beside: all comparisons, and those that are shown only.
    """

    verdict: str
    sides: list[int]
    missing: int
    short: str
    lines: list[str]
    beside: list[str]


# Evidence -------------------------------------------------------------------------------------------------------------


def runs_in(folder: Path) -> RunsOf:
    """A function that selects the recorded runs of a study by fields of their stamps; none if there are none."""

    def select(study: str, **where: Any) -> list[Run]:  # noqa: ANN401
        path = folder / f"{study}.parquet"
        runs = _load(path, path.stat().st_mtime_ns) if path.exists() else []
        return [run for run in runs if all(run.stamp[name] == own for name, own in where.items())]

    return select


@cache
def _load(path: Path, changed: int) -> list[Run]:
    return load_runs(path)


def measure(own: Spec, runs_of: RunsOf) -> Evidence:
    """One comparison as book/claims.yml writes it, see there; its interval is still missing if it has values.

    Raises:
        ValueError: a field is none of its kind, and would be ignored.
    """
    kind = next(name for name in FIELDS if name in own or not name)
    if wrong := sorted({*own} - {kind, *FIELDS[kind].split()}):
        raise ValueError(f"book/claims.yml: {dict(own)} has {wrong[0]!r}, not one of {kind} {FIELDS[kind]}")
    if "table" in own:
        return _printed_gap(own)
    data = own.get("data", "pocket")
    split, protocol = ("next day", "full, basket") if data == "hm-week" else ("leave-one-out", "full")
    where = {"data": data, "split": own.get("split", split), "protocol": own.get("protocol", protocol)}
    if "slower" in own:
        return _time_ratio(own, runs_of(own["study"], data=where["data"], protocol="timing"))
    if "scalar" in own:
        return _scalar(own, runs_of(own["study"], data=where["data"], protocol=own["protocol"], system=own["system"]))
    if "less" in own:
        found = runs_of(own["study"], data=where["data"], protocol=own["protocol"])
        if not found:
            return Evidence(what=own["what"])
        one, other = (pooled(found, own[name]) for name in ("metric", "less"))
        return Evidence(what=own["what"], values=(one - other).to_numpy(), reference=other.mean())
    return _difference(own, runs_of, where | {"part": own.get("part", "test")})


def _difference(own: Spec, runs_of: RunsOf, where: dict[str, str]) -> Evidence:
    """A metric of a system, or its paired difference or ratio to another one, over the users of both."""
    metric, over = own.get("metric", "NDCG@10"), own.get("over")
    study, other = next(iter(over.items())) if isinstance(over, Mapping) else (own["study"], over)
    runs = runs_of(own["study"], system=own["system"], **where)
    others = runs_of(study, system=other or own["system"], **where | {"protocol": own.get("than", where["protocol"])})
    shops = {run.stamp["fingerprint"] for run in runs} & {run.stamp["fingerprint"] for run in others}
    unusual = [own[name] for name in ("split", "protocol") if own.get(name, "") not in USUAL]
    if "warmth" in own:
        unusual.append("coldest fifth" if own["warmth"] == 0 else "warmest fifth")
    place = ", ".join([_place(where["data"], len(shops)), *unusual])
    named = own["system"] + (f" against {other}" if other else f" against {own['than']}" if "than" in own else "")
    what = f"{metric}, {named}"
    if not shops:
        return Evidence(what=what, place=place)
    runs, others = ([run for run in one if run.stamp["fingerprint"] in shops] for one in (runs, others))
    values, reference = pooled(runs, metric), pooled(others, metric)
    if "than" not in own:  # another protocol is another candidate set of the same users
        assert {run.stamp.get("targets") for run in runs} == {run.stamp.get("targets") for run in others}, what
    if "warmth" in own:
        values = values[pooled(runs, "warmth") == own["warmth"]]
    both = values.index.intersection(reference.index)
    values, reference = values[both], reference[both]
    if over is None and "than" not in own:
        return Evidence(what=what, place=place, values=values.to_numpy())
    gap = (values - reference).to_numpy()
    is_ratio, mean = own.get("ratio", False), float(reference.mean())
    return Evidence(what=what, place=place, values=gap, reference=mean, ratio=is_ratio)


def _place(data: str, shops: int) -> str:
    """The name of a data set, with the number of shops."""
    return NAMES.get(data) or (f"{shops or ''} shops".strip() if shops != 1 else "1 shop")


def _time_ratio(own: Spec, runs: list[Run]) -> Evidence:
    """How many times the seconds of one item expression are those of another: the median of rounds, and their ends."""
    (slow, longer), (fast, shorter) = (next(iter(own[name].items())) for name in ("slower", "faster"))
    items = f"{longer} items" if longer == shorter else f"{longer} against {shorter} items"
    what = f"{slow} / {fast}, {items}" if slow != fast else f"{slow}, {items}"
    place = NAMES.get(own.get("data", ""), "")
    if not runs:
        return Evidence(what=what, place=place)
    slows, fasts = (runs[0].scalars["seconds"][name][str(n)] for name, n in ((slow, longer), (fast, shorter)))
    rounds = [one / other for one, other in zip(slows, fasts, strict=True)]
    return Evidence(what=what, place=place, interval=[median(slows) / median(fasts), min(rounds), max(rounds)])


def _scalar(own: Spec, runs: list[Run]) -> Evidence:
    """A number of whole runs, or a recorded mean and interval: the mean over seeds, and the ends of all."""
    found = []
    for run in runs:
        number: Any = run.scalars
        for name in own["scalar"]:
            number = number[name]
        start = own.get("at", 0)
        found.append(number[start : start + 3] if isinstance(number, list) else [number] * 3)
    what = own["what"]
    if not found:
        return Evidence(what=what)
    means, lows, highs = np.array(found, float).T
    return Evidence(what=what, interval=[float(means.mean()), float(lows.min()), float(highs.max())])


def _printed_gap(own: Spec) -> Evidence:
    """The difference of two printed hit rates, with the interval of that many users, as if they were different ones."""
    one, other = (PUBLISHED[own["table"]][own[name]][own["metric"]] for name in ("system", "over"))
    half = 1.96 * math.sqrt((one * (1 - one) + other * (1 - other)) / own["users"])
    what = f"{own['table']}: {own['metric']}, {own['users']:,} users"
    return Evidence(what=what, interval=[one - other, one - other - half, one - other + half], reference=other)


def with_intervals(found: Sequence[Evidence]) -> list[Evidence]:
    """The evidence with 95 % bootstrap intervals, those of equally many users by the same draws."""
    by_size: dict[int, list[int]] = {}
    for number, own in enumerate(found):
        if len(own.values):
            by_size.setdefault(len(own.values), []).append(number)
    whole = list(found)
    for numbers in by_size.values():
        values = np.stack([found[number].values for number in numbers], axis=1)
        for number, mean, low, high in zip(numbers, values.mean(0), *bootstrap_interval(values), strict=True):
            own = found[number]
            scale, start = (1 / own.reference, 1) if own.ratio else (1, 0)
            whole[number] = replace(own, interval=[start + scale * end for end in (mean, low, high)])
    return whole


# Rows -----------------------------------------------------------------------------------------------------------------


def printed_cells(theirs: Spec) -> tuple[int, int]:
    """In how many cells of printed tables a system is higher than some others, and the number of cells."""
    higher = []
    for table in theirs["tables"]:
        rows = PUBLISHED[table.removesuffix(", variants")] | PUBLISHED[table]
        for other in theirs["over"]:
            higher += [rows[theirs["system"]][name] > rows[other][name] for name in theirs.get("metrics", rows[other])]
    return sum(higher), len(higher)


def printed_text(theirs: str | Spec) -> str:
    """What the paper has: a text, numbers of a transcribed table, or how often one system is above others in some."""
    if isinstance(theirs, str):
        return theirs
    if "tables" in theirs:
        return "higher in {} of {} cells of its table".format(*printed_cells(theirs))
    row, other = (PUBLISHED[theirs["table"]].get(theirs.get(name, "")) for name in ("system", "over"))
    assert row is not None, theirs
    pairs = [f"{name} {row[name]:.3f}" + (f" against {other[name]:.3f}" if other else "") for name in theirs["metrics"]]
    return ", ".join(pairs)


def _audited(row: Spec) -> list[tuple[bool, str]]:
    """Whether rows of printed tables are impossible, and why."""
    found = []
    for name, systems in row.get("audit", {}).items():
        table = {system: PUBLISHED[name][system] for system in systems}
        for system, own in audit_table(table, ROUNDING[name], RELEVANT[name], CANDIDATES[name]).iterrows():
            why = own.explanation or "possible"
            found.append((own.verdict == "contradiction", f"{system}: {why} ({own.distance:.1f} units)"))
    return found


def _recomputed(own: Spec) -> tuple[bool, str]:
    """Whether a printed number does not follow from others that the paper prints."""
    one, other = own["quotient"]
    digits = max(0, round(-math.log10(own["unit"])))
    printed = f"{own['value']:,.{digits}f}"
    is_wrong = abs(one / other - own["value"]) > own["unit"] / 2 + 1e-9
    if other == 1:
        return is_wrong, f"{one:,.{digits}f}, elsewhere {printed}"
    return is_wrong, f"{one:,} / {other:,} = {one / other:,.{digits}f}, printed {printed}"


def judge(rows: Sequence[Spec], runs_of: RunsOf) -> list[Judged]:
    """Each row of the ledger with its numbers and its verdict."""
    specs = [(number, name, own) for number, row in enumerate(rows) for name in ("ours", "context")
             for own in row.get(name, ())]  # fmt: skip
    found: dict[tuple[int, str], list[Evidence]] = {}
    for (number, name, _), one in zip(specs, with_intervals([measure(own, runs_of) for *_, own in specs]), strict=True):
        found.setdefault((number, name), []).append(one)
    return [
        _judge(row, found.get((number, "ours"), []), found.get((number, "context"), []))
        for number, row in enumerate(rows)
    ]


def _judge(row: Spec, own: list[Evidence], beside: list[Evidence]) -> Judged:
    """The verdict of one row."""
    rule, asserts = row.get("rule", ""), row.get("asserts", {})
    recorded = [one for one in own if len(one.interval)]
    p = np.zeros(len(recorded))
    if rule in ("better", "worse"):
        p = holm([p_value(one.values) if len(one.values) else 0.0 for one in recorded])
    sides = [side(one, rule, each) for one, each in zip(recorded, p, strict=True)]
    sides += [1 if name == HOLDS else -1 for name in asserts if name in (HOLDS, FAILS)]
    wrong, lines = [INCONSISTENT in asserts], list(map(str, own))
    for is_wrong, line in [*_audited(row), *map(_recomputed, row.get("recomputed", ()))]:
        wrong.append(is_wrong)
        lines.append(line)
    if rule == "every cell":
        higher, cells = printed_cells(row["theirs"])
        wrong.append(higher < cells)
    made = INCONSISTENT if any(wrong) else row.get("verdict") or verdict(sides)
    unknown = NOT_RECORDED if own and not recorded else ""
    short = row.get("because") or unknown or next(iter([*map(_short, recorded), *lines]), "")
    if len(lines) > 1 and not row.get("because") and not unknown:
        short += f"; {len(lines) - 1} more"
    return Judged(made, sides, len(own) - len(recorded), short, lines, list(map(str, beside)))


def _short(own: Evidence) -> str:
    """A comparison without the systems that the claim names."""
    return f"{own.number}, {own.what.partition(',')[0]}, {own.place}" if len(own.values) and own.place else str(own)

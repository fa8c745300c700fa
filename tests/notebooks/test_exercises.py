"""Every exercise of every notebook: complete, in order; its stub fails with the hint, its solution passes its check."""

import ast
import re
import textwrap
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = {path.stem: path for path in sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))}
ROLES = ("prompt", "check", "stub", "solution")


def read(name):
    """Import lines of a notebook, and check name -> role -> cell of its exercises, in the order of the notebook."""
    imports, exercises = [], {}
    for cell in nbformat.read(NOTEBOOKS[name], as_version=4).cells:
        mark = cell.metadata.get("book", {})
        if cell.cell_type == "code":
            code = re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE)
            imports += [
                ast.unparse(line) for line in ast.parse(code).body if isinstance(line, ast.Import | ast.ImportFrom)
            ]
        if mark.get("role") in ROLES:
            check = mark.get("check") or mark["exercise"]["check"]
            exercises.setdefault(check, {})[mark["role"]] = cell
    return "\n".join(dict.fromkeys(imports)), exercises


READ = {name: read(name) for name in NOTEBOOKS}
ALL = [
    pytest.param(READ[name][0], check, cells, id=f"{name}-{check}")
    for name in READ
    for check, cells in READ[name][1].items()
]


def facts(cells):
    return cells["solution"].metadata.book["exercise"]


def fresh(imports, cells):
    """A namespace with nothing but the notebook's imports and the exercise's check."""
    namespace = {"__name__": "exercise"}
    exec(imports, namespace)
    exec(cells["check"].source, namespace)
    return namespace


def last_call(source):
    """Function and arguments of the call that a cell ends with."""
    call = ast.parse(source).body[-1].value
    return [call.func.id, *(argument.id for argument in call.args)]


@pytest.mark.parametrize("chapter", sorted({int(name[:2]) for name in READ}))
def test_chapter_has_four_exercises_in_order(chapter):
    """All its notebooks taken together."""
    exercises = [cells for name in READ if int(name[:2]) == chapter for cells in READ[name][1].values()]
    numbers = [facts(cells)["number"] for cells in exercises]
    assert len(numbers) >= 4
    assert numbers == [f"{chapter}.{place}" for place in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_exercise_is_complete(imports, check, cells):
    assert tuple(cells) == ROLES  # in this order
    exercise = facts(cells)
    assert exercise["check"] == check
    assert exercise["title"].strip()
    assert exercise["hint"].strip()
    assert exercise["difficulty"] in range(1, 6)
    assert exercise["minutes"] >= 1
    assert last_call(cells["solution"].source)[0] == check


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_stub_fails_with_its_hint(imports, check, cells, capsys):
    namespace, hint = fresh(imports, cells), facts(cells)["hint"]
    exec(cells["stub"].source, namespace)
    assert capsys.readouterr().out == f"Not yet: {hint}\n"
    function = last_call(cells["stub"].source)[2]
    with pytest.raises(NotImplementedError, match=re.escape(hint)):
        namespace[check](namespace[function])


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_solution_passes(imports, check, cells):
    exec(cells["solution"].source, fresh(imports, cells))


WRONG = {
    "check_density": ("lambda user, item, U, I: len(user) / (U * I)", "counts once"),
    "check_audit": ("lambda users, count, printed: (count / users, printed * users / count)", "subtract 1"),
    "check_gini": ("lambda n: ((2 * np.arange(1, len(n) + 1) - len(n) - 1) * n).sum() / len(n) / n.sum()", "sort"),
    "check_clean": (  # duplicates before milliseconds
        """
        def clean(log):
            kept = log.dropna(subset=["user", "item"])
            account = {"id": len(log) - len(kept), "rating": int((~(kept["rating"] >= 0)).sum())}
            kept = kept[kept["rating"] >= 0]
            unique = kept.drop_duplicates(["user", "item", "time"])
            account |= {"duplicate": len(kept) - len(unique), "milliseconds": int((unique["time"] > 1e11).sum())}
            return unique.assign(time=unique["time"].where(unique["time"] < 1e11, unique["time"] // 1000)), account
        """,
        "after they are in seconds",
    ),
    "check_one_round": (
        "lambda user, item, k: (np.bincount(user)[user] > k) & (np.bincount(item)[item] > k)",
        "at least k, not more than k",
    ),
    "check_top_fifth": (
        "lambda item: np.sort(n := np.bincount(item))[-(len(n) // 5) :].sum() / len(item)",
        "never occur do not count",
    ),
    "check_leak_free": ("lambda times, query: np.searchsorted(np.sort(times), query, side='right')", "side='left'"),
    "check_first_after_cut": (  # the last one, as in leave-one-out
        "lambda user, time, cut: np.where(time < cut, 0, np.where(np.diff(user, append=-1) != 0, 2, 4))",
        "not on the last",
    ),
    "check_items_in_window": (
        "lambda window, own, cost, gap: max(0, (window - own) // (cost + gap))",
        "after the last",
    ),
    "check_encode": (  # the longest token that fits, from the left
        """
        def encode(text, merges):
            known, tokens = {"".join(pair) for pair in merges}, []
            for word in text.split():
                while word:
                    size = next(n for n in range(len(word), 0, -1) if n == 1 or word[:n] in known)
                    tokens, word = [*tokens, word[:size]], word[size:]
            return tokens
        """,
        "learned first",
    ),
}
"""Check of chapter 1 -> a wrong answer that readers give, and what the check says of it."""


@pytest.mark.parametrize(
    ("imports", "check", "cells"), [case for case in ALL if case.id.startswith("01") or case.values[1] in WRONG]
)
def test_check_names_the_mistake_of_a_wrong_answer(imports, check, cells):
    source, reason = WRONG[check]
    namespace = fresh(imports, cells)
    answer = f"answer = {source}" if source.startswith("lambda") else textwrap.dedent(source)
    exec(answer, namespace)
    function = last_call(cells["stub"].source)[2]
    with pytest.raises(AssertionError, match=reason):
        namespace[check](namespace.get(function) or namespace["answer"])


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_check_refuses_an_empty_answer(imports, check, cells):
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        fresh(imports, cells)[check](lambda *arguments, **options: None)

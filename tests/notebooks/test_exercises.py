"""Every exercise of every notebook: complete, in order; its stub fails with the hint, its solution passes its check."""

import ast
import re
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


@pytest.mark.parametrize(("imports", "check", "cells"), ALL)
def test_check_refuses_an_empty_answer(imports, check, cells):
    with pytest.raises((AssertionError, TypeError, AttributeError)):
        fresh(imports, cells)[check](lambda *arguments, **options: None)

"""Write the classroom edition: an nbgrader course of exercises and projects. Called by tools/tasks.py."""

import ast
import os
import re
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebooks

if TYPE_CHECKING:
    from nbgrader.apps import NbGraderAPI

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "notebooks" / "test_exercises.py"
PAGE = ROOT / "book" / "teaching.md"
END = "### END SOLUTION"
ALL_HIDDEN = {"check_fold_comparison", "check_items_that_fit", "check_non_inferior", "check_released"}
"""Checks that compute the answer before their first assert: no test of theirs is shown."""
CONFIG = '''\
"""Settings of nbgrader for this course."""

import os

c = get_config()
c.CourseDirectory.course_id = "mmrec"
c.Execute.timeout = 600  # seconds a cell: a busy machine needs a minute to import torch
# A test that writes to stderr fails: neither a warning nor a progress bar should cost points.
os.environ |= {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
'''


class Exercise(NamedTuple):
    """An exercise of a notebook: its facts, and the sources of its cells."""

    number: str
    title: str
    difficulty: int
    """Stars, which are its points, too."""
    minutes: int
    check_name: str
    prompt: str
    check: str
    solution: str

    @property
    def call(self) -> str:
        """The line that tries the check on the answer."""
        call = ast.get_source_segment(self.solution, ast.parse(self.solution).body[-1])
        assert call is not None
        return call

    @property
    def function(self) -> str:
        """The name of the answer."""
        return self.call.partition("(")[2].rstrip(")")


class Criterion(NamedTuple):
    """A row of the rubric: what earns all of its points, and what half of them."""

    name: str
    points: int
    all: str
    half: str


# What the notebooks have -----------------------------------------------------------------------------------------


def exercises(path: Path) -> list[Exercise]:
    """The exercises of a notebook, in its order."""
    cells: dict[tuple[str, str], str] = {}
    facts = []
    for cell in notebooks.read(path).cells:
        mark = cell.metadata.get("book", {})
        facts += [mark.exercise] if "exercise" in mark else []
        check = mark["exercise"]["check"] if "exercise" in mark else mark.get("check")
        cells[check, notebooks.role(cell)] = cell.source
    return [
        Exercise(
            *(fact[key] for key in ("number", "title", "difficulty", "minutes", "check")),
            *(cells[fact["check"], part] for part in ("prompt", "check", "solution")),
        )
        for fact in facts
    ]


def title_of(path: Path) -> str:
    """The notebook's heading, without what follows a colon."""
    return notebooks.read(path).cells[0].source.splitlines()[0].removeprefix("# ").partition(":")[0]


def project(path: Path) -> str:
    """The text of the open task at the end of a notebook, or nothing."""
    found = re.compile(r"(?ms)^#+ Project: .*?(?=\n+#|\Z)|^\*\*Project(?: of the chapter\.|: ).*?$")
    texts = [cell.source for cell in notebooks.read(path).cells if cell.cell_type == "markdown"]
    return "".join(match[0] for text in texts for match in found.finditer(text))


def rubric(name: str) -> list[Criterion]:
    """The criteria for the project of a notebook, such as ``01c``: from the table on the teachers' page."""
    rows = re.findall(r"^\| (?:(\d\d[a-z]): )?(.+?) \| (\d+) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    return [Criterion(title, int(points), *texts) for own, title, points, *texts in rows if own in ("", name)]


@cache
def wrong_answers() -> dict[str, tuple[str, str]]:
    """Check -> a wrong answer that students give, and a pattern of what the check says of it; from the tests."""
    (found,) = (
        node.value
        for node in ast.parse(TESTS.read_text()).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MISTAKES"
    )
    answers: dict[str, tuple[str, str]] = ast.literal_eval(found)
    return answers


@cache
def named_mistakes() -> dict[str, list[str]]:
    """Check -> names of its wrong answers, for checks that the tests try with several."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(ast.parse(TESTS.read_text())):
        for key, value in zip(node.keys, node.values, strict=True) if isinstance(node, ast.Dict) else ():
            keys = value.keys if isinstance(value, ast.Dict) else []
            if isinstance(value, ast.DictComp):
                keys = getattr(value.generators[0].iter, "elts", [])
            if isinstance(key, ast.Constant) and keys:
                found[str(key.value)] = [str(one.value) for one in keys if isinstance(one, ast.Constant)]
    return found


def mistake(exercise: Exercise) -> str:
    """What the check says of a wrong answer of the tests, values left out; or the names of several wrong answers."""
    if exercise.check_name not in wrong_answers():
        return "; ".join(named_mistakes().get(exercise.check_name, []))
    docs = re.compile(r'^    """.*?"""\n', re.MULTILINE | re.DOTALL)
    texts = [message(node) for node in ast.walk(ast.parse(docs.sub("    0\n", exercise.check)))]
    return next((text for text in texts if re.search(wrong_answers()[exercise.check_name][1], text)), "")


def message(node: ast.AST) -> str:
    """The text of an expression of strings, an ellipsis for each value in it."""
    if isinstance(node, ast.JoinedStr):
        return "".join(message(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return message(node.left) + message(node.right)
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "…" if isinstance(node, ast.FormattedValue | ast.Name) else ""


# Cells of an assignment -----------------------------------------------------------------------------------------


def hide_tests(check: str, name: str, answer: str) -> str:
    """Mark all tests of a check as hidden but the first, which tests a property, and what that one needs."""
    shown: set[int] = set()
    tree = ast.parse(check)
    show_first_assert(tree.body, name, answer, set(), shown)
    if name in ALL_HIDDEN:  # the head of the function and its docstring are left
        (function,) = (one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == name)
        shown = set(range(function.lineno, end_of(function.body[0]) + 1))
    lines, hidden = [], False
    for number, line in enumerate(check.splitlines(), 1):
        if line and hidden == (number in shown):
            hidden = not hidden
            lines.append(f"### {'BEGIN' if hidden else 'END'} HIDDEN TESTS")
        lines.append(line)
    return "\n".join([*lines, "### END HIDDEN TESTS"] if hidden else lines)


def show_first_assert(body: list[ast.stmt], name: str, answer: str, needed: set[str], shown: set[int]) -> None:
    """Add to ``shown`` the lines of the first assert in function ``name``, what it needs, and the answer's calls."""
    path = next(place for place, statement in enumerate(body) if leads_to_assert(statement, name))
    first, inner = body[path], getattr(body[path], "body", [])
    if inner:
        show_first_assert(inner, name, answer, needed, shown)
        for field, value in ast.iter_fields(first):  # the head of a loop or of a context
            if field not in ("body", "orelse", "handlers", "finalbody"):
                needed |= names(part for part in (value if isinstance(value, list) else [value]))
    else:
        needed |= names([first])
    shown.update(range(first.lineno, inner[0].lineno if inner else end_of(first) + 1))
    for earlier in reversed(body[:path]):
        loaded, stored = names([earlier]), names([earlier], stored=True)
        doc = isinstance(earlier, ast.Expr) and isinstance(earlier.value, ast.Constant)
        if doc or answer in loaded or needed & (loaded if isinstance(earlier, ast.Expr) else stored):
            needed |= loaded
            shown.update(range(earlier.lineno, end_of(earlier) + 1))


def leads_to_assert(statement: ast.stmt, name: str) -> bool:
    """An assert, or a block of the same function that contains one; of functions only ``name``."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef) and statement.name != name:
        return False
    inner = getattr(statement, "body", [])
    return isinstance(statement, ast.Assert) or any(leads_to_assert(one, name) for one in inner)


def end_of(statement: ast.stmt) -> int:
    """Its last line."""
    return statement.end_lineno or statement.lineno


def names(parts: Iterable[Any], stored: bool = False) -> set[str]:
    """Names that code uses; or that it defines or changes."""
    found = set()
    for node in (node for part in parts if isinstance(part, ast.AST) for node in ast.walk(part)):
        if isinstance(node, ast.Name) and not stored:
            found.add(node.id)
        elif isinstance(node, ast.Name | ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and stored:
            found |= names([node.value.func])  # as in x.append(1)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add((node.asname or node.name).partition(".")[0])
    return found


def imports(path: Path, own: list[Exercise]) -> str:
    """The imports of a notebook that its exercises use."""
    used = names(ast.parse(text) for one in own for text in (one.check, one.solution))
    lines = []
    for cell in notebooks.read(path).cells:
        code = re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE) if cell.cell_type == "code" else ""
        for line in ast.parse(code).body:
            if isinstance(line, ast.Import | ast.ImportFrom):
                line.names = [alias for alias in line.names if names([alias], stored=True) & used]
                lines += [ast.unparse(line)] if line.names else []
    return "\n".join(dict.fromkeys(lines))


def solution_cell(exercise: Exercise) -> str:
    """The solution with its reasons, all of it between the marks: what follows the answer is not for students."""
    answer, _, reasons = exercise.solution.partition(END)
    return f"{answer.rstrip()}\n{reasons.removesuffix(exercise.call).strip()}\n{END}"


def plain(text: str) -> str:
    """A text of the book for a notebook that stands alone: without its references and links to other pages."""
    text = re.sub(r" ?{cite}`[^`]*`|\s*\(The folded solution[^)]*\)", "", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


def graded(cell: NotebookNode, name: str, points: int = 0, solution: bool = False, task: bool = False) -> NotebookNode:
    """A cell with nbgrader's marks: an answer, a test or task with points, or one that students should not change."""
    marks = {"grade_id": name, "schema_version": 3, "solution": solution, "task": task}
    marks |= {"grade": bool(points) and not task, "locked": not solution}
    cell.metadata.nbgrader = marks | ({"points": points} if points else {})
    return cell


def assignment(path: Path) -> NotebookNode | None:
    """The exercises of a notebook as an instructor's notebook; None where there are none."""
    if not (own := exercises(path)):
        return None
    minutes, points = sum(one.minutes for one in own), sum(one.difficulty for one in own)
    head = f"""\
# {title_of(path)}: exercises

{len(own)} exercises, {minutes} minutes, {points} points. Read notebook {path.stem[:3]} first.

Each answer goes into the cell with `raise NotImplementedError()`. The cell below it tests a first property of your
answer, if there is one that does not show the solution; more tests run when it is graded. Where a task goes on with
data or models of the chapter, do that part in the notebook: it is not graded."""
    cells = [graded(new_markdown_cell(head), "introduction"), graded(new_code_cell(notebooks.setup_source()), "setup")]
    cells.append(graded(new_code_cell(imports(path, own)), "imports"))
    for one in own:
        prompt = plain(one.prompt).replace(" minutes.*", f" minutes, points: {one.difficulty}.*", 1)
        test = f"{hide_tests(one.check, one.check_name, one.function)}\n\n\n{one.call}"
        cells += [
            graded(new_markdown_cell(prompt), f"task_{one.check_name}"),
            graded(new_code_cell(solution_cell(one)), one.function, solution=True),
            graded(new_code_cell(test), one.check_name, points=one.difficulty),
        ]
    return finished(cells)


def project_assignment(path: Path) -> NotebookNode | None:
    """The open task of a notebook, a cell for each criterion, graded by hand; None where there is no such task."""
    if not (text := project(path)):
        return None
    criteria = rubric(path.stem[:3])
    head = f"# {title_of(path)}: project\n\n{plain(text)}\n\n"
    head += f"{sum(one.points for one in criteria)} points. Add your cells, or a link to your report, at the end."
    cells = [graded(new_markdown_cell(head), "introduction")]
    for number, one in enumerate(criteria, 1):
        scheme = f"{one.points} points: {one.all}\n\n{one.points / 2:g} points: {one.half}\n\n0 points: less than that."
        text = f"## {one.name} ({one.points} points)\n\n{one.all}"
        text += f"\n\n=== BEGIN MARK SCHEME ===\n\n{scheme}\n\n=== END MARK SCHEME ==="
        cells.append(graded(new_markdown_cell(text), f"criterion-{number}", points=one.points, task=True))
    return finished(cells)


def finished(cells: list[NotebookNode]) -> NotebookNode:
    """A notebook of these cells, which is the same at each call."""
    nb = new_notebook(cells=cells)
    notebooks.tidy(nb)
    return nb


# The course ---------------------------------------------------------------------------------------------------------


def open_course(course: Path) -> "NbGraderAPI":
    """nbgrader, with the settings of a course."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    # nbgrader calls the command of another package
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    config = PyFileConfigLoader("nbgrader_config.py", str(course)).load_config()
    config.CourseDirectory.root = str(course)
    return NbGraderAPI(config=config)


def call(method: Callable[..., dict[str, Any]], *arguments: str) -> None:
    """Call a method of nbgrader's API.

    Raises:
        RuntimeError: it failed; with what it logged.
    """
    result = method(*arguments)
    if not result["success"]:
        raise RuntimeError(f"nbgrader: {method.__name__} {arguments}\n{result.get('log')}\n{result.get('error')}")


def build(course: Path, only: str = "") -> None:
    """Write instructors' and students' notebooks of the notebooks that begin with ``only``; grades are kept."""
    course.mkdir(parents=True, exist_ok=True)
    if not (course / "nbgrader_config.py").exists():  # it may have been edited
        (course / "nbgrader_config.py").write_text(CONFIG)
    api = open_course(course)
    for path in notebooks.paths(only):
        sources = {path.stem: assignment(path), f"project_{path.stem[:3]}": project_assignment(path)}
        for name, nb in sources.items():
            if nb is None:
                continue
            (course / "source" / name).mkdir(parents=True, exist_ok=True)
            nbformat.write(nb, course / "source" / name / f"{name}.ipynb")
            call(api.generate_assignment, name)
            marks = [cell.metadata.nbgrader for cell in nb.cells]
            print(f"{name}: {sum(mark.get('points', 0) for mark in marks)} points")


if __name__ == "__main__":
    build(Path(sys.argv[1]), *sys.argv[2:])

"""The classroom edition: plans and rubric hold, nothing shows a solution, and a course is graded from end to end."""

import copy
import re
import textwrap

import book_extension
import classroom
import nbformat
import pytest

import notebooks

PATHS = notebooks.paths()
EXERCISES = {path.stem: classroom.exercises(path) for path in PATHS}


def released(nb):
    """The students' notebook of an instructor's one, as nbgrader makes it."""
    nb = copy.deepcopy(nb)
    for cell in nb.cells:
        stub = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
        source = re.sub(r"(?ms)^( *)### BEGIN SOLUTION$.*?^ *### END SOLUTION$", stub, cell.source)
        cell.source = re.sub(r"(?ms)^ *### BEGIN HIDDEN TESTS$.*?^ *### END HIDDEN TESTS$", "", source)
    return nb


def sources(nb):
    """Name of a cell -> its source."""
    return {cell.metadata.nbgrader.grade_id: cell.source for cell in nb.cells}


def accepts(imports, answer, test):
    """Whether a test of an answer raises nothing."""
    namespace = {"__name__": "answer"}
    exec(imports, namespace)
    exec(answer, namespace)
    try:
        exec(test, namespace)
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def teaching(root):
    """The teachers' page."""
    return (root / "book" / "teaching.md").read_text()


def plans(teaching):
    """The rows of each course plan: label, notebooks, homework."""
    texts = re.findall(r"^```{course-plan} (\w+)\n(.*?)^```", teaching, re.DOTALL | re.MULTILINE)
    return {unit: [[part.strip() for part in row.split("|")] for row in rows.splitlines()] for unit, rows in texts}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_an_assignment_grades_right_and_empty_answers_and_shows_no_solution(path, capsys):
    nb = classroom.assignment(path)
    own, students = sources(nb), sources(released(nb))
    for one in EXERCISES[path.stem]:
        _, _, hidden = own[one.function].partition("### BEGIN SOLUTION\n")
        lines = {line.strip() for line in hidden.splitlines() if len(line.strip()) >= 25 and "import " not in line}
        assert [line for line in lines for text in students.values() if line in text] == []
        assert accepts(own["imports"], own[one.function], students[one.check_name])
        shows_a_test = not accepts(own["imports"], students[one.function], students[one.check_name])
        assert shows_a_test == (one.check_name not in classroom.ALL_HIDDEN)


def test_a_step_into_a_loop_shows_what_its_first_assert_needs():
    check = textwrap.dedent('''\
        def check_double(double):
            """Twice."""
            unused, numbers = 3, []
            numbers.append(2)
            secret = 4
            for number in numbers:
                assert double(number) > number, "larger"
                assert double(number) == secret, "twice"
            print("passed")
        ''')
    shown = released(
        nbformat.v4.new_notebook(
            cells=[
                classroom.graded(
                    nbformat.v4.new_code_cell(classroom.hide_tests(check, "check_double", "double")), "a", points=1
                )
            ]
        )
    )
    assert "numbers.append(2)" in shown.cells[0].source
    assert "larger" in shown.cells[0].source
    assert not re.search("secret|twice|passed", shown.cells[0].source)


def test_plans_name_what_exists_and_leave_no_notebook_out(teaching):
    rows = plans(teaching)
    for unit, own in rows.items():
        table = book_extension.plan(unit, [" | ".join(row) for row in own])
        assert len(table) == 2 + len(own)
    assert [row[0] for row in rows["Week"]] == [str(week) for week in range(1, 13)]
    assert len(rows["Session"]) == 3
    held = [name for unit in ("Week", "Topic") for row in rows[unit] for name in row[1].split()]
    assert sorted(held) == [path.stem[:3] for path in PATHS]


def test_the_course_teaches_what_its_notebooks_need_before_them(teaching):
    done = set()
    for _, names, _ in plans(teaching)["Week"]:
        done |= set(names.split())
        for name in names.split():
            (path,) = notebooks.paths(name)
            need = re.search(r"\*\*You need\*\*(.*?)\*\*Study time", notebooks.read(path).cells[0].source, re.DOTALL)
            assert set(re.findall(r"\]\((\d\d[a-z])_\w+\.ipynb\)", need[1])) <= done


def test_a_plan_refuses_homework_of_another_notebook():
    with pytest.raises(ValueError, match="a course plan names what its notebooks do not have"):
        book_extension.plan("Week", ["3 | 01a | 1.5"])


def test_the_table_has_every_exercise_and_most_of_their_mistakes(teaching):
    rows = [row for chapter in range(1, 10) for row in book_extension.exercise_rows(chapter) if row.startswith("| <a")]
    assert len(rows) == sum(map(len, EXERCISES.values()))
    without = [row for row in rows if row.endswith("|  |")]
    assert len(without) <= 4


def test_each_project_has_a_rubric_and_each_criterion_a_project(teaching):
    with_project = [path.stem[:3] for path in PATHS if classroom.project(path)]
    own = re.findall(r"^\| (\d\d[a-z]): ", teaching, re.MULTILINE)
    assert own == with_project
    for name in with_project:
        criteria = classroom.rubric(name)
        assert [one.points for one in criteria] == [4] * 6
    chapters = {int(name[:2]) for name in with_project}
    assert chapters == set(range(1, 10))


def test_a_project_has_a_cell_for_each_criterion():
    nb = classroom.project_assignment(notebooks.paths("01c")[0])
    assert [cell.metadata.nbgrader.points for cell in nb.cells[1:]] == [4] * 6
    assert all(cell.metadata.nbgrader.task for cell in nb.cells[1:])
    assert "{cite}" not in nb.cells[0].source
    assert "](" not in nb.cells[0].source


@pytest.mark.slow("tools/classroom.py", "tools/notebooks.py", "notebooks/01b*.ipynb")
def test_a_course_from_release_to_feedback(tmp_path):
    """A right, a wrong and an empty submission get all points and none, and feedback that names the mistake."""
    pytest.importorskip("nbgrader", reason="`make classroom` installs nbgrader")
    (path,) = notebooks.paths("01b")
    name, own = path.stem, EXERCISES[path.stem]
    classroom.build(tmp_path, "01b")
    release = tmp_path / "release" / name / f"{name}.ipynb"
    right = {one.function: one.solution.partition(classroom.END)[0] for one in own}
    wrong = {}
    for one in own:
        answer = textwrap.dedent(classroom.wrong_answers()[one.check_name][0])
        wrong[one.function] = f"{one.function} = {answer}" if answer.startswith("lambda") else answer
    nb = nbformat.read(release, as_version=4)
    made = sources(released(classroom.assignment(path)))
    assert {cell: text.split() for cell, text in sources(nb).items()} == {cell: made[cell].split() for cell in made}
    api = classroom.open_course(tmp_path)
    for student, answers in {"Ann": right, "Ben": wrong, "Cem": {}}.items():
        nb = nbformat.read(release, as_version=4)
        for cell in nb.cells:
            cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
        target = tmp_path / "submitted" / student / name / release.name
        target.parent.mkdir(parents=True)
        nbformat.write(nb, target)
        classroom.call(api.autograde, name, student)
    classroom.call(api.generate_feedback, name)
    points = sum(one.difficulty for one in own)
    feedback = {}
    for student, expected in {"Ann": points, "Ben": 0, "Cem": 0}.items():
        with api.gradebook as book:
            submission = book.find_submission(name, student)
            assert (submission.score, submission.max_score, submission.needs_manual_grade) == (expected, points, False)
        feedback[student] = (tmp_path / "feedback" / student / name / f"{name}.html").read_text()
    assert "AssertionError" not in feedback["Ann"]
    for one in own:
        assert re.search(classroom.wrong_answers()[one.check_name][1].replace("'", "&#39;|'"), feedback["Ben"])
    assert feedback["Cem"].count("NotImplementedError") >= len(own)

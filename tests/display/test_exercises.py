"""exercises.py: a missing, a wrong and a right answer each print one line and never stop the notebook."""

import pytest

from mmrec_helpers.display.exercises import attempt


def check_three(answer):
    assert answer() == 3, "did you count from zero?"
    print("three: all checks passed")


def missing():
    raise NotImplementedError("return 3")


@pytest.mark.parametrize(
    ("answer", "line"),
    [(missing, "Not yet: return 3"), (lambda: 2, "Almost: did you count from zero?"), (lambda: 3, "three: all")],
)
def test_each_answer_is_met_with_its_line(answer, line, capsys):
    attempt(check_three, answer)
    assert capsys.readouterr().out.startswith(line)


def test_an_error_of_the_readers_own_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        attempt(check_three, lambda: 1 / 0)

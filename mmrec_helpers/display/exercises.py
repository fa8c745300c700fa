"""Try an answer to an exercise without stopping the notebook."""

from collections.abc import Callable


def attempt(check: Callable[[Callable], None], answer: Callable) -> None:
    """Run an exercise's check on a reader's function and print what came of it.

    A missing answer prints its hint, a wrong one the likely mistake, a right one what the check prints.
    """
    try:
        check(answer)
    except NotImplementedError as hint:
        print(f"Not yet: {hint}")
    except AssertionError as mistake:
        print(f"Almost: {mistake}")

"""Check an answer to an exercise without stopping the notebook."""

from collections.abc import Callable
from typing import Any


def attempt(check: Callable[[Callable[..., Any]], None], answer: Callable[..., Any]) -> None:
    """Run an exercise's check on a reader's function and print the result.

    A missing answer, which raises NotImplementedError, prints its hint; a wrong one, for which the check raises
    AssertionError, the likely mistake; a correct one the output of the check.
    """
    try:
        check(answer)
    except NotImplementedError as hint:
        print(f"Not yet: {hint}")
    except AssertionError as mistake:
        print(f"Almost: {mistake}")

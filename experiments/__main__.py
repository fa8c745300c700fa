"""Record the long runs of the book: ``python -m experiments [PATTERN] [--again] [--workers N]``."""

import argparse
import re

from experiments.datasets import Unavailable
from experiments.runner import STUDIES, run_studies


def main() -> None:
    """Run the cells that are missing and match; tell those that failed."""
    parser = argparse.ArgumentParser(prog="python -m experiments", description="Run the cells that are not recorded.")
    parser.add_argument("only", nargs="?", default="*", help="pattern of cells, such as 'ch04/pocket-0/*'")
    parser.add_argument("--again", action="store_true", help="repeat recorded cells that match")
    parser.add_argument("--workers", type=int, help="processes; one a core if it is not given")
    arguments = parser.parse_args()
    first = re.split(r"[*?[/]", arguments.only)[0]  # as far as it is no pattern
    studies = [study for study in STUDIES if study.startswith(first)]
    if not studies:
        raise SystemExit(f"{arguments.only!r} begins with no study; there are {', '.join(STUDIES)}")
    problems = run_studies(studies, arguments.only, arguments.again, arguments.workers)
    for name, problem in problems.items():
        print(f"{name}: {problem}")
    if any(Unavailable.__name__ not in problem for problem in problems.values()):
        raise SystemExit(f"{len(problems)} cells have failed")


if __name__ == "__main__":
    main()

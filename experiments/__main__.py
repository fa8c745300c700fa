"""Record the long runs of the book: ``python -m experiments [PATTERN] [--again] [--workers N]``."""

import argparse
import os
import re

from experiments.datasets import Unavailable
from experiments.record import alone
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
    if chosen := [name for name in ("MMREC_PROFILE", "MMREC_DATA", "MMREC_MODELS") if os.environ.get(name)]:
        raise SystemExit(f"records are of the laptop profile and its models: unset {', '.join(chosen)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # which workers read when they import numpy
    with alone():
        problems = run_studies(studies, arguments.only, arguments.again, arguments.workers)
    for name, problem in problems.items():
        print(f"{name}: {problem}")
    if failed := [problem for problem in problems.values() if not problem.startswith(f"{Unavailable.__name__}:")]:
        raise SystemExit(f"{len(failed)} of the cells have failed")


if __name__ == "__main__":
    main()

"""Record the long runs of the book: ``python -m experiments [NAME ...]``, all of them without a name."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

from experiments import ch01, ch02, ch03, ch04, pocket_models, pocket_shop
from experiments.benchmarks import NoRealData
from experiments.record import ROOT, current_commit, save_record, stamp
from mmrec_helpers.encoders.checkpoints import POCKET

RUNS: dict[str, Callable[[], dict]] = {
    "separations": pocket_shop.separations,
    "leakage": ch01.leakage,
    "real-data": ch01.real_data,
    "overlap": ch02.overlap,
    "overlap-real": ch02.overlap_real,
    "tuning": ch03.tuning,
    "decoder": ch04.decoder,
    "decoder-options": ch04.decoder_options,
    "decoder-protocols": ch04.decoder_protocols,
    "decoder-real": ch04.decoder_real,
    "decoder-reviews": ch04.decoder_reviews,
    "league-pocket": ch03.benchmark_pocket,
    "league-real": ch03.benchmark_real,
    "rule": ch03.rule,
}
RUNS |= {name: partial(pocket_models.pocket_model, name) for name in POCKET}
"""Name of the record -> the run that makes it. Chapter 4's runs use the settings that ``tuning`` chose."""


def main(names: list[str]) -> None:
    """Make and record runs, each in a process of its own, whose peak memory is the run's.

    Args:
        names: of RUNS; all if there are none.
    """
    if unknown := [name for name in names if name not in RUNS]:
        raise SystemExit(f"no run is named {', '.join(unknown)}; there are: {', '.join(RUNS)}")
    if len(names) != 1:
        for name in names or RUNS:
            subprocess.run([sys.executable, "-m", "experiments", name], cwd=ROOT, check=True)
        return
    commit, start = current_commit(), time.time()
    try:
        run = RUNS[names[0]]()
    except NoRealData as reason:
        print(f"{names[0]} is left as it was: {reason}")
    else:
        save_record(names[0], run | stamp(time.time() - start, commit))


if __name__ == "__main__":
    main(sys.argv[1:])

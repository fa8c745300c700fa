"""The rule that makes a verdict on a claim of comparisons: book/claims.md states it, tools/ledger.py applies it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MARGIN = 0.1
"""Share of the reference's mean within which two systems are called equal."""
HOLDS, IN_PART, FAILS, OPEN = "holds", "holds in part", "fails", "not separated"
NOT_TESTED, NOT_RECORDED = "not tested yet", "not recorded yet"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One comparison.

    Attributes:
        what: is compared, in words.
        place: data, and the split and protocol where they are not the usual ones.
        interval: mean and ends of its 95 % interval; none if it is not recorded.
        values: paired differences of users, (N,), from which the interval is made, if it is.
        reference: mean of the system that it is compared with.
        ratio: whether the interval is that of a ratio to the reference.
    """

    what: str
    place: str = ""
    interval: Sequence[float] = ()
    values: np.ndarray = field(default_factory=lambda: np.zeros(0))
    reference: float = math.nan
    ratio: bool = False

    @property
    def number(self) -> str:
        """The interval, or that it is not recorded; with fewer decimals where it is large."""
        if not len(self.interval):
            return NOT_RECORDED
        size = abs(self.interval[0])
        digits = 3 if size < 1 else 2 if size < 10 else 1 if size < 100 else 0
        mean, low, high = (f"{end:z.{digits}f}" for end in self.interval)
        return mean if self.interval[1] == self.interval[2] else f"{mean} ({low}\xa0to\xa0{high})"

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.place, self.what, self.number)))


def region(rule: str, reference: float = math.nan) -> tuple[float, float]:
    """The numbers for which a claim is true: ``better``, ``worse``, ``equal``, ``no better``, ``above X``, ``below X``.

    Raises:
        ValueError: there is no such rule.
    """
    kind, _, number = rule.partition(" ")
    margin = MARGIN * reference
    regions = {"better": (0, math.inf), "worse": (-math.inf, 0)}
    regions |= {"equal": (-margin, margin), "no better": (-math.inf, margin)}
    if rule in regions:
        return regions[rule]
    if kind not in ("above", "below"):
        raise ValueError(f"there is no rule {rule!r}; there are {', '.join(regions)}, above X and below X")
    return (float(number), math.inf) if kind == "above" else (-math.inf, float(number))


def side(own: Evidence, rule: str, p: float = 0) -> int:
    """1 if the whole interval is inside of the rule's region, -1 if it is outside, 0 if it is neither, or p >= .05."""
    _, low, high = own.interval
    least, most = region(rule, own.reference)
    inside, outside = least < low and high < most, high < least or low > most
    return 0 if p >= 0.05 else int(inside) - int(outside)


def verdict(sides: Sequence[int]) -> str:
    """What the sides of all that is recorded make of a claim."""
    if not sides:
        return NOT_TESTED
    if min(sides) == 1:
        return HOLDS
    return IN_PART if max(sides) == 1 else FAILS if min(sides) == -1 else OPEN

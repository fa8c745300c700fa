"""claims.py: sides of intervals, and verdicts by the rule."""

import pytest
from claims import Evidence, region, side, verdict


@pytest.mark.parametrize(
    ("rule", "interval", "expected"),
    [
        ("better", (0.1, 0.05, 0.2), 1),
        ("better", (0.1, -0.05, 0.2), 0),
        ("better", (-0.1, -0.2, -0.05), -1),
        ("worse", (-0.1, -0.2, -0.05), 1),
        ("equal", (0.0, -0.04, 0.04), 1),
        ("equal", (0.04, 0.03, 0.06), 0),
        ("equal", (-0.1, -0.2, -0.06), -1),
        ("no better", (-0.2, -0.3, 0.04), 1),
        ("no better", (0.1, 0.06, 0.2), -1),
        ("above 2.93", (15, 14, 16), 1),
        ("above 2.93", (1.8, 1.7, 1.9), -1),
        ("below 2", (1.9, 1.5, 2.1), 0),
    ],
)
def test_side_of_an_interval(rule, interval, expected):
    own = Evidence(what="", interval=interval, reference=0.5)
    assert side(own, rule) == expected
    assert side(own, rule, p=0.05) == 0


def test_verdicts():
    assert [verdict(sides) for sides in ([1, 1], [1, 0], [1, -1], [0, -1], [0, 0], [])] == [
        "holds",
        "holds in part",
        "holds in part",
        "fails",
        "not separated",
        "not tested yet",
    ]
    with pytest.raises(ValueError, match="no rule 'nicer'"):
        region("nicer")


def test_how_a_comparison_is_written():
    own = Evidence(what="a against b", place="shop", interval=(0.0123, 0.001, 0.02))
    assert str(own) == "shop: a against b: 0.012 (0.001\xa0to\xa00.020)"
    assert [Evidence(what="", interval=[x, x, x]).number for x in (0.5, 2.5, 25.0, 250.0)] == [
        "0.500",
        "2.50",
        "25.0",
        "250",
    ]
    assert str(Evidence(what="a")) == "a: not recorded yet"

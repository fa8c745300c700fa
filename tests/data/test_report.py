"""report.py: the report adds up, or says so."""

import pytest

from mmrec_helpers.data.report import CleaningReport


@pytest.fixture
def report():
    report = CleaningReport("my shop")
    report.add("", 1200, action="read")
    report.add("the time was in milliseconds", 7, action="repaired")
    report.add("the rating is missing", 100)
    report.add("the rating is missing", 50)
    report.add("never met", 0)
    report.add("", 1050, action="kept")
    return report


def test_counts_keep_their_order_and_add_up(report):
    assert report.check() is report
    assert report.table().to_dict("list") == {
        "of": ["interactions"] * 4,
        "action": ["read", "repaired", "dropped", "kept"],
        "reason": ["", "the time was in milliseconds", "the rating is missing", ""],
        "count": [1200, 7, 150, 1050],
    }
    assert report.count("the rating is missing") == report.total("dropped") == 150
    assert report.count("never met") == report.total("dropped", "images") == 0


def test_the_report_reads_as_lines(report):
    assert str(report).splitlines() == [
        "my shop:",
        "       1,200 interactions read",
        "           7 interactions repaired: the time was in milliseconds",
        "         150 interactions dropped: the rating is missing",
        "       1,050 interactions kept",
    ]


def test_a_silent_drop_is_found(report):
    report.add("", 3, of="images", action="read")
    report.add("", 2, of="images", action="kept")
    with pytest.raises(ValueError, match=r"my shop: 3 images read, but 2 kept \+ 0 dropped"):
        report.check()


@pytest.mark.parametrize(("count", "action"), [(-1, "dropped"), (1, "lost")])
def test_a_count_that_makes_no_sense_is_refused(report, count, action):
    with pytest.raises(ValueError, match="counts are 0 or more, actions are read, dropped"):
        report.add("why", count, action=action)

"""Chapter 9's open loop: every request once, at its own time, however slow the answers are."""

import asyncio
import time

import pandas as pd
import pytest

from mmrec_helpers.lessons.load import open_loop


def log_of(ask, **options):
    return pd.DataFrame(asyncio.run(open_loop(ask, [b"a", b"b"], **options)))


def test_requests_do_not_wait_for_answers_and_all_are_counted():
    asked, answered = [], asyncio.Event()

    async def ask(path, body):
        asked.append(body)
        if len(asked) == 100:
            answered.set()
        await answered.wait()  # none is answered before the last one is sent
        return 200, body

    log = log_of(ask, load=1_000, seconds=0.1)
    assert log["content"].tolist() == [b"a", b"b"] * 50 == asked
    assert log["in_flight"].tolist() == list(range(100))
    assert (log["due"] + log["seconds"] >= log["due"].max()).all()
    assert log["due"].diff().mean() == pytest.approx(1e-3, rel=0.3)


def test_a_latency_counts_from_the_time_at_which_the_request_was_due():
    async def ask(path, body):
        time.sleep(0.01)  # the whole generator stands still
        return 200, body

    log = log_of(ask, load=1_000, seconds=0.02)
    assert log["seconds"].max() > 0.15

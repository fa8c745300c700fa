"""The client opens connections as it needs them and replaces closed ones; quantiles and counts of a log."""

import asyncio

import pandas as pd
import pytest

from mmrec_helpers.studies.ch09 import Client, cpu_ms, started, summary


async def talk(num_answers, **options):
    """Numbers of connections and answers of seven requests; a connection is closed after so many answers."""
    opened = 0

    async def serve(reader, writer):
        nonlocal opened
        opened += 1
        for _ in range(num_answers):
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            text = head.split()[0] + b" " + head.split()[1] + b" " + body
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(text) + text)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = Client(server.sockets[0].getsockname()[1], **options)
        answers = [await client.ask("/a", b"body"), await client.ask("/b"), await client.ask("/c")]
        answers += await asyncio.gather(*[client.ask(f"/{n}") for n in range(4)])
        return opened, answers


@pytest.mark.parametrize(("num_answers", "opened"), [(99, 4), (1, 7)])
def test_a_connection_is_used_again_unless_it_is_closed_or_busy(num_answers, opened):
    found, answers = asyncio.run(talk(num_answers))
    texts = [b"POST /a body", b"GET /b ", b"GET /c ", *(b"GET /%d " % n for n in range(4))]
    assert answers == [(200, text) for text in texts]
    assert found == opened


def test_more_requests_than_connections_wait_for_one():
    found, answers = asyncio.run(talk(99, max_connections=2))
    assert (found, len(answers)) == (2, 7)


def test_a_summary_counts_outcomes_and_has_both_sides_of_littles_law():
    answers = [b'{"fallback": null}', b'{"fallback": "timeout"}', b'{"detail": "too many"}', b'{"fallback": null}']
    log = pd.DataFrame({"due": [0.0, 1, 2, 3], "seconds": [1.0] * 4, "status": [200, 200, 429, 200]})
    found = summary(log.assign(in_flight=1, content=answers))
    assert (found["requests"], found["refused"], found["fallback"]) == (4, 1, 1)
    assert found["p50 ms"] == found["p99 ms"] == 1000
    assert found["L"] == found["lambda W"] == 1


def test_cpu_time_counts_work_and_not_waiting():
    assert cpu_ms(lambda: sum(range(100_000)), 5) > 0


def test_a_service_as_a_process_answers_and_one_that_cannot_start_is_an_error(tmp_path):
    with started(tmp_path) as (client, seconds):
        assert asyncio.run(client.ask("/health")) == (200, b'{"status":"ok"}')
        assert seconds > 0
    (tmp_path / "activated.json").write_text("no list")
    with pytest.raises(RuntimeError, match="has not started"), started(tmp_path):
        pass

"""What chapter 9's notebooks and its load generator share: a service in a thread, a client, and quantiles of a load."""

import asyncio
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import pandas as pd
import uvicorn

from mmrec_helpers.serving.app import create_app


def cpu_ms(function: Callable[[], object], turns: int = 40) -> float:
    """Milliseconds of CPU time of a call, of all threads together; waiting costs none."""
    start = process_time()
    for _ in range(turns):
        function()
    return 1000 * (process_time() - start) / turns


class Client:
    """Asks a service over HTTP, on a connection for each request at once, up to a maximum.

    Args:
        port: of the service.
        host: of the service.
        max_connections: further requests wait for one that is free. A process can often open only 1,024 files, and a
            service in a thread of the same process needs both ends of each connection.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", max_connections: int = 400) -> None:
        self.host, self.port, self.slots = host, port, asyncio.Semaphore(max_connections)
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, path: str, body: bytes = b"", token: str = "") -> tuple[int, bytes]:
        """Status and content of the answer to a POST, or without a body to a GET."""
        head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        async with self.slots:
            while self.idle:  # again, if the service has closed a connection that was idle
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    return await self._ask(*self.idle.pop(), head.encode() + body)
            return await self._ask(*await asyncio.open_connection(self.host, self.port), head.encode() + body)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[int, bytes]:
        writer.write(request)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        content = await reader.readexactly(int(length[1]) if length else 0)
        self.idle.append((reader, writer))
        return int(answer.split()[1]), content


@contextmanager
def served(root: Path, **options: Any) -> Iterator[Client]:  # noqa: ANN401
    """A client of the service of a folder of versions, which runs in a thread, on a free port of this machine alone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(root, **options), log_level="error", log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def started(root: Path) -> Iterator[tuple[Client, float]]:
    """A client of the service as a process of its own, and the seconds until it was ready.

    Raises:
        RuntimeError: the process has ended before it was ready.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command, start = [sys.executable, "-m", "mmrec_helpers.serving.app", str(root), str(port)], perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            sleep(0.02)
        else:
            raise RuntimeError("the service has not started")
        yield Client(port), perf_counter() - start
    finally:
        process.terminate()
        process.wait()


def summary(log: pd.DataFrame) -> dict[str, float]:
    """Outcomes in a log of ``open_loop``, milliseconds of latency, and both sides of Little's law."""
    latency, end = log["seconds"], (log["due"] + log["seconds"]).max()
    answers = log.loc[log["status"] == 200, "content"].map(json.loads)
    return {
        "requests": len(log),
        "refused": int((log["status"] == 429).sum()),
        "fallback": sum(answer["fallback"] is not None for answer in answers),
        **{f"p{share} ms": 1000 * latency.quantile(share / 100) for share in (50, 95, 99)},
        "L": log["in_flight"].mean(),
        "lambda W": len(log) / end * latency.mean(),
    }

"""Open-loop load on the service of `make serve`: requests arrive as a Poisson process, however slow the answers are.

    python tools/load.py http://127.0.0.1:8000 200,400 10    # requests a second, seconds for each

A closed-loop client waits for an answer before it asks again, so a slow service is asked less, and its waiting times
are not seen. Here a latency counts from the time at which the request was due.
"""

import asyncio
import json
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from mmrec_helpers.serving import versions
from mmrec_helpers.settings import load_settings


@dataclass
class Load:
    """Sends bodies at given times over as many connections as are needed at once.

    Args:
        host: of the service.
        port: of the service.
        idle: open connections without a request.
        in_flight: requests without an answer.
    """

    host: str
    port: int
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)
    in_flight: int = 0

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of the answer to a request; again if the service has closed a connection that was idle."""
        while self.idle:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                return await self._ask(*self.idle.pop(), method, path, body)
        return await self._ask(*await asyncio.open_connection(self.host, self.port), method, path, body)

    async def _ask(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, path: str, body: bytes
    ) -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", answer)
        content = await reader.readexactly(int(length[1]) if length else 0)
        self.idle.append((reader, writer))
        return int(answer.split()[1]), content

    async def timed(self, body: bytes, due: float) -> dict[str, object]:
        """Status, fallback and seconds of a request that was due at a time of ``time.perf_counter``."""
        self.in_flight += 1
        status, content = await self.ask("POST", "/recommend", body)
        self.in_flight -= 1
        fallback = json.loads(content)["fallback"] if status == 200 else None
        return {"status": status, "fallback": fallback, "seconds": time.perf_counter() - due}

    async def cpu_seconds(self) -> float:
        """CPU seconds that the service has used."""
        _, content = await self.ask("GET", "/metrics")
        return float(content.decode().partition("\nprocess_cpu_seconds_total ")[2].split()[0])

    async def run(self, bodies: list[bytes], rate: float, seconds: float, seed: int = 0) -> dict[str, float]:
        """Send requests for some seconds.

        Returns:
            Requests a second, offered and answered; shares of refusals and, of the answers, of the fallback;
            milliseconds of latency; requests in flight on average, and what Little's law gives for it, the rate times
            the mean latency; CPU milliseconds of the service for an answer.
        """
        rng = np.random.default_rng(seed)
        due = np.cumsum(rng.exponential(1 / rate, int(rate * seconds)))
        chosen = rng.integers(len(bodies), size=len(due))
        before, start, tasks, seen = await self.cpu_seconds(), time.perf_counter() + 0.1, [], []
        for moment, body in zip(due + start, chosen, strict=True):
            if (left := moment - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            seen.append(self.in_flight)  # a Poisson process samples it without bias
            tasks.append(asyncio.create_task(self.timed(bodies[body], moment)))
        answers = pd.DataFrame(await asyncio.gather(*tasks))
        wall, cpu = time.perf_counter() - start, await self.cpu_seconds() - before
        served = answers[answers["status"] == 200]
        p50, p95, p99 = 1e3 * served["seconds"].quantile([0.5, 0.95, 0.99])
        return {
            "offered": len(due) / due[-1],
            "answered": len(served) / wall,
            "refused": (answers["status"] == 429).mean(),
            "fallback": served["fallback"].notna().mean(),
            "p50 ms": p50,
            "p95 ms": p95,
            "p99 ms": p99,
            "in flight": float(np.mean(seen)),
            "rate x latency": len(answers) / wall * answers["seconds"].mean(),
            "CPU ms": 1e3 * cpu / len(served),
        }


def histories(count: int = 1_000, seed: int = 0) -> list[bytes]:
    """Requests with random histories of 1 to 20 items of the version that `make serve` trained."""
    settings = load_settings()
    root = settings.cache / "serving" / settings.data.replace("/", "_").replace(":", "_")
    ids = versions.load(root, versions.active(root) or "").catalogue.item_ids[1:]
    rng = np.random.default_rng(seed)
    return [json.dumps({"history": rng.choice(ids, rng.integers(1, 21)).tolist()}).encode() for _ in range(count)]


def main(address: str, rates: list[float], seconds: float) -> None:
    """Print a row for each offered rate."""
    place = urlsplit(address)
    load, bodies = Load(place.hostname or "", place.port or 80), histories()

    async def table() -> pd.DataFrame:
        return pd.DataFrame([await load.run(bodies, rate, seconds) for rate in rates])

    print(asyncio.run(table()).round(3).to_string(index=False))


if __name__ == "__main__":
    main(sys.argv[1], [float(rate) for rate in sys.argv[2].split(",")], float(sys.argv[3]))

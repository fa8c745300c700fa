"""Open-loop load on the service of `make serve`: requests arrive as a Poisson process, however slow the answers are.

    python tools/load.py http://127.0.0.1:8000 200,400 10    # requests a second, seconds for each

A latency counts from the time at which the request was due; notebook 09a has the reasons. At most 400 requests are
under way; the others wait, and their wait counts.
"""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from mmrec_helpers.lessons.load import open_loop
from mmrec_helpers.serving import versions
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch09 import Client, summary


async def cpu_seconds(client: Client) -> float:
    """CPU seconds that the service has used."""
    _, content = await client.ask("/metrics")
    return float(content.decode().partition("\nprocess_cpu_seconds_total ")[2].split()[0])


async def row(client: Client, bodies: list[bytes], load: float, seconds: float) -> dict[str, float]:
    """The summary of an offered load, the answers a second, and the service's CPU milliseconds for an answer."""
    before = await cpu_seconds(client)
    log = pd.DataFrame(await open_loop(client.ask, bodies, load, seconds))
    answered = (log["status"] == 200).sum()
    wall, cpu = (log["due"] + log["seconds"]).max(), await cpu_seconds(client) - before
    return summary(log) | {"answered a second": answered / wall, "CPU ms": 1000 * cpu / answered}


def histories(count: int = 1_000, seed: int = 0) -> list[bytes]:
    """Requests with random histories of 1 to 20 items of the version that `make serve` trained."""
    settings = load_settings()
    root = settings.cache / "serving" / settings.data.replace("/", "_").replace(":", "_")
    ids = versions.load(root, versions.active(root) or "").catalogue.item_ids[1:]
    rng = np.random.default_rng(seed)
    return [json.dumps({"history": rng.choice(ids, rng.integers(1, 21)).tolist()}).encode() for _ in range(count)]


def main(address: str, loads: list[float], seconds: float) -> None:
    """Print a row for each offered load."""
    place = urlsplit(address)
    client, bodies = Client(place.port or 80, place.hostname or ""), histories()

    async def table() -> pd.DataFrame:
        return pd.DataFrame([await row(client, bodies, load, seconds) for load in loads], loads)

    print(asyncio.run(table()).round(3).rename_axis("offered a second").to_string())


if __name__ == "__main__":
    main(sys.argv[1], [float(load) for load in sys.argv[2].split(",")], float(sys.argv[3]))

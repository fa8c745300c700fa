"""A client, without asyncio, of the service in a thread."""

import contextlib

import httpx

from mmrec_helpers.studies.ch09 import served


@contextlib.contextmanager
def serve(folder, **options):
    """A client of the service of a folder of versions."""
    with served(folder, **options) as service:
        address = f"http://{service.host}:{service.port}"
        with httpx.Client(base_url=address, timeout=60) as client:
            client.get("/health")
            yield client

"""The service in a thread, and a client of it over loopback."""

import contextlib
import socket
import threading

import httpx
import uvicorn

from mmrec_helpers.serving.app import create_app


@contextlib.contextmanager
def serve(folder, **options):
    """A client of the service of a folder of versions."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(folder, **options), log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            with httpx.Client(base_url=address, transport=httpx.HTTPTransport(retries=20), timeout=60) as client:
                client.get("/health")
                yield client
        finally:
            server.should_exit = True
            thread.join()

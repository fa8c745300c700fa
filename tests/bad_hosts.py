"""Servers on this machine that misbehave on request."""

import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

CONTENT = np.random.default_rng(0).bytes(300_000)
PACKED = gzip.compress(CONTENT, mtime=0)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        host, fault = self.server.host, self.server.host.fault
        content, byte_range = host.files.get(self.path), self.headers.get("Range", "")
        host.requests.append((self.path, byte_range))
        if fault == "silent":
            time.sleep(5)
            return
        if isinstance(fault, int) or content is None:
            self.send_error(fault or 404)
            return
        if fault == "wrong bytes":
            content = content[::-1]
        start = int(byte_range[6:-1]) if byte_range and fault != "ignores Range" else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        end = len(content) - (len(content) - start) // 2 if fault == "sends less" else len(content)
        self.send_response(206 if start else 200)
        if start:
            first_byte = start + (7 if fault == "wrong Content-Range" else 0)
            self.send_header("Content-Range", f"bytes {first_byte}-{end - 1}/{len(content)}")
        if fault != "no length":
            self.send_header("Content-Length", str(end - start))
        if fault == "encodes":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        if fault == "breaks off":
            end = start + (end - start) // 2
        host.sent += end - start
        self.wfile.write(content[start:end])

    def log_message(self, *_):
        pass


class Host:
    """A web server: ``files`` by path, the ``fault`` to show, and what was requested (path, range) and sent."""

    def __init__(self, **files: bytes):
        self.files = {f"/{name}": content for name, content in files.items()}
        self.fault, self.requests, self.sent = None, [], 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.host = self
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def ranges(self) -> list[str]:
        return [byte_range for _, byte_range in self.requests]

"""The rendered book, a server for it on this machine only, a headless browser, and axe-core for its pages."""

import functools
import http
import http.server
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from npm import npm_files

ROOT = Path(__file__).resolve().parent.parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSERS += ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
BROWSERS += ("/Applications/Chromium.app/Contents/MacOS/Chromium",)
# The browser itself must be quiet too: no updates, no reports, no start page.
FLAGS = ["--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-sync", "--no-first-run"]
AXE = "4.14.1"  # under the MPL 2.0: fetched for the tests, no part of the book
AXE_SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="


@pytest.fixture(scope="session")
def html():
    """The folder of the book, rendered from the stored outputs; a warning fails the build."""
    command = [sys.executable, "tools/tasks.py", "html"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, f"the book does not build:\n{done.stdout[-4000:]}"
    return ROOT / "_build" / "html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, prints nothing."""

    def do_GET(self):
        if self.path == "/favicon.ico":  # asked for by the browser, not by a page
            self.send_response(http.HTTPStatus.NO_CONTENT)
            self.end_headers()
        else:
            super().do_GET()

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="session")
def address(html):
    """Where the book is served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=html)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")  # not "session": its event loop must end before nbval starts kernels
def browser():
    """One headless Chromium for all pages."""
    sync_api = pytest.importorskip("playwright.sync_api")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser: install Chromium (Debian: apt-get install chromium) to check the pages")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe():
    """The script of axe-core, which checks a loaded page; npm fetches it once into the book's cache."""
    try:
        return npm_files("axe-core", AXE, AXE_SHA512, ("axe.min.js",))[0].decode()
    except FileNotFoundError as error:
        pytest.skip(str(error))

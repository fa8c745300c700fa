"""Shared by the tests: the repository's root, the real data, a free port."""

import os
import socket
from pathlib import Path

import pytest
import tasks
import torch
from slow_tier import SlowTier

import mmrec_helpers  # noqa: F401, so that torchvision can be imported

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure(config):
    """Skip slow tests whose inputs have not changed; give each of several processes one thread; `make test BOOK=1`.

    Kernels of notebooks keep their own number, so that outputs are those that are stored.
    """
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
    config.pluginmanager.register(SlowTier(ROOT, ROOT / "tests" / "slow.json"))
    if os.environ.get("BOOK") and tasks.STAMP.exists() and tasks.STAMP.read_text() == tasks.executed_with():
        import replay

        replay.use(tasks.CACHE)


@pytest.fixture(scope="session")
def root():
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def real():
    """The folder of the real files."""
    if "MMREC_DATA_HOME" not in os.environ:
        pytest.skip("MMREC_DATA_HOME is not set: it names the folder of the real data sets")
    return Path(os.environ["MMREC_DATA_HOME"])


@pytest.fixture
def unused_port():
    """A port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

"""Shared by the tests: the repository's root, and the real data."""

import os
from pathlib import Path

import pytest

import mmrec_helpers  # noqa: F401, so that torchvision can be imported

ROOT = Path(__file__).resolve().parent.parent


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

"""Fixtures of the tests of evaluation."""

import pytest

from mmrec_helpers.data.dataset import Split
from tests.evaluation.random_data import random_split


@pytest.fixture(scope="session")
def split() -> Split:
    """Leave-one-out of random data."""
    return random_split(0)

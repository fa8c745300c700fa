"""The slow tier: a slow test is skipped while all that it depends on is as it was when it last passed.

``@pytest.mark.slow(*inputs)`` names what a test depends on, each input one of

- a glob of files below the repository's root: ``"experiments/shop.py"``;
- a constant of a module, for what carries a version: ``"mmrec_helpers.pocket_shop.shop:SHOP_VERSION"``;
- a package's pin in the lock: ``"torch=="``.

The test's own file is always an input. tests/slow.json holds the digest of the inputs of each slow test that passed; it
belongs into the commit that changed an input. ``make test SLOW=1`` runs every slow test, as the weekly workflow does.
"""

import hashlib
import importlib
import json
import os
from datetime import date
from pathlib import Path

import pytest

from mmrec_helpers.files import atomic

PROPERTY = "digest of the slow test's inputs"
SHOP = (
    "mmrec_helpers.pocket_shop.shop:SHOP_VERSION",
    "mmrec_helpers.pocket_shop.rendering:RENDERING_VERSION",
    "mmrec_helpers.pocket_shop.text_templates:TEXT_VERSION",
)
"""The Pocket Shop, as an input: its versions are raised when its data change, and not when its code is tidied."""


def fingerprint(name: str, root: Path) -> str:
    """The state of one input.

    Raises:
        pytest.UsageError: no file matches, or the lock has no such package.
    """
    if name.endswith("=="):
        found = [line for line in (root / "requirements.lock").read_text().splitlines() if line.startswith(name)]
    elif ":" in name:
        module, _, constant = name.partition(":")
        found = [repr(getattr(importlib.import_module(module), constant))]
    else:
        paths = sorted(path for path in root.glob(name) if path.is_file())
        found = [f"{path.relative_to(root)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in paths]
    if not found:
        raise pytest.UsageError(
            f"a slow test names {name!r} as its input, and there is no such thing: correct its mark"
        )
    return "\n".join(found)


def digest(inputs: tuple[str, ...], root: Path) -> str:
    """Hash of the state of a test's inputs."""
    states = [f"{name}\n{fingerprint(name, root)}\n" for name in sorted(inputs)]
    return hashlib.sha256("\n".join(states).encode()).hexdigest()


class SlowTier:
    """The pytest plugin that skips slow tests, and records those that passed.

    Args:
        root: the folder that globs and the lock are relative to.
        record: JSON, test id -> digest of its inputs and day when it last passed.
        everything: run the slow tests whose inputs have not changed, too.
    """

    def __init__(self, root: Path, record: Path, everything: bool = bool(os.environ.get("SLOW"))):
        self.root, self.record, self.everything = root, record, everything
        self.passed: dict[str, dict[str, str]] = {}

    def read(self) -> dict[str, dict[str, str]]:
        """The record."""
        return json.loads(self.record.read_text()) if self.record.exists() else {}

    def pytest_configure(self, config):
        """Declare the mark."""
        config.addinivalue_line("markers", "slow(*inputs): skipped while its inputs are those of its last pass")

    def pytest_collection_modifyitems(self, items):
        """Skip, before any fixture is set up, each slow test whose inputs have not changed."""
        recorded = self.read()
        for item in items:
            inputs = {name for mark in item.iter_markers("slow") for name in mark.args}
            if not inputs:
                continue
            now = digest((*inputs, str(item.path.relative_to(self.root))), self.root)
            item.user_properties.append((PROPERTY, now))
            last = recorded.get(item.nodeid, {})
            if last.get("inputs") == now and not self.everything:
                reason = f"passed on {last['passed']}, its inputs have not changed; `make test SLOW=1` runs it"
                item.add_marker(pytest.mark.skip(reason=reason))

    def pytest_runtest_logreport(self, report):
        """Note a slow test that passed."""
        inputs = dict(report.user_properties).get(PROPERTY)
        if inputs and report.when == "call" and report.passed:
            self.passed[report.nodeid] = {"inputs": inputs, "passed": date.today().isoformat()}

    def pytest_sessionfinish(self, session):
        """Record what passed, but not in a worker of pytest-xdist: all reports reach the process that started it."""
        if not self.passed or hasattr(session.config, "workerinput"):
            return
        known = {name: row for name, row in self.read().items() if (self.root / name.partition("::")[0]).exists()}
        with atomic(self.record) as part:
            part.write_text(json.dumps(known | self.passed, indent=1, sort_keys=True) + "\n")

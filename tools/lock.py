"""Resolve pyproject.toml into requirements.lock: every package by name and version, for Linux and macOS."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Every package of the book by name and version: the set that its stored outputs were made with.
# Written by `make lock` from pyproject.toml. A pin that is not the newest has its reason beside it.
# The CUDA packages of torch are left to torch's own pins, so that a CPU build pulls none.
"""
# Platform markers worth keeping; the resolver also marks what we never install on (Windows, browsers).
MARKERS = {"appnope": ' ; sys_platform == "darwin"', "overrides": ' ; python_version < "3.12"'}
CUDA = re.compile(r"(nvidia|cuda|triton)\b")


def resolve() -> dict[str, str]:
    """Package name -> version. Needs the registry, and `uv`, which it fetches into this environment."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "uv"], check=True)
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--fork-strategy", "fewest"]
    command += ["--python-version", "3.11", "--extra", "book", "--extra", "serve", "--extra", "test"]
    command += ["--no-annotate", "--no-header", "pyproject.toml"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    pins = dict(line.split(" ;")[0].split("==") for line in lines)
    return {name: version for name, version in pins.items() if not CUDA.match(name)}


def main() -> None:
    """Write requirements.lock."""
    reasons = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["book"]["pin-reasons"]
    lines = []
    for name, version in resolve().items():
        reason = f"  # {reasons[name]}" if name in reasons else ""
        lines.append(f"{name}=={version}{MARKERS.get(name, '')}{reason}\n")
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()

"""`make release` on a tiny book: three archives and their checksums, the same again; what cites the book is valid."""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
import release
import yaml


@pytest.fixture
def html(tmp_path):
    """A book of one page."""
    folder = tmp_path / "html"
    (folder / "_static").mkdir(parents=True)
    (folder / "index.html").write_text("<p>book</p>")
    (folder / "_static" / "book.css").write_text("p {}")
    return folder


def test_a_release_has_pages_wheel_sdist_and_checksums_and_is_the_same_again(html, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    release.main(html, first)
    os.utime(html / "index.html", (0, 0))  # times of files do not matter
    release.main(html, second)
    sums = (first / release.SUMS).read_text()
    assert (second / release.SUMS).read_text() == sums
    names = [line.split("  ")[1] for line in sums.splitlines()]
    assert [re.sub(r"\d+\.\d+\.\d+", "V", name) for name in names] == [
        "mmrec_helpers-V-py3-none-any.whl",
        "mmrec_helpers-V.tar.gz",
        "recommenders-that-see-and-read-V-pages.tar.gz",
    ]
    for line in sums.splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((first / name).read_bytes()).hexdigest() == digest
    with tarfile.open(first / names[2]) as pages:
        assert [name.partition("/")[2] for name in pages.getnames()] == ["_static/book.css", "index.html"]
    with zipfile.ZipFile(first / names[0]) as wheel:
        assert "mmrec_helpers/settings.py" in wheel.namelist()
    with tarfile.open(first / names[1]) as sdist:
        assert any(name.endswith("/pyproject.toml") for name in sdist.getnames())


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
import mmrec_helpers
from pathlib import Path
from mmrec_helpers.encoders.checkpoints import WEIGHTS, find_checkpoint
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.settings import diagnose, load_settings
assert Path(mmrec_helpers.__file__).is_relative_to(sys.argv[1]), mmrec_helpers.__file__
for folder in sorted(path for path in WEIGHTS.iterdir() if path.is_dir()):
    assert find_checkpoint(folder.name).is_relative_to(sys.argv[1])
print(load_language_model("pocket-lm").dim, diagnose(load_settings()))
"""
MOST_MB = 30
"""Of the wheel: most of it are the weights of the pocket models."""


def test_the_wheel_installs_into_an_empty_folder_and_works_alone_with_its_weights(tmp_path):
    release.distributions(tmp_path, release.commit_time())
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < MOST_MB * 1e6
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--target", target]
    subprocess.run([*pip, wheel], check=True)
    assert {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")} == {"mmrec_helpers"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    call = [sys.executable, "-c", ALONE, target]
    done = subprocess.run(call, cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_reader_can_ask_for_what_a_chapter_needs_beside_the_package(root):
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"book", "real", "serve"} <= set(extras)


def test_what_cannot_be_released_is_said(html, tmp_path):
    with pytest.raises(SystemExit, match="run `make book` first"):
        release.main(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(SystemExit, match="is not empty"):
        release.main(html, html)


def test_the_citation_has_what_its_format_asks_for_and_the_version_of_package_and_changelog(root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "type", "license", "abstract"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    changes = re.findall(r"^## (\d+\.\d+\.\d+)", (root / "book" / "changelog.md").read_text(), re.MULTILINE)
    assert citation["version"] == project["version"] == changes[0]
    assert citation["license"] == project["license"]
    assert f"## Version {changes[0]}" in (root / "book" / "errata.md").read_text()

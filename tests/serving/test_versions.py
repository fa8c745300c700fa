"""versions.py: a version is complete or not there, and its name leads nowhere else."""

import copy

import pandas as pd
import pytest

from mmrec_helpers.files import write_digests
from mmrec_helpers.recommenders.base import ARRAYS
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.pipeline import Pipeline, Request

REQUESTS = [Request((3, 7), 5), Request((), 24, "mug")]
PATHS = ["..", ".", "", "../one", "one/../two", "/etc/passwd", "one\\two", "one\0", "one\n", "%2e%2e", "ONE", "a" * 65]


def test_a_loaded_version_answers_as_the_published_one(folder, catalogue, sasrec, knn):
    for version, ranker in (("one", None), ("two", knn)):
        loaded = versions.load(folder, version)
        assert loaded.version == version
        assert loaded.recommend(REQUESTS) == Pipeline(catalogue, copy.deepcopy(sasrec), ranker).recommend(REQUESTS)
        assert loaded.catalogue.numbers == catalogue.numbers


@pytest.mark.parametrize("name", PATHS)
def test_a_name_cannot_lead_out_of_the_folder(name, folder, catalogue, sasrec):
    for call in (
        lambda: versions.load(folder, name),
        lambda: versions.activate(folder, name),
        lambda: versions.publish(folder, name, catalogue, sasrec),
    ):
        with pytest.raises(ValueError, match="is no name of a version"):
            call()
    assert versions.active(folder) == "one"
    assert {path.name for path in folder.iterdir()} == {"one", "two", versions.ACTIVATED}


def test_a_version_of_an_older_release_is_refused_by_what_it_lacks(folder):
    path = folder / "one" / versions.CATALOGUE
    pd.read_parquet(path).drop(columns="texts").to_parquet(path)
    write_digests(folder / "one")
    with pytest.raises(ValueError, match=r"has no texts of the items: delete it and activated\.json"):
        versions.load(folder, "one")


def test_a_version_does_not_change(folder, catalogue, sasrec):
    with pytest.raises(FileExistsError, match="publish under another name"):
        versions.publish(folder, "one", catalogue, sasrec)


def test_an_interrupted_publication_leaves_nothing(folder, catalogue, sasrec, monkeypatch):
    def fail(self, path):
        raise OSError("no space left")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", fail)
    with pytest.raises(OSError, match="no space"):
        versions.publish(folder, "three", catalogue, sasrec)
    assert {path.name for path in folder.iterdir()} == {"one", "two", versions.ACTIVATED}


def test_rollback_goes_back_through_all_activations(folder, tmp_path_factory):
    assert versions.active(tmp_path_factory.mktemp("empty")) is None
    for version in ("two", "one"):
        versions.activate(folder, version)
    for expected in ("two", "one"):
        versions.activate(folder, versions.previous(folder), rollback=True)
        assert versions.active(folder) == expected
    with pytest.raises(ValueError, match="no version was active before"):
        versions.previous(folder)
    for text in ("null", "3", "[]", "[" * 100_000):
        (folder / versions.ACTIVATED).write_text(text)
        with pytest.raises(ValueError, match=r"activated.json is damaged: delete it, and activate a version again"):
            versions.active(folder)


def test_what_is_missing_or_damaged_is_not_loaded(folder):
    with pytest.raises(FileNotFoundError, match="no version three"):
        versions.load(folder, "three")
    path = folder / "two" / versions.RETRIEVER / ARRAYS
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match="damaged"):
        versions.load(folder, "two")
    (folder / "one" / versions.RETRIEVER).rename(folder / "kept")
    (folder / "two" / versions.RANKER).rename(folder / "one" / versions.RETRIEVER)
    (folder / "two" / "digests.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="damaged"):
        versions.load(folder, "two")
    write_digests(folder / "one")
    with pytest.raises(ValueError, match="no embedding of a history"):
        versions.load(folder, "one")

"""Versions of the served model: folders that never change, and a file that names the active one."""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pandas as pd

from mmrec_helpers.files import atomic, damaged, write_digests
from mmrec_helpers.recommenders.base import BaseRecommender, load_recommender
from mmrec_helpers.recommenders.sequential import SequentialRecommender
from mmrec_helpers.serving.pipeline import Catalogue, Pipeline, check_served

ACTIVATED = "activated.json"
"""File with the names of the versions in the order of their activation, the last one is active, and a digest."""
CATALOGUE, RETRIEVER, RANKER = "catalogue.parquet", "retriever", "ranker"
"""What a version's folder holds; a ranker only if there is one."""
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
"""Names of versions: no dot and no slash, so that none leads out of the folder."""


def publish(
    root: Path,
    version: str,
    catalogue: Catalogue,
    retriever: SequentialRecommender,
    ranker: BaseRecommender | None = None,
) -> None:
    """Write a version, complete or not at all. It is not active yet.

    Raises:
        FileExistsError: there is one of this name; versions do not change.
        ValueError: the name is not allowed, or a system cannot be served.
    """
    folder = _folder(root, version)
    if folder.exists():
        raise FileExistsError(f"version {version} exists in {root}: publish under another name")
    systems = {RETRIEVER: retriever} | ({RANKER: ranker} if ranker else {})
    for system in systems.values():
        check_served(system, len(catalogue.item_ids) - 1)
    with atomic(folder) as part:
        part.mkdir()
        for name, system in systems.items():
            system.save(part / name)
        columns = {column.name: getattr(catalogue, column.name) for column in fields(catalogue)}
        pd.DataFrame(columns).to_parquet(part / CATALOGUE)
        write_digests(part)


def load(root: Path, version: str) -> Pipeline:
    """Read a version, and answer two requests with it, so that it is warm.

    Raises:
        FileNotFoundError: there is no such version.
        ValueError: the name is not allowed, or the version is damaged.
    """
    catalogue, retriever = load_catalogue(root, version), load_recommender(root / version / RETRIEVER)
    if not isinstance(retriever, SequentialRecommender):
        raise ValueError(f"the retriever of version {version} has no embedding of a history: {retriever.name}")
    ranker = load_recommender(root / version / RANKER) if (root / version / RANKER).exists() else None
    pipeline = Pipeline(catalogue, retriever, ranker, version)
    pipeline.recommend([catalogue.request([], 1, "", query) for query in ("", "x")])
    return pipeline


def load_catalogue(root: Path, version: str) -> Catalogue:
    """The catalogue of a version, all of whose files are as they were published.

    Raises:
        FileNotFoundError: there is no such version.
        ValueError: the name is not allowed, or the version is damaged or of another release of the book.
    """
    folder = _folder(root, version)
    if not (folder / CATALOGUE).exists():
        raise FileNotFoundError(f"there is no version {version}")
    if damaged(folder):
        raise ValueError(f"{folder} is damaged: delete it and {ACTIVATED}, publish again")
    frame = pd.read_parquet(folder / CATALOGUE)
    if missing := {column.name for column in fields(Catalogue)} - {*frame}:
        raise ValueError(f"{folder} has no {', '.join(missing)} of the items: delete it and {ACTIVATED}, publish again")
    return Catalogue(**{name: frame[name].to_numpy() for name in frame})


def active(root: Path) -> str | None:
    """The active version; None if none has been activated."""
    return _activated(root)[-1] if _activated(root) else None


def previous(root: Path) -> str:
    """The version that was active before the active one.

    Raises:
        ValueError: there is none.
    """
    if len(_activated(root)) < 2:
        raise ValueError("no version was active before this one")
    return _activated(root)[-2]


def activate(root: Path, version: str, rollback: bool = False) -> None:
    """Name a version as the active one, in one atomic write.

    Args:
        root: folder of the versions.
        version: a published one; of a rollback the ``previous`` one.
        rollback: also forget that the active version was activated.
    """
    names = _activated(root)
    names = names[:-1] if rollback else [*names, _folder(root, version).name]
    with atomic(root / ACTIVATED) as part:
        part.write_text(json.dumps([*names, _digest(names)]))


def _activated(root: Path) -> list[str]:
    path = root / ACTIVATED
    if not path.exists():
        return []
    with suppress(OSError, ValueError, TypeError, RecursionError):
        *names, digest = json.loads(path.read_text())
        if digest == _digest(names):
            return names
    raise ValueError(f"{path} is damaged: delete it, and activate a version again")


def _digest(names: list[str]) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _folder(root: Path, version: str) -> Path:
    if not NAME.fullmatch(version):
        raise ValueError(f"{version!r} is no name of a version: use small letters, digits, - and _")
    return root / version

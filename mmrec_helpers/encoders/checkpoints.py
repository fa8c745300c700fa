"""Find the files of a pretrained model: pocket models, folders, the hub.

A model is named in one of these ways:

- ``pocket-clip`` or another of POCKET or PHOTO: the small models that come with the book;
- a folder, in the hub's layout: config.json, model.safetensors, and the other files of the model's class;
- a hub name such as ``openai/clip-vit-large-patch14``, or ``NAME@REVISION``: fetched once, kept in the hub's own cache;
- ``lite0`` (images), ``minilm`` (texts) or ``smollm2`` (chat): models of the package index, see ``encoders.packages``.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import huggingface_hub

from mmrec_helpers.encoders.packages import PACKAGES, find_package
from mmrec_helpers.files import damaged

Json = Any
POCKET = {
    "pocket-clip": "images and texts",
    "pocket-siglip": "images and texts",
    "pocket-resnet": "images",
    "pocket-sbert": "texts",
    "pocket-lm": "chat",
    "pocket-instruct": "chat",
    "pocket-vlm": "chat with images",
    "pocket-gpt2": "language modelling",
}
"""The models that come with the book, trained on Pocket Shops, and the purpose of each."""
PHOTO = ("photo-clip", "photo-siglip")
"""The models that come with the book, trained on photographs and texts; they need lite0 and minilm."""
CHOICES = ", ".join(f"{name} ({use})" for name, use in POCKET.items())
WEIGHTS = Path(__file__).parents[1] / "pretrained" / "weights"
HUB_NAME = re.compile(r"(\w[\w.-]*/[\w.-]+)(?:@(\S+))?")
SAFETENSORS_AT = {"openai/clip-vit-base-patch32": "refs/pr/15"}
"""Hub models whose main branch has only pickled weights -> the revision that has them as safetensors."""
FILES = ["*.json", "*.txt", "*.model", "*.safetensors"]
"""The files of a model that are fetched and read."""


def find_checkpoint(name: str | Path) -> Path:
    """The folder of a model, with config.json and weights in safetensors; fetched from the hub if necessary.

    Raises:
        FileNotFoundError: There is no such folder, or the model is not installed.
        ConnectionError: The hub's model is not on this machine and could not be fetched.
        ValueError: The folder lacks config.json or model.safetensors, or a file is damaged.
    """
    folder = Path(os.path.expanduser(name))  # which leaves ~name where there is no such user
    hub, is_folder = isinstance(name, str) and HUB_NAME.fullmatch(name), os.path.isdir(folder)  # of any length
    if name in (*POCKET, *PHOTO):
        folder = WEIGHTS / name
        if not folder.is_dir():
            raise FileNotFoundError(f"{name} has not been made yet: `make pretrained` makes it, in {folder}")
        stats = [path.stat() for own in (f"{name}/*", f"{name}.*") for path in sorted(WEIGHTS.glob(own))]
        if path := _damaged(folder, tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)):
            raise ValueError(
                f"{path.resolve()} is damaged: restore it from the repository, install the package again, or make the "
                f"model again by `make pretrained ONLY={name}`"
            )
    elif isinstance(name, str) and name in PACKAGES:
        folder = find_package(name)
    elif hub and not is_folder:
        folder = _snapshot(hub[1], hub[2] or SAFETENSORS_AT.get(hub[1]))
    elif not is_folder:
        known = (
            f"a folder, a hub name such as openai/clip-vit-large-patch14, {', '.join(PACKAGES)}, or one of {CHOICES}"
        )
        raise FileNotFoundError(f"there is no folder {folder!s:.500}; a model is named by {known}")
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json, so it is not a model's folder")
    fix = "convert them with save_pretrained of the model's class"
    if not any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        if hub:
            fix = f"another revision may have it, as {hub[1]}@REVISION; see {hub[1]}'s pull requests on the hub"
        raise ValueError(f"{folder} has no model.safetensors, and weights in other formats are not loaded: {fix}")
    if not (folder / "model.safetensors").is_file():  # in parts: the libraries would read pickled ones, too
        index = folder / "model.safetensors.index.json"
        parts = read_json(index, {}).get("weight_map")
        names = set(map(str, parts.values())) if isinstance(parts, dict) else {""}
        is_part = {name: re.fullmatch(r"[\w.-]+\.safetensors", name) and (folder / name).is_file() for name in names}
        if wrong := sorted(name for name in names if not is_part[name]):
            raise ValueError(f"{index} names {wrong[0]!r:.80}, which is no file of safetensors there: {fix}")
    for path in sorted(folder.glob("*.json")):  # the libraries ignore some that are damaged
        read_json(path, {} if path.name == "config.json" else None)
    return folder


@lru_cache
def _damaged(folder: Path, stats: tuple[tuple[int, int], ...]) -> Path | None:
    """The first damaged file of a model that comes with the book; read again only where a file has changed."""
    return damaged(folder, digests_of(folder.name))


def digests_of(name: str) -> str:
    """Where the digests of a model that comes with the book are: beside its folder, whose files are its revision."""
    return f"../{name}.digests.json"


def weights_file(folder: Path) -> Path:
    """The weights of a model whose library reads them from one file.

    Raises:
        ValueError: they are in parts; timm would read a pickled file beside them.
    """
    if not (path := folder / "model.safetensors").is_file():
        raise ValueError(f"{folder} has its weights in parts: save them in one file, {path.name}")
    return path


def _snapshot(name: str, revision: str | None) -> Path:
    """The folder of a hub's model in the hub's cache; without a network, the one fetched before."""
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=FILES))
    except Exception as error:  # of the hub's library, of its HTTP library, or of the disk
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        raise ConnectionError(
            f"there is no folder {name}, and the hub's model of this name is not on this machine and could not be "
            f"fetched ({reason}). With a network, run\n  {command}\nwhich stores it in "
            f"{huggingface_hub.constants.HF_HUB_CACHE}; you can copy it from there. Or use a pocket model, which "
            f"needs no network: {CHOICES}"
        ) from None


def revision(folder: Path) -> str:
    """An identifier of all files that are read: the commit of a hub's snapshot, or a digest of a folder's files."""
    if folder.parent.name == "snapshots" and re.fullmatch("[0-9a-f]{40}", folder.name):
        return folder.name
    sha = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in (*folder.glob(pattern), *folder.glob(f"*/{pattern}"))}):
        with path.open("rb") as file:
            sha.update(f"{path.relative_to(folder)}\0".encode() + hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()


def require_revision(name: str, fitted: str, system: str) -> None:
    """Raise a ValueError if a model's files are not those, by ``revision``, with which a system was fitted."""
    if revision(find_checkpoint(name)) != fitted:
        raise ValueError(f"{system} was fitted with other files of {name}: fit it anew")


def read_json(path: Path, default: Json = None) -> Json:
    """A JSON file's content; ``default``, if given, where there is no file.

    Raises:
        ValueError: The file cannot be read, is not valid JSON, or not of the type of ``default``.
    """
    if default is not None and not path.exists():
        return default
    try:
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, type(default) if default is not None else object):
            raise ValueError(f"a {type(content).__name__}, not a {type(default).__name__}")
        return content
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); fetch it again, or correct its permissions") from error


def check_loaded(model: Any, info: Json, tokenizer: Any) -> None:  # noqa: ANN401
    """Compare a model of transformers, which loads much with a warning alone, with its weights and its tokenizer.

    Raises:
        ValueError: weights are missing or not finite, or more layers or tokens are there than the model has.
    """
    names = {re.sub(r"\d+", "0", name) for name in model.state_dict()}
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):  # they would be random
        raise ValueError(f"the weights lack {missing[0]} and {len(missing) - 1} more")
    if layers := sorted(key for key in info["unexpected_keys"] if re.sub(r"\d+", "0", key) in names):
        raise ValueError(f"the weights have {layers[0]}, a layer more than config.json")
    if wrong := [name for name, own in model.named_parameters() if not own.isfinite().all()]:
        raise ValueError(f"the weights {wrong[0]} are not finite")
    last = max({*tokenizer.get_vocab().values()} - {*tokenizer.added_tokens_decoder}, default=0)
    if last >= (size := model.config.get_text_config().vocab_size):
        raise ValueError(f"the tokenizer has a token {last}, and the model only {size}")


@contextmanager
def usable(folder: Path, kind: str = "encoder", example: str = "pocket-clip") -> Iterator[None]:
    """Let an error of a library that uses a model's files name the folder and the fix.

    Raises:
        ValueError: A file is damaged, or of another kind of model; ``example`` is one of this kind.
    """
    try:
        yield
    except BaseException as error:  # of transformers, timm, safetensors: whatever is damaged; tokenizers panics
        is_ours = isinstance(error, ValueError) and str(error).startswith(str(folder))
        if is_ours or isinstance(error, ImportError | KeyboardInterrupt | SystemExit | GeneratorExit):  # not damage
            raise
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{folder} has no usable {kind} ({type(error).__name__}: {reason}): fetch it again, or name another, such "
            f"as {example}"
        ) from error

"""What every recommender has: fit, score, save and load."""

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from safetensors.torch import load_file, save
from scipy import sparse
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.files import atomic
from mmrec_helpers.settings import load_settings

FORMAT = 1
"""Version of what ``save`` writes."""
RECORD, ARRAYS = "recommender.json", "arrays.safetensors"
"""Files of a saved recommender: its class and hyperparameters; its arrays and weights."""


class BaseRecommender:
    """Base class of all recommenders, which are dataclasses of their hyperparameters.

    A system implements ``learn`` and ``score_all``, and names in FITTED what ``score_all`` reads. An attribute is saved
    if it is a number, a text, an array, a CSR matrix, a network, another recommender, a dataclass of this package, or a
    list, tuple or mapping of those.

    Attributes:
        FITTED: attributes that ``learn`` sets and ``score_all`` reads; a network after those that its sizes depend on.
        NOT_SAVED: hyperparameters that only ``learn`` reads.
        name: of the system in tables.
        is_fitted: whether ``fit`` has ended.
        loaded_from: the folder of a loaded system.

    Those that are trained have a peak learning rate ``lr``, the ``weight_decay`` of AdamW and a ``seed`` of everything
    random; once fitted, ``training`` is the history of the training.
    """

    FITTED: ClassVar[tuple[str, ...]] = ()
    NOT_SAVED: ClassVar[tuple[str, ...]] = ()
    name: str
    is_fitted = False
    loaded_from: Path | None = None

    # Implemented by each system -----------------------------------------------------------------------------------

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Fit to the training part; see ``fit``."""
        raise NotImplementedError

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) finite scores of all items, larger = better; column 0 is padding."""
        raise NotImplementedError

    def empty_network(self) -> nn.Module:
        """A network of the saved sizes, for the saved weights. Systems without a network in FITTED have none."""
        raise NotImplementedError

    # Shared -------------------------------------------------------------------------------------------------------

    def fit(self, split: Split, checkpoint: Path | None = None) -> Self:
        """Fit to the training part; the valid part, if there is one, may only choose when to stop.

        Args:
            split: of the data set.
            checkpoint: file of the running training; a training that finds its own resumes from it. Systems without
                training ignore it.

        Raises:
            ValueError: the system was loaded, and so has no features any more.
        """
        if self.loaded_from:
            raise ValueError(f"{self.name} was loaded from {self.loaded_from} to score; build it anew to fit it")
        self.is_fitted = False
        self.learn(split, checkpoint)
        self.is_fitted = True
        return self

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """(N, I + 1) finite scores of all items, larger = better; or those of some items.

        The scores of a query do not depend on the other queries. Systems that are expensive an item override this.

        Args:
            queries: N queries.
            candidates: (N, C) item numbers, 0 is padding and has any score.

        Returns:
            (N, I + 1), column 0 is padding; with candidates their (N, C), the same numbers.
        """
        scores = self.score_all(queries)
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def save(self, folder: Path) -> None:
        """Write what scoring needs, without what only training does. An older system in the folder is replaced.

        Raises:
            ValueError: the system is not fitted, or not of this package.
            FileExistsError: the folder contains something else.
        """
        if folder.exists() and not (folder / RECORD).exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} contains something else than a recommender: name another folder")
        with atomic(folder) as part:
            self._write(part)

    def identity(self, split: Split) -> str:
        """Sixteen hexadecimal digits of all that a training depends on: class, hyperparameters, features, split."""
        assert is_dataclass(self)
        arrays: dict[str, Tensor] = {}
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        parts = {name: part.identity(split) for name, part in own.items() if isinstance(part, BaseRecommender)}
        values = {name: _encode(value, name, Path(), arrays) for name, value in (own | parts).items()}
        sha = hashlib.sha256(json.dumps([_class_name(type(self)), split.dataset.fingerprint, values]).encode())
        for array in (*arrays.values(), torch.from_numpy(split.part)):
            sha.update(array.numpy().tobytes())
        return sha.hexdigest()[:16]

    def _write(self, folder: Path) -> None:
        if not self.is_fitted:
            raise ValueError(f"{self.name} is not fitted, so it cannot be saved: call fit(split) first")
        name = _class_name(type(self))
        if _find_class(name) is not type(self):
            raise ValueError(f"{self.name}: only systems in {__package__} can be saved; {type(self)} is none")
        folder.mkdir()
        arrays: dict[str, Tensor] = {}
        assert is_dataclass(self)
        names = [field.name for field in fields(self) if field.init and field.name not in self.NOT_SAVED]
        values = {name: _encode(getattr(self, name), name, folder, arrays) for name in [*names, *self.FITTED]}
        (folder / ARRAYS).write_bytes(save(arrays))  # not save_file: its error on a full disk is no OSError
        record = {"format": FORMAT, "class": name, "values": values}
        record["digest"] = _digest(record, folder)
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")


def load_recommender(folder: Path) -> BaseRecommender:
    """Read a saved system, on the device of the settings. It scores as before; it has no ``training``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, of a class that this package does not have, or written by another version of it.
    """
    path = folder / RECORD
    damaged = f"{folder} is damaged: fit the recommender and save it again"
    try:
        record = json.loads(path.read_text())
        version, name, digest = record["format"], record["class"], record.pop("digest")
        own = _digest(record, folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error.filename} does not exist: save() has written no recommender there") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{damaged} ({error})") from error
    if version != FORMAT:
        raise ValueError(f"{path} has format {version}, this package reads {FORMAT}: save it anew by this version")
    kind = _find_class(name)
    if kind is None or not issubclass(kind, BaseRecommender):
        raise ValueError(f"{path} names the class {name}, which {__package__} does not have: update the package")
    if digest != own:
        raise ValueError(f"{damaged} (its digest differs)")
    system, arrays = kind.__new__(kind), load_file(folder / ARRAYS)
    for attribute, value in record["values"].items():
        setattr(system, attribute, _decode(value, system, folder, arrays))
    system.is_fitted, system.loaded_from = True, folder
    return system


def part_checkpoint(checkpoint: Path | None, part: str) -> Path | None:
    """The checkpoint of a part of a system: run.pt -> run.part.pt."""
    return checkpoint and checkpoint.with_suffix(f".{part}{checkpoint.suffix}")


def _digest(record: dict[str, Any], folder: Path) -> str:
    """Sixty-four hexadecimal digits of a record without its digest, and of the arrays."""
    with (folder / ARRAYS).open("rb") as file:
        sha = hashlib.file_digest(file, "sha256")
    sha.update(json.dumps(record, sort_keys=True).encode())
    return sha.hexdigest()


def _class_name(kind: type) -> str:
    """Module and name, such as sasrec.SASRec."""
    return f"{kind.__module__.rpartition('.')[2]}.{kind.__qualname__}"


def _find_class(name: str) -> type | None:
    """The class of a name of ``_class_name``; None if it is not in this package, so that nothing else is imported."""
    module, _, attribute = str(name).partition(".")
    if not module.isidentifier() or not Path(__file__).with_name(f"{module}.py").exists():
        return None
    found = getattr(importlib.import_module(f"{__package__}.{module}"), attribute, None)
    return found if isinstance(found, type) and _class_name(found) == name else None


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Name -> weight or buffer; one that several modules share occurs once."""
    state = network.state_dict(keep_vars=True)
    first = {id(weight): name for name, weight in reversed(state.items())}
    return {name: state[name] for name in first.values()}


def _encode(value: object, key: str, folder: Path, arrays: dict[str, Tensor]) -> object:
    """A value as JSON. Its arrays are added under names that begin with the key, recommenders saved in subfolders."""

    def encode(parts: Mapping[Any, object]) -> dict[str, object]:
        return {str(name): _encode(part, f"{key}.{name}", folder, arrays) for name, part in parts.items()}

    match value:
        case np.generic():
            return value.item()
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return {type(value).__name__: list(encode(dict(enumerate(value))).values())}
        case Mapping():
            return {"dict": encode(value)}
        case BaseRecommender():
            value._write(folder / key)
            return {"recommender": key}
        case nn.Module():
            weights = _weights(value).items()
            arrays.update({f"{key}.{name}": weight.detach().cpu().contiguous() for name, weight in weights})
            return {"network": key}
        case np.ndarray():
            arrays[key] = torch.tensor(np.ascontiguousarray(value))
            return {"array": key}
        case sparse.csr_array():
            parts = {"data": value.data, "indices": value.indices, "indptr": value.indptr}
            return {"csr": encode(parts), "shape": list(value.shape)}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"dataclass": _class_name(type(value)), "fields": encode(parts)}
    raise TypeError(f"{key} is {type(value)}, which cannot be saved; see BaseRecommender")


def _decode(node: object, system: BaseRecommender, folder: Path, arrays: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """The value of a node of ``_encode``."""

    def decode(parts: Mapping[str, object]) -> dict[str, Any]:
        return {name: _decode(part, system, folder, arrays) for name, part in parts.items()}

    match node:
        case {"list": parts}:
            return [_decode(part, system, folder, arrays) for part in parts]
        case {"tuple": parts}:
            return tuple(_decode(part, system, folder, arrays) for part in parts)
        case {"dict": parts}:
            return decode(parts)
        case {"recommender": key}:
            return load_recommender(folder / key)
        case {"network": key}:
            weights = {name.removeprefix(f"{key}."): arrays[name] for name in arrays if name.startswith(f"{key}.")}
            return _filled(system, weights, folder)
        case {"array": key}:
            return arrays[key].clone().numpy()  # aligned in memory as any other array
        case {"csr": parts, "shape": shape}:
            return sparse.csr_array(tuple(decode(parts).values()), shape=tuple(shape))
        case {"dataclass": name, "fields": parts}:
            kind = _find_class(name)
            assert kind, f"{name} has disappeared: FORMAT must be raised"
            return kind(**decode(parts))
    return node


def _filled(system: BaseRecommender, weights: dict[str, Tensor], folder: Path) -> nn.Module:
    """The system's network with some weights, on the device of the settings."""
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, but loading changes no other draw
        network = system.empty_network()
    own = _weights(network)
    if {name: weight.shape for name, weight in own.items()} != {name: value.shape for name, value in weights.items()}:
        raise ValueError(f"{folder} has other weights than {system.name} of this package: save it anew by this version")
    with torch.no_grad():
        for name, weight in own.items():
            weight.copy_(weights[name])
    return network.to(load_settings().device).eval()

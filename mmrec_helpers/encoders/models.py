"""Pretrained encoders: CLIP, SigLIP, timm networks and sentence transformers behind one interface."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError

from mmrec_helpers.encoders.checkpoints import CHOICES, find_checkpoint, read_json
from mmrec_helpers.settings import load_settings

POOLINGS = {"mean": "mean", "pooling_mode_mean_tokens": "mean", "cls": "cls", "pooling_mode_cls_token": "cls"}
"""As new and old versions of sentence-transformers write them."""


class Encoder:
    """A loaded model."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name, self.device = folder, name, load_settings().device

    def pictures(self, pictures: list[Image.Image]) -> torch.Tensor:
        """(B, D) vectors of B pictures in RGB."""
        raise ValueError(f"{self.name} sees no pictures; there are {CHOICES}")

    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, D) vectors of B texts, and (B,) bool whether each was cut."""
        raise ValueError(f"{self.name} reads no texts; there are {CHOICES}")

    def randomly_initialised_model(self) -> torch.nn.Module:
        """A network of the same shape with random weights."""
        raise NotImplementedError


class _Transformer(Encoder):
    """A model and a tokenizer of transformers; in float32, whatever precision the weights are stored in."""

    def __init__(self, folder: Path, name: str):
        from transformers import AutoModel

        super().__init__(folder, name)
        options = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
        with _quiet():
            model, report = AutoModel.from_pretrained(folder, **options)
        if lacking := sorted(key for key in report["missing_keys"] if "pooler" not in key):  # they would be random
            raise ValueError(f"{folder}: the weights lack {lacking[0]} (and {len(lacking) - 1} more); fetch them again")
        self.model = model.float().to(self.device)

    def randomly_initialised_model(self) -> torch.nn.Module:
        return type(self.model)(self.model.config)

    @cached_property
    def tokenizer(self):
        """The folder's tokenizer."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def tokens(self, texts: list[str], limit: int, padding: bool | str) -> tuple[dict, torch.Tensor]:
        """The tokens of B texts, at most ``limit`` each, and (B,) bool whether each was cut."""
        longer = self.tokenizer(texts, truncation=True, max_length=limit + 1)["input_ids"]
        tokens = self.tokenizer(texts, truncation=True, max_length=limit, padding=padding, return_tensors="pt")
        return tokens.to(self.device), torch.tensor([len(ids) > limit for ids in longer])


class _TwoTowers(_Transformer):
    """CLIP or SigLIP: the projected vectors of ``get_image_features`` and ``get_text_features``."""

    @cached_property
    def processor(self):
        """What the folder says of sizes and shades."""
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(self.folder, trust_remote_code=False)

    @torch.inference_mode()
    def pictures(self, pictures: list[Image.Image]) -> torch.Tensor:
        return _projected(
            self.model.get_image_features(**self.processor(pictures, return_tensors="pt").to(self.device))
        )

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        # SigLIP takes its vector from the last place, and was trained on texts padded to the full length.
        padding = "max_length" if self.model.config.model_type == "siglip" else True
        tokens, cut = self.tokens(texts, self.model.config.text_config.max_position_embeddings, padding)
        return _projected(self.model.get_text_features(**tokens)), cut


class _Sentences(_Transformer):
    """A transformer with the pooling and the normalisation that its sentence-transformers' files ask for."""

    def __init__(self, folder: Path, name: str):
        self.pooling, self.unit = _sentence_modules(folder)
        super().__init__(folder, name)
        told = read_json(folder / "sentence_bert_config.json", {})
        self.lower = told.get("do_lower_case", False)
        limits = (self.tokenizer.model_max_length, self.model.config.max_position_embeddings)
        self.limit = told.get("max_seq_length") or min(limits)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, cut = self.tokens([text.lower() for text in texts] if self.lower else texts, self.limit, padding=True)
        hidden = self.model(**tokens).last_hidden_state  # (B, T, D)
        mask = tokens["attention_mask"][:, :, None]  # (B, T, 1)
        vectors = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        return (torch.nn.functional.normalize(vectors) if self.unit else vectors).cpu(), cut


class _Network(Encoder):
    """A network of timm: its pooled features, before the classifier."""

    def __init__(self, folder: Path, name: str):
        import timm

        super().__init__(folder, name)
        self.model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval().to(self.device)
        wanted = timm.data.resolve_model_data_config(self.model)
        self.transform = timm.data.create_transform(**wanted, is_training=False)

    def randomly_initialised_model(self) -> torch.nn.Module:
        import timm

        shape = read_json(self.folder / "config.json")
        return timm.create_model(shape["architecture"], **shape.get("model_args", {}) | {"num_classes": 0})

    @torch.inference_mode()
    def pictures(self, pictures: list[Image.Image]) -> torch.Tensor:
        return self.model(torch.stack([self.transform(picture) for picture in pictures]).to(self.device)).cpu()


KINDS = {"clip": _TwoTowers, "siglip": _TwoTowers}


KINDS |= dict.fromkeys(("bert", "distilbert", "mpnet", "roberta", "xlm-roberta"), _Sentences)
"""By the ``model_type`` in config.json; timm's networks have an ``architecture`` instead."""


def load_encoder(encoder: str | Path | Encoder) -> Encoder:
    """Load a model, to embed several lists with it; one that is loaded is handed back. Errors as ``encode_images``."""
    return encoder if isinstance(encoder, Encoder) else _load(find_checkpoint(encoder), str(encoder))


def randomly_initialised(encoder: str | Path | Encoder) -> Encoder:
    """The same encoder with random weights, drawn from seed 0, as before its training: a control."""
    control = copy.copy(load_encoder(encoder))
    torch.manual_seed(0)
    control.model = control.randomly_initialised_model().float().eval().to(control.device)
    return control


def _load(folder: Path, name: str) -> Encoder:
    config = read_json(folder / "config.json")
    kind = _Network if "architecture" in config else KINDS.get(config.get("model_type"))
    if not kind:
        found = f"{folder / 'config.json'}: the model_type is {config.get('model_type')!r}"
        raise ValueError(f"{found}; encoders are {', '.join(KINDS)}, and the networks of timm")
    try:
        return kind(folder, name)
    except SafetensorError as error:
        raise ValueError(f"{folder}: the weights are damaged or not whole ({error}); fetch them again") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and remarks on what it loads: faults are raised, the rest differs from run to run."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _projected(output) -> torch.Tensor:
    """(B, D) vectors: transformers 5 hands them out within an object, 4 alone."""
    return getattr(output, "pooler_output", output).cpu()


def _sentence_modules(folder: Path) -> tuple[str, bool]:
    """``mean`` or ``cls``, and whether vectors get unit length. Without modules.json it is the mean as it is."""
    modules = read_json(folder / "modules.json", [])
    if not modules:
        return "mean", False
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(f"{folder / 'modules.json'}: {', '.join(kinds)}; known are Transformer, Pooling, Normalize")
    path = folder / modules[1]["path"] / "config.json"
    config = read_json(path)
    asked = config.get("pooling_mode") or [key for key in config if key.startswith("pooling_mode_") and config[key]]
    asked = [asked] if isinstance(asked, str) else asked
    if len(asked) != 1 or asked[0] not in POOLINGS:
        raise ValueError(f"{path}: the pooling is {' and '.join(asked)}; known are the mean or cls, one alone")
    return POOLINGS[asked[0]], "Normalize" in kinds

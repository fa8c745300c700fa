"""Pretrained encoders behind one interface: CLIP, SigLIP, timm networks, sentence transformers, aligned pairs."""

import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors.torch import load_file

from mmrec_helpers.encoders.checkpoints import CHOICES, check_loaded, find_checkpoint, read_json, usable, weights_file
from mmrec_helpers.progress import quiet_loading
from mmrec_helpers.settings import load_settings

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import BaseImageProcessor, BatchEncoding, PreTrainedTokenizerBase
    from transformers.modeling_outputs import BaseModelOutputWithPooling

POOLINGS = {"mean": "mean", "pooling_mode_mean_tokens": "mean", "cls": "cls", "pooling_mode_cls_token": "cls"}
"""In the notation of new and old versions of sentence-transformers."""


class Encoder:
    """A loaded model that maps images, texts or both to vectors."""

    model: Any
    """The library's module."""
    tokenizer: Any
    """The library's tokenizer, of encoders of texts."""
    max_len: int
    """Tokens of a text at most, with BOS and EOS; the rest is truncated."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.device = folder, name, load_settings().device

    def try_out(self, texts: bool = False) -> None:
        """Encode one image, or one text: some damage shows only in use."""
        vectors = self.texts(["?"])[0] if texts else self.images([Image.new("RGB", (9, 9))])
        if not vectors.isfinite().all():
            raise ValueError("its vectors are not finite")

    def images(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, D) vectors of B images in RGB."""
        raise ValueError(f"{self.name} encodes no images; there are {CHOICES}")

    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, D) vectors of B texts, and (B,) bool whether each was truncated."""
        raise ValueError(f"{self.name} encodes no texts; there are {CHOICES}")

    def patches(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, P, D) vectors of the patches of B images, row by row from the upper left."""
        raise ValueError(f"{self.name} has no patches of images; there are {CHOICES}")

    def tokens(self, texts: list[str], max_len: int) -> torch.Tensor:
        """(B, max_len, D) vectors of the tokens of B texts, zeros after their ends. The whole text is read."""
        raise ValueError(f"{self.name} has no vectors of tokens; sentence encoders have, such as pocket-sbert")

    def stages(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, D) the means over positions of every stage's activations, then the pooled features, of B images.

        The first stages keep what the last ones, which classify objects, do not: colours and textures.
        """
        raise ValueError(f"{self.name} has no stages; networks of timm have, such as lite0")

    def random_model(self) -> torch.nn.Module:
        """A model of the same architecture, randomly initialised."""
        raise NotImplementedError


class _TransformersEncoder(Encoder):
    """A model and a tokenizer of transformers; in float32, whatever the precision of the stored weights."""

    def __init__(self, folder: Path, name: str) -> None:
        from transformers import AutoModel

        super().__init__(folder, name)
        options: dict[str, bool] = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
        with usable(folder), quiet_loading():
            self.model, info = AutoModel.from_pretrained(folder, **options)
            check_loaded(self.model, info, self.tokenizer)
        self.model.float().to(self.device)

    def random_model(self) -> torch.nn.Module:
        return type(self.model)(self.model.config)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The folder's tokenizer."""
        from transformers import AutoTokenizer

        with usable(self.folder):
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
            if tokenizer.pad_token is None:
                raise ValueError("the tokenizer has no padding token: name one in tokenizer_config.json")
            return tokenizer

    def tokenize(self, texts: list[str], padding: bool | str) -> "tuple[BatchEncoding, torch.Tensor]":
        """The tokens of B texts, at most ``max_len`` each, and (B,) bool whether each was truncated."""
        one_more = self.tokenizer(texts, truncation=True, max_length=self.max_len + 1)["input_ids"]
        tokens = self.tokenizer(texts, truncation=True, max_length=self.max_len, padding=padding, return_tensors="pt")
        return tokens.to(self.device), torch.tensor([len(ids) > self.max_len for ids in one_more])


class _DualEncoder(_TransformersEncoder):
    """CLIP or SigLIP: the projected vectors of ``get_image_features`` and ``get_text_features``."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.max_len = self.model.config.text_config.max_position_embeddings
        with usable(folder):
            self.try_out()
            self.try_out(texts=True)

    @cached_property
    def processor(self) -> "BaseImageProcessor":
        """The image processor: sizes and normalisation."""
        from transformers import AutoImageProcessor

        with usable(self.folder):
            return AutoImageProcessor.from_pretrained(self.folder, trust_remote_code=False)

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> torch.Tensor:
        return _projected(self.model.get_image_features(**self.processor(images, return_tensors="pt").to(self.device)))

    @torch.inference_mode()
    def patches(self, images: list[Image.Image]) -> torch.Tensor:
        pixels = self.processor(images, return_tensors="pt").to(self.device)
        hidden = self.model.vision_model(**pixels).last_hidden_state
        return hidden[:, self.model.config.model_type == "clip" :].cpu()  # CLIP has a token of the whole image first

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        # SigLIP pools the last position, and was trained on texts padded to the full length.
        padding = "max_length" if self.model.config.model_type == "siglip" else True
        tokens, truncated = self.tokenize(texts, padding)
        return _projected(self.model.get_text_features(**tokens)), truncated


class _SentenceEncoder(_TransformersEncoder):
    """A transformer with the pooling and the normalisation of its sentence-transformers configuration."""

    def __init__(self, folder: Path, name: str) -> None:
        self.pooling, self.normalize = _sentence_modules(folder)
        super().__init__(folder, name)
        config = read_json(folder / "sentence_bert_config.json", {})
        self.lowercase = config.get("do_lower_case", False)
        with usable(folder):
            limit = config.get("max_seq_length") or self.tokenizer.model_max_length
            self.max_len = min(limit, self.model.config.max_position_embeddings)
            self.try_out(texts=True)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, mask, truncated = self.hidden_states(texts)
        vectors = hidden[:, 0] if self.pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
        return (torch.nn.functional.normalize(vectors) if self.normalize else vectors).cpu(), truncated

    @torch.inference_mode()
    def tokens(self, texts: list[str], max_len: int) -> torch.Tensor:
        hidden, mask, _ = self.hidden_states(texts)
        vectors = (hidden * mask)[:, :max_len].cpu()
        return torch.nn.functional.pad(vectors, (0, 0, 0, max_len - vectors.shape[1]))

    def hidden_states(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, T, D) of the last layer, (B, T, 1) 0 at padding, and (B,) bool whether each text was truncated."""
        texts = [text.lower() for text in texts] if self.lowercase else texts
        tokens, truncated = self.tokenize(texts, padding=True)
        return self.model(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None], truncated


class _TimmEncoder(Encoder):
    """A network of timm: its pooled features, before the classifier."""

    def __init__(self, folder: Path, name: str) -> None:
        import timm

        super().__init__(folder, name)
        weights = weights_file(folder)
        with usable(folder, example="pocket-resnet"):
            stored = load_file(weights)
            model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
            if missing := set(model.state_dict()) - set(stored):  # timm leaves them random
                raise ValueError(f"the weights lack {min(missing)}")
            given = read_json(folder / "config.json").get("pretrained_cfg", {})
            for key in ("mean", "std"):
                if key in given and not (isinstance(given[key], list) and len(given[key]) == 3):
                    raise ValueError(f"{key} is not one number a colour")  # timm would take its default
            config = timm.data.resolve_model_data_config(model)
            self.transform = timm.data.create_transform(**config, is_training=False)
            self.model = model.to(self.device)
            self.try_out()

    def random_model(self) -> torch.nn.Module:
        import timm

        config = read_json(self.folder / "config.json")
        return timm.create_model(config["architecture"], **config.get("model_args", {}) | {"num_classes": 0})

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> torch.Tensor:
        return self.model(self.pixels(images)).cpu()

    def pixels(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, 3, H, W) the images as the network takes them."""
        return torch.stack([self.transform(image) for image in images]).to(self.device)

    @torch.inference_mode()
    def patches(self, images: list[Image.Image]) -> torch.Tensor:
        return self.model.forward_features(self.pixels(images)).flatten(2).mT.cpu()

    @torch.inference_mode()
    def stages(self, images: list[Image.Image]) -> torch.Tensor:
        last, stages = self.model.forward_intermediates(self.pixels(images))
        means = [stage.mean((2, 3)) for stage in stages]
        return torch.cat([*means, self.model.forward_head(last)], dim=1).cpu()


class Projections(torch.nn.Module):
    """Two perceptrons that map the vectors of two frozen encoders into one space.

    Args:
        image_dim: of the image encoder's vectors.
        text_dim: of the text encoder's vectors.
        hidden_dim: of the hidden layer.
        dim: of the common space.
        dropout: in training, on inputs and hidden activations.
    """

    def __init__(self, image_dim: int, text_dim: int, hidden_dim: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.image = _perceptron(image_dim, hidden_dim, dim, dropout)
        self.text = _perceptron(text_dim, hidden_dim, dim, dropout)
        self.logit_scale = torch.nn.Parameter(torch.tensor(0.0))
        self.logit_bias = torch.nn.Parameter(torch.tensor(0.0))


def _perceptron(in_dim: int, hidden_dim: int, out_dim: int, dropout: float) -> torch.nn.Sequential:
    """Standardisation of the inputs, one hidden layer, one output layer."""
    return torch.nn.Sequential(
        torch.nn.BatchNorm1d(in_dim, affine=False),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(in_dim, hidden_dim),
        torch.nn.GELU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(hidden_dim, out_dim),
    )


class AlignedEncoder(Encoder):
    """An image encoder and a text encoder, both frozen, with projections that were trained to align them.

    Its ``model`` has CLIP's ``logit_scale`` and SigLIP's ``logit_bias``. Its config.json names both encoders, and has
    the arguments of ``Projections``.
    """

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        config = read_json(folder / "config.json")
        self.dims = {key: value for key, value in config.items() if key.endswith("dim")}
        weights = weights_file(folder)
        with usable(folder, example="photo-clip"):
            names = config["image"], config["text"]
            model = Projections(**self.dims)
            model.load_state_dict(load_file(weights))
        self.image_encoder, self.text_encoder = map(load_encoder, names)
        self.tokenizer, self.max_len = self.text_encoder.tokenizer, self.text_encoder.max_len
        self.model = model.float().eval().to(self.device)

    @torch.inference_mode()
    def images(self, images: list[Image.Image]) -> torch.Tensor:
        """(B, D) projected vectors of B images in RGB."""
        return self.model.image(self.image_encoder.stages(images).to(self.device)).cpu()

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, D) projected vectors of B texts, and (B,) bool whether each was truncated."""
        vectors, truncated = self.text_encoder.texts(texts)
        return self.model.text(vectors.to(self.device)).cpu(), truncated

    def random_model(self) -> Projections:
        """Random projections, and in this encoder random backbones."""
        self.image_encoder, self.text_encoder = map(randomly_initialised, (self.image_encoder, self.text_encoder))
        return Projections(**self.dims)


ENCODER_TYPES: dict[str, type[Encoder]] = {"clip": _DualEncoder, "siglip": _DualEncoder, "aligned": AlignedEncoder}
ENCODER_TYPES |= dict.fromkeys(("bert", "distilbert", "mpnet", "roberta", "xlm-roberta"), _SentenceEncoder)
"""By the ``model_type`` in config.json; timm's networks have an ``architecture`` instead."""


def load_encoder(encoder: str | Path | Encoder) -> Encoder:
    """Load a model, named as for ``find_checkpoint``; a loaded encoder is returned as it is.

    Raises the errors of ``find_checkpoint``, and a ValueError if the folder has no usable encoder.
    """
    if isinstance(encoder, Encoder):
        return encoder
    folder = find_checkpoint(encoder)
    config = read_json(folder / "config.json")
    model_type = config.get("model_type")
    encoder_type = _TimmEncoder if "architecture" in config else ENCODER_TYPES.get(str(model_type))
    if not encoder_type:
        raise ValueError(
            f"{folder / 'config.json'}: the model_type is {model_type!r}; encoders are {', '.join(ENCODER_TYPES)}, "
            "and the networks of timm"
        )
    return encoder_type(folder, str(encoder))


def randomly_initialised(encoder: str | Path | Encoder) -> Encoder:
    """The same encoder with random weights from seed 0: a control without pretraining."""
    control = copy.copy(load_encoder(encoder))
    torch.manual_seed(0)
    control.model = control.random_model().float().eval().to(control.device)
    return control


def _projected(output: "BaseModelOutputWithPooling | torch.Tensor") -> torch.Tensor:
    """(B, D) vectors: transformers 5 returns them within an object, 4 alone."""
    vectors: Any = getattr(output, "pooler_output", output)
    return vectors.cpu()


def _sentence_modules(folder: Path) -> tuple[str, bool]:
    """``mean`` or ``cls``, and whether vectors are normalised. Without modules.json: mean, not normalised."""
    if not (folder / "modules.json").exists():
        return "mean", False
    with usable(folder, example="pocket-sbert"):
        modules = read_json(folder / "modules.json", [])
        kinds = [module["type"].rpartition(".")[2] for module in modules]
        path = folder / modules[1]["path"] / "config.json"
        config = read_json(path, {})
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ValueError(f"{folder / 'modules.json'}: {', '.join(kinds)}; known are Transformer, Pooling, Normalize")
    modes = config.get("pooling_mode") or [key for key in config if key.startswith("pooling_mode_") and config[key]]
    modes = [modes] if isinstance(modes, str) else modes
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(f"{path}: the pooling is {' and '.join(modes)}; known are the mean or cls, one alone")
    return POOLINGS[modes[0]], "Normalize" in kinds

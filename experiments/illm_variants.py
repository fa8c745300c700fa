"""Chapter 5's systems as data, built from a split."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.encoders.features import embed_texts
from mmrec_helpers.llm.summaries import summarise
from mmrec_helpers.recommenders.features import image_features, prepend_padding, shuffled_items, text_features
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import Settings

ALL_KINDS = ("image", "CF", "text")
MISSING = 0.5
"""Share of the items without an image in the paper's section 4.5."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A system of chapter 5 before it is built.

    Attributes:
        options: arguments of ``ILLMRec`` that are not its defaults.
        kinds: of the item features by which items are retrieved.
        images: ``own``; ``shuffled`` among the items; or ``half missing``, replaced by the encoder's text tower.
        encoder: of the images where it is not that of the settings.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ALL_KINDS
    images: str = "own"
    encoder: str = ""


def _variant(expression: str, **own: Any) -> Variant:  # noqa: ANN401
    return Variant(options={"expression": expression} | own)


EXPRESSED = {
    "TALLRec": _variant("attributes"),
    "A-LLMRec": _variant("CF"),
    "TRSR": _variant("summary"),
    "full description": _variant("description"),
    "UniMP": _variant("image, attributes", vocabulary=True),
    "I-LLMRec": Variant(),
    "I-LLMRec+D": _variant("image, summary"),
}
"""The expressions of the paper's Table 1, each named after the paper that has it; all else is equal."""
CONTROLS = {
    "title alone": _variant("title"),
    "no LLM": Variant(options={"llm": ""}),
    "random LLM": Variant(options={"random_llm": True}),
    "shuffled images": Variant(images="shuffled"),
    "shuffled images in the prompt": _variant("another image"),
    "TALLRec, items without image features": Variant(options={"expression": "attributes"}, kinds=("CF", "text")),
    "TRSR, items without image features": Variant(options={"expression": "summary"}, kinds=("CF", "text")),
}
"""Controls that the paper lacks."""
COMPONENTS = {
    "image, no ILA": Variant(options={"alignment": False}, kinds=("image",)),
    "image": Variant(kinds=("image",)),
    "CF": Variant(kinds=("CF",)),
    "image and CF": Variant(kinds=("image", "CF")),
    "text": Variant(kinds=("text",)),
    "image and text": Variant(kinds=("image", "text")),
    "CF and text": Variant(kinds=("CF", "text")),
    "all, no ILA": Variant(options={"alignment": False}),
}
"""Rows (a) to (d) of the paper's Table 2, then four that it does not have; row (e) is I-LLMRec."""
STRATEGIES = {
    "BCE": Variant(options={"loss": "bce"}),
    "as released": Variant(options={"loss": "bce", "as_released": True}),
    "LoRA": Variant(options={"lora": True}),
    "random LLM, LoRA": Variant(options={"lora": True, "random_llm": True}),
    "two stages": Variant(options={"two_stage": True}),
    "three times the epochs": Variant(options={"epochs": 12}),
    "half of the images missing": Variant(images="half missing"),
    "pocket-siglip": Variant(encoder="pocket-siglip"),
    "pocket-resnet": Variant(encoder="pocket-resnet"),
    "pocket-gpt2": Variant(options={"llm": "pocket-gpt2"}),
}
"""The paper's losses as written and as released, its Tables 3, 4, 6 and 7, and a longer training."""
VARIANTS = EXPRESSED | CONTROLS | COMPONENTS | STRATEGIES
ON_REAL_DATA = {
    "lite0": Variant(encoder="lite0"),
    "no LLM, more training": CONTROLS["no LLM"],
    "LoRA, no ILA": Variant(options={"lora": True, "alignment": False}),
    "random LLM, LoRA, no ILA": Variant(options={"lora": True, "alignment": False, "random_llm": True}),
}
"""Variants that are run on real data only, beside some of VARIANTS."""


def collaborative_features(split: Split, **hyperparameters: Any) -> np.ndarray:  # noqa: ANN401
    """(I + 1, D) item embeddings of a SASRec that is fitted to the training part; row 0 is padding."""
    sasrec = SASRec(**hyperparameters).fit(split)
    return prepend_padding(sasrec.network.item_embedding().detach().cpu().numpy()[: split.dataset.num_items])


def build_variant(
    name: str,
    variant: Variant,
    split: Split,
    cf: np.ndarray,
    settings: Settings,
    **hyperparameters: Any,  # noqa: ANN401
) -> ILLMRec:
    """A system, not yet fitted.

    Args:
        name: of the system in tables.
        variant: what it is.
        split: to which it will be fitted.
        cf: (I + 1, D) collaborative features of the items, see ``collaborative_features``.
        settings: name the models, and the seed of the training, the shuffled and the missing images.
        hyperparameters: of ``ILLMRec``.
    """
    dataset, options = split.dataset, dict(variant.options)
    encoder, llm = variant.encoder or settings.models["clip"], options.setdefault("llm", settings.models["llm"])
    images, rng = image_features(dataset, encoder), np.random.default_rng(settings.seed)
    if variant.images == "shuffled":
        images = shuffled_items(images, rng)
    if variant.images == "half missing":
        options["imageless"] = missing_images(dataset, rng)
        images = replaced_by_texts(images, dataset, options["imageless"], encoder)
    if "summary" in options.get("expression", ""):
        options["summaries"] = summarise(dataset, llm)
    features = {"image": images, "CF": cf, "text": text_features(dataset, encoder=settings.models["text"])}
    if options.get("expression") == "another image":
        features["another image"] = shuffled_items(images, rng)
    options |= {"kinds": variant.kinds, "name": name, "seed": settings.seed} | hyperparameters
    return ILLMRec(features=features, **options)


def missing_images(dataset: RecDataset, rng: np.random.Generator) -> list[int]:
    """The share MISSING of the items, at random."""
    return sorted((1 + rng.permutation(dataset.num_items)[: round(MISSING * dataset.num_items)]).tolist())


def replaced_by_texts(images: np.ndarray, dataset: RecDataset, items: list[int], encoder: str) -> np.ndarray:
    """(I + 1, F) features whose rows of some items come from the encoder's text tower and their descriptions."""
    descriptions = dataset.column("description")
    replaced = images.copy()
    replaced[items] = embed_texts([descriptions[item] for item in items], encoder).vectors.numpy()
    return replaced

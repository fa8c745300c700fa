"""Chapter 4's systems as data: the item decoder, its ablations and its design choices, built from a data set."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.evaluation.runs import Run, load_runs
from mmrec_helpers.evaluation.tables import pooled
from mmrec_helpers.llm.backbones import backbone_sizes
from mmrec_helpers.recommenders.features import image_features, principal_components, text_features
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import Settings

TEXT_DIM = 128
"""Columns of the text features."""
PAPER_DIM = 64
"""Columns of each modality where, as in the paper, both side by side are as wide as GPT-2."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A system of chapter 4 before it is built.

    Attributes:
        inputs: what it knows of the items, a key of ``decoder_inputs``.
        config: MM-GPT2Rec's design choices. Its backbone is a role of ``Settings.models``.
        hyperparameters: of the system, where they are not its defaults.
        pretrained_sizes: take dim, layers and heads from the pretrained GPT-2 of the settings.
        is_sasrec: SASRec instead of MM-GPT2Rec; without design choices.
    """

    inputs: str = "both"
    config: MMGPT2Config = field(default_factory=MMGPT2Config)
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    pretrained_sizes: bool = False
    is_sasrec: bool = False


ABLATIONS = {
    "MM-GPT2Rec": Variant(),
    "text only": Variant(inputs="text"),
    "image only": Variant(inputs="image"),
    "IDs only": Variant(inputs="none", hyperparameters={"use_ids": True}),
    "features and IDs": Variant(hyperparameters={"use_ids": True}),
    "shuffled features": Variant(inputs="shuffled"),
    "weighted fusion": Variant(config=MMGPT2Config(fusion="weighted")),
    "attention fusion": Variant(config=MMGPT2Config(fusion="attention")),
    "64 + 64 features, add": Variant(inputs="64 + 64 features"),
    "64 + 64 features, concat": Variant(inputs="64 + 64 features", config=MMGPT2Config(fusion="concat")),
    "untied": Variant(config=MMGPT2Config(tie_weights=False)),
    "SASRec on text and image": Variant(hyperparameters={"use_ids": False, "weight_decay": 0.05}, is_sasrec=True),
}
"""The decoder, its ablations and SASRec on the same features."""

APPENDIX = {
    "num_restarts": 3,
    "warmup_steps": 200,
    "accumulation_steps": 2,
    "patience": 5,
    "min_delta": 0.001,
    "mixed_precision": True,
}
"""Training schedule of the paper's appendix A; it does not give the number of restarts."""
PRINTED = {"lr": 1e-5, "dropout": 0.01, "weight_decay": 0.01, "batch_size": 16, "epochs": 20, "max_len": 12}
"""Hyperparameters of the paper's appendix A."""


def _pretrained(tuning: str = "full", backbone: str = "gpt2") -> Variant:
    return Variant(config=MMGPT2Config(backbone=backbone, tuning=tuning), pretrained_sizes=True)


DESIGN_CHOICES = {
    "MM-GPT2Rec": ABLATIONS["MM-GPT2Rec"],
    "untied": ABLATIONS["untied"],
    "no BOS token": Variant(config=MMGPT2Config(bos="none")),
    "user BOS token": Variant(config=MMGPT2Config(bos="user")),
    "EOS token": Variant(config=MMGPT2Config(eos=True)),
    "no item biases": Variant(config=MMGPT2Config(use_bias=False)),
    "ID embeddings from features": Variant(config=MMGPT2Config(id_init="features"), hyperparameters={"use_ids": True}),
    "pretrained backbone": _pretrained(),
    "pretrained backbone, unfreezing": _pretrained("unfreezing"),
    "pretrained backbone, LoRA": _pretrained("lora"),
    "random backbone, LoRA": _pretrained("lora", backbone=""),
    "contrastive loss": Variant(config=MMGPT2Config(contrastive_weight=0.1)),
    "untied, alignment loss": Variant(config=MMGPT2Config(tie_weights=False, alignment_weight=1.0)),
    "BCE": Variant(hyperparameters={"loss": "bce"}),
    "gBCE": Variant(hyperparameters={"loss": "gbce"}),
    "sampled softmax, 3 negatives": Variant(hyperparameters={"loss": "ssm", "num_negatives": 3}),
    "sampled softmax, 256 negatives": Variant(hyperparameters={"loss": "ssm", "num_negatives": 256}),
    "1 layer": Variant(hyperparameters={"num_layers": 1}),
    "4 layers": Variant(hyperparameters={"num_layers": 4}),
    "dim 32": Variant(hyperparameters={"dim": 32}),
    "dim 128": Variant(hyperparameters={"dim": 128}),
    "max_len 12": Variant(hyperparameters={"max_len": 12}),
    "appendix's schedule": Variant(config=MMGPT2Config(training=APPENDIX)),
    "appendix as printed": Variant(config=MMGPT2Config(training=APPENDIX), hyperparameters=PRINTED),
}
"""The decoder, and one design choice or size of the paper at a time."""


TABLE_ONE = {
    "VBPR": "VBPR, both",
    "NRMF": "NRMF (our reading)",
    "Content-Based": "content, both",
    "Matrix Factorization": "matrix factorization",
    "Hybrid": "hybrid",
    "Collaborative Filtering": "user-kNN",
    "Popularity": "popularity",
    **{name: name for name in ("DeepCoNN", "SASRec")},
}
"""Baseline of the paper's table I -> ours."""

STEPS = {
    "ch03": ("popularity", "SASRec", "GRU4Rec_F, both", "Bayes ceiling"),
    "ch04": (
        *("image only", "text only", "MM-GPT2Rec", "SASRec on text and image", "dim 128", "date as input"),
        *("price as a third modality", "date as input and in item biases"),
        *("Bayes ceiling, clock-blind", "Bayes ceiling, all users"),
    ),
    "shop": ("SASRec on all true attributes",),
}
"""Study -> systems between popularity and the ceiling."""


def design_choices(dataset: RecDataset, settings: Settings) -> dict[str, Variant]:
    """DESIGN_CHOICES that apply.

    Without images there is no contrastive loss. Where the pretrained GPT-2 of the settings has other sizes than the
    decoder, a randomly initialised backbone of its sizes is added as a control.
    """
    choices = dict(DESIGN_CHOICES)
    if not dataset.has_image.any():
        del choices["contrastive loss"]
    if any(getattr(MMGPT2Rec, size) != value for size, value in backbone_sizes(settings.models["gpt2"]).items()):
        choices["random backbone of its size"] = _pretrained(backbone="")
    return choices


def decoder_inputs(dataset: RecDataset, settings: Settings) -> dict[str, dict[str, Any]]:
    """Name -> ``features`` and what belongs to them, as arguments of a system.

    Args:
        dataset: a data set; without images their columns are 0.
        settings: name the encoders of texts and images, and the seed of the shuffled control.
    """
    encoder, image = settings.models["text"], image_features(dataset, settings.models["clip"])
    text, narrow_text = (text_features(dataset, dim, encoder) for dim in (TEXT_DIM, PAPER_DIM))
    both = _side_by_side(text, image)
    features, order = both["features"], np.random.default_rng(settings.seed).permutation(dataset.num_items)
    narrow = _side_by_side(narrow_text, principal_components(image, PAPER_DIM))
    return {
        "none": {},
        "text": {"features": text},
        "image": {"features": image},
        "both": both,
        "shuffled": both | {"features": np.concatenate([features[:1], features[1:][order]])},
        "64 + 64 features": narrow | {"dim": sum(narrow["dims"])},
    }


def _side_by_side(*modalities: np.ndarray) -> dict[str, Any]:
    dims = tuple(features.shape[1] for features in modalities)
    return {"features": np.concatenate(modalities, axis=1), "dims": dims}


def build_variant(
    name: str,
    variant: Variant,
    inputs: Mapping[str, Mapping[str, Any]],
    settings: Settings,
    **hyperparameters: Any,  # noqa: ANN401, they are of several types
) -> MMGPT2Rec | SASRec:
    """A system of chapter 4, not yet fitted.

    Args:
        name: of the system in tables.
        variant: what it is.
        inputs: of ``decoder_inputs``.
        settings: name the pretrained GPT-2, and the seed.
        hyperparameters: override those of the variant.
    """
    arguments = {"name": name, "seed": settings.seed, **inputs[variant.inputs]}
    if variant.is_sasrec:
        del arguments["dims"]
        return SASRec(**arguments | variant.hyperparameters | hyperparameters)
    config = variant.config
    if config.backbone:
        config = replace(config, backbone=settings.models[config.backbone])
    sizes = backbone_sizes(settings.models["gpt2"]) if variant.pretrained_sizes else {}
    return MMGPT2Rec(config=config, **arguments | sizes | variant.hyperparameters | hyperparameters)


def recorded(
    split: str | list[str] = "leave-one-out", study: str = "ch04", protocol: str = "full", **where: str | list[str]
) -> list[Run]:
    """Test runs for the chapter's notebooks, by default on the three Pocket Shops; of systems that all of them have."""
    conditions = {"data": "pocket", "part": "test", "split": split, "protocol": protocol} | where
    runs = load_runs(f"../book/results/{study}.parquet", **conditions)
    keys = [(run.stamp["data"], run.system) for run in runs]
    shops = pd.Series([run.stamp["fingerprint"] for run in runs], pd.MultiIndex.from_tuples(keys))
    shops = shops.groupby(level=[0, 1]).nunique()
    most = shops.groupby(level=0).max()
    return [run for run, key in zip(runs, keys, strict=True) if shops[key] == most[key[0]]]


def way_to_the_ceiling(metric: str) -> pd.DataFrame:
    """(users, systems) a metric of STEPS on the three shops, and of those that a shop of 24,000 users has."""
    groups: dict[str, list[Run]] = {}
    for study, names in STEPS.items():
        for run in recorded(study=study, system=[*names], data=["pocket", "pocket-24k"]):
            more = "" if run.stamp["data"] == "pocket" else ", 24,000 users"
            groups.setdefault(run.system + more, []).append(run)
    return pd.DataFrame({name: pooled(runs, metric) for name, runs in groups.items()})


def plot_differences(axes: Axes, board: pd.DataFrame, margin: float = 0.0) -> None:
    """Forest plot of a leaderboard's differences, the first row on top; what lies within the margin counts as equal."""
    rows = board[board["difference_ci_low"] < board["difference_ci_high"]][::-1]  # without the reference
    mean = rows["difference"]
    ends = mean - rows["difference_ci_low"], rows["difference_ci_high"] - mean
    axes.axvspan(-margin, margin, color="0.88", linewidth=0)
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.errorbar(mean, rows.index, xerr=ends, fmt="o", markersize=4, linewidth=1.3)
    axes.grid(axis="y", visible=False)
    axes.set_ylim(-0.5, len(rows) - 0.5)

"""Chapter 5's cells: expressions under one LLM and head, controls, components; conditions, time, titles, real data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, NEXT_DAY, POCKET, SEEDS, TEMPORAL, benchmark_split, require_model
from experiments.expressions import (
    generate_for_queries,
    time_expressions,
    with_noisy_descriptions,
    with_wrong_items,
    within_window,
)
from experiments.illm_variants import (
    CONTROLS,
    EXPRESSED,
    ON_REAL_DATA,
    VARIANTS,
    build_variant,
    collaborative_features,
)
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.data.dataset import Split
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.recommenders.item_prompts import EXPRESSIONS
from mmrec_helpers.recommenders.tuning import Settings
from mmrec_helpers.settings import PROFILES, load_settings
from mmrec_helpers.settings import Settings as BookSettings

STUDY = "ch05"
TUNED = {"I-LLMRec": "I-LLMRec", "TALLRec": "I-LLMRec", "no LLM": "no LLM"}
"""System with a search of its own -> its space. In that of the control without a language model epochs may be chosen,
too, as it is cheap. All others take what is best for one of the three, see ``tuned_like``."""
ON_EACH_SHOP = (*EXPRESSED, *CONTROLS, "image", "CF", "image and CF")
"""Systems on three shops; all others are on the first, with its split in time."""
ON_TEMPORAL = ("I-LLMRec", "TALLRec", "no LLM", "random LLM")
COLLABORATIVE: Settings = {"lr": 0.008, "dropout": 0.5}
"""Hyperparameters of the SASRec whose item embeddings are the collaborative features: what chapter 3 chose for it."""
PROTOCOLS = ("full", "100 uniform")
_WINDOWS = tuple(f"full; window {size}" for size in (1024, 512, 256, 128, 64))
_WRONG = tuple(f"full; wrong {share}" for share in (0.25, 0.5, 1.0))
_NOISE = tuple(f"full; noise {ratio}" for ratio in (0.5, 1.0))
CONDITIONS = {
    "I-LLMRec": _WINDOWS + _WRONG,
    "I-LLMRec+D": _WINDOWS,
    "TALLRec": _WINDOWS + _WRONG,
    "TRSR": _WINDOWS + _WRONG + _NOISE,
    "full description": _WINDOWS + _WRONG + _NOISE,
}
"""System -> protocols of its evaluation under conditions that the training does not have, on the first shop: a context
window of fewer tokens; a share of the items with the texts and the image of another one; descriptions with sentences of
other items, by their words. See ``experiments.expressions``."""
_MODEST: Settings = {"dtype": "bfloat16"}
REAL = {
    "hm-week": (NEXT_DAY, ("full, basket",), _MODEST | {"epochs": 2, "max_users": 1_000}),
    "movielens": (LEAVE_ONE_OUT, PROTOCOLS, _MODEST),
}
"""Real data -> its split, its protocols, and hyperparameters that a larger LLM needs."""
REAL_SYSTEMS = {
    "hm-week": ("I-LLMRec", "TALLRec", "title alone", "no LLM", "random LLM", "lite0", "no LLM, more training"),
    "movielens": (
        *("I-LLMRec", "TALLRec", "no LLM", "random LLM", "no LLM, more training"),
        *("LoRA, no ILA", "random LLM, LoRA, no ILA"),
    ),
}
MORE_TRAINING: dict[str, Settings] = {"hm-week": {}, "movielens": {"epochs": 64}}
"""Hyperparameters of ``no LLM, more training``: all users for eight epochs; many epochs where users are few."""
SEVERAL_SEEDS = {("hm-week", "I-LLMRec")}
TIMED = {
    POCKET: (("I-LLMRec", "TALLRec", "TRSR", "full description", "I-LLMRec+D", "no LLM"), (2, 5, 10, 20, 40)),
    **dict.fromkeys(REAL, (("I-LLMRec", "TALLRec", "full description", "no LLM"), (10,))),
}
"""Data -> systems that are timed, and the lengths of the histories."""
MANY_TOKENS = 10_000
"""Of a prompt that is timed: more than the longest has, and for pocket-lm more than it can use."""
TITLES = "titles"
GENERATORS: list[tuple[str, Settings]] = [
    (POCKET, {"steps": 30, "lr": 1e-2, "queries": 3_000}),
    (POCKET, {"steps": 1_000, "lr": 1e-2, "queries": 3_000}),
    ("hm-week", {"steps": 100, "lr": 1e-3, "queries": 500}),
]
"""Data and settings of the language models that generate titles."""


# Plan -----------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = plan_tuning(STUDY, runs, TUNED)
    chosen = {name: chosen_settings(STUDY, runs, name, family) for name, family in TUNED.items()}
    for seed in SEEDS:
        place: dict[str, Any] = {"data": POCKET, "seed": seed}
        for name in VARIANTS if seed == 0 else ON_EACH_SHOP:
            protocols = PROTOCOLS + (CONDITIONS.get(name, ()) if seed == 0 else ())
            cells += cells_of(chosen, name, protocols, {}, **place, split=LEAVE_ONE_OUT)
    for name in ON_TEMPORAL:
        cells += cells_of(chosen, name, PROTOCOLS[:1], {}, data=POCKET, seed=0, split=TEMPORAL)
    for data, (split, protocols, own) in REAL.items():
        for name in REAL_SYSTEMS[data]:
            options = MORE_TRAINING[data] if name == "no LLM, more training" else own
            for seed in SEEDS if (data, name) in SEVERAL_SEEDS else SEEDS[:1]:
                cells += cells_of(chosen, name, protocols, options, data=data, seed=seed, split=split)
    cells += [
        Cell(study=STUDY, data=data, split=split_of(data), protocol=TIMING, system="item expressions") for data in TIMED
    ]
    return cells + [
        Cell(study=STUDY, data=data, split=split_of(data), part="test", protocol=TITLES, system="generated titles",
             hyperparameters=own)
        for data, own in GENERATORS
    ]  # fmt: skip


def cells_of(
    chosen: Mapping[str, Settings | None],
    system: str,
    protocols: Sequence[str],
    own: Settings,
    **place: Any,  # noqa: ANN401
) -> list[Cell]:
    """The test cells of a system; none as long as its settings are not chosen."""
    settings = chosen[tuned_like(system)]
    if settings is None:
        return []
    whole = settings | own
    return [
        Cell(study=STUDY, **place, part="test", protocol=protocol, system=system, hyperparameters=whole)
        for protocol in protocols
    ]


def tuned_like(system: str) -> str:
    """The one of TUNED whose settings a system takes: a text has no adaptor to train, and an image has one."""
    variant = (VARIANTS | ON_REAL_DATA)[system]
    if variant.options.get("llm") == "":
        return "no LLM"
    return "I-LLMRec" if EXPRESSIONS[variant.options.get("expression", "image")][1] else "TALLRec"


def split_of(data: str) -> str:
    """The split on which a data set's expressions are timed and its titles generated."""
    return REAL[data][0] if data in REAL else LEAVE_ONE_OUT


# Runs -----------------------------------------------------------------------------------------------------------------


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    first = cells[0]
    if first.protocol == TIMING:
        yield first, timing_run(first)
    elif first.protocol == TITLES:
        yield first, titles_run(first)
    else:
        split = benchmark_split(first.data, first.seed, first.split)
        yield from run_system(partial(build, first), cells, checkpoint, under=partial(under, split))


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    settings, variant = replace(book_settings(cell.data), seed=cell.seed), (VARIANTS | ON_REAL_DATA)[cell.system]
    if variant.encoder:
        require_model(variant.encoder)
    cf = collaborative(cell.data, cell.seed if cell.data == POCKET else 0, cell.split)
    split = benchmark_split(cell.data, cell.seed, cell.split)
    return build_variant(cell.system, variant, split, cf, settings, **cell.hyperparameters)


def book_settings(data: str) -> BookSettings:
    """The settings with the models of real data, or those of the Pocket Shop."""
    settings = load_settings()
    if data == POCKET:
        return settings
    for role in ("clip", "text", "llm"):
        require_model(PROFILES["real"][role])
    return replace(settings, models=PROFILES["real"])


@cache
def collaborative(data: str, seed: int, split: str) -> np.ndarray:
    """The collaborative features of the benchmark's items."""
    return collaborative_features(benchmark_split(data, seed, split), seed=seed, **COLLABORATIVE)


def under(split: Split, system: ILLMRec, condition: str) -> ILLMRec:
    """A fitted system under one of CONDITIONS, such as ``window 256``, or as it is."""
    kind, _, amount = condition.partition(" ")
    if kind == "window":
        return within_window(system, int(amount))
    if kind == "wrong":
        return with_wrong_items(system, split.dataset, float(amount))
    return with_noisy_descriptions(system, split.dataset, float(amount)) if kind == "noise" else system


def timing_run(cell: Cell) -> Run:
    """Seconds and tokens of the expressions; the weights and the collaborative features may be random."""
    names, lengths = TIMED[cell.data]
    split, settings = benchmark_split(cell.data, cell.seed, cell.split), book_settings(cell.data)
    random = np.random.default_rng(0).standard_normal((split.dataset.num_items + 1, 64)).astype(np.float32)
    options = {"max_len": max(lengths), "max_tokens": MANY_TOKENS} | (_MODEST if cell.data in REAL else {})
    systems = {name: build_variant(name, VARIANTS[name], split, random, settings, **options) for name in names}
    return time_expressions(systems, split, lengths)


def titles_run(cell: Cell) -> Run:
    """What a fine-tuned language model generates as titles of the next items."""
    settings, own = book_settings(cell.data), cell.hyperparameters
    llm = load_language_model(settings.models["llm"], torch.bfloat16 if cell.data in REAL else torch.float32)
    split = benchmark_split(cell.data, cell.seed, cell.split)
    queries = split.queries("test", 1).subsample(own["queries"])
    return generate_for_queries(llm, split, queries, own["steps"], own["lr"])

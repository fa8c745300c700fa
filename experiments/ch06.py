"""Chapter 6's cells: MLLM-MSR, its variants and baselines on the same candidates; fidelity; images as words or not."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import captions, ch03, ch07
from experiments.cells import Cell
from experiments.datasets import (
    LEAVE_ONE_OUT,
    NEXT_DAY,
    NUM_FOLDS,
    POCKET,
    SEEDS,
    TEMPORAL,
    benchmark_data,
    benchmark_split,
    open_data,
    require_model,
    stamp_of,
)
from experiments.record import recorded
from experiments.scores import StoredScores
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.data.dataset import PARTS, Split
from mmrec_helpers.encoders.features import embed_texts
from mmrec_helpers.evaluation.fidelity import (
    Attributes,
    asserted_in,
    attributes_in,
    counted,
    delays,
    fidelity,
    true_attributes,
    users_by_change,
)
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.preferences import direct_preferences, preference_steps
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.llm.summaries import ItemSummaries, describe, summarise_items
from mmrec_helpers.recommenders.features import shuffled_items
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR
from mmrec_helpers.recommenders.reranker import Reranker
from mmrec_helpers.recommenders.tuning import Settings
from mmrec_helpers.settings import load_settings

STUDY, FAMILY = "ch06", "MLLM-MSR"
PROTOCOL = "20 uniform"
"""The paper's: 21 candidates."""
EVALUATED, TRAINED = 1_000, 300
"""Users that are tested, or validated; users whose purchases are the positives of the training. At random."""
ZERO_SHOT, TEXT_ONLY, NO_RECURRENCE, NO_IMAGES = "zero-shot", "TALLRec", "MSR_NR", "MSR_T"
TUNED = (FAMILY, TEXT_ONLY)
"""The two that are compared, each with a search of its own; the variants take what is best for MLLM-MSR."""
VARIANTS: dict[str, Settings] = {
    FAMILY: {},
    ZERO_SHOT: {"epochs": 0},
    TEXT_ONLY: {"profile": "items", "max_len": 10},
    NO_RECURRENCE: {"profile": "direct"},
    NO_IMAGES: {},
    "no profile": {"profile": "none"},
    **{f"block of {size}": {"block": size} for size in (1, 2, 4, 5, 6, 7, 8)},
    **{f"history of {length}": {"max_len": length} for length in (3, 6, 12)},
    **{f"summary of {length} tokens": {"preference_len": length} for length in (10, 20, 80)},
    **{f"{number} negatives": {"num_negatives": number} for number in (3, 5)},
    "second training": {"seed": 1},
    "third training": {"seed": 2},
    "1,200 users": {"max_users": 1_200},
    "all users": {"max_users": 0},
}
"""Rows of the paper's Table 3 and Fig. 4, a control, and sweeps: Figs. 5 and 6, negatives, users of the training. Two
more trainings of MLLM-MSR start from other weights and learn from other users, also TRAINED."""
ON_EACH_SHOP = (FAMILY, ZERO_SHOT, TEXT_ONLY, NO_RECURRENCE, NO_IMAGES)
"""Systems on three shops, and on the first shop's split in time; all others are on the first shop."""
BASELINES = ("popularity", "item-kNN", "GRU4Rec", "SASRec", "GRU4Rec_F, both", "SASRec_F, both")
"""Systems of chapter 3 with the same candidates, with the hyperparameters that it chose."""
GRAPHS = tuple(ch07.GRAPH_SYSTEMS)
"""Chapter 7's, with what it chose, on the first shop's leave-one-out."""
FEW = f", {TRAINED} users"
"""What ends the name of a baseline that learns from no more users than MLLM-MSR does, from the same ones."""
ON_FEW = tuple(name + FEW for name in BASELINES[:4])
FOLDS = tuple(f"fold {fold} of {NUM_FOLDS}" for fold in range(1, NUM_FOLDS + 1))
IN_FOLDS = (FAMILY, "SASRec", "SASRec_F, both", "GRU4Rec_F, both")
TOP, _BY_POPULARITY, _BY_SASREC = 20, "full; of popularity", "full; of SASRec"
RERANKED = {
    "popularity": ("full",),
    "SASRec": ("full", _BY_POPULARITY),
    **dict.fromkeys((FAMILY, ZERO_SHOT, TEXT_ONLY, "1,200 users"), (_BY_POPULARITY, _BY_SASREC)),
}
"""System -> its protocols of full ranking on the first shop: alone, or as the ranker of a retriever's TOP items."""
INPUTS = {"GRU4Rec on descriptions": ("words",), "GRU4Rec on features": ("image",),
          "GRU4Rec on both": ("words", "image")}  # fmt: skip
"""GRU4Rec by what it is given of the images, as in the paper's Table 1: descriptions as vectors, features, or both."""
SHUFFLED = "shuffled "
OF_POSTERS = {
    "GRU4Rec on captions": ("captions",),
    "GRU4Rec on captions and features": ("captions", "image"),
    "GRU4Rec on shuffled descriptions": (SHUFFLED + "words",),
    "GRU4Rec on shuffled features": (SHUFFLED + "image",),
}
"""The same by what a model of photographs writes, see ``experiments.captions``; pocket-vlm has seen drawings alone.
Shuffled among the items an input names each of them, and says nothing of it: the control."""
BESIDE_POSTERS = ("popularity", "GRU4Rec")
"""Systems that see no image, with the same candidates."""
TEXT_ENCODERS = {"words": "pocket-sbert", "captions": "minilm"}
"""Of the descriptions, and of the captions of photographs."""
REAL = {"microlens": LEAVE_ONE_OUT, "hm-week": NEXT_DAY}
"""Real data -> split. Of MicroLens there are titles; of hm-week titles, and captions of the photographs, see
``experiments.captions``."""
ON_REAL_DATA = (FAMILY, ZERO_SHOT, TEXT_ONLY)
CONTENT = "content, text"
"""The baseline that reads titles, as language models do, and needs no interactions of an item."""
REAL_BASELINES = (*BASELINES[:4], CONTENT)
RERANKED_ON_REAL_DATA = {"SASRec": ("full",), FAMILY: (_BY_SASREC,), TEXT_ONLY: (_BY_SASREC,)}
"""As RERANKED, beside PROTOCOL."""
REAL_EVALUATED = 250
"""Users that are tested on real data."""
_REAL: Settings = {"llm": "smollm2", "writer": "smollm2", "lr": 1e-3, "max_len": 12}
REAL_SETTINGS = {"microlens": _REAL | {"max_users": 95}, "hm-week": _REAL | {"max_users": 165}}
"""Of a larger language model, without a search. The users of the training have about 500 positives."""
SMALL_BATCH: Settings = {"batch_size": 2}
"""Of the trainings on real data: some titles of MicroLens have 1,700 tokens, and gradients need memory for each."""
FIDELITY = "fidelity"
WRITERS = ("recurrent", "direct", "another user's", "counted", "counted, last 6")
"""Whence preferences come that are compared with the true tastes."""
LENGTH, BLOCK, CHANGES, NUM_USERS = 15, 3, range(4, 10), 200
"""Of fidelity: items of a history, items of a block, change-points of the tastes, users of each group."""


# Plan -----------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    cells = plan_tuning(STUDY, runs, dict.fromkeys(TUNED, FAMILY), PROTOCOL)
    chosen = {name: chosen_settings(STUDY, runs, name, FAMILY, PROTOCOL) for name in TUNED}
    chosen |= {name: chosen[FAMILY] for name in VARIANTS if name not in chosen}
    chosen |= baseline_settings(runs)
    chosen |= {name: chosen[name.removesuffix(FEW)] for name in ON_FEW}
    chosen |= {name: chosen_settings(ch07.STUDY, runs, name, family) for name, family in ch07.GRAPH_SYSTEMS.items()}
    places = [(POCKET, seed, LEAVE_ONE_OUT) for seed in SEEDS] + [(POCKET, 0, TEMPORAL)]
    for data, seed, split in places:
        is_first = (seed, split) == (0, LEAVE_ONE_OUT)
        names = (*((*VARIANTS, *ON_FEW, *GRAPHS) if is_first else ON_EACH_SHOP), *BASELINES)
        cells += [cell for name in names for cell in cells_of(chosen, name, data=data, seed=seed, split=split)]
    for name, protocols in RERANKED.items():
        for cell in cells_of(chosen, name, data=POCKET, split=LEAVE_ONE_OUT):
            cells += [replace(cell, protocol=protocol) for protocol in protocols]
    for fold in FOLDS:
        cells += [cell for name in IN_FOLDS for cell in cells_of(chosen, name, data=POCKET, split=fold)]
    for data, seed in [(POCKET, seed) for seed in SEEDS] + [("movielens", 0)]:
        for name in INPUTS if data == POCKET else INPUTS | OF_POSTERS:
            cells += cells_of({name: chosen["GRU4Rec_F, both"]}, name, data=data, seed=seed, split=LEAVE_ONE_OUT)
    for name in BESIDE_POSTERS:
        cells += cells_of(chosen, name, data="movielens", split=LEAVE_ONE_OUT)
    cells += captions.plan(STUDY)
    for data, split in REAL.items():
        real: dict[str, Settings | None] = {name: REAL_SETTINGS[data] | SMALL_BATCH for name in ON_REAL_DATA}
        real |= {ZERO_SHOT: REAL_SETTINGS[data], CONTENT: {}}
        for name in (*ON_REAL_DATA, *REAL_BASELINES):
            for cell in cells_of(chosen | real, name, data=data, split=split):
                protocols = (PROTOCOL, *RERANKED_ON_REAL_DATA.get(name, ()))
                cells += [replace(cell, protocol=protocol) for protocol in protocols]
    return cells + [
        Cell(study=STUDY, data=POCKET, seed=seed, protocol=FIDELITY, system=name) for seed in SEEDS for name in WRITERS
    ]


def baseline_settings(runs: Sequence[Run]) -> dict[str, Settings | None]:
    """What chapter 3 chose for its systems."""
    families = {spec.name: spec.family for spec in ch03.SYSTEMS}
    return {
        name: chosen_settings(ch03.STUDY, runs, ch03.TUNED[families[name]], families[name]) if families[name] else {}
        for name in BASELINES
    }


def cells_of(chosen: dict[str, Settings | None], system: str, **place: Any) -> list[Cell]:  # noqa: ANN401
    """The test cell of a system; none as long as its settings are not chosen."""
    if (settings := chosen[system]) is None:
        return []
    whole = settings | VARIANTS.get(system, {})
    return [Cell(study=STUDY, **place, part="test", protocol=PROTOCOL, system=system, hyperparameters=whole)]


# Runs -----------------------------------------------------------------------------------------------------------------


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    first = cells[0]
    if first.protocol == FIDELITY:
        yield first, fidelity_run(first)
    elif first.system == captions.SYSTEM:
        yield from captions.run(cells, checkpoint)
    else:
        number = REAL_EVALUATED if first.data in REAL else EVALUATED
        split = with_fewer_users(benchmark_split(first.data, first.seed, first.split), first.seed, number)
        ranked_by = partial(under, first, split, checkpoint)
        yield from run_system(partial(build, first), cells, checkpoint, under=ranked_by, split=split)


def with_fewer_users(split: Split, seed: int, number: int) -> Split:
    """The split with a number of users to validate and to test, the same for every system; all train."""
    users, part = split.dataset.interactions["user"].to_numpy(), split.part.copy()
    for held_out in (PARTS.index("valid"), PARTS.index("test")):
        kept = np.random.default_rng(seed).permutation(np.unique(users[part == held_out]))[:number]
        part[(part == held_out) & ~np.isin(users, kept)] = PARTS.index("unused")
    return replace(split, part=part)


def learning_from_few(split: Split, seed: int) -> Split:
    """The split with the training part of those users alone from whom MLLM-MSR learns; see ``MLLMMSR.positives``."""
    counts = split.interactions("train")["user"].value_counts()
    kept = np.random.default_rng(seed).permutation(sorted(counts.index[counts > 1]))[:TRAINED]
    others = ~split.dataset.interactions["user"].isin(kept).to_numpy()
    part = np.where(others & (split.part == PARTS.index("train")), PARTS.index("unused"), split.part)
    return replace(split, part=part)


def under(cell: Cell, split: Split, checkpoint: Path, system: Any, condition: str) -> Any:  # noqa: ANN401
    """A fitted system as the ranker of what a retriever finds, such as ``of SASRec``, or as it is.

    The scores of MLLM-MSR, which take longer than its training, are stored beside the checkpoint as they are computed.
    """
    if isinstance(system, MLLMMSR):
        system = StoredScores(system, split, checkpoint)
    if not condition:
        return system
    name = condition.removeprefix("of ")
    settings = baseline_settings(list(recorded(ch03.STUDY).values()))[name]
    assert settings is not None  # otherwise its own cells are not planned yet
    retriever: Any = ch03.build(replace(cell, system=name, hyperparameters=settings)).fit(split)
    return Reranker(retriever, system, TOP)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    if cell.system in (*BASELINES, CONTENT):
        return ch03.build(cell)
    if cell.system in GRAPHS:
        return ch07.build(cell)
    if cell.system in ON_FEW:
        system: Any = ch03.build(replace(cell, system=cell.system.removesuffix(FEW)))
        system.name, fit = cell.system, system.fit
        system.fit = lambda split, checkpoint=None: fit(learning_from_few(split, cell.seed), checkpoint)
        return system
    if kinds := (INPUTS | OF_POSTERS).get(cell.system):
        features = np.concatenate([image_input(cell.data, cell.seed, kind) for kind in kinds], axis=1)
        return GRU4Rec(features=features, use_ids=False, seed=cell.seed, name=cell.system, **cell.hyperparameters)
    texts = real_texts(cell.data) if cell.data in REAL else item_texts(cell.seed)
    own: Settings = {"max_users": TRAINED, "seed": cell.seed} | VARIANTS[cell.system] | cell.hyperparameters
    history = texts.texts if cell.system in (TEXT_ONLY, NO_IMAGES) else texts.fused
    candidates = texts.images
    if cell.system == TEXT_ONLY:  # the text of a real item is its title, which the prompt contains anyway
        candidates = [] if cell.data in REAL else texts.texts
    return MLLMMSR(history_texts=history, candidate_texts=candidates, name=cell.system, **own)


@cache
def item_texts(seed: int) -> ItemSummaries:
    """What models write about the items of a shop."""
    return summarise_items(benchmark_data(POCKET, seed), "pocket-lm", "pocket-vlm")


@cache
def real_texts(data: str) -> ItemSummaries:
    """Titles, and captions of the photographs where there are any; a model would not summarise a title."""
    for name in ("smollm2", *((captions.ENCODER,) if data == "hm-week" else ())):
        require_model(name)
    dataset = benchmark_data(data, 0)
    titles = [title or "" for title in dataset.column("title")]
    if data != "hm-week":
        return ItemSummaries(titles, [], titles)
    images = captions.item_captions(dataset)
    return ItemSummaries(titles, images, [", ".join(filter(None, pair)) for pair in zip(titles, images, strict=True)])


@cache
def image_input(data: str, seed: int, kind: str) -> np.ndarray:
    """(I + 1, F) the images' features, or vectors of what a model writes about them; shuffled if the kind says so."""
    if kind.startswith(SHUFFLED):
        return shuffled_items(image_input(data, seed, kind.removeprefix(SHUFFLED)), np.random.default_rng(0))
    dataset = benchmark_data(data, seed)
    if kind == "image":
        encoder = ch03.IMAGE_ENCODERS.get(data, load_settings().models["clip"])
        return np.asarray(ch03.inputs(data, seed, encoder)["image"])
    texts = describe(dataset, "pocket-vlm") if kind == "words" else captions.item_captions(dataset)
    return embed_texts(texts, TEXT_ENCODERS[kind]).vectors.numpy()


# Fidelity -------------------------------------------------------------------------------------------------------------


def fidelity_run(cell: Cell) -> Run:
    """Preferences after LENGTH items against the true tastes: precision and recall of each user, delay after a change.

    Asserted is what a preference mentions without a doubt. Users whose taste changes come first; the others have a
    delay of -1.
    """
    dataset, truth, _ = open_data(cell.data, cell.seed)
    assert truth is not None
    changed, stable, change = users_by_change(dataset, truth, LENGTH, CHANGES, NUM_USERS)
    users, texts = [*changed, *stable], item_texts(cell.seed).fused
    purchases = dataset.interactions.groupby("user")["item"].apply(list)
    histories = [[texts[item] for item in purchases[user][:LENGTH]] for user in users]
    ends = range(BLOCK, LENGTH + 1, BLOCK)
    true = [[true_attributes(truth, dataset.user_ids[user], end - 1) for end in ends] for user in users]
    last, values = [own[-1] for own in true], {}
    for kind, parse in {"asserted": asserted_in, "mentioned": attributes_in}.items():
        steps = [[parse(text) for text in own] if isinstance(own[0], str) else own
                 for own in written(cell.system, histories, ends)]  # fmt: skip
        for name, column in fidelity([own[-1] for own in steps], last).items():
            values[f"{name}, {kind}"] = column.to_numpy()
        passed = np.array([ends]) - np.array([[change[user]] for user in changed])
        num = len(changed)
        before, after = ([own[step] for own in true[:num]] for step in (0, -1))
        delay = delays(steps[:num], before, after, passed)
        values[f"delay, {kind}"] = np.concatenate([delay, np.full(len(stable), -1.0)])
    return Run.unranked(stamp_of(dataset), {"changed": len(changed)}, np.array(users), values)


def written(system: str, histories: Sequence[Sequence[str]], ends: Sequence[int]) -> list[list[Any]]:
    """For each user the preference after each block: texts, or sets of attributes that are counted."""
    write = Replies("pocket-instruct")
    if system == "direct":
        by_end = [direct_preferences(write, [own[:end] for own in histories]) for end in ends]
        return [list(own) for own in zip(*by_end, strict=True)]
    if system.startswith("counted"):
        window = 6 if system.endswith("6") else LENGTH
        found: list[list[Attributes]] = [[counted(own[:end][-window:]) for end in ends] for own in histories]
        return found
    steps = preference_steps(write, histories, BLOCK)
    return steps[1:] + steps[:1] if system == "another user's" else steps

"""Chapter 4's cells: the item decoder, its ablations and design choices, other splits, real data, reviews as texts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments import ch03, decoders, prompting
from experiments.cells import TIMING, Cell
from experiments.datasets import (
    IMAGE_ENCODERS,
    LEAVE_ONE_OUT,
    MORE_USERS,
    NEXT_DAY,
    NUM_FOLDS,
    POCKET,
    SEEDS,
    TEMPORAL,
    UNSEEN_CATEGORY,
    benchmark_data,
    benchmark_split,
    require_model,
)
from experiments.scores import StoredScores
from experiments.systems import chosen_settings, plan_tuning, run_system
from mmrec_helpers.data.dataset import RecDataset, Split
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec
from mmrec_helpers.recommenders.tuning import Settings
from mmrec_helpers.settings import Settings as BookSettings
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import (
    ABLATIONS,
    TABLE_ONE,
    Variant,
    build_variant,
    decoder_inputs,
    design_choices,
)

STUDY, DECODER, SASREC = "ch04", "MM-GPT2Rec", "SASRec on text and image"
TUNED_ABLATIONS = (DECODER, SASREC)
"""The two that are compared, each with a search of its own. The other ablations take what is best for the decoder."""
BASELINES = ("popularity", "content, both", "SASRec")
"""Systems of chapter 3 beside the decoder on other splits and on real data."""
OF_TABLE_ONE = tuple(TABLE_ONE.values())
"""All baselines of the paper's Table I: on its split, with the next five items as targets, too."""
SPLITS = {
    TEMPORAL: (DECODER, SASREC, *OF_TABLE_ONE),
    UNSEEN_CATEGORY: (DECODER, "no item biases", *BASELINES),
    **{f"fold {fold} of {NUM_FOLDS}": (DECODER, SASREC, *BASELINES) for fold in range(1, NUM_FOLDS + 1)},
}
"""Splits that the paper names beside its own, and the systems on each. Folds are on the first shop only."""
PROTOCOLS = {
    TEMPORAL: ("full", "full, next 5", "100 uniform, next 5", "20 uniform, next 5"),
    UNSEEN_CATEGORY: ("full", "full, next 5", "same category"),
}
"""Protocols of a split; the others have full ranking, of the next item and of the next five."""
ON_REAL_DATA = (
    *(DECODER, "text only", "image only", "IDs only", "features and IDs", "shuffled features"),
    *(SASREC, "SASRec"),
)
"""Systems that are run on MovieLens as well, and on hm-week."""
ON_MINILM, BY_MINILM = (DECODER, "features and IDs"), ", minilm"
"""Those that are also run with texts by MiniLM, and what their names end with then."""
ON_GIFT_CARDS = ("text only", "IDs only", "features and IDs", SASREC, "SASRec")
"""Systems on the first of the paper's categories, which has no images here: features are texts."""
REVIEWS = {"title and training reviews": False, "title and all reviews": True}
"""Name of MM-GPT2Rec with reviews as items' texts -> whether reviews of the held-out purchases are among them."""


# Plan -----------------------------------------------------------------------------------------------------------------


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    tuned = tuned_variants()
    cells = plan_tuning(STUDY, runs, dict.fromkeys(tuned, DECODER))
    chosen = {name: chosen_settings(STUDY, runs, name, DECODER) for name in tuned}
    chosen |= {name: chosen[DECODER] for name in (*ABLATIONS, *REVIEWS) if name not in chosen}
    chosen |= baseline_settings(runs) | {name: {} for name in variants() if name not in chosen}
    cells += extra_cells(runs, chosen) + prompting.plan(chosen)
    leave_one_out = [*variants(), *REVIEWS, "SASRec"]
    for seed in SEEDS:
        for name in leave_one_out:
            cells += cells_of(chosen, name, data=POCKET, seed=seed, split=LEAVE_ONE_OUT)
            if seed == 0:
                cells += cells_of(chosen, name, (TIMING,), data=POCKET, seed=seed, split=LEAVE_ONE_OUT)
        for split, names in SPLITS.items():
            if seed == 0 or not split.startswith("fold"):
                protocols = PROTOCOLS.get(split, ("full", "full, next 5"))
                for name in names:
                    cells += cells_of(chosen, name, protocols, data=POCKET, seed=seed, split=split)
        if seed == 0:
            for name in (*ON_REAL_DATA, "popularity"):
                cells += cells_of(chosen, name, ("full, basket",), data="hm-week", seed=seed, split=NEXT_DAY)
        for name in ON_REAL_DATA:
            cells += cells_of(chosen, name, data="movielens", seed=seed, split=LEAVE_ONE_OUT)
        for name in ON_MINILM:
            own = {f"{name}{BY_MINILM}": chosen[name]}
            cells += cells_of(own, f"{name}{BY_MINILM}", data="movielens", seed=seed, split=LEAVE_ONE_OUT)
    return cells


def extra_cells(runs: Sequence[Run], chosen: dict[str, Settings | None]) -> list[Cell]:
    """The cells of ``decoders``: by leave-one-out, on the shops, on more users, on Gift Cards; unseen items."""
    cells, extras = plan_tuning(STUDY, runs, dict.fromkeys(decoders.SEARCHED, DECODER)), extra_settings(runs, chosen)
    for seed in SEEDS:
        for name in (*decoders.EXTRAS, *decoders.CEILINGS):
            cells += cells_of(extras, name, data=POCKET, seed=seed, split=LEAVE_ONE_OUT)
        for name in ON_GIFT_CARDS:
            cells += cells_of(chosen, name, data="gift-cards", seed=seed, split=LEAVE_ONE_OUT)
        protocols = PROTOCOLS[UNSEEN_CATEGORY]
        cells += cells_of(extras, decoders.KNOWN, protocols, data=POCKET, seed=seed, split=UNSEEN_CATEGORY)
    for name in decoders.ON_MORE_USERS:
        cells += cells_of(chosen, name, data=MORE_USERS, split=LEAVE_ONE_OUT)
    return cells


def extra_settings(runs: Sequence[Run], chosen: dict[str, Settings | None]) -> dict[str, Settings | None]:
    """The settings of the systems of ``decoders``: of a search of their own, of another system, or none."""
    settings: dict[str, Settings | None] = {name: {} for name in (*decoders.EXTRAS, *decoders.CEILINGS)}
    settings |= {name: chosen_settings(STUDY, runs, name, DECODER) for name in decoders.SEARCHED}
    settings |= {name: chosen[DECODER] for name in (*decoders.AS_THE_DECODER, decoders.KNOWN)}
    for name in decoders.EXTRAS:
        base, _, change = name.rpartition(", ")
        if change.endswith(" epochs"):
            own = chosen[base]
            settings[name] = None if own is None else own | {"epochs": decoders.LONGER}
        if change.startswith("training "):
            own = chosen[base]
            settings[name] = None if own is None else own | {"seed": 10 * int(change.split()[1])}
    return settings


def cells_of(
    chosen: dict[str, Settings | None],
    system: str,
    protocols: Sequence[str] = ("full",),
    **place: Any,  # noqa: ANN401
) -> list[Cell]:
    """The test cells of a system; none as long as its settings are not chosen."""
    if (settings := chosen[system]) is None:
        return []
    return [
        Cell(
            study=STUDY, **place, part="" if protocol == TIMING else "test", protocol=protocol, system=system,
            hyperparameters=settings,
        )
        for protocol in protocols
    ]  # fmt: skip


@cache
def variants() -> dict[str, Variant]:
    """All ablations and design choices on the Pocket Shop."""
    return ABLATIONS | design_choices(benchmark_data(POCKET, 0), load_settings())


def tuned_variants() -> list[str]:
    """The systems with a search of their own: the two that are compared, and all design choices but the appendix.

    Ablations take what is best for the decoder.
    """
    choices = design_choices(benchmark_data(POCKET, 0), load_settings())
    return [
        *TUNED_ABLATIONS,
        *(name for name, own in choices.items() if name != DECODER and "lr" not in own.hyperparameters),
    ]


def baseline_settings(runs: Sequence[Run]) -> dict[str, Settings | None]:
    """What chapter 3 chose for its systems."""
    families = {system.name: system.family for system in ch03.SYSTEMS}
    return {
        name: chosen_settings(ch03.STUDY, runs, ch03.TUNED[families[name]], families[name])
        if families[name] in ch03.TUNED
        else {}
        for name in OF_TABLE_ONE
    }


# Runs -----------------------------------------------------------------------------------------------------------------


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``."""
    if cells[0].system in decoders.CEILINGS:
        ceiling, num_users = decoders.CEILINGS[cells[0].system]
        yield cells[0], ch03.ceiling_run(cells[0], ceiling, num_users)
        return
    split = prompting.split_of(cells[0])

    def under(system: Any, condition: str) -> Any:  # noqa: ANN401, prompting and all others
        assert not condition, f"chapter 4 has no condition {condition!r}"
        return StoredScores(system, split, checkpoint) if isinstance(system, prompting.Prompted) else system

    yield from run_system(partial(build, cells[0]), cells, checkpoint, under=under, split=split)


def build(cell: Cell) -> Recommender:
    """The system of a cell, not yet fitted."""
    if cell.system in prompting.PROMPTED:
        require_model(str(cell.hyperparameters.get("llm", "pocket-lm")))
        return prompting.Prompted(seed=cell.seed, name=cell.system, **cell.hyperparameters)  # type: ignore[arg-type]
    if cell.system in (*OF_TABLE_ONE, *prompting.BESIDE):
        return ch03.build(cell)
    name = cell.system.removesuffix(BY_MINILM)
    if name != cell.system:
        require_model("minilm")
    settings = book_settings(cell.data, cell.seed, "tfidf" if name == cell.system else "minilm")
    if name == decoders.RESNET:
        settings = replace(settings, models=settings.models | {"clip": "pocket-resnet"})
    known = variants() | decoders.EXTRAS | dict.fromkeys((*REVIEWS, decoders.KNOWN), ABLATIONS[DECODER])
    known, kinds = known | prompting.INSTRUCTED, decoders.KINDS | prompting.KINDS
    own = inputs(
        cell.data, cell.seed, settings.models["text"], settings.models["clip"], name if name in REVIEWS else ""
    )
    system = build_variant(cell.system, known[name], own, settings, **cell.hyperparameters)
    if name not in kinds:
        return system
    assert isinstance(system, MMGPT2Rec)
    return decoders.as_kind(system, kinds[name])


def book_settings(data: str, seed: int, text: str) -> BookSettings:
    """The settings with a seed, an encoder of texts, and the encoder of the data's images."""
    settings = load_settings()
    clip = IMAGE_ENCODERS.get(data, settings.models["clip"])
    require_model(clip)
    return replace(settings, seed=seed, models=settings.models | {"text": text, "clip": clip})


@cache
def inputs(data: str, seed: int, text: str, clip: str, reviews: str) -> dict[str, dict[str, Any]]:
    """The features of the items; of their reviews instead of their descriptions if ``reviews`` is one of REVIEWS."""
    dataset = benchmark_data(data, seed)
    if reviews:
        dataset = described_by_reviews(benchmark_split(data, seed, LEAVE_ONE_OUT), REVIEWS[reviews])
    settings = book_settings(data, seed, text)
    made = decoder_inputs(dataset, replace(settings, models=settings.models | {"clip": clip}))
    if data == POCKET:
        made["with price"] = decoders.side_by_side_with_price(made["both"], dataset.items["price"])
    return made


def described_by_reviews(split: Split, all_reviews: bool) -> RecDataset:
    """The data set with an item's reviews as its description: those of the training part, or all there are."""
    frame = split.dataset.interactions if all_reviews else split.interactions("train")
    reviews = frame.dropna(subset="review").groupby("item")["review"].agg(" ".join)
    texts = reviews.reindex(range(1, split.dataset.num_items + 1), fill_value="").tolist()
    items, description = split.dataset.items, split.dataset.items.features["description"]
    described = items.remove_columns("description").add_column("description", texts, feature=description)
    return replace(split.dataset, items=described.select_columns(items.column_names))

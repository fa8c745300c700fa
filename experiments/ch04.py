"""Chapter 4's runs: the item decoder, its ablations and options, other protocols, real data, reviews as texts."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np

from experiments.benchmarks import POCKET_SHOP, SEEDS, benchmark_data, benchmark_split, data_home
from experiments.ch03 import best_of, chosen, systems_of, validate
from experiments.record import read_record, round_decimals, worker_pool
from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.checkpoints import MINILM
from mmrec_helpers.evaluation.intervals import mean_interval
from mmrec_helpers.evaluation.protocols import Recommender, SampledNegatives, evaluate
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.evaluation.tables import by_group, item_quintiles
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import ABLATIONS, GRIDS, build_variant, decoder_inputs, design_choices

BASELINES = ("popularity", "content, both")
"""Chapter 3's systems beside the item decoder under other protocols."""
PROTOCOLS = {
    "temporal": ("MM-GPT2Rec", "SASRec on text and picture", *BASELINES),
    "unseen category": ("MM-GPT2Rec", "no biases", *BASELINES),
    "five folds": ("MM-GPT2Rec", "SASRec on text and picture", *BASELINES),
}
"""Protocols that the paper names beside its own, and the systems under each. Five folds are five trainings of each
system: on the first shop only."""
NUM_NEGATIVES = (20, 100)
"""Sampled negatives among which the next five items are ranked, too, under the temporal protocol."""
ON_REAL_DATA = (
    *("MM-GPT2Rec", "text alone", "picture alone", "ids alone", "both and ids", "both, shuffled"),
    *("SASRec on text and picture", "SASRec"),
)
"""Systems that are run on real data as well."""
TEXT_ENCODERS = {"tfidf": ON_REAL_DATA, "minilm": ("MM-GPT2Rec", "both and ids")}
"""What encodes the texts of real data, and the systems that use it."""
REVIEWS = {"title and training reviews": False, "title and all reviews": True}
"""Name of MM-GPT2Rec with reviews as items' texts -> whether reviews of the held-out purchases are among them."""
OWN_CONTROL = {
    "pretrained backbone, LoRA": "random backbone, LoRA",
    "not tied, alignment loss": "not tied",
    "64 + 64 columns, identity": "64 + 64 columns, add",
}
"""Systems that are compared with another one besides MM-GPT2Rec and SASRec."""


# Systems --------------------------------------------------------------------------------------------------------------


@cache
def decoder_systems(data: str, seed: int, text: str = "tfidf") -> dict[str, Callable[..., Recommender]]:
    """The chapter's systems by name, and chapter 3's SASRec, for a benchmark's data set and an encoder of its texts."""
    dataset, settings = benchmark_data(data, seed)[0], load_settings()
    settings = replace(settings, seed=seed, models=settings.models | {"text": text})
    inputs, variants = decoder_inputs(dataset, settings), ABLATIONS | design_choices(dataset, settings)
    systems: dict[str, Callable[..., Recommender]] = {
        name: partial(build_variant, name, variant, inputs, settings) for name, variant in variants.items()
    }
    systems["SASRec"] = partial(SASRec, seed=seed, **chosen("SASRec"))
    if data == POCKET_SHOP:
        for name, all_reviews in REVIEWS.items():
            reviewed = described_by_reviews(benchmark_split(data, seed), all_reviews)
            inputs = decoder_inputs(reviewed, settings)
            systems[name] = partial(build_variant, name, ABLATIONS["MM-GPT2Rec"], inputs, settings)
    return systems


def described_by_reviews(split: Split, all_reviews: bool) -> RecDataset:
    """The data set with an item's reviews as its description: those of the training part, or all there are."""
    frame = split.dataset.interactions if all_reviews else split.interactions("train")
    reviews = frame.dropna(subset="review").groupby("item")["review"].agg(" ".join)
    texts = reviews.reindex(range(1, split.dataset.num_items + 1), fill_value="").tolist()
    items, description = split.dataset.items, split.dataset.items.features["description"]
    described = items.remove_columns("description").add_column("description", texts, feature=description)
    return replace(split.dataset, items=described.select_columns(items.column_names))


def best_settings() -> dict[str, dict]:
    """The settings that ``decoder`` found best in validation on a Pocket Shop."""
    return {name: best_of(tried) for name, tried in read_record("decoder")["tried"].items()}


def settings_of_variants(best: dict[str, dict]) -> dict[str, dict]:
    """Settings of every variant: its own best ones or those of MM-GPT2Rec. SASRec's are in the system already."""
    return {name: best.get(name, best["MM-GPT2Rec"]) for name in ABLATIONS} | {"SASRec": {}}


def try_variant(system: str, settings: dict) -> dict:
    """As chapter 3's ``try_settings``, for this chapter's systems."""
    return validate(decoder_systems(POCKET_SHOP, 0)[system](**settings), settings)


def try_variants(candidates: dict[str, list[dict]], pool: ProcessPoolExecutor) -> dict[str, list[dict]]:
    """What systems reach in validation with each of their candidate settings."""
    jobs = {name: [pool.submit(try_variant, name, settings) for settings in of] for name, of in candidates.items()}
    tried = {}
    for name, running in jobs.items():
        tried[name] = [job.result() for job in running]
        print(name, tried[name], flush=True)
    return tried


# One benchmark --------------------------------------------------------------------------------------------------------


def decoder_row(data: str, seed: int, text: str, system: str, settings: dict) -> tuple[dict, np.ndarray]:
    """What the record keeps of one system on one data set, and (N,) its NDCG@10 for each user."""
    split, make = benchmark_split(data, seed), decoder_systems(data, seed, text)[system]
    start = time.process_time()
    fitted: Any = make(**settings).fit(split)
    seconds, run = time.process_time() - start, evaluate(fitted, split)
    row: dict[str, Any] = {metric: mean_interval(run.metric(metric)) for metric in ("HR@5", "HR@10", "NDCG@10")}
    groups = item_quintiles(split)[split.queries("test").targets[:, 0]]
    row["by warmth of the target"] = by_group(run, "NDCG@10", groups)[["mean", "ci_low", "ci_high"]].to_numpy().tolist()
    row["learnt parameters"] = sum(weight.numel() for weight in fitted.network.parameters() if weight.requires_grad)
    row |= {"fit CPU seconds": seconds, "best step": fitted.training.best_step}
    row["validations"] = fitted.training.validations[["step", "score"]].to_numpy().tolist()
    return row, run.metric("NDCG@10")


def benchmark(data: str, seed: int, settings: dict[str, dict], pool: ProcessPoolExecutor, text: str = "tfidf") -> dict:
    """Systems with their settings on one data set, each with its difference to MM-GPT2Rec, SASRec and its control."""
    running = {name: pool.submit(decoder_row, data, seed, text, name, own) for name, own in settings.items()}
    results, rows = {name: job.result() for name, job in running.items()}, {}
    for name, (row, values) in results.items():
        others = [other for other in ("MM-GPT2Rec", "SASRec", OWN_CONTROL.get(name)) if other in results]
        rows[name] = row | {f"more than {other}": mean_interval(values - results[other][1]) for other in others}
        print(f"{data}, seed {seed}: {name} {rows[name]}", flush=True)
    return {"fingerprint": benchmark_data(data, seed)[0].fingerprint, "systems": rows}


def decoder() -> dict:
    """The item decoder and its ablations on three Pocket Shops, each shop with the same seed."""
    with worker_pool() as pool:
        tried = try_variants(GRIDS, pool)
        settings = settings_of_variants({name: best_of(candidates) for name, candidates in tried.items()})
        shops = {str(seed): benchmark(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    return round_decimals({"seeds": SEEDS, "tried": tried, "shops": shops})


def decoder_options() -> dict:
    """The options of the item decoder on three Pocket Shops, each with the settings that are best for it.

    The candidates are those that ``decoder`` tried for MM-GPT2Rec; the appendix brings its own settings.
    """
    variants = design_choices(benchmark_data(POCKET_SHOP, 0)[0], load_settings())
    tuned = [name for name, variant in variants.items() if "lr" not in variant.hyperparameters]
    candidates = dict.fromkeys(tuned, GRIDS["MM-GPT2Rec"])
    with worker_pool() as pool:
        tried = try_variants(candidates, pool)
        settings = {name: best_of(tried.get(name, [])) for name in variants}
        shops = {str(seed): benchmark(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    return round_decimals({"seeds": SEEDS, "tried": tried, "shops": shops})


def decoder_reviews() -> dict:
    """The item decoder on three Pocket Shops with reviews as items' texts."""
    settings = dict.fromkeys(("MM-GPT2Rec", *REVIEWS), best_settings()["MM-GPT2Rec"])
    with worker_pool() as pool:
        shops = {str(seed): benchmark(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    return round_decimals({"seeds": SEEDS, "shops": shops})


def decoder_real() -> dict:
    """The item decoder and its modalities on MovieLens with posters, with the settings of the Pocket Shop.

    Its texts are encoded by each of TEXT_ENCODERS that is installed.
    """
    data_home()
    settings, by_encoder = settings_of_variants(best_settings()), {}
    with worker_pool() as pool:
        for text, names in TEXT_ENCODERS.items():
            if text == "minilm" and not find_spec(MINILM):
                print(f"no texts are encoded by {text}: it is not installed")
                continue
            own = {name: settings[name] for name in names}
            by_encoder[text] = {str(seed): benchmark("MovieLens", seed, own, pool, text) for seed in SEEDS}
    return round_decimals({"seeds": SEEDS, "MovieLens": by_encoder})


# Other protocols ------------------------------------------------------------------------------------------------------


def protocol_splits(protocol: str, seed: int) -> list[Split]:
    """The splits of one of PROTOCOLS on a Pocket Shop; seed s leaves out category s, in alphabetical order."""
    dataset = benchmark_data(POCKET_SHOP, seed)[0]
    if protocol == "temporal":
        return [dataset.temporal_split()]
    if protocol == "five folds":
        return dataset.by_user_folds(5)
    return [dataset.hold_out_category(sorted(set(dataset.column("category")[1:]))[seed])]


class Restricted:
    """A fitted system that ranks some items only.

    Args:
        system: that scores all items.
        candidates: (I + 1,) bool, the items that are ranked.
    """

    def __init__(self, system: Recommender, candidates: np.ndarray) -> None:
        self.system, self.candidates, self.name = system, candidates, system.name

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores; items that are no candidates score below all others."""
        scores = np.asarray(self.system.score(queries))
        return np.where(self.candidates, scores, scores.min(axis=1, keepdims=True) - 1)


def protocol_runs(protocol: str, system: Recommender, split: Split) -> dict[str, Run]:
    """Task -> the run of a fitted system on the test part of a split: the next item, the next five.

    An unseen category is also ranked alone, and the temporal split also among NUM_NEGATIVES sampled items.
    """
    runs = {f"next {num}": evaluate(system, split, num_targets=num) for num in (1, 5)}
    if protocol == "temporal":
        for num in NUM_NEGATIVES:
            sampled = SampledNegatives(num)
            runs[f"next 5 among {num} drawn"] = evaluate(system, split, protocol=sampled, num_targets=5)
    if protocol == "unseen category":
        category = np.array(split.dataset.column("category"), object)
        unseen = category == category[split.queries("test").targets[0, 0]]
        runs["next 1 in the category"] = evaluate(Restricted(system, unseen), split)
    return runs


def protocol_row(protocol: str, seed: int, system: str, settings: dict) -> dict[str, np.ndarray]:
    """Metric and task -> (N,) values of all users whom a protocol's splits test."""
    runs = []
    for split in protocol_splits(protocol, seed):
        baselines = {name: systems_of(POCKET_SHOP, seed)[name].build for name in BASELINES}
        make = (baselines | decoder_systems(POCKET_SHOP, seed))[system]
        runs.append(protocol_runs(protocol, make(**settings).fit(split), split))
    return {
        f"{metric}, {task}": np.concatenate([by_task[task].metric(metric) for by_task in runs])
        for task in runs[0]
        for metric in ("HR@5", "P@5", "R@5", "NDCG@5", "MRR", "MAP@5", "NDCG@10")
    }


def decoder_protocols() -> dict:
    """The item decoder under the protocols that its paper names, on three Pocket Shops."""
    best, shops = best_settings(), {}
    settings = best | {"no biases": best["MM-GPT2Rec"]} | {name: {} for name in BASELINES}
    with worker_pool() as pool:
        for seed in SEEDS:
            running = {
                (protocol, name): pool.submit(protocol_row, protocol, seed, name, settings[name])
                for protocol, systems in PROTOCOLS.items()
                for name in systems
                if protocol != "five folds" or seed == 0
            }
            rows: dict[str, dict] = {}
            for (protocol, name), job in running.items():
                row: dict[str, Any] = {metric: mean_interval(values) for metric, values in job.result().items()}
                rows.setdefault(protocol, {})[name] = row
                print(f"seed {seed}: {protocol}, {name} {row}", flush=True)
            shops[str(seed)] = rows
    return round_decimals({"seeds": SEEDS, "shops": shops})

"""Record the long runs of the book into book/results, one stamped JSON a run."""

import json
import multiprocessing
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from transformers import AutoTokenizer

from experiments.separations import NUM_INFERRED, measure
from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.encoders.checkpoints import MINILM, POCKET, WEIGHTS
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.evaluation.metrics import TargetRanks, hit_rate, ndcg
from mmrec_helpers.evaluation.protocols import Recommender, SampledNegatives, evaluate
from mmrec_helpers.evaluation.tables import by_group, item_quintiles
from mmrec_helpers.lessons.exploration import bootstrap_interval, leakage_lab
from mmrec_helpers.loading import load_data
from mmrec_helpers.pocket_shop import choice_model as shoppers
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.recommenders.ceilings import BayesCeiling, Oracle
from mmrec_helpers.recommenders.mmgpt2rec import SETTINGS as DECODER_SETTINGS
from mmrec_helpers.recommenders.mmgpt2rec import options, variants
from mmrec_helpers.recommenders.registry import SETTINGS, SystemSpec, benchmark_systems, validated
from mmrec_helpers.recommenders.sequential import SASRec
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch01 import curves, dataset_statistics
from mmrec_helpers.studies.ch02 import study, study_captions, study_swaps, sweep_parameter
from mmrec_helpers.studies.ch03 import by_protocol, confidence, mixed_core, study_rule, with_interval
from pretraining.corpus import HELD_OUT_SEEDS, draw_corpus
from pretraining.measure import measure as measure_model
from pretraining.measure import measure_control, texts_and_reviews, trigram_surprise
from pretraining.train import training_corpus

RESULTS = Path(__file__).resolve().parent.parent / "book" / "results"
SEEDS = (0, 1, 2)
ORDERS = 20
"""Random orders, or shuffles of the control, that are averaged: a single one is a draw."""
REAL_DATA = {
    "MovieLens": "folder:{home}/movielens-posters",
    "Gift Cards": "amazon:{home}/amazon-2018-raw/Gift_Cards_5.json.gz",
    "Magazines": "amazon:{home}/amazon-2018-raw/Magazine_Subscriptions_5.json.gz",
    "MicroLens": "microlens:{home}/microlens-50k",
}
"""What MMREC_DATA is for each real data set in the folder MMREC_DATA_HOME."""
POCKET_SHOP, LEAGUES = "Pocket Shop", ("MovieLens", "Gift Cards", "MicroLens")
"""Data sets of chapter 3's league."""
NUM_MICROLENS = 2_000
"""Users of MicroLens in the league."""
COUNTED = ("popularity", "content, both")
"""Chapter 3's systems that stand beside chapter 4's decoder under other protocols."""
PROTOCOLS = {
    "temporal": ("MM-GPT2Rec", "SASRec on text and picture", *COUNTED),
    "unseen category": ("MM-GPT2Rec", "no biases", *COUNTED),
    "five folds": ("MM-GPT2Rec", "SASRec on text and picture", *COUNTED),
}
"""Protocols that its paper names beside its own, and the systems under each. Five folds are five trainings of each
system: on the first shop only."""
ON_REAL_DATA = ("MM-GPT2Rec", "text alone", "picture alone", "ids alone", "both and ids", "both, shuffled")
ON_REAL_DATA += ("SASRec on text and picture", "SASRec")
"""Chapter 4's systems that are run on real data as well."""
READERS = {"tfidf": ON_REAL_DATA, "minilm": ("MM-GPT2Rec", "both and ids")}
"""What reads the texts of real data, and the systems that are fed by it."""
REVIEWED = {"title and training reviews": False, "title and all reviews": True}
"""Name of MM-GPT2Rec where items are told by reviews -> by all, with those of the purchases asked for."""
DRAWN = (20, 100)
"""Negatives among which the next five items are searched, too, under the temporal protocol."""
OWN_CONTROL = {
    "pretrained body, LoRA": "random body, LoRA",
    "not tied, alignment loss": "not tied",
    "64 + 64 columns, identity": "64 + 64 columns, add",
}
"""Systems of chapter 4 that are compared with another one besides."""


def stamp(seconds: float) -> dict:
    """Where and with what a run was made."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "minutes": round(seconds / 60, 1),
        "peak_gb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6), 1
        ),
        "profile": load_settings().profile,
        "commit": commit,
        "device": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mmrec-helpers", "numpy", "torch")},
    }


def record(name: str, run: dict) -> None:
    """Write a result whole or not at all."""
    part = RESULTS / f"{name}.part"
    part.write_text(json.dumps(run, indent=1) + "\n")
    part.replace(RESULTS / f"{name}.json")


def separations() -> None:
    """What each system reaches on three Pocket Shops, drawn from three seeds."""
    start, rows = time.time(), {}
    for seed in SEEDS:
        for system, found in measure(seed).items():
            rows.setdefault(system, []).append(round(float(found.mean()), 4))
            print(f"seed {seed}: {system} {rows[system][-1]}", flush=True)
    run = {"metric": "NDCG@10", "seeds": SEEDS, "rows": rows}
    run["fingerprints"] = [load_shop(seed)[0].fingerprint for seed in SEEDS]
    record("separations", run | stamp(time.time() - start))


def leakage_gain(dataset: RecDataset, shuffle_seed: int | None = None) -> np.ndarray:
    """(N,) HR@10 that a best-seller list gains by looking past the test moment; chapter 1's leakage lab."""
    lab = leakage_lab(dataset, shuffle_seed)
    return lab["peeking"][1] - lab["honest"][1]


def leakage_of_ties(dataset: RecDataset) -> dict[str, list[float]]:
    """What the leakage lab finds, averaged over ORDERS random orders of each user's interactions of the same time.

    Where a source tells days, the order of its file would decide which interaction is the last, and is tested on. The
    shuffled control has another shuffle in each order.

    Returns:
        Kind -> the honest list's HR@10, what peeking gains, and the 95 % interval of the gain.
    """
    honest, gains = {}, {}
    for seed in range(ORDERS):
        frame = dataset.interactions.sample(frac=1, random_state=seed).sort_values(["user", "time"], kind="stable")
        ordered = replace(dataset, interactions=frame.reset_index(drop=True))
        for kind, shuffle_seed in (("as it was", None), ("items shuffled", seed)):
            lab = leakage_lab(ordered, shuffle_seed)
            honest.setdefault(kind, []).append(lab["honest"][1])
            gains.setdefault(kind, []).append(lab["peeking"][1] - lab["honest"][1])
    found = {}
    for kind in gains:
        gain = np.mean(gains[kind], axis=0)  # (N,) the same users in each order
        found[kind] = [np.mean(honest[kind]), gain.mean(), *bootstrap_interval(gain)]
    return found


def leakage() -> None:
    """What the future is worth under leave-one-out, on five shops, with two controls."""
    start, honest, gains = time.time(), [], {"as it was": [], "items shuffled": [], "no fashion": []}
    for seed in range(5):
        dataset, _ = load_shop(seed)
        lab = leakage_lab(dataset)
        honest.append(float(lab["honest"][1].mean()))
        gains["as it was"].append(lab["peeking"][1] - lab["honest"][1])
        shuffles = [leakage_gain(dataset, shuffle_seed) for shuffle_seed in range(ORDERS)]
        gains["items shuffled"].append(np.mean(shuffles, axis=0))
        with tempfile.TemporaryDirectory() as cache, mock.patch.object(shoppers, "FASHION", 0.0):
            dataset, _ = load_shop(seed, cache=Path(cache))
        gains["no fashion"].append(leakage_gain(dataset))
    pairs = zip(gains["as it was"], gains["items shuffled"], strict=True)
    gains["the difference"] = [as_it_was - shuffled for as_it_was, shuffled in pairs]
    run = {"metric": "gain in HR@10", "seeds": list(range(5)), "honest": np.round(honest, 4).tolist()}
    run["fingerprints"] = [load_shop(seed)[0].fingerprint for seed in run["seeds"]]
    run["rows"] = {name: [round(float(gain.mean()), 4) for gain in shops] for name, shops in gains.items()}
    run["intervals"] = {
        name: bootstrap_interval(np.concatenate(shops)).round(4).tolist() for name, shops in gains.items()
    }
    record("leakage", run | stamp(time.time() - start))


def real_data() -> None:
    """Chapter 1's numbers on the Pocket Shop and on the real data sets of MMREC_DATA_HOME."""
    home = os.environ.get("MMREC_DATA_HOME")
    if not home:
        print("real-data is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start, sets = time.time(), {}
    for name, data in {"Pocket Shop": "pocket", **REAL_DATA}.items():
        dataset, _, report = load_data(load_settings({**os.environ, "MMREC_DATA": data.format(home=home)}))
        sets[name] = {"fingerprint": dataset.fingerprint, **numbers_of(dataset)}
        if report:
            sets[name]["clean-up"] = changes(report)
        if dataset.timed:
            sets[name]["leakage"] = six_digits(leakage_of_ties(dataset))
        print(name, flush=True)
    record("real-data", {"seeds": [0], "sets": sets} | stamp(time.time() - start))


def pocket_model(name: str) -> None:
    """What a pocket model reaches on worlds that it was not trained on."""
    start, rows = time.time(), {}
    worlds = [draw_corpus((seed,)) for seed in HELD_OUT_SEEDS]
    for world, other in zip(worlds, worlds[1:] + worlds[:1], strict=True):
        for asked, share in (measure_model(name, world, other) | measure_control(name, world, other)).items():
            rows.setdefault(asked, []).append(round(share, 4))
    if name in ("pocket-lm", "pocket-gpt2"):
        reader, known = AutoTokenizer.from_pretrained(WEIGHTS / name), texts_and_reviews(training_corpus())
        found = [np.exp(trigram_surprise(reader, known, texts_and_reviews(world)[::4])) for world in worlds]
        rows["the same, a 3-gram model"] = [round(float(perplexity), 4) for perplexity in found]
    minutes = json.loads((WEIGHTS / name / "stamp.json").read_text())["minutes"]
    run = {"metric": f"{name}: share that is right", "seeds": HELD_OUT_SEEDS, "rows": rows, "minutes to train": minutes}
    record(name, run | stamp(time.time() - start))


def overlap() -> None:
    """Chapter 2's study of image and description, its knobs and its swaps, on three Pocket Shops."""
    start, settings, run = time.time(), load_settings(), {"seeds": SEEDS, "fingerprints": []}
    parts = ("study", "study by SigLIP", "overlap knob", "noise knob", "swaps")
    run |= {"clip": settings.clip, "siglip": settings.siglip, **{part: {} for part in parts}}
    encoder = load_encoder(settings.clip)
    for seed in SEEDS:
        dataset, truth = load_shop(seed)
        run["fingerprints"].append(dataset.fingerprint)
        found = (
            study(dataset, truth, settings.clip),
            study(dataset, truth, settings.siglip),
            sweep_parameter("overlap", (0.0, 0.25, 0.5, 0.75, 1.0), encoder, seed, "laptop"),
            sweep_parameter("noise", (0.0, 1.0), encoder, seed, "laptop"),
            study_swaps(dataset, truth, encoder),
        )
        for part, value in zip(parts, found, strict=True):
            run[part][str(seed)] = value
        print(f"seed {seed}", flush=True)
    record("overlap", four_digits(run) | stamp(time.time() - start))


def overlap_real() -> None:
    """Chapter 2's study on MovieLens's posters and overviews and on Flickr8k's photographs and captions.

    The encoders are those of the settings. The pocket models know drawings only: theirs are negative controls.
    """
    home = os.environ.get("MMREC_DATA_HOME")
    if not home:
        print("overlap-real is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start, settings = time.time(), load_settings()
    dataset, _, _ = load_data(load_settings({**os.environ, "MMREC_DATA": REAL_DATA["MovieLens"].format(home=home)}))
    sets = {}
    for encoder in (settings.clip, settings.siglip):
        captions = study_captions(Path(home) / "flickr8k-captions", load_encoder(encoder))
        sets[encoder] = {"MovieLens": study(dataset, None, encoder), "Flickr8k": captions}
        print(encoder, flush=True)
    record("overlap-real", four_digits({"seeds": [0], "sets": sets}) | stamp(time.time() - start))


@cache
def league_data(name: str, seed: int) -> tuple[RecDataset, Truth | None]:
    """A data set of chapter 3's league, and the truth of a Pocket Shop.

    MovieLens is its 5-core. Of MicroLens are taken the users of 7 and the items of 5 interactions or more, and of these
    users NUM_MICROLENS at random: all of them would train for hours.
    """
    if name == POCKET_SHOP:
        return load_shop(seed)
    dataset = open_real(name, os.environ["MMREC_DATA_HOME"])
    if name == "MovieLens":
        dataset = dataset.k_core(5)
    if name == "MicroLens":
        dataset = mixed_core(dataset)
        drawn = np.random.default_rng(0).permutation(dataset.num_users)[:NUM_MICROLENS]
        dataset = dataset.keep(dataset.interactions["user"].isin(drawn).to_numpy())
    return dataset, None


@cache
def league_split(name: str, seed: int) -> Split:
    """Leave-one-out of a league's data set."""
    return league_data(name, seed)[0].leave_one_out()


@cache
def league_entries(name: str, seed: int) -> dict[str, SystemSpec]:
    """The systems of a league by name, and the oracle where there is one."""
    dataset, truth = league_data(name, seed)
    found = {entry.name: entry for entry in benchmark_systems(dataset, load_settings().clip, seed)}
    if truth is not None:
        found[Oracle.name] = SystemSpec(Oracle.name, Oracle.name, partial(Oracle, truth))
    return found


def try_setting(system: str, settings: dict) -> dict:
    """A system's NDCG@10 on a Pocket Shop's validation part with some settings, and the CPU seconds that it took."""
    split, start = league_split(POCKET_SHOP, 0), time.process_time()
    fitted = league_entries(POCKET_SHOP, 0)[system].make(**settings).fit(split)
    return settings | {"valid NDCG@10": validated(fitted, split), "CPU seconds": time.process_time() - start}


def tuning() -> None:
    """The same number of settings for each family of systems on one Pocket Shop, by what they reach in validation."""
    start, tried = time.time(), {}
    last = {entry.family: entry.name for entry in league_entries(POCKET_SHOP, 0).values()}
    with one_thread_each() as pool:
        jobs = {
            family: [pool.submit(try_setting, last[family], settings) for settings in settings_of]
            for family, settings_of in SETTINGS.items()
        }
        for family, running in jobs.items():
            tried[family] = [job.result() for job in running]
            print(family, tried[family], flush=True)
    run = {"seeds": [0], "fingerprint": league_data(POCKET_SHOP, 0)[0].fingerprint, "tried": tried}
    record("tuning", four_digits(run) | stamp(time.time() - start))


def chosen(family: str) -> dict:
    """The settings that were best for a family in validation."""
    return best_of(json.loads((RESULTS / "tuning.json").read_text())["tried"].get(family, []))


def best_of(tried: list[dict]) -> dict:
    """The settings with the best validation; none if none was tried."""
    best = max(tried, key=lambda found: found["valid NDCG@10"], default={})
    return {key: value for key, value in best.items() if key not in ("valid NDCG@10", "CPU seconds")}


def league_row(name: str, seed: int, system: str) -> tuple[dict, np.ndarray]:
    """What a league's record keeps of one system, and (N,) its NDCG@10 for each user."""
    split, entry = league_split(name, seed), league_entries(name, seed)[system]
    start = time.process_time()
    fitted = entry.make(**chosen(entry.family)).fit(split)
    seconds = time.process_time() - start
    run = evaluate(fitted, split)
    row = {metric: with_interval(run.metric(metric)) for metric in ("HR@10", "NDCG@10")} | {"fit CPU seconds": seconds}
    row["protocols"] = by_protocol([fitted], split).loc[system].to_dict()
    if entry.family in ("SASRec", "SASRec, BCE", "SASRec, gBCE"):
        row |= confidence(fitted, split)
    return row, run.metric("NDCG@10")


def league(name: str, seed: int, pool: ProcessPoolExecutor) -> dict:
    """The league of a data set: every system under leave-one-out and full ranking, with its difference to SASRec."""
    running = {system: pool.submit(league_row, name, seed, system) for system in league_entries(name, seed)}
    found = {system: job.result() for system, job in running.items()}
    rows = {}
    for system, (row, ndcgs) in found.items():
        rows[system] = row | {"more than SASRec": with_interval(ndcgs - found["SASRec"][1])}
        print(f"{name}, seed {seed}: {system} {rows[system]}", flush=True)
    dataset, truth = league_data(name, seed)
    if truth is not None:
        some = league_split(name, seed).queries("test").take(slice(NUM_INFERRED))
        scores = BayesCeiling(truth).fit(league_split(name, seed)).score(some)
        target_ranks = TargetRanks.of(scores, some.targets[:, :1], some.histories)
        rows[BayesCeiling.name] = {
            "HR@10": with_interval(hit_rate(target_ranks, 10)),
            "NDCG@10": with_interval(ndcg(target_ranks, 10)),
        }
    sizes = {"users": dataset.num_users, "items": dataset.num_items, "interactions": dataset.num_interactions}
    return {"fingerprint": dataset.fingerprint} | sizes | {"systems": rows}


def league_pocket() -> None:
    """The league of chapter 3 on three Pocket Shops, each system and each shop with the same seed."""
    start = time.time()
    with one_thread_each() as pool:
        shops = {str(seed): league(POCKET_SHOP, seed, pool) for seed in SEEDS}
    record("league-pocket", four_digits({"seeds": SEEDS, "shops": shops}) | stamp(time.time() - start))


def league_real() -> None:
    """The league of chapter 3 on the real data sets of MMREC_DATA_HOME."""
    if not os.environ.get("MMREC_DATA_HOME"):
        print("league-real is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start = time.time()
    with one_thread_each() as pool:
        sets = {name: league(name, 0, pool) for name in LEAGUES}
    record("league-real", four_digits({"seeds": [0], "sets": sets}) | stamp(time.time() - start))


@cache
def decoder_systems(data: str, seed: int, reader: str) -> dict[str, Callable[..., Recommender]]:
    """Chapter 4's systems by name, and chapter 3's SASRec, for a data set of its league whose texts a reader reads."""
    dataset, settings = league_data(data, seed)[0], replace(load_settings(), seed=seed, text=reader)
    found = variants(dataset, settings) | options(dataset, settings)
    found["SASRec"] = partial(SASRec, seed=seed, **chosen("SASRec"))
    if data == POCKET_SHOP:
        for name, every in REVIEWED.items():
            told = told_by_reviews(league_split(data, seed), every)
            found[name] = partial(variants(told, settings)["MM-GPT2Rec"], name=name)
    return found


def told_by_reviews(split: Split, every: bool) -> RecDataset:
    """The data set with an item's reviews as its description: those of the training part, or all there are."""
    frame = split.dataset.interactions if every else split.interactions("train")
    reviews = frame.dropna(subset="review").groupby("item")["review"].agg(" ".join)
    texts = reviews.reindex(range(1, split.dataset.num_items + 1), fill_value="").tolist()
    items = split.dataset.items
    told = items.remove_columns("description").add_column("description", texts, feature=items.features["description"])
    return replace(split.dataset, items=told.select_columns(items.column_names))


def try_variant(system: str, settings: dict) -> dict:
    """As ``try_setting``, for chapter 4."""
    split, start = league_split(POCKET_SHOP, 0), time.process_time()
    fitted = decoder_systems(POCKET_SHOP, 0, "tfidf")[system](**settings).fit(split)
    return settings | {"valid NDCG@10": validated(fitted, split), "CPU seconds": time.process_time() - start}


def decoder_row(data: str, seed: int, reader: str, system: str, settings: dict) -> tuple[dict, np.ndarray]:
    """What chapter 4's record keeps of one system on one data set, and (N,) its NDCG@10 for each user."""
    split, make = league_split(data, seed), decoder_systems(data, seed, reader)[system]
    start = time.process_time()
    fitted = make(**settings).fit(split)
    seconds, run = time.process_time() - start, evaluate(fitted, split)
    row = {metric: with_interval(run.metric(metric)) for metric in ("HR@5", "HR@10", "NDCG@10")}
    groups = item_quintiles(split)[split.queries("test").targets[:, 0]]
    row["by warmth of the target"] = by_group(run, "NDCG@10", groups)[["mean", "low", "high"]].to_numpy().tolist()
    row["learnt parameters"] = sum(weight.numel() for weight in fitted.network.parameters() if weight.requires_grad)
    row |= {"fit CPU seconds": seconds, "best step": fitted.training.best_step}
    row["validations"] = fitted.training.validations[["step", "score"]].to_numpy().tolist()
    return row, run.metric("NDCG@10")


def decoder_league(
    data: str, seed: int, settings_of: dict[str, dict], pool: ProcessPoolExecutor, reader: str = "tfidf"
) -> dict:
    """Systems of chapter 4 with their settings on one data set, each with its difference to some others."""
    running = {
        name: pool.submit(decoder_row, data, seed, reader, name, settings) for name, settings in settings_of.items()
    }
    found, rows = {name: job.result() for name, job in running.items()}, {}
    for name, (row, ndcgs) in found.items():
        others = [other for other in ("MM-GPT2Rec", "SASRec", OWN_CONTROL.get(name)) if other in found]
        rows[name] = row | {f"more than {other}": with_interval(ndcgs - found[other][1]) for other in others}
        print(f"{data}, seed {seed}: {name} {rows[name]}", flush=True)
    return {"fingerprint": league_data(data, seed)[0].fingerprint, "systems": rows}


def decoder_plan(best: dict[str, dict]) -> dict[str, dict]:
    """Settings of chapter 4's variants; SASRec's are in it already."""
    systems = variants(league_data(POCKET_SHOP, 0)[0], load_settings())
    return {name: best.get(name, best["MM-GPT2Rec"]) for name in systems} | {"SASRec": {}}


def try_variants(settings_of: dict[str, list[dict]], pool: ProcessPoolExecutor) -> dict[str, list[dict]]:
    """What each of some systems of chapter 4 reaches in validation with each of its settings."""
    jobs = {name: [pool.submit(try_variant, name, some) for some in of] for name, of in settings_of.items()}
    tried = {}
    for name, running in jobs.items():
        tried[name] = [job.result() for job in running]
        print(name, tried[name], flush=True)
    return tried


def decoder() -> None:
    """Chapter 4's item decoder and its ablations on three Pocket Shops, each shop with the same seed."""
    start = time.time()
    with one_thread_each() as pool:
        tried = try_variants(DECODER_SETTINGS, pool)
        settings = decoder_plan({name: best_of(found) for name, found in tried.items()})
        shops = {str(seed): decoder_league(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    record("decoder", four_digits({"seeds": SEEDS, "tried": tried, "shops": shops}) | stamp(time.time() - start))


def chosen_in_chapter4() -> dict[str, dict]:
    """The settings that ``decoder`` found best in validation on a Pocket Shop."""
    tried = json.loads((RESULTS / "decoder.json").read_text())["tried"]
    return {name: best_of(found) for name, found in tried.items()}


def decoder_real() -> None:
    """Chapter 4's item decoder and its modalities on MovieLens with posters, with the settings of the Pocket Shop.

    Its texts are read by each of READERS that is installed.
    """
    if not os.environ.get("MMREC_DATA_HOME"):
        print("decoder-real is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start, settings, readers = time.time(), decoder_plan(chosen_in_chapter4()), {}
    with one_thread_each() as pool:
        for reader, names in READERS.items():
            if reader == "minilm" and not find_spec(MINILM):
                print(f"no texts are read by {reader}: it is not installed")
                continue
            some = {name: settings[name] for name in names}
            readers[reader] = {str(seed): decoder_league("MovieLens", seed, some, pool, reader) for seed in SEEDS}
    record("decoder-real", four_digits({"seeds": SEEDS, "MovieLens": readers}) | stamp(time.time() - start))


def protocol_splits(protocol: str, seed: int) -> list[Split]:
    """The splits of one of PROTOCOLS on a Pocket Shop. A shop's unseen category is that which has its seed's place."""
    dataset = league_data(POCKET_SHOP, seed)[0]
    if protocol == "temporal":
        return [dataset.temporal_split()]
    if protocol == "five folds":
        return dataset.by_user_folds(5)
    return [dataset.hold_out_category(sorted(set(dataset.column("category")[1:]))[seed])]


class Among:
    """A fitted system that ranks (I + 1,) bool some items only."""

    def __init__(self, system: Recommender, asked: np.ndarray):
        self.system, self.asked, self.name = system, asked, system.name

    def score(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) scores; all other items have less than the least of these."""
        scores = self.system.score(queries)
        return np.where(self.asked, scores, scores.min(axis=1, keepdims=True) - 1)


def protocol_row(protocol: str, seed: int, system: str, settings: dict) -> dict[str, np.ndarray]:
    """Metric -> (N,) values of all users whom a protocol's splits test; with the next item, and with the next five.

    Of an unseen category also with its items alone, and under the split in time also among DRAWN items.
    """
    runs = {"next 1": [], "next 5": []}
    for split in protocol_splits(protocol, seed):
        systems = {name: league_entries(POCKET_SHOP, seed)[name].make for name in COUNTED}
        make = (systems | decoder_systems(POCKET_SHOP, seed, "tfidf"))[system]
        fitted = make(**settings).fit(split)
        for num_targets in (1, 5):
            runs[f"next {num_targets}"].append(evaluate(fitted, split, num_targets=num_targets))
        if protocol == "temporal":
            for num in DRAWN:
                run = evaluate(fitted, split, protocol=SampledNegatives(num), num_targets=5)
                runs[f"next 5 among {num} drawn"] = [run]
        if protocol == "unseen category":
            category = np.array(split.dataset.column("category"), object)
            unseen = category == category[split.queries("test").targets[0, 0]]
            runs["next 1 in the category"] = [evaluate(Among(fitted, unseen), split)]
    return {
        f"{metric}, {asked}": np.concatenate([run.metric(metric) for run in found])
        for asked, found in runs.items()
        for metric in ("HR@5", "P@5", "R@5", "NDCG@5", "MRR", "MAP@5", "NDCG@10")
    }


def decoder_protocols() -> None:
    """Chapter 4's item decoder under the protocols that its paper names, on three Pocket Shops."""
    start, best, shops = time.time(), chosen_in_chapter4(), {}
    settings = best | {"no biases": best["MM-GPT2Rec"]} | {name: {} for name in COUNTED}
    with one_thread_each() as pool:
        for seed in SEEDS:
            running = {
                (protocol, name): pool.submit(protocol_row, protocol, seed, name, settings[name])
                for protocol, systems in PROTOCOLS.items()
                for name in systems
                if protocol != "five folds" or seed == 0
            }
            shops[str(seed)] = {}
            for (protocol, name), job in running.items():
                row = {metric: with_interval(values) for metric, values in job.result().items()}
                shops[str(seed)].setdefault(protocol, {})[name] = row
                print(f"seed {seed}: {protocol}, {name} {row}", flush=True)
    record("decoder-protocols", four_digits({"seeds": SEEDS, "shops": shops}) | stamp(time.time() - start))


def decoder_options() -> None:
    """The options of chapter 4's item decoder on three Pocket Shops, each with the settings that are best for it.

    They are those that ``decoder`` tried for MM-GPT2Rec; the appendix brings its own.
    """
    start, systems = time.time(), options(league_data(POCKET_SHOP, 0)[0], load_settings())
    six = {name: DECODER_SETTINGS["MM-GPT2Rec"] for name, make in systems.items() if "lr" not in make.keywords}
    with one_thread_each() as pool:
        tried = try_variants(six, pool)
        settings = {name: best_of(tried.get(name, [])) for name in systems}
        shops = {str(seed): decoder_league(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    record(
        "decoder-options", four_digits({"seeds": SEEDS, "tried": tried, "shops": shops}) | stamp(time.time() - start)
    )


def decoder_reviews() -> None:
    """Chapter 4's item decoder on three Pocket Shops, with reviews as items' texts."""
    start, best = time.time(), chosen_in_chapter4()["MM-GPT2Rec"]
    settings = dict.fromkeys(("MM-GPT2Rec", *REVIEWED), best)
    with one_thread_each() as pool:
        shops = {str(seed): decoder_league(POCKET_SHOP, seed, settings, pool) for seed in SEEDS}
    record("decoder-reviews", four_digits({"seeds": SEEDS, "shops": shops}) | stamp(time.time() - start))


def one_thread_each() -> ProcessPoolExecutor:
    """A process for each core, each with one thread: what a system reaches does not depend on the cores."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(os.cpu_count(), context, initializer=torch.set_num_threads, initargs=(1,))


def rule() -> None:
    """Chapter 3's study of MLLM-MSR's released rule, on three shops and on real data."""
    home = os.environ.get("MMREC_DATA_HOME")
    if not home:
        print("rule is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start, found = time.time(), {}
    for name, dataset in {
        **{f"Pocket Shop, seed {seed}": load_shop(seed)[0] for seed in SEEDS},
        "MovieLens": open_real("MovieLens", home),
        "MicroLens-50k": open_real("MicroLens", home),
    }.items():
        found[name] = study_rule(dataset)
        print(name, found[name], flush=True)
    record("rule", four_digits({"seeds": SEEDS, "rule": found}) | stamp(time.time() - start))


def open_real(name: str, home: str) -> RecDataset:
    """A real data set of the folder MMREC_DATA_HOME."""
    return load_data(load_settings({**os.environ, "MMREC_DATA": REAL_DATA[name].format(home=home)}))[0]


def changes(report: CleaningReport) -> list[dict]:
    """Everything that was dropped or repaired while reading, one entry a reason."""
    return report.table().query("action in ('dropped', 'repaired')").to_dict("records")


def numbers_of(dataset: RecDataset) -> dict[str, dict]:
    """Portrait and curves of a data set as they are recorded, with six digits."""
    return six_digits({"portrait": dataset_statistics(dataset), "curves": curves(dataset)})


def six_digits(numbers: dict) -> dict:
    """Numbers as they are recorded."""
    return json.loads(json.dumps(numbers), parse_float=lambda text: float(f"{float(text):.6g}"))


def four_digits(numbers: dict) -> dict:
    """Numbers of any kind as they are recorded; what is not a number, where there is nothing to compare, is null."""
    text = json.dumps(numbers, default=float)
    return json.loads(text, parse_float=lambda text: round(float(text), 4), parse_constant=lambda _: None)


RUNS = {
    "separations": separations,
    "leakage": leakage,
    "real-data": real_data,
    "overlap": overlap,
    "overlap-real": overlap_real,
    "tuning": tuning,
    "decoder": decoder,
    "decoder-options": decoder_options,
    "decoder-protocols": decoder_protocols,
    "decoder-real": decoder_real,
    "decoder-reviews": decoder_reviews,
    "league-pocket": league_pocket,
    "league-real": league_real,
    "rule": rule,
}
RUNS |= {name: partial(pocket_model, name) for name in POCKET}

if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        RUNS[name]()

"""Record the long runs of the book into book/results, one stamped JSON a run."""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest import mock

import numpy as np
from separations import NUM_INFERRED, measure
from transformers import AutoTokenizer

from mmrec_helpers.baselines.sequential import LOSSES, SASRec
from mmrec_helpers.checkpoints import POCKET, WEIGHTS
from mmrec_helpers.dataset import RecDataset
from mmrec_helpers.encoders import load_encoder
from mmrec_helpers.evaluation import Run, evaluate
from mmrec_helpers.lessons.exploration import bootstrap_interval, leakage_lab
from mmrec_helpers.metrics import Placing, hit_rate, ndcg
from mmrec_helpers.opening import open_data
from mmrec_helpers.overlap_study import study, study_captions, study_swaps, turn_knob
from mmrec_helpers.pocket_shop import shoppers
from mmrec_helpers.pocket_shop.shop import Truth, open_shop
from mmrec_helpers.portrait import curves, portrait
from mmrec_helpers.pretrained.corpus import HELD_OUT_SEEDS, draw_corpus
from mmrec_helpers.pretrained.fitting import training_corpus
from mmrec_helpers.pretrained.measure import measure as measure_model
from mmrec_helpers.pretrained.measure import measure_control, texts_and_reviews, trigram_surprise
from mmrec_helpers.protocol_lab import (
    Inferring,
    Oracle,
    by_protocol,
    confidence,
    counting,
    learning,
    measured,
    study_rule,
    with_interval,
)
from mmrec_helpers.settings import load_settings
from mmrec_helpers.sources.cleanup import CleanUp

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
LEAGUES = ("MovieLens", "Gift Cards", "MicroLens")
"""Real data sets of chapter 3's league."""


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
    run["fingerprints"] = [open_shop(seed)[0].fingerprint for seed in SEEDS]
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
        dataset, _ = open_shop(seed)
        lab = leakage_lab(dataset)
        honest.append(float(lab["honest"][1].mean()))
        gains["as it was"].append(lab["peeking"][1] - lab["honest"][1])
        shuffles = [leakage_gain(dataset, shuffle_seed) for shuffle_seed in range(ORDERS)]
        gains["items shuffled"].append(np.mean(shuffles, axis=0))
        with tempfile.TemporaryDirectory() as cache, mock.patch.object(shoppers, "FASHION", 0.0):
            dataset, _ = open_shop(seed, cache=Path(cache))
        gains["no fashion"].append(leakage_gain(dataset))
    pairs = zip(gains["as it was"], gains["items shuffled"], strict=True)
    gains["the difference"] = [as_it_was - shuffled for as_it_was, shuffled in pairs]
    run = {"metric": "gain in HR@10", "seeds": list(range(5)), "honest": np.round(honest, 4).tolist()}
    run["fingerprints"] = [open_shop(seed)[0].fingerprint for seed in run["seeds"]]
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
        dataset, _, cleanup = open_data(load_settings({**os.environ, "MMREC_DATA": data.format(home=home)}))
        sets[name] = {"fingerprint": dataset.fingerprint, **numbers_of(dataset)}
        if cleanup:
            sets[name]["clean-up"] = changes(cleanup)
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
    if name == "pocket-lm":
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
        dataset, truth = open_shop(seed)
        run["fingerprints"].append(dataset.fingerprint)
        found = (
            study(dataset, truth, settings.clip),
            study(dataset, truth, settings.siglip),
            turn_knob("overlap", (0.0, 0.25, 0.5, 0.75, 1.0), encoder, seed, "laptop"),
            turn_knob("noise", (0.0, 1.0), encoder, seed, "laptop"),
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
    dataset, _, _ = open_data(load_settings({**os.environ, "MMREC_DATA": REAL_DATA["MovieLens"].format(home=home)}))
    sets = {}
    for encoder in (settings.clip, settings.siglip):
        captions = study_captions(Path(home) / "flickr8k-captions", load_encoder(encoder))
        sets[encoder] = {"MovieLens": study(dataset, None, encoder), "Flickr8k": captions}
        print(encoder, flush=True)
    record("overlap-real", four_digits({"seeds": [0], "sets": sets}) | stamp(time.time() - start))


def league_runs(dataset: RecDataset, truth: Truth | None, seed: int) -> Iterator[Run]:
    """A run of every system of the book on a data set, under leave-one-out and full ranking."""
    split, encoder = dataset.leave_one_out(), load_settings().clip
    systems = counting(dataset, encoder, seed) + learning(dataset, encoder, seed)
    for system in systems + ([Oracle(truth)] if truth else []):
        start = time.perf_counter()
        system.fit(split)
        yield evaluate(system, split, cost={"fit seconds": round(time.perf_counter() - start, 2)})


def inferring_ceiling(dataset: RecDataset, truth: Truth) -> dict:
    """The history-inferring ceiling, measured on the first NUM_INFERRED test cases."""
    some = dataset.leave_one_out().histories("test").take(slice(NUM_INFERRED))
    scores = Inferring(truth).fit(dataset.leave_one_out()).score(some)
    placing = Placing.of(scores, some.targets[:, :1], some.items)
    return {"HR@10": with_interval(hit_rate(placing, 10)), "NDCG@10": with_interval(ndcg(placing, 10))}


def league_pocket() -> None:
    """The league of chapter 3 on three Pocket Shops, each system and each shop with the same seed."""
    start, rows, shops = time.time(), {}, {}
    for seed in SEEDS:
        dataset, truth = open_shop(seed)
        found = {}
        for run in league_runs(dataset, truth, seed):
            found[run.system] = measured(run)
            print(f"seed {seed}: {run.system} {found[run.system]}", flush=True)
        found["inferring ceiling"] = inferring_ceiling(dataset, truth)
        shops[str(seed)] = found
        for system, numbers in found.items():
            rows.setdefault(system, []).append(numbers["NDCG@10"][0])
    run = {"metric": "NDCG@10", "seeds": SEEDS, "rows": rows, "shops": shops}
    run["fingerprints"] = [open_shop(seed)[0].fingerprint for seed in SEEDS]
    record("league-pocket", four_digits(run) | stamp(time.time() - start))


def league_real() -> None:
    """The league of chapter 3 on the real data sets of MMREC_DATA_HOME."""
    home = os.environ.get("MMREC_DATA_HOME")
    if not home:
        print("league-real is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    start, sets = time.time(), {}
    for name in LEAGUES:
        dataset = open_real(name, home)
        sets[name] = {"fingerprint": dataset.fingerprint, "systems": {}}
        for run in league_runs(dataset, None, seed=0):
            sets[name]["systems"][run.system] = measured(run)
            print(f"{name}: {run.system} {sets[name]['systems'][run.system]}", flush=True)
    record("league-real", four_digits({"seeds": [0], "sets": sets}) | stamp(time.time() - start))


def protocols() -> None:
    """Chapter 3's protocol lab: systems by protocol, and MLLM-MSR's released rule, on three shops and on real data."""
    start, home, means, rule = time.time(), os.environ.get("MMREC_DATA_HOME"), {}, {}
    if not home:
        print("protocols is left as it was: set MMREC_DATA_HOME to the folder that holds the real data sets")
        return
    for name, dataset in {
        **{f"Pocket Shop, seed {seed}": open_shop(seed)[0] for seed in SEEDS},
        "MovieLens": open_real("MovieLens", home),
    }.items():
        split, encoder = dataset.leave_one_out(), load_settings().clip
        systems = [system.fit(split) for system in (*counting(dataset, encoder), *learning(dataset, encoder))]
        means[name] = by_protocol(systems, split).to_dict()
        rule[name] = study_rule(dataset)
        print(name, rule[name], flush=True)
    rule["MicroLens-50k"] = study_rule(open_real("MicroLens", home))
    record("protocols", four_digits({"seeds": SEEDS, "means": means, "rule": rule}) | stamp(time.time() - start))


def losses() -> None:
    """SASRec with each loss on three Pocket Shops: accuracy, confidence, minutes."""
    start, shops = time.time(), {}
    for seed in SEEDS:
        dataset, _ = open_shop(seed)
        split = dataset.leave_one_out()
        shops[str(seed)] = {}
        for loss in LOSSES:
            system = SASRec(loss=loss, seed=seed).fit(split)
            found = measured(evaluate(system, split), ("NDCG@10",)) | confidence(system, split)
            shops[str(seed)][loss] = found | {"minutes": system.training.seconds / 60}
            print(f"seed {seed}: {loss} {shops[str(seed)][loss]}", flush=True)
    run = {"seeds": SEEDS, "shops": shops, "fingerprints": [open_shop(seed)[0].fingerprint for seed in SEEDS]}
    record("losses", four_digits(run) | stamp(time.time() - start))


def open_real(name: str, home: str) -> RecDataset:
    """A real data set of the folder MMREC_DATA_HOME."""
    return open_data(load_settings({**os.environ, "MMREC_DATA": REAL_DATA[name].format(home=home)}))[0]


def changes(cleanup: CleanUp) -> list[dict]:
    """Everything that was dropped or repaired while reading, one entry a reason."""
    return cleanup.table().query("action in ('dropped', 'repaired')").to_dict("records")


def numbers_of(dataset: RecDataset) -> dict[str, dict]:
    """Portrait and curves of a data set as they are recorded, with six digits."""
    return six_digits({"portrait": portrait(dataset), "curves": curves(dataset)})


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
    "league-pocket": league_pocket,
    "league-real": league_real,
    "protocols": protocols,
    "losses": losses,
}
RUNS |= {name: partial(pocket_model, name) for name in POCKET}

if __name__ == "__main__":
    for name in sys.argv[1:] or RUNS:
        RUNS[name]()

"""The pocket models' runs: what they can do on worlds that they were not trained on."""

import json

import numpy as np
from transformers import AutoTokenizer

from mmrec_helpers.encoders.checkpoints import WEIGHTS
from pretraining.corpus import HELD_OUT_SEEDS, Corpus, sample_corpus, training_corpus
from pretraining.measure import measure, measure_control, texts_and_reviews, trigram_model, trigram_nll


def pocket_model(name: str) -> dict:
    """What a pocket model reaches on held-out worlds, beside its controls."""
    rows: dict[str, list[float]] = {}
    worlds = [sample_corpus((seed,)) for seed in HELD_OUT_SEEDS]
    for world, other in zip(worlds, worlds[1:] + worlds[:1], strict=True):
        for task, share in (measure(name, world, other) | measure_control(name, world, other)).items():
            rows.setdefault(task, []).append(round(share, 4))
    if name in ("pocket-lm", "pocket-gpt2"):
        rows["the same, a 3-gram model"] = trigram_perplexities(name, worlds)
    minutes = json.loads((WEIGHTS / name / "stamp.json").read_text())["minutes"]
    return {
        "metric": f"{name}: share that is right",
        "seeds": HELD_OUT_SEEDS,
        "rows": rows,
        "minutes to train": minutes,
    }


def trigram_perplexities(name: str, worlds: list[Corpus]) -> list[float]:
    """The perplexity of a 3-gram model, with a language model's tokenizer and training texts, on each world."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / name)
    model = trigram_model(tokenizer, texts_and_reviews(training_corpus()))
    losses = [trigram_nll(model, tokenizer, texts_and_reviews(world)[::4]) for world in worlds]
    return [round(float(np.exp(loss)), 4) for loss in losses]

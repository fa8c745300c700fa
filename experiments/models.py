"""The pocket models' cells: what they can do on worlds that they were not trained on, beside their controls."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from transformers import AutoTokenizer

from experiments.cells import Cell
from mmrec_helpers.encoders.checkpoints import POCKET, WEIGHTS
from mmrec_helpers.evaluation.runs import Run
from pretraining.corpus import HELD_OUT_SEEDS, Corpus, sample_corpus, training_corpus
from pretraining.measure import measure, measure_control, texts_and_reviews, trigram_model, trigram_nll


def plan(runs: Sequence[Run]) -> list[Cell]:
    """See ``Study``."""
    return [
        Cell(study="models", data="held-out world", seed=seed, protocol="tasks", system=name)
        for name in POCKET
        for seed in HELD_OUT_SEEDS
    ]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """See ``Study``. A task's result is a scalar, by its name."""
    (cell,) = cells
    place = HELD_OUT_SEEDS.index(cell.seed)
    held_out = world(cell.seed), world(HELD_OUT_SEEDS[(place + 1) % len(HELD_OUT_SEEDS)])
    found = measure(cell.system, *held_out) | measure_control(cell.system, *held_out)
    if cell.system in ("pocket-lm", "pocket-gpt2"):
        found["the same, a 3-gram model"] = trigram_perplexity(cell.system, held_out[0])
    yield cell, Run.unranked({}, found)


@cache
def world(seed: int) -> Corpus:
    """A world that no pocket model was trained on."""
    return sample_corpus((seed,))


def trigram_perplexity(name: str, held_out: Corpus) -> float:
    """The perplexity of a 3-gram model, with a language model's tokenizer and training texts, on a world."""
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / name)
    model = trigram_model(tokenizer, texts_and_reviews(training_corpus()))
    return float(np.exp(trigram_nll(model, tokenizer, texts_and_reviews(held_out)[::4])))

"""MLLM-MSR: candidates behind a shared prefix against one prompt at a time. Called by ``make bench``."""

from collections.abc import Callable

import numpy as np
import torch

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.evaluation.protocols import SampledNegatives
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR

NUM_USERS, WORDS = 20, 10
"""Users of one measurement; words of an item's description that stand for its summary."""
GOAL = 5
"""Times as fast as the plain loop."""


def plain_probabilities(system: MLLMMSR, queries: Queries, candidates: np.ndarray) -> np.ndarray:
    """(N, C) probabilities of Eq. 1 as a loop: each prompt is encoded whole, and the whole vocabulary scored."""
    llm, (yes, no) = system.language_model, system.answers
    found = np.zeros(candidates.shape)
    profiles = system.profiles([items[items > 0] for items in queries.histories])
    with torch.no_grad():
        for row, profile in enumerate(profiles):
            for column, item in enumerate(candidates[row]):
                tokens = torch.tensor([[*system.prefix(profile)[0], *system.suffixes[item]]], device=llm.words.device)
                probabilities = llm.model(tokens).logits[0, -1].float().softmax(0)
                p_yes, p_no = float(probabilities[yes].sum()), float(probabilities[no].sum())
                found[row, column] = p_yes / (p_yes + p_no)
    return found


def main(race: Callable, llm: str = "pocket-instruct") -> None:
    """Run the benchmark.

    Args:
        race: see ``bench.race``.
        llm: the language model that answers.
    """
    dataset, _ = load_shop(0)
    split = dataset.leave_one_out()
    texts = [" ".join(str(text or "").split()[:WORDS]) for text in dataset.column("description")]
    system = MLLMMSR(history_texts=texts, candidate_texts=texts, llm=llm, epochs=0).fit(split)
    queries, negatives = split.queries("test"), SampledNegatives(20).sample(split, "test")
    candidates = np.concatenate([queries.targets[:, :1], negatives], axis=1)[:NUM_USERS]
    queries = queries.take(slice(NUM_USERS))
    probabilities = 1 / (1 + np.exp(-system.score(queries, candidates).astype(float)))  # this writes the preferences
    np.testing.assert_allclose(probabilities, plain_probabilities(system, queries, candidates), rtol=0, atol=1e-4)
    prefix = np.mean([len(system.prefix(own)[0]) for own in system.profiles([*queries.histories])])
    suffix = np.mean([len(system.suffixes[item]) for item in candidates.ravel()])
    race(
        f"MLLM-MSR, {llm}, {NUM_USERS} users, 21 candidates each",
        lambda: system.score(queries, candidates),
        lambda: plain_probabilities(system, queries, candidates),
        "one prompt at a time",
    )
    print(f"  tokens of the shared prefix: {prefix:.0f}, of a candidate: {suffix:.0f}; demanded: {GOAL} times as fast")

"""MLLM-MSR: a shared prefix, and preferences in batches, against one prompt at a time. Called by ``make bench``."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.evaluation.protocols import SampledNegatives
from mmrec_helpers.lessons.preferences import preference_message, recurrent_preferences
from mmrec_helpers.llm.generation import generate
from mmrec_helpers.llm.language_models import LanguageModel
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR

NUM_USERS, WORDS = 20, 10
"""Users of one measurement; words of an item's description that stand for its summary."""
NUM_WRITTEN, NUM_SHOPPERS = 50, 300
"""Preferences that are written in batches and one by one; users whose whole histories are summarised once."""
GOAL, WRITING_GOAL = 5, 3
"""Times as fast as the plain loop, and as preferences one by one."""


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


def write(llm: LanguageModel, messages: Sequence[str], batched: bool = True) -> list[str]:
    """The greedy replies to messages: in batches of similar lengths, as ``Replies`` generates them, or one by one."""
    prompts = [llm.tokens(llm.chat(message)) for message in messages]
    found = generate(llm, prompts, 40) if batched else [generate(llm, [prompt], 40)[0] for prompt in prompts]
    return [llm.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in found]


def race_writing(race: Callable, llm: LanguageModel, histories: Sequence[Sequence[str]]) -> None:
    """Time the preferences of histories, lists of items' texts, without a cache of replies."""
    messages = [preference_message(history[:3]) for history in histories[:NUM_WRITTEN]]
    assert write(llm, messages) == write(llm, messages, batched=False)
    race(
        f"preferences, {len(messages)} messages",
        lambda: write(llm, messages),
        lambda: write(llm, messages, batched=False),
        "one by one",
    )
    print(f"  demanded: {WRITING_GOAL} times as fast")
    start = time.perf_counter(), time.process_time()
    recurrent_preferences(lambda own: write(llm, own), histories)
    seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    items = sum(map(len, histories))
    print(f"  {len(histories)} users, {items:,} items, blocks of 3: {seconds:.1f} s ({cpu_seconds:.1f} s of CPU time)")
    print("  demanded of 300 users on 2 cores: 60 s")


def main(race: Callable, llm: str = "pocket-instruct") -> None:
    """Run both benchmarks.

    Args:
        race: see ``bench.race``.
        llm: the language model that answers.
    """
    dataset, _ = load_shop(0)
    split = dataset.leave_one_out()
    texts = [" ".join(str(text or "").split()[:WORDS]) for text in dataset.column("description")]
    system = MLLMMSR(history_texts=texts, candidate_texts=texts, llm=llm, epochs=0).fit(split)
    everyone, negatives = split.queries("test"), SampledNegatives(20).sample(split, "test")
    candidates = np.concatenate([everyone.targets[:, :1], negatives], axis=1)[:NUM_USERS]
    queries = everyone.take(slice(NUM_USERS))
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
    histories = [[texts[item] for item in row if item] for row in everyone.histories[:NUM_SHOPPERS]]
    race_writing(race, system.language_model, histories)

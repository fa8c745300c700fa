"""What chapter 5 measures beside rankings: time by item expression, context windows, wrong and noisy items, titles."""

import re
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import takewhile

import numpy as np
import torch
from torch.nn.functional import embedding

from experiments.datasets import replace_columns, stamp_of
from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.lessons.adaptor import answer_loss
from mmrec_helpers.lessons.retrieval import Trie
from mmrec_helpers.llm.generation import generate_titles
from mmrec_helpers.llm.language_models import LanguageModel
from mmrec_helpers.llm.summaries import summarise
from mmrec_helpers.llm.tuning import add_lora
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.training.loop import TrainingConfig, batch_rows, train

NUM_TIMED, ROUNDS = 100, 3
"""Users of one measurement of time, and how often it is repeated."""
NUM_BEAMS = 10
"""Titles that are generated for a user."""


# Conditions: a fitted system whose prompts are changed ----------------------------------------------------------------


def within_window(system: ILLMRec, num_tokens: int) -> ILLMRec:
    """A fitted system with another context window: an item that is longer alone loses its last tokens."""
    prompts, changed = system.prompts, copy(system)
    assert prompts is not None
    room = num_tokens - len(prompts.before) - len(prompts.after)
    rows = [row[:room] for row in np.split(prompts.tokens, prompts.ends[:-1])]
    ends = np.cumsum([len(row) for row in rows])
    changed.max_tokens, changed.prompts = num_tokens, replace(prompts, tokens=np.concatenate(rows), ends=ends)
    return changed


def with_wrong_items(system: ILLMRec, dataset: RecDataset, share: float) -> ILLMRec:
    """A fitted system in whose prompts some items have the texts and the image of another item, but their own title.

    Which ones depends on the share alone, so it is the same for all expressions. Items are retrieved by their own
    features.
    """
    others, changed = other_items(dataset.num_items, share), copy(system)
    columns = {name: dataset.column(name) for name in ("brand", "category", "description")}
    wrong = {name: [column[item] for item in others[1:]] for name, column in columns.items()}
    changed.summaries = [system.summaries[item] for item in others] if system.summaries else ()
    prompts = changed.write_prompts(replace_columns(dataset, wrong))
    tokens = np.where(prompts.tokens < 0, -others[np.maximum(-prompts.tokens, 0)], prompts.tokens)
    changed.prompts = replace(prompts, tokens=tokens)
    return changed


def other_items(num_items: int, share: float) -> np.ndarray:
    """(I + 1,) an item for each: another one for a share of the items, itself for the rest and the padding."""
    others = np.arange(num_items + 1)
    some = 1 + np.random.default_rng(0).permutation(num_items)[: round(share * num_items)]
    others[some] = np.roll(some, 1)
    return others


def with_noisy_descriptions(system: ILLMRec, dataset: RecDataset, ratio: float) -> ILLMRec:
    """A fitted system whose prompts are written from ``noisy_descriptions``; summaries are made anew from them."""
    noisy, changed = noisy_descriptions(dataset, ratio), copy(system)
    changed.summaries = summarise(noisy, system.llm) if system.summaries else ()
    changed.prompts = changed.write_prompts(noisy)
    return changed


def noisy_descriptions(dataset: RecDataset, ratio: float) -> RecDataset:
    """Descriptions with sentences of other items at random places: ``ratio`` times as many words as they have, or so.

    Raises:
        ValueError: only one item has a description.
    """
    texts = [str(text or "") for text in dataset.column("description")]
    sentences = [re.split(r"(?<=[.!?])\s+", text) if text else [] for text in texts]
    pool = [(item, sentence) for item, own in enumerate(sentences) for sentence in own]
    if len({item for item, _ in pool}) == 1:
        raise ValueError(f"{dataset.name}: one item has a description, so there are no sentences of others")
    rng = np.random.default_rng(0)
    for item, own in enumerate(sentences):
        missing = ratio * len(texts[item].split())
        while missing > 0:
            other, sentence = pool[rng.integers(len(pool))]
            if other != item:
                own.insert(int(rng.integers(len(own) + 1)), sentence)
                missing -= len(sentence.split())
    return replace_columns(dataset, {"description": [" ".join(own) for own in sentences[1:]]})


# Time -----------------------------------------------------------------------------------------------------------------


def time_expressions(systems: Mapping[str, ILLMRec], split: Split, lengths: Sequence[int]) -> Run:
    """Seconds to rank all items for NUM_TIMED users, by system and length of the histories; the systems in turn.

    Args:
        systems: name -> a system, whose weights may be random; prompts must not lose items.
        split: whose test users are served.
        lengths: items of every history; shorter ones are repeated.

    Returns:
        A run of all test users. Its values are ``tokens, NAME``, of each user's prompt with the last ten items; its
        scalars ``seconds`` and ``tokens``: name -> length -> seconds of each round, mean number of tokens.
    """
    for system in systems.values():
        system.prepare(split)
    queries = split.queries("test", 10)
    values = {f"tokens, {name}": prompt_sizes(system, queries.histories) for name, system in systems.items()}
    some = queries.take(np.random.default_rng(0).permutation(len(queries))[:NUM_TIMED])
    seconds: dict[str, dict[int, list[float]]] = {name: {length: [] for length in lengths} for name in systems}
    tokens: dict[str, dict[int, float]] = {name: {} for name in systems}
    for length in lengths:
        timed = repeated(some, length)
        for name, system in systems.items():
            tokens[name][length] = float(prompt_sizes(system, timed.histories).mean())
            system.score(timed.take(slice(1)))
        for _ in range(ROUNDS):
            for name, system in systems.items():
                start = time.perf_counter()
                system.score(timed)
                seconds[name][length].append(time.perf_counter() - start)
                assert not len(system.truncated), f"{name} drops items: raise max_tokens"
    return Run.unranked(stamp_of(split.dataset), {"seconds": seconds, "tokens": tokens}, queries.users, values)


def repeated(queries: Queries, length: int) -> Queries:
    """The queries with histories of exactly this length: the last items, again from the first one where too few."""
    rows = [np.resize(items[items > 0][-length:], length) for items in queries.histories]
    return replace(queries, histories=np.array(rows))


def prompt_sizes(system: ILLMRec, histories: np.ndarray) -> np.ndarray:
    """(N,) tokens of the prompts of (N, T) histories, none of which is truncated; 0 without an LLM."""
    if system.prompts is None:
        return np.zeros(len(histories))
    around = len(system.prompts.before) + len(system.prompts.after)
    return around + np.diff(system.prompts.ends, prepend=0)[histories].sum(axis=1).astype(float)


# Generated titles -----------------------------------------------------------------------------------------------------


def generate_for_queries(llm: LanguageModel, split: Split, queries: Queries, steps: int, lr: float) -> Run:
    """Fine-tune a model by LoRA to name the next item after the last one; what it then generates, free and by a trie.

    Returns:
        A run whose values are, for ``free`` and ``trie``, of each user's NUM_BEAMS titles ``exist, NAME``, how many of
        the catalogue there are, and ``hit, NAME``, whether the target's is among them; its scalars ``titles, NAME``,
        all and different ones.
    """
    titles = [str(title or "") for title in split.dataset.column("title")]
    eos = llm.tokenizer.eos_token_id  # chat templates may write a line break after it, which is never generated
    replies = [[*takewhile(lambda token: token != eos, llm.tokens(llm.reply(title))), eos] for title in titles]
    prompts = [llm.tokens(llm.chat(f"They bought {title}. What comes next?")) for title in titles]
    frame = (split if split.has_tie_order else split.shuffle_ties(0)).interactions("train")
    is_next = frame["user"].eq(frame["user"].shift()).to_numpy()
    pairs = np.stack([frame["item"].shift(fill_value=0), frame["item"]], axis=1)[is_next]

    def embed(tokens: torch.Tensor) -> torch.Tensor:
        return embedding(tokens, llm.words)

    def loss_of(step: int) -> torch.Tensor:
        batch = pairs[batch_rows(len(pairs), 32, step)]
        return answer_loss(llm, [prompts[last] for last, _ in batch], [replies[item] for _, item in batch], embed)

    torch.manual_seed(0)
    add_lora(llm.model.base_model)
    train(llm.model, loss_of, TrainingConfig(steps, lr, warmup_steps=steps // 20), name="generator")
    asked, catalogue = [prompts[items[-1]] for items in queries.histories], set(map(tuple, replies[1:]))
    targets, longest = [tuple(replies[item]) for item in queries.targets[:, 0]], max(map(len, replies))
    values, scalars = {}, {}
    for name, allowed in (("free", None), ("trie", Trie(replies[1:]).allowed)):
        lists = generate_titles(llm, asked, embed, NUM_BEAMS, longest, allowed)
        values[f"exist, {name}"] = np.array([sum(title in catalogue for title in own) for own in lists], float)
        values[f"hit, {name}"] = np.array([target in own for own, target in zip(lists, targets, strict=True)], float)
        scalars[f"titles, {name}"] = [sum(map(len, lists)), len({title for own in lists for title in own})]
    return Run.unranked(stamp_of(split.dataset), scalars, queries.users, values)

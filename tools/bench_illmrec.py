"""I-LLMRec: seconds to score by item expression, and a training step against a plain loop. Called by ``make bench``."""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.encoders.features import embed_images
from mmrec_helpers.encoders.models import Encoder, load_encoder
from mmrec_helpers.lessons.retrieval import ire_loss
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.features import image_features
from mmrec_helpers.recommenders.history_batches import HistoryBatch, HistoryBatches
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.recommenders.item_prompts import HISTORY, REQUEST

LENGTH, NUM_USERS = 10, 100
"""Items of each history that is scored, and the users of one measurement."""
GOAL = 2.93
"""Times as fast as by full descriptions, in the introduction of {cite}`kim2025illmrec`."""


SMOLLM2: dict[str, Any] = {
    **{"hidden_size": 576, "intermediate_size": 1_536, "num_hidden_layers": 30, "num_attention_heads": 9},
    **{"num_key_value_heads": 3, "vocab_size": 49_152},
}
"""Sizes of SmolLM2-135M."""


def prepared(split: Split, expression: str, images: np.ndarray, **options: Any) -> ILLMRec:  # noqa: ANN401
    """A system with random weights, which take as long as trained ones."""
    system = ILLMRec(features={"image": images}, expression=expression, alignment=False, **options)
    system.prepare(split)
    return system


def plain_loss(system: ILLMRec, dataset: RecDataset, encoder: Encoder, batch: HistoryBatch) -> torch.Tensor:
    """The loss of a batch as a loop over users and items that tokenises and encodes each of them anew."""
    llm, network, rows = system.language_model, system.network, []
    assert network.adaptor
    mean, scale = scaling(system)
    before, after = llm.chat(f"{HISTORY}[ITEMS] {REQUEST}").split("[ITEMS]")
    for history in batch.histories:
        parts = [llm.words[llm.tokens(before)]]
        for item in history[-system.max_len :]:
            image = embed_images([dataset.item(int(item))["image"]], encoder).vectors
            title = llm.tokens(f" {dataset.item(int(item))['title']} ")
            parts += [llm.words[title], network.adaptor((image - mean) * scale), llm.words[llm.tokens(",")]]
        rows.append(torch.cat([*parts, llm.words[llm.tokens(after)], network.rec[None]]))
    ends = torch.tensor([len(row) - 1 for row in rows])
    hidden = llm.hidden_states(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True))
    states = hidden[torch.arange(len(rows)), ends]
    return ire_loss(network.head, states, network.item_features, torch.from_numpy(batch.targets))


def scaling(system: ILLMRec) -> tuple[torch.Tensor, torch.Tensor]:
    """(F,) mean and inverse standard deviation that standardised the image features."""
    raw, standard = torch.from_numpy(system.features["image"]), system.network.features["image"]
    has_image = raw.any(1)
    return raw[has_image].mean(0), standard[has_image].std(0) / raw[has_image].std(0)


def mean_tokens(system: ILLMRec, histories: np.ndarray) -> float:
    """Mean number of tokens of the prompts of (N, T) histories."""
    assert system.prompts
    num_after = len(system.prompts.after)
    return float(np.mean([len(system.prompt(items, num_after)[0]) + num_after for items in histories]))


def full_histories(split: Split, num_users: int) -> Queries:
    """Test queries of users with LENGTH items or more."""
    queries = split.queries("test", LENGTH)
    return queries.take(np.flatnonzero(queries.histories[:, 0])[:num_users])


def race_on_gpu(sizes: dict[str, Any] = SMOLLM2, shop: str = "gpu", num_users: int = 500) -> dict[str, Any]:
    """Time to score by item expression, with a Llama of some sizes in bf16 that has random weights.

    Args:
        sizes: arguments of transformers' ``LlamaConfig``.
        shop: size of the Pocket Shop. Image features are random, too.
        num_users: of one measurement.

    Returns:
        Expression -> tokens of a prompt, tokens and users a second; the ratio of the two; the paper's.
    """
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    split, found = load_shop(0, shop)[0].leave_one_out(), {}
    images = np.random.default_rng(0).normal(size=(split.dataset.num_items + 1, 64))
    queries = full_histories(split, num_users)
    with tempfile.TemporaryDirectory() as folder:
        AutoTokenizer.from_pretrained(find_checkpoint("pocket-lm")).save_pretrained(folder)
        LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=4_096)).bfloat16().save_pretrained(folder)
        for expression in ("image", "description"):
            system, seconds = prepared(split, expression, images, llm=folder, dtype="bfloat16"), []
            for _ in range(4):
                start = time.perf_counter()
                system.score(queries)
                seconds.append(time.perf_counter() - start)
            tokens, typical = mean_tokens(system, queries.histories), median(seconds[1:])  # the first one warms up
            speed = len(queries) / typical
            found[expression] = {"tokens": tokens, "tokens_per_second": tokens * speed, "users_per_second": speed}
    ratio = found["image"]["users_per_second"] / found["description"]["users_per_second"]
    return found | {"ratio": ratio, "paper": GOAL}


def main(race: Callable) -> None:
    """Run both benchmarks.

    Args:
        race: see ``bench.race``.
    """
    dataset, _ = load_shop(0)
    split, encoder = dataset.leave_one_out(), load_encoder("pocket-clip")
    images = image_features(dataset, "pocket-clip")
    queries = full_histories(split, NUM_USERS)
    image, description = (prepared(split, name, images) for name in ("image", "description"))
    name = f"I-LLMRec, {NUM_USERS} users, {LENGTH} items each"
    race(name, lambda: image.score(queries), lambda: description.score(queries), "by descriptions")
    tokens = [mean_tokens(system, queries.histories) for system in (image, description)]
    print(f"  tokens of a prompt: {tokens[0]:.0f} and {tokens[1]:.0f}; the paper: {GOAL} times as fast")
    everyone = split.queries("test", LENGTH)
    start = time.perf_counter(), time.process_time()
    image.score(everyone)
    seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"  all {len(everyone):,} users by images: {seconds:.1f} s ({cpu_seconds:.1f} s of CPU time)")
    print("  demanded of 3,000 users on 2 cores: 15 s")
    batch, loss_of = HistoryBatches(split, image.batch_size, 0, image.max_len).of(0), image.retrieval_loss_of(split)

    def own_loss() -> torch.Tensor:
        return loss_of(batch, image.read_windows(batch))

    torch.testing.assert_close(own_loss(), plain_loss(image, dataset, encoder, batch), atol=1e-3, rtol=1e-3)
    race(
        "I-LLMRec, training step",
        lambda: own_loss().backward(),
        lambda: plain_loss(image, dataset, encoder, batch).backward(),
        f"a loop that tokenises and encodes each item of the histories before {len(batch.targets)} targets",
    )

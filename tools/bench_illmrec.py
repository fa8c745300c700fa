"""I-LLMRec: seconds to score by item expression, and a training step against a plain loop. Called by ``make bench``."""

from collections.abc import Callable

import numpy as np
import torch

from mmrec_helpers.data.dataset import RecDataset, Split
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
"""Times as fast as by full descriptions, in the abstract of {cite}`kim2025illmrec`."""


def prepared(split: Split, expression: str, images: np.ndarray) -> ILLMRec:
    """A system with random weights, which take as long as trained ones."""
    system = ILLMRec(features={"image": images}, expression=expression, alignment=False)
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


def main(race: Callable) -> None:
    """Run both benchmarks.

    Args:
        race: see ``bench.race``.
    """
    dataset, _ = load_shop(0)
    split, encoder = dataset.leave_one_out(), load_encoder("pocket-clip")
    images = image_features(dataset, "pocket-clip")
    queries = split.queries("test", LENGTH)
    queries = queries.take(np.flatnonzero(queries.histories[:, 0])[:NUM_USERS])
    image, description = (prepared(split, name, images) for name in ("image", "description"))
    name = f"I-LLMRec, {NUM_USERS} users, {LENGTH} items each"
    race(name, lambda: image.score(queries), lambda: description.score(queries), "by descriptions")
    tokens = [mean_tokens(system, queries.histories) for system in (image, description)]
    print(f"  tokens of a prompt: {tokens[0]:.0f} and {tokens[1]:.0f}; the paper: {GOAL} times as fast")
    batch, loss_of = HistoryBatches(split, image.batch_size, 0).of(0), image.retrieval_loss_of(split)

    def own_loss() -> torch.Tensor:
        return loss_of(batch, [*image.read(batch.histories, image.longest_suffix)])

    torch.testing.assert_close(own_loss(), plain_loss(image, dataset, encoder, batch), atol=1e-3, rtol=1e-3)
    race(
        "I-LLMRec, training step",
        lambda: own_loss().backward(),
        lambda: plain_loss(image, dataset, encoder, batch).backward(),
        "a loop that tokenises and encodes each item",
    )

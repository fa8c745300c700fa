"""Chapter 4's prompts: a frozen language model ranks titles, zero-shot or few-shot; an instruction before items."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding
from torch.nn.utils.rnn import pad_sequence

from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, SEEDS, benchmark_split
from mmrec_helpers.data.dataset import PARTS, Queries, Split
from mmrec_helpers.encoders.checkpoints import POCKET as POCKET_MODELS
from mmrec_helpers.lessons.adaptor import ITEMS
from mmrec_helpers.lessons.decoder import ItemDecoder
from mmrec_helpers.lessons.yes_no import plain_tokens
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.mmgpt2rec import DecoderNetwork, MMGPT2Rec
from mmrec_helpers.recommenders.tuning import Settings
from mmrec_helpers.settings import load_settings
from mmrec_helpers.studies.ch04 import DESIGN_CHOICES, Variant

# Prompting ------------------------------------------------------------------------------------------------------------

TASK = "A customer buys one thing after another. Name what they buy next."
"""What the model is asked, in our own words."""
SHOT_LEN, TOGETHER = 5, 64
"""Items of an example's history; titles that are processed together."""


@dataclass(eq=False, kw_only=True)
class Prompted(BaseRecommender):
    """A frozen language model scores an item by the log-probability of its title after a prompt; nothing is trained.

    The prompt is TASK, examples of other users, and the titles of the history. A title ends with the EOS token, so the
    sum over its tokens is the log-probability that the model generates this title and no longer one. Long titles and
    rare words have low sums whoever is asked for. Calibrated, the sum after the same prompt without a history is
    subtracted, which gives the pointwise mutual information of title and history (Holtzman et al. 2021,
    arXiv:2104.08315). Both sums are over the same tokens, so no division by the length is needed.

    Args:
        llm: see ``load_language_model``; in bfloat16 if it is no pocket model.
        num_shots: examples: the last training items of random users, never of the query's user. They are the same for
            all queries, which share their keys and values.
        calibrated: subtract the score without a history.
        max_len: items of a history, the most recent.
        seed: of the examples.
        name: of the system in tables.
    """

    llm: str = "pocket-lm"
    num_shots: int = 0
    calibrated: bool = True
    max_len: int = 10
    seed: int = 0
    name: str = "prompting"
    titles: list[str] = field(init=False, repr=False)
    language_model: LanguageModel = field(init=False, repr=False)
    examples: dict[int, list[int]] = field(init=False, repr=False)
    prefixes: dict[tuple[int, ...], tuple[LanguageModel, np.ndarray]] = field(init=False, repr=False)

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Load the model and choose the examples: one more than are shown, in place of the query's user."""
        self.titles = [" ".join((title or "").split()) for title in split.dataset.column("title")]
        self.language_model = load_language_model(
            self.llm, torch.float32 if self.llm in POCKET_MODELS else torch.bfloat16
        )
        frame = (split if split.has_tie_order else split.shuffle_ties(self.seed)).interactions("train")
        items = {user: own.tolist() for user, own in frame.groupby("user")["item"] if len(own) > SHOT_LEN}
        users = np.random.default_rng(self.seed).permutation(sorted(items))[: self.num_shots + 1]
        self.examples, self.prefixes = {user: items[user][-SHOT_LEN - 1 :] for user in users.tolist()}, {}
        before, eos = self.language_model.reply(ITEMS).partition(ITEMS)[0], self.language_model.tokenizer.eos_token_id
        self.replies = [[*plain_tokens(self.language_model, before + title), eos] for title in self.titles]
        self.around = [
            self.language_model.tokens(part) for part in self.language_model.chat(f"{TASK}{ITEMS}").split(ITEMS)
        ]

    def line(self, items: Sequence[int], target: int | None = None) -> str:
        """A history, and an example's next item, as text."""
        history = "; ".join(self.titles[item] for item in items)
        return f"\nBought: {history}. Next:" + (f" {self.titles[target]}" if target else "")

    def behind(self, shown: tuple[int, ...]) -> tuple[LanguageModel, np.ndarray]:
        """The model behind the task and the examples of some users, and what is subtracted from (I + 1,) scores."""
        if shown not in self.prefixes:
            lines = "".join(self.line(own[:-1], own[-1]) for own in map(self.examples.get, shown) if own)
            llm = self.language_model.after([*self.around[0], *plain_tokens(self.language_model, lines)])
            everything = np.arange(len(self.titles))
            prior = self.log_likelihoods(llm, [], everything) if self.calibrated else np.zeros(len(everything))
            self.prefixes[shown] = llm, prior
        return self.prefixes[shown]

    @torch.no_grad()
    def log_likelihoods(self, llm: LanguageModel, history: Sequence[int], items: np.ndarray) -> np.ndarray:
        """(C,) log-probabilities of items' titles after the rest of the prompt; they branch off its keys and values."""
        *own, last = [*plain_tokens(llm, self.line(history)), *self.around[1]]
        llm, found = llm.after(own), []
        for part in np.split(items, range(TOGETHER, len(items), TOGETHER)):
            rows = [torch.tensor([last, *self.replies[item]], device=llm.words.device) for item in part]
            tokens, sizes = pad_sequence(rows, batch_first=True), np.array([len(row) - 1 for row in rows])
            branches = llm.branches(np.zeros(len(rows), int), np.full(len(rows), llm.attended.shape[1]), sizes)
            hidden = branches.hidden_states(embedding(tokens[:, :-1], llm.words))
            is_real = (
                torch.arange(sizes.max(), device=tokens.device) < torch.from_numpy(sizes).to(tokens.device)[:, None]
            )
            losses = cross_entropy(llm.logits(hidden[is_real]).float(), tokens[:, 1:][is_real], reduction="none")
            found += [-own.sum().item() for own in losses.split(sizes.tolist())]
        return np.array(found)

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """See ``BaseRecommender``; only candidates are computed."""
        everything = np.tile(np.arange(len(self.titles)), (len(queries), 1))
        asked, scores = everything if candidates is None else candidates, []
        for user, history, items in zip(queries.users, queries.histories[:, -self.max_len :], asked, strict=True):
            llm, prior = self.behind(tuple(islice((own for own in self.examples if own != user), self.num_shots)))
            scores.append(self.log_likelihoods(llm, history[history > 0], items) - prior[items])
        return np.array(scores, np.float32).reshape(asked.shape)


# Instruction ----------------------------------------------------------------------------------------------------------

INSTRUCTION = "Given the products that a customer has bought so far, predict the next five products they will buy."
"""The paper's instruction, III-A, in our own words."""


class InstructedNetwork(DecoderNetwork):
    """An item decoder behind (T, D) word embeddings, which every sequence begins with."""

    def __init__(self, decoder: ItemDecoder, words: Tensor) -> None:
        super().__init__(decoder)
        self.words = nn.Parameter(words, requires_grad=False)

    def encode(self, inputs: Tensor, embeddings: Tensor) -> Tensor:
        """See ``SequenceModel``."""
        items = embedding((inputs - 1).relu(), embeddings)
        hidden = self.decoder.gpt2(torch.cat([self.words.expand(len(items), -1, -1), items], dim=1))
        return hidden[:, len(self.words) :]


class Instructed(MMGPT2Rec):
    """The tokens of INSTRUCTION are the first positions, with the word embeddings of the pretrained GPT-2, frozen."""

    def build_model(self, features: Tensor | None) -> DecoderNetwork:
        """See ``SequentialRecommender``."""
        gpt2 = load_language_model(load_settings().models["gpt2"])
        words = gpt2.words[gpt2.tokens(INSTRUCTION)].clone()
        if not self.config.backbone:  # a pretrained one has positions enough
            self.gpt2_sizes = (self.num_layers, self.num_heads, len(words) + 1 + self.max_len)
        return InstructedNetwork(super().build_model(features).decoder, words)


INSTRUCTED = {
    "instruction string": Variant(),
    "pretrained backbone, instruction string": DESIGN_CHOICES["pretrained backbone"],
}
"""System -> what it is but for the instruction; settings are those of the system without one."""
KINDS = dict.fromkeys(INSTRUCTED, Instructed)
"""System -> its class."""

# Cells ----------------------------------------------------------------------------------------------------------------

DECODER, PROTOCOL, FEW = "MM-GPT2Rec", "20 uniform", f"{LEAVE_ONE_OUT}, 300 users"
"""The decoder, without prompts; 21 candidates; a split where fewer users are tested, for the larger language model."""
ZERO_SHOT, FEW_SHOT = "prompting, zero-shot", "prompting, few-shot"
SHOTS: dict[str, Settings] = {ZERO_SHOT: {}, FEW_SHOT: {"num_shots": 3}}
BY_SMOLLM2: dict[str, Settings] = {f"{name}, SmolLM2": own | {"llm": "smollm2"} for name, own in SHOTS.items()}
UNCALIBRATED = f"{ZERO_SHOT}, uncalibrated"
PROMPTED = SHOTS | BY_SMOLLM2 | {UNCALIBRATED: {"calibrated": False}}
"""System -> its hyperparameters, which are not tuned."""
BESIDE = ("random", "popularity")
"""Systems of chapter 3 on FEW; where all users are tested, chapter 3 has recorded them under the same protocol."""


def plan(chosen: dict[str, Settings | None]) -> list[Cell]:
    """The cells of chapter 4 for prompts and instructions, as far as the settings of the decoder are chosen."""
    settings = chosen | PROMPTED | {name: {} for name in BESIDE}
    settings |= {name: chosen[name.rpartition(", ")[0] or DECODER] for name in INSTRUCTED}
    places: list[tuple[str, int, str, str, tuple[str, ...]]] = [
        *((POCKET, seed, LEAVE_ONE_OUT, "full", tuple(INSTRUCTED)) for seed in SEEDS),
        *((POCKET, seed, LEAVE_ONE_OUT, PROTOCOL, (DECODER, *SHOTS, UNCALIBRATED)) for seed in SEEDS),
        (POCKET, 0, FEW, PROTOCOL, (DECODER, *SHOTS, *BY_SMOLLM2, *BESIDE)),
        ("movielens", 0, LEAVE_ONE_OUT, PROTOCOL, (DECODER, *SHOTS, *BY_SMOLLM2)),
    ]
    return [
        Cell(study="ch04", data=data, seed=seed, split=split, part="test", protocol=protocol, system=name,
             hyperparameters=own)
        for data, seed, split, protocol, names in places
        for name in names
        if (own := settings[name]) is not None
    ]  # fmt: skip


def split_of(cell: Cell) -> Split:
    """The split of a cell, with all users of the test part or with some, at random."""
    name, _, few = cell.split.partition(", ")
    split = benchmark_split(cell.data, cell.seed, name)
    if not few:
        return split
    users, is_test = split.dataset.interactions["user"].to_numpy(), split.part == PARTS.index("test")
    kept = np.random.default_rng(cell.seed).permutation(np.unique(users[is_test]))[: int(few.split()[0])]
    return replace(split, part=np.where(is_test & ~np.isin(users, kept), PARTS.index("unused"), split.part))

"""MLLM-MSR as a recommender: a language model answers whether a user with a written preference would like an item."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint, require_revision, revision
from mmrec_helpers.lessons.adaptor import last_hidden
from mmrec_helpers.lessons.preferences import direct_preferences, recurrent_preferences
from mmrec_helpers.lessons.yes_no import answer_tokens, log_odds, plain_tokens, quoted, yes_no_loss
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.llm.tuning import add_lora
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.pairwise import Pairs
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, batch_rows, train

USER, CANDIDATE = "[USER]", "[CANDIDATE]"
PROMPT = f"{USER}\nThey may buy\n-{CANDIDATE}\nIs it what they like?"
"""The message for a user and a candidate, in our own words; the paper's is its figure 3."""
PROFILES = ("recurrent", "direct", "items", "none")
"""What the prompt contains of a user: a preference that is updated block by block; one that is written at once, as in
MLLM-MSR_NR; the texts of the history's items, as in TALLRec; or nothing, a control."""
STRIDE = 3
"""Items between the histories of one user's training examples; those up to the next history are the positives."""
MIN_PROBABILITY = 0.1
"""Of yes and no together; a query with less is counted as unanswered."""
TOGETHER = 64
"""Maximum number of candidates that are processed together."""


@dataclass(eq=False, kw_only=True)
class MLLMMSR(BaseRecommender):
    """A language model answers yes or no, given a user's preference and a candidate {cite}`ye2025mllmmsr`.

    An item's score is the log-odds of yes, of which the probability in Eq. 1 is the sigmoid. Each candidate costs a
    forward pass: rank a catalogue by ``Reranker``.

    Args:
        history_texts: (I + 1,) from which preferences are written, or which ``items`` puts into the prompt; entry 0 is
            padding.
        candidate_texts: (I + 1,) beside the titles of the candidates, such as descriptions of their images; titles
            alone if empty.
        llm: that answers, see ``load_language_model``.
        writer: frozen language model that writes the preferences.
        profile: of PROFILES.
        block: items of a step of the recurrence.
        preference_len: tokens of a preference; a longer one is truncated.
        max_len: items of a history, the most recent.
        max_tokens: of a prompt; preferences are shortened, and older items are dropped. 0 is the context window.
        rank: r of LoRA's matrices.
        num_negatives: for each positive of the training, items that the user did not interact with.
        max_users: of the training, sampled; 0 is all.
        batch_size: histories in a step, each with up to STRIDE positives.
        epochs: over the histories; 0 is no training, as LLaVA without SFT in the paper's Table 3.

    Attributes:
        titles: (I + 1,) of the items.
        llm_revision: of the language model's files.
        network: LoRA's matrices; empty without training.
        num_truncated: prompts whose profile was shortened in the last call of ``score``.
        num_unanswered: queries of that call in which yes and no together have less than MIN_PROBABILITY, by one of the
            candidates.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("titles", "llm_revision", "network")
    history_texts: Sequence[str] = field(repr=False)
    candidate_texts: Sequence[str] = field(default=(), repr=False)
    llm: str = "pocket-instruct"
    writer: str = "pocket-instruct"
    profile: str = "recurrent"
    block: int = 3
    preference_len: int = 40
    max_len: int = 50
    max_tokens: int = 0
    rank: int = 8
    num_negatives: int = 1
    max_users: int = 0
    batch_size: int = 6
    epochs: int = 1
    lr: float = 3e-3
    weight_decay: float = 0.01
    seed: int = 0
    name: str = "MLLM-MSR"
    titles: list[str] = field(init=False, repr=False)
    llm_revision: str = field(init=False, repr=False)
    network: nn.ParameterList = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)
    num_truncated = 0
    num_unanswered = 0

    def __post_init__(self) -> None:
        if self.profile not in PROFILES:
            raise ValueError(f"{self.name}: there is no profile {self.profile!r}; choose one of {', '.join(PROFILES)}")

    # Prompts ------------------------------------------------------------------------------------------------------

    @cached_property
    def language_model(self) -> LanguageModel:
        """The model that answers, frozen but for LoRA's matrices.

        Raises:
            ValueError: its files are not those that the system was fitted with.
        """
        require_revision(self.llm, self.llm_revision, self.name)
        llm = load_language_model(self.llm)
        if self.epochs:
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                add_lora(llm.model.base_model, self.rank, scale=2)
        return llm

    @cached_property
    def write(self) -> Replies:
        """The model that writes preferences; it writes none twice."""
        return Replies(self.writer, self.preference_len)

    @cached_property
    def answers(self) -> tuple[list[int], list[int]]:
        """The tokens that count as yes, and as no."""
        yes, no = (answer_tokens(self.language_model, word) for word in ("yes", "no"))
        return yes, no

    @cached_property
    def around(self) -> tuple[list[int], list[int], list[int]]:
        """Tokens of the prompt before the user, between user and candidate, and after the candidate."""
        llm = self.language_model
        before, _, rest = llm.chat(f"They bought{PROMPT}" if self.profile == "items" else PROMPT).partition(USER)
        between, _, after = rest.partition(CANDIDATE)
        return llm.tokens(before.rstrip(" ")), llm.tokens(between), llm.tokens(after)  # a profile begins with the space

    @cached_property
    def suffixes(self) -> list[list[int]]:
        """(I + 1,) the tokens of the prompt from the candidate on."""
        texts = self.candidate_texts or [""] * len(self.titles)
        rows = [f" {quoted(title)} {' '.join(text.split())}" for title, text in zip(self.titles, texts, strict=True)]
        return [[*plain_tokens(self.language_model, row.rstrip()), *self.around[2]] for row in rows]

    @cached_property
    def room(self) -> int:
        """Tokens that a user may have, so that every candidate fits.

        Raises:
            ValueError: there is none.
        """
        limit, longest = self.max_tokens or self.language_model.max_len, int(np.argmax([*map(len, self.suffixes)]))
        room = limit - len(self.around[0]) - len(self.around[1]) - len(self.suffixes[longest])
        if room < 1:
            raise ValueError(
                f"{self.name}: item {longest} alone makes the prompt longer than {limit} tokens: shorten "
                "candidate_texts or raise max_tokens"
            )
        return room

    def profiles(self, histories: Sequence[np.ndarray]) -> list[list[str]]:
        """The texts of some users, which follow each other in the prompt; their histories are items, oldest first."""
        recent = [[self.history_texts[item] for item in items[-self.max_len :]] for items in histories]
        if self.profile == "none":
            return [[] for _ in histories]
        if self.profile == "items":
            return [[f"\n- {' '.join(text.split())}" for text in texts] for texts in recent]
        if self.profile == "direct":
            preferences = direct_preferences(self.write, recent)
        else:
            preferences = recurrent_preferences(self.write, recent, self.block)
        return [[f" {text}".rstrip()] for text in preferences]

    def prefix(self, profile: Sequence[str]) -> tuple[list[int], bool]:
        """The tokens of the prompt before the candidate, and whether the profile was shortened so that it fits.

        Its first texts, the oldest, are dropped; one that does not fit alone is truncated.
        """
        kept = [plain_tokens(self.language_model, text) for text in profile]
        while len(kept) > 1 and sum(map(len, kept)) > self.room:
            kept = kept[1:]
        user = [*chain(*kept)]
        is_short = len(kept) < len(profile) or len(user) > self.room
        return [*self.around[0], *user[: self.room], *self.around[1]], is_short

    # Training -----------------------------------------------------------------------------------------------------

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train to answer yes to the item that came next, and no to others; the valid part is not used."""
        self.prepare(split)
        if not self.epochs:
            return
        users, histories, targets = self.positives(split)
        prefixes = [self.prefix(profile)[0] for profile in self.profiles(histories)]
        steps, pairs = self.epochs * -(-len(users) // self.batch_size), Pairs(split)

        def loss_of(step: int) -> Tensor:
            batch = batch_rows(len(users), self.batch_size, step, self.seed)
            counts = [len(targets[row]) for row in batch]
            rng = np.random.default_rng([self.seed, step])
            negatives = pairs.negatives(np.repeat(users[batch], counts).repeat(self.num_negatives), rng)
            positives = np.concatenate([targets[row] for row in batch])
            items = np.column_stack([positives, negatives.reshape(len(positives), -1)])  # (B, 1 + num_negatives)
            return self.loss([prefixes[row] for row in batch], np.repeat(np.arange(len(batch)), counts), items)

        config = TrainingConfig(
            steps=steps, lr=self.lr, weight_decay=self.weight_decay, warmup_steps=steps // 20, seed=self.seed
        )
        identity = self.identity(split) if checkpoint else ""
        self.training = train(self.network, loss_of, config, None, checkpoint, self.name, identity)

    def prepare(self, split: Split) -> None:
        """Load the model, with randomly initialised LoRA matrices."""
        num = split.dataset.num_items + 1
        for name in ("history_texts", "candidate_texts"):
            if len(getattr(self, name)) not in ((num, 0) if name == "candidate_texts" else (num,)):
                raise ValueError(f"{self.name}: {name} are {len(getattr(self, name))} texts, not {num}: one an item, "
                                 "and entry 0 is padding")  # fmt: skip
        self.titles = [title or "" for title in split.dataset.column("title")]
        self.llm_revision = revision(find_checkpoint(self.llm))
        for name in ("language_model", "answers", "around", "suffixes", "room"):
            self.__dict__.pop(name, None)
        self.network = self.empty_network()

    def empty_network(self) -> nn.ParameterList:
        """See ``BaseRecommender``."""
        return nn.ParameterList(w for w in self.language_model.model.parameters() if w.requires_grad)

    def positives(self, split: Split) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
        """(H,) users, H histories and the positives of each: after every STRIDE items of a user, the next ones.

        A user with at most STRIDE items has one positive, the last item.

        Raises:
            ValueError: no user has two training items.
        """
        ordered = split if split.has_tie_order else split.shuffle_ties(self.seed)
        groups = ordered.interactions("train").groupby("user")["item"]
        items = {int(user): own.to_numpy(np.int64) for user, own in groups if len(own) > 1}  # type: ignore[call-overload]
        if not items:
            raise ValueError(f"{self.name} learns from users with two training items; there is none")
        users, rows = np.random.default_rng(self.seed).permutation(sorted(items))[: self.max_users or None].tolist(), []
        for user in users:
            own = items[user]
            for cut in range(STRIDE, len(own), STRIDE) or [len(own) - 1]:
                rows.append((user, own[:cut], own[cut : cut + STRIDE]))
        found, histories, targets = zip(*rows, strict=True)
        return np.array(found), list(histories), list(targets)

    def loss(self, prefixes: Sequence[list[int]], rows: np.ndarray, items: np.ndarray) -> Tensor:
        """Binary cross-entropy of Eq. 1: the negative log-likelihood of the answers, among yes and no alone.

        Each prefix is processed once, and its candidates branch off it.

        Args:
            prefixes: of the histories, see ``prefix``.
            rows: (B,) whose candidates the items are, in ascending order.
            items: (B, 1 + num_negatives) positives, and negatives.
        """
        llm, suffixes = self.language_model, [self.suffixes[item] for item in items.ravel()]
        tokens = [torch.tensor(prefix, device=llm.words.device) for prefix in prefixes]
        lengths, rows = np.array([len(own) for own in tokens]), rows.repeat(items.shape[1])
        shared = llm.after_each(self.embed(pad_sequence(tokens, batch_first=True)), torch.from_numpy(lengths))
        branches = shared.branches(rows, lengths[rows], np.array([len(own) for own in suffixes]))
        hidden = last_hidden(branches, suffixes, self.embed).unflatten(0, items.shape)
        return yes_no_loss(log_odds(llm, hidden, *self.answers))

    # Scoring ------------------------------------------------------------------------------------------------------

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) tokens -> (B, T, D) input embeddings."""
        return embedding(tokens, self.language_model.words)

    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) log-odds; column 0, the padding, is an item without a title."""
        return self.score(queries, np.tile(np.arange(len(self.titles)), (len(queries), 1)))

    @torch.no_grad()
    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """See ``BaseRecommender``: the log-odds of the candidates, and only they are computed."""
        if candidates is None:
            return self.score_all(queries)
        self.num_truncated = self.num_unanswered = 0
        scores, llm = np.zeros(candidates.shape, np.float32), self.language_model
        profiles = self.profiles([items[items > 0] for items in queries.histories])
        for row, profile in enumerate(profiles):
            prefix, is_short = self.prefix(profile)
            encoder, suffixes = llm.after(prefix), [self.suffixes[item] for item in candidates[row]]
            self.num_truncated += is_short
            for part in similar([len(suffix) for suffix in suffixes]):
                hidden = last_hidden(encoder, [suffixes[column] for column in part], self.embed)
                scores[row, part] = log_odds(llm, hidden, *self.answers).cpu().numpy()
            self.num_unanswered += self.probability(hidden[:1]) < MIN_PROBABILITY
        return scores

    def probability(self, hidden: Tensor) -> float:
        """Of yes and no together, at (1, D) a hidden state."""
        yes, no = self.answers
        return float(self.language_model.logits(hidden).float().softmax(1)[0, [*yes, *no]].sum())


def similar(lengths: Sequence[int]) -> list[list[int]]:
    """Rows from the shortest to the longest, in parts of TOGETHER at most, so that little of a part is padding."""
    parts: list[list[int]] = []
    for row in np.argsort(lengths, kind="stable").tolist():
        if not parts or len(parts[-1]) == TOGETHER or lengths[row] > 1.5 * lengths[parts[-1][0]] + 8:
            parts.append([])
        parts[-1].append(row)
    return parts

"""I-LLMRec as a recommender: one image token per item into a frozen LLM, a [REC] token, retrieval by affinities."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.nn.utils.rnn import pad_sequence

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint, require_revision, revision
from mmrec_helpers.evaluation.validation import validation_ndcg
from mmrec_helpers.lessons.adaptor import Adaptor, answer_loss, last_hidden, splice
from mmrec_helpers.lessons.retrieval import RetrievalHead, ire_loss, sum_of_affinities
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model, randomly_initialised
from mmrec_helpers.llm.questions import questions_about
from mmrec_helpers.llm.tuning import add_lora
from mmrec_helpers.recommenders.base import BaseRecommender, part_checkpoint
from mmrec_helpers.recommenders.features import unit_variance
from mmrec_helpers.recommenders.history_batches import HistoryBatch, HistoryBatches
from mmrec_helpers.recommenders.illmrec_network import ILLMNetwork, VocabularyHead
from mmrec_helpers.recommenders.item_prompts import EXPRESSIONS, ItemPrompts, around_items, write_prompts
from mmrec_helpers.recommenders.matrices import check_rows
from mmrec_helpers.recommenders.pairwise import Pairs
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, train
from mmrec_helpers.training.losses import sample_negatives

PROPERTIES = ("brand", "category", "title", "description")
SUBSTITUTES = ("department", "colour", "pattern")
"""What image-LLM alignment asks about, and what takes the place of a property that the data lack."""
ANSWER_LEN = 32
"""Tokens of an answer of image-LLM alignment; longer ones are truncated."""
TOGETHER = 8
"""Prompts of similar length that are processed together: few, so that there is little padding."""
VALIDATION_QUERIES = 500
"""Maximum number of queries for early stopping."""


@dataclass(eq=False, kw_only=True)
class ILLMRec(BaseRecommender):
    """A frozen LLM encodes a history of item expressions; its hidden state retrieves items {cite}`kim2025illmrec`.

    Args:
        features: kind -> (I + 1, F) features of the items, row 0 is padding, zeros where an item has none. Those of the
            expression are ``image`` or ``CF``.
        kinds: of the features by which items are scored; all of them if empty.
        expression: how items are written into the prompt, see EXPRESSIONS.
        summaries: (I + 1,) of the items' descriptions, for expressions with a summary.
        imageless: items that are expressed by their description although they have features, which are then of their
            text {cite}`kim2025illmrec`, section 4.5.
        llm: a frozen language model, see ``load_language_model``. Empty is a control without one: the mean of the
            history's adapted features under the same head.
        random_llm: take the model with random weights, a control without pretraining.
        dtype: of the model's weights, ``float32`` or ``bfloat16``.
        lora: fine-tune the model by LoRA.
        alignment: add the loss of image-LLM alignment, where the expression has a [VISUAL] for an LLM.
        two_stage: train the adaptor by alignment alone for half of the epochs, and then all but the adaptor.
        loss: ``softmax`` over the catalogue, or ``bce`` with one negative, as in the paper.
        vocabulary: items are output tokens of the model; their features are not used to score them.
        as_released: as the released code differs from the paper: an adaptor with LayerNorm and GELU, trained token
            embeddings, the mean of the affinities' losses, and negatives that the history may contain.
        shared_dim: of the space in which users and items are compared.
        max_len: items of a prompt, the most recent.
        max_tokens: of a prompt; older items are dropped. 0 is the model's context window.
        max_users: that it learns from, at random; 0 is all.
        batch_size: users in a step, with all targets of their windows.
        epochs: each visits every user once, in a window of ``max_len`` targets at a random place of a longer history.
        validate_every: epochs between two validations.
        patience: validations without an improvement before training stops.

    Attributes:
        num_items: I.
        feature_dims: kind -> F.
        llm_revision: of the language model's files.
        prompts: tokens of the items' expressions and around them; without an LLM none.
        questions: property -> tokens of five questions, for alignment.
        answers: property -> tokens of each item's answer; entry 0 is padding.
        truncated: (n,) users whose prompts lost their oldest items in the last call of ``score``.
        network: what is trained.
    """

    FITTED: ClassVar[tuple[str, ...]] = ("num_items", "feature_dims", "llm_revision", "prompts", "network")
    NOT_SAVED = ("features", "summaries", "imageless")
    features: Mapping[str, np.ndarray] = field(repr=False)
    kinds: Sequence[str] = ()
    expression: str = "image"
    summaries: Sequence[str] = field(default=(), repr=False)
    imageless: Sequence[int] = field(default=(), repr=False)
    llm: str = "pocket-lm"
    random_llm: bool = False
    dtype: str = "float32"
    lora: bool = False
    alignment: bool = True
    two_stage: bool = False
    loss: str = "softmax"
    vocabulary: bool = False
    as_released: bool = False
    shared_dim: int = 64
    max_len: int = 10
    max_tokens: int = 0
    max_users: int = 0
    batch_size: int = 32
    epochs: int = 4
    lr: float = 1e-3
    weight_decay: float = 0.01
    validate_every: int = 1
    patience: int = 3
    seed: int = 0
    name: str = "I-LLMRec"
    num_items: int = field(init=False, repr=False)
    feature_dims: dict[str, int] = field(init=False, repr=False)
    llm_revision: str = field(init=False, repr=False)
    prompts: ItemPrompts | None = field(init=False, repr=False)
    questions: dict[str, list[list[int]]] = field(init=False, repr=False, default_factory=dict)
    answers: dict[str, list[list[int]]] = field(init=False, repr=False)
    network: ILLMNetwork = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)
    truncated = np.zeros(0, int)

    def __post_init__(self) -> None:
        if self.expression not in EXPRESSIONS or self.loss not in ("softmax", "bce"):
            fault = f"no expression {self.expression!r} or no loss {self.loss!r}"
            raise ValueError(f"{self.name} has {fault}; it has {', '.join(EXPRESSIONS)}, and softmax, bce")
        if not self.features or (self.visual and self.visual not in self.features):
            raise ValueError(f"{self.name}: expression {self.expression!r} needs {self.visual or 'some'} features")
        if unknown := set(self.kinds) - set(self.features):
            raise ValueError(
                f"{self.name}: no {', '.join(sorted(unknown))} features; there are {', '.join(self.features)}"
            )
        if "{summary}" in EXPRESSIONS[self.expression][0] and not self.summaries:
            raise ValueError(f"{self.name}: expression {self.expression!r} needs summaries, see llm.summaries")
        if not self.llm and not self.visual:
            raise ValueError(f"{self.name}: without an LLM, choose an expression with [VISUAL]")
        if self.two_stage and not self.is_aligned:
            raise ValueError(f"{self.name}: two stages need an LLM, alignment, and an expression with [VISUAL]")
        if self.vocabulary and self.loss != "softmax":
            raise ValueError(f"{self.name}: items as output tokens are trained by the softmax, not by {self.loss}")

    @property
    def visual(self) -> str:
        """Kind of the features at [VISUAL]; empty without it."""
        return EXPRESSIONS[self.expression][1]

    @property
    def is_aligned(self) -> bool:
        """Whether there is an adaptor between features and an LLM, and it is trained by alignment."""
        return self.alignment and bool(self.llm) and bool(self.visual)

    @property
    def is_frozen(self) -> bool:
        """Whether no weight of the LLM is trained."""
        return not (self.lora or self.as_released)

    # Prompts ------------------------------------------------------------------------------------------------------

    @cached_property
    def language_model(self) -> LanguageModel:
        """The model, frozen but for the weights that are fine-tuned.

        Raises:
            ValueError: its files are not those that the system was fitted with.
        """
        require_revision(self.llm, self.llm_revision, self.name)
        llm = load_language_model(self.llm, getattr(torch, self.dtype))
        llm = randomly_initialised(llm) if self.random_llm else llm
        if self.lora:
            add_lora(llm.model.base_model)
        if self.as_released:
            llm.words.requires_grad_()
        return llm

    @cached_property
    def encoder(self) -> LanguageModel:
        """The model behind the tokens with which every prompt begins, if their keys and values never change."""
        assert self.prompts is not None
        return self.language_model.after(self.prompts.before) if self.is_frozen else self.language_model

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) tokens -> (B, T, D); -i stands at [VISUAL] of item i, -(I + 1) at the end of each row is [REC]."""
        words, places = self.language_model.words, -tokens[tokens < 0]
        if not len(places):
            return embedding(tokens, words)  # nothing to learn
        is_rec = places[0] > self.num_items
        return splice(tokens, words, self.network.rec[None] if is_rec else self.network.adapted(places))

    def prompt(self, history: np.ndarray, num_after: int) -> tuple[list[int], np.ndarray]:
        """The tokens that ``encoder`` reads of a prompt's items; older items are dropped so that it fits.

        Args:
            history: (T,) items, oldest first; 0 is padding.
            num_after: tokens that must fit after the items.

        Returns:
            The tokens, and the length of the prompt up to the end of each item, 0 of one that was dropped.

        Raises:
            ValueError: not even the last item fits.
        """
        assert self.prompts is not None
        items, before = history[history > 0][-self.max_len :], self.prompts.before
        limit = self.max_tokens or self.language_model.max_len
        kept = self.prompts.most_recent(items, limit - len(before) - num_after)
        if len(items) and not len(kept):
            raise ValueError(f"item {items[-1]} alone makes the prompt longer than {limit} tokens: raise max_tokens")
        ends = np.zeros(len(items), np.int64)
        ends[len(items) - len(kept) :] = len(before) + self.prompts.sizes(kept).cumsum()
        return [*([] if self.is_frozen else before), *self.prompts.of_items(kept)], ends

    def read(self, histories: Sequence[np.ndarray] | np.ndarray, num_after: int) -> Iterator["_Reader"]:
        """Read the items of B histories, those of similar length together; ``truncated`` are those that lose items.

        The tokens that must fit after the items of a prompt are ``num_after``.
        """
        prompts = [self.prompt(history, num_after) for history in histories]
        self.truncated = np.flatnonzero([0 in ends for _, ends in prompts])
        for rows in by_length([tokens for tokens, _ in prompts]):
            own = [torch.tensor(prompts[row][0], dtype=torch.long, device=self.network.rec.device) for row in rows]
            tokens, lengths = pad_sequence(own, batch_first=True), torch.tensor([len(row) for row in own])
            llm = self.encoder.after_each(self.embed(tokens), lengths) if tokens.shape[1] else self.encoder
            yield _Reader(rows, llm, [prompts[row][1] for row in rows])

    def read_windows(self, batch: HistoryBatch) -> list["_Reader"]:
        """Read the items of a batch's windows once, for all of their targets and for both losses."""
        return [*self.read([batch.histories[row] for row in batch.last], self.longest_suffix)]

    # Training -----------------------------------------------------------------------------------------------------

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train on the training part; the valid part, if there is one, chooses the best weights."""
        self.prepare(split)
        batches = HistoryBatches(split, self.batch_size, self.seed, self.max_len, self.max_users)
        if not batches.users.size:
            raise ValueError(f"{self.name} learns from users with two training items; there is none")
        identity = self.identity(split) if checkpoint else ""
        losses = [self.retrieval_loss_of(split)]
        if self.two_stage:
            first = part_checkpoint(checkpoint, "alignment")
            self.run_stage(batches, [self.alignment_loss], None, first, identity)
            cast(Adaptor, self.network.adaptor).requires_grad_(False)
        elif self.is_aligned:
            losses.append(self.alignment_loss)
        validate = validation_ndcg(self.score, split, VALIDATION_QUERIES, self.seed, self.max_len)
        self.training = self.run_stage(batches, losses, validate, checkpoint, identity)

    def run_stage(
        self,
        batches: HistoryBatches,
        losses: Sequence["_Loss"],
        validate: Callable[[], float] | None,
        checkpoint: Path | None,
        identity: str,
    ) -> TrainingHistory:
        """Train on the sum of some losses of a batch, whose items are read once, see ``train``."""
        steps = batches.per_epoch * (-(-self.epochs // 2) if self.two_stage else self.epochs)
        config = TrainingConfig(
            steps=steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=steps // 20,
            validate_every=self.validate_every * batches.per_epoch if validate else 0,
            patience=self.patience,
            seed=self.seed,
        )

        def loss_of(step: int) -> Tensor:
            batch = batches.of(step)
            readers = self.read_windows(batch) if self.llm else []
            return torch.stack([loss(batch, readers) for loss in losses]).sum()

        return train(self.network, loss_of, config, validate, checkpoint, self.name, identity)

    def prepare(self, split: Split) -> None:
        """Initialise the network; write the prompts, and the questions and answers of image-LLM alignment."""
        dataset = split.dataset
        self.num_items = dataset.num_items
        for kind, features in self.features.items():
            check_rows(features, split, f"{self.name}, {kind}")
        standard = {kind: unit_variance(part) for kind, part in self.features.items()}
        self.feature_dims = {kind: part.shape[1] for kind, part in standard.items()}
        self.llm_revision = revision(find_checkpoint(self.llm)) if self.llm else ""
        for name in ("language_model", "encoder"):
            self.__dict__.pop(name, None)
        torch.manual_seed(self.seed)
        self.prompts = self.write_prompts(dataset) if self.llm else None
        self.network = self.build_network(standard).to(load_settings().device)
        if self.is_aligned:
            llm, names = self.language_model, properties_of(dataset)
            self.questions = {name: [around_items(llm, own)[1] for own in questions_about(name)] for name in names}
            replies = {name: [llm.reply(str(value or "")) for value in dataset.column(name)] for name in names}
            self.answers = {name: [llm.tokens(own)[:ANSWER_LEN] for own in replies[name]] for name in names}

    def write_prompts(self, dataset: RecDataset) -> ItemPrompts:
        """See ``item_prompts.write_prompts``."""
        has_vector = np.ones(self.num_items + 1, bool)
        if self.visual:
            has_vector = np.any(self.features[self.visual], axis=1)
            has_vector[list(self.imageless)] = False
        return write_prompts(self.language_model, dataset, self.expression, has_vector, self.summaries)

    def build_network(self, features: Mapping[str, Tensor]) -> ILLMNetwork:
        """A randomly initialised network for items with these (I + 1, F) features."""
        dim, adaptor = self.language_model.dim if self.llm else self.shared_dim, None
        if self.visual:
            adaptor = Adaptor(features[self.visual].shape[1], dim, as_released=self.as_released)
        kinds = list(self.kinds or features)
        head = RetrievalHead(dim, [features[kind].shape[1] for kind in kinds], self.shared_dim)
        if self.vocabulary:
            head = VocabularyHead(dim, self.num_items)
        weights = self.language_model.model.parameters() if self.llm else []
        finetuned = [weight for weight in weights if weight.requires_grad]
        return ILLMNetwork(features, kinds, adaptor, self.visual, head, dim, finetuned)

    def empty_network(self) -> ILLMNetwork:
        """See ``BaseRecommender``."""
        return self.build_network({kind: torch.zeros(self.num_items + 1, F) for kind, F in self.feature_dims.items()})

    @property
    def longest_suffix(self) -> int:
        """Tokens that must fit after the items in training: up to [REC], or of a question and its answer."""
        assert self.prompts is not None
        questions = [len(tokens) + ANSWER_LEN for own in self.questions.values() for tokens in own]
        return max([len(self.prompts.after), *questions])

    def retrieval_loss_of(self, split: Split) -> "_Loss":
        """The loss of image-based retrieval of a batch (Eq. 5, or the softmax), with negatives from a split."""
        pairs = Pairs(split) if self.loss == "bce" and not self.as_released else None

        def loss_of(batch: HistoryBatch, readers: Sequence[_Reader]) -> Tensor:
            head, features, device = self.network.head, self.network.item_features, self.network.rec.device
            targets = torch.from_numpy(batch.targets).to(device)
            negatives = torch.from_numpy(pairs.negatives(batch.users, batch.rng)).to(device) if pairs else None
            if self.loss == "bce" and not pairs:
                negatives = sample_negatives(targets, 1, self.num_items)[:, 0]
            if self.llm:
                branches = [reader.branches(*reader.targets(batch)) for reader in readers]
                rows = np.sort(np.concatenate([branch.rows for branch in branches]))
                states, targets = self.states_at_rec(branches), targets[rows]
                negatives = None if negatives is None else negatives[rows]
            else:
                states = self.user_states(batch.histories)
            loss = ire_loss(head, states, features, targets, negatives)
            return loss / len(features) if self.as_released else loss

        return loss_of

    def alignment_loss(self, batch: HistoryBatch, readers: Sequence["_Reader"]) -> Tensor:
        """The loss of the answers about a target of each window to one of the questions (Eq. 3), all sampled."""
        name = str(batch.rng.choice(list(self.answers)))
        question = self.questions[name][batch.rng.integers(5)]
        total, count = torch.zeros((), device=self.network.rec.device), 0
        for reader in readers:
            targets = reader.targets(batch)
            branch = reader.branches(*targets[:, one_of_each(targets[1], batch.rng)])
            answers = [self.answers[name][item] for item in batch.targets[branch.rows]]
            size = sum(map(len, answers))
            loss = answer_loss(branch.llm, [question] * len(answers), answers, self.embed)
            total, count = total + size * loss, count + size
        return total / count

    # Scoring ------------------------------------------------------------------------------------------------------

    def user_states(self, histories: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """(B, D) hidden states at [REC]; without an LLM, the means of the histories' adapted features."""
        if self.prompts:
            return self.states_at_rec(self.read(histories, len(self.prompts.after)))
        rows = [torch.tensor(items[items > 0][-self.max_len :], dtype=torch.long) for items in histories]
        return self.network.mean_state(pad_sequence(rows, batch_first=True).to(self.network.rec.device))

    def states_at_rec(self, readers: Iterable["_Reader"]) -> Tensor:
        """(B, D) hidden states at [REC] after the items of B histories."""
        assert self.prompts is not None
        after = self.prompts.after
        pairs = [(rows, last_hidden(llm, [after] * len(rows), self.embed)) for rows, llm, _ in readers]
        order = np.argsort(np.concatenate([rows for rows, _ in pairs]))
        return torch.cat([states for _, states in pairs]).float()[order]

    @torch.no_grad()
    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of the affinities of all kinds of features (Eq. 8); column 0, the padding, is 0."""
        self.network.eval()
        users = self.network.head.users_of(self.user_states(queries.histories))
        items = self.network.head.items_of(self.network.item_features)
        self.truncated = queries.users[self.truncated]
        return np.pad(sum_of_affinities(users, items).cpu().numpy(), ((0, 0), (1, 0)))


class _Reader(NamedTuple):
    """A language model that has read the items of some histories.

    Attributes:
        rows: (b,) numbers of the histories.
        llm: the model, whose b rows continue them.
        ends: b arrays, see ``ILLMRec.prompt``.
    """

    rows: np.ndarray
    llm: LanguageModel
    ends: list[np.ndarray]

    def targets(self, batch: HistoryBatch) -> np.ndarray:
        """(3, n) targets in the windows that were read: number, row of the window, length of the prompt before it.

        Those whose whole history was dropped are left out.
        """
        found = []
        for row, (window, ends) in enumerate(zip(self.rows, self.ends, strict=True)):
            numbers = np.flatnonzero(batch.windows == window)
            found += [(number, row, end) for number, end in zip(numbers, ends, strict=True) if end]
        return np.array(found).T

    def branches(self, numbers: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> "_Reader":
        """The reader of the histories of some ``targets``."""
        return _Reader(numbers, self.llm.branches(rows, lengths), [])


_Loss = Callable[[HistoryBatch, Sequence[_Reader]], Tensor]


def properties_of(dataset: RecDataset) -> list[str]:
    """What alignment asks about: PROPERTIES, with SUBSTITUTES for those of which the data have no value."""
    columns = [name for name in (*PROPERTIES, *SUBSTITUTES) if name in dataset.items.column_names]
    return [name for name in columns if any(dataset.column(name))][: len(PROPERTIES)]


def one_of_each(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(b,) a random position of each of the numbers below b, which (n,) rows hold in ascending order."""
    counts = np.bincount(rows)
    return counts.cumsum() - 1 - rng.integers(counts)


def by_length(prompts: Sequence[list[int]]) -> list[np.ndarray]:
    """The row numbers of prompts from the shortest to the longest, TOGETHER at a time."""
    order = np.argsort([len(tokens) for tokens in prompts], kind="stable")
    return np.split(order, range(TOGETHER, len(order), TOGETHER))

"""I-LLMRec as a recommender: one image token per item into a frozen LLM, a [REC] token, retrieval by affinities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint, revision
from mmrec_helpers.evaluation.validation import validation_ndcg
from mmrec_helpers.lessons.adaptor import (
    ITEMS,
    Adaptor,
    answer_loss,
    item_tokens,
    last_hidden,
    questions_about,
    splice,
)
from mmrec_helpers.lessons.retrieval import RetrievalHead, ire_loss, sum_of_affinities
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model, randomly_initialised
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.features import unit_variance
from mmrec_helpers.recommenders.matrices import check_rows
from mmrec_helpers.recommenders.sequential import pad_right
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, TrainingHistory, batch_rows, train
from mmrec_helpers.training.losses import sample_negatives

EXPRESSIONS = {
    "title": ("Title: {title}", ""),
    "attributes": ("Title: {title}, Brand: {brand}, Category: {category}", ""),
    "description": ("Title: {title}, Description: {description}", ""),
    "CF": ("Title: {title}, CF Representation: [VISUAL]", "CF"),
    "image": ("Title: {title}, Visual Representation: [VISUAL]", "image"),
    "image, description": ("Title: {title}, Visual Representation: [VISUAL], Description: {description}", "image"),
    "image alone": ("[VISUAL]", "image"),
}
"""Item expression -> its template, and the features at [VISUAL]: TALLRec's, full descriptions, A-LLMRec's, I-LLMRec's,
I-LLMRec+D's, and two controls. Items without those features are expressed by their description."""
FIELDS = ("title", "brand", "category", "description")
HISTORY, REQUEST = "They bought", "Which item comes next?"
"""Text of the prompt before and after the items."""
PROPERTIES = ("brand", "category", "title", "description")
SUBSTITUTES = ("department", "colour", "pattern")
"""What image-LLM alignment asks about, and what takes the place of a property that the data lack."""
ANSWER_LEN = 32
"""Tokens of an answer of image-LLM alignment; longer ones are truncated."""
SCORED = 64
"""Queries whose prompts are processed together."""
VALIDATION_QUERIES = 500
"""Maximum number of queries for early stopping."""


class ILLMNetwork(nn.Module):
    """All that is trained: adaptor, [REC] token, projectors. The features of the items are stored beside them.

    Args:
        features: kind -> (I + 1, F) standardised features, row 0 is padding.
        visual: kind of the features at [VISUAL]; none if empty.
        dim: D of the language model.
        shared_dim: of the projections.
        as_released: the adaptor's form, see ``Adaptor``.
    """

    def __init__(
        self, features: Mapping[str, Tensor], visual: str, dim: int, shared_dim: int, as_released: bool
    ) -> None:
        super().__init__()
        self.features = nn.ParameterDict(features).requires_grad_(False)
        self.visual = visual
        self.adaptor = Adaptor(features[visual].shape[1], dim, as_released=as_released) if visual else None
        self.rec = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.head = RetrievalHead(dim, [part.shape[1] for part in self.features.values()], shared_dim)

    @property
    def item_features(self) -> list[Tensor]:
        """(I, F) of each kind."""
        return [part[1:] for part in self.features.values()]

    def mean_state(self, histories: Tensor) -> Tensor:
        """(B, T) items, 0 is padding -> (B, D) mean of their adapted features; zeros without items."""
        assert self.adaptor is not None
        is_item = (histories > 0)[:, :, None]
        adapted = self.adaptor(self.features[self.visual][histories]) * is_item
        return adapted.sum(1) / is_item.sum(1).clamp(min=1)

    def vectors(self, numbers: Tensor) -> Tensor:
        """(K, D) input embeddings of items 1..I or of the [REC] token, I + 1."""
        rec = self.rec.expand(len(numbers), -1)
        if self.adaptor is None:
            return rec
        features = self.features[self.visual]
        adapted = self.adaptor(features[numbers.clamp(max=len(features) - 1)])
        return torch.where((numbers == len(features))[:, None], rec, adapted)


@dataclass(eq=False, kw_only=True)
class ILLMRec(BaseRecommender):
    """A frozen LLM encodes a history of item expressions; its hidden state retrieves items {cite}`kim2025illmrec`.

    Args:
        features: kind -> (I + 1, F) features of the items, row 0 is padding, zeros where an item has none. The items
            are scored by all kinds; those of the expression are ``image`` or ``CF``.
        expression: how items are written into the prompt, see EXPRESSIONS.
        llm: a frozen language model, see ``load_language_model``. Empty is a control without one: the mean of the
            history's adapted features under the same head.
        random_llm: take the model with random weights, a control without pretraining.
        alignment: add the loss of image-LLM alignment, where the expression has a [VISUAL] for an LLM.
        loss: ``softmax`` over the catalogue, or ``bce`` with one negative, as in the paper.
        as_released: the adaptor with LayerNorm and GELU, as in the released code.
        shared_dim: of the space in which users and items are compared.
        max_len: items of a prompt, the most recent.
        max_tokens: of a prompt; older items are dropped. 0 is the model's context window.
        batch_size: users in a step.
        epochs: each visits every user once, at a random place in the history.
        lr: peak learning rate.
        weight_decay: of AdamW.
        validate_every: epochs between two validations.
        patience: validations without an improvement before training stops.
        seed: of everything random.
        name: of the system in tables.

    Attributes:
        num_items: I.
        feature_dims: kind -> F.
        llm_revision: of the language model's files.
        item_prompts, item_ends: tokens of the items' expressions one after the other, and where each ends.
        frame: tokens of a prompt before and after the items.
        answers: property -> tokens of each item's answer, for alignment.
        num_truncated: prompts that lost items in the last call of ``score``.
        network: what is trained.
        training: the history of the training, once fitted.
    """

    FITTED: ClassVar[tuple[str, ...]] = (
        "num_items",
        "feature_dims",
        "llm_revision",
        "item_prompts",
        "item_ends",
        "frame",
        "network",
    )
    NOT_SAVED = ("features",)
    features: Mapping[str, np.ndarray] = field(repr=False)
    expression: str = "image"
    llm: str = "pocket-lm"
    random_llm: bool = False
    alignment: bool = True
    loss: str = "softmax"
    as_released: bool = False
    shared_dim: int = 64
    max_len: int = 10
    max_tokens: int = 0
    batch_size: int = 32
    epochs: int = 8
    lr: float = 2e-3
    weight_decay: float = 0.01
    validate_every: int = 2
    patience: int = 3
    seed: int = 0
    name: str = "I-LLMRec"
    num_items: int = field(init=False, repr=False)
    feature_dims: dict[str, int] = field(init=False, repr=False)
    llm_revision: str = field(init=False, repr=False)
    item_prompts: np.ndarray = field(init=False, repr=False)
    item_ends: np.ndarray = field(init=False, repr=False)
    frame: list[list[int]] = field(init=False, repr=False)
    answers: dict[str, list[list[int]]] = field(init=False, repr=False)
    network: ILLMNetwork = field(init=False, repr=False)
    training: TrainingHistory = field(init=False, repr=False)
    num_truncated = 0

    def __post_init__(self) -> None:
        visual = EXPRESSIONS.get(self.expression, ("", "-"))[1]
        if self.expression not in EXPRESSIONS or self.loss not in ("softmax", "bce"):
            fault = f"no expression {self.expression!r} or no loss {self.loss!r}"
            raise ValueError(f"{self.name} has {fault}; it has {', '.join(EXPRESSIONS)}, and softmax, bce")
        if not self.features or (visual and visual not in self.features):
            raise ValueError(f"{self.name}: expression {self.expression!r} needs {visual or 'some'} features")
        if not self.llm and not visual:
            raise ValueError(f"{self.name}: without an LLM, choose an expression with [VISUAL]")

    @property
    def is_aligned(self) -> bool:
        """Whether there is an adaptor between features and an LLM, and it is trained by alignment."""
        return self.alignment and bool(self.llm) and bool(EXPRESSIONS[self.expression][1])

    # Prompts ------------------------------------------------------------------------------------------------------

    @cached_property
    def language_model(self) -> LanguageModel:
        """The frozen model.

        Raises:
            ValueError: its files are not those that the system was fitted with.
        """
        if revision(find_checkpoint(self.llm)) != self.llm_revision:
            raise ValueError(f"{self.name} was fitted with other files of {self.llm}: fit it anew")
        llm = load_language_model(self.llm)
        return randomly_initialised(llm) if self.random_llm else llm

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, T) tokens -> (B, T, D); -i stands at [VISUAL] of item i, -(I + 1) at [REC]."""
        return splice(tokens, self.language_model.words, self.network.vectors(-tokens[tokens < 0]))

    def write_prompts(self, dataset: RecDataset) -> None:
        """Tokenise the items' expressions and the prompt around them."""
        llm, (template, visual) = self.language_model, EXPRESSIONS[self.expression]
        self.frame = self.framed(REQUEST)
        self.frame[1].append(-(self.num_items + 1))
        columns = {name: dataset.column(name) for name in FIELDS}
        is_expressed = np.any(self.features[visual], axis=1) if visual else np.ones(self.num_items + 1, bool)
        rows: list[list[int]] = [[]]
        for item in range(1, self.num_items + 1):
            fields = {name: str(column[item] or "") for name, column in columns.items()}
            form = template if is_expressed[item] else EXPRESSIONS["description"][0]
            rows.append([*item_tokens(llm, f" {form}", item, **fields), *llm.tokens(",")])
        self.item_prompts = np.concatenate([np.array(row, np.int64) for row in rows])
        self.item_ends = np.cumsum([len(row) for row in rows])

    def framed(self, request: str) -> list[list[int]]:
        """The tokens of a prompt before and after the items."""
        before, after = self.language_model.chat(f"{HISTORY}{ITEMS} {request}").split(ITEMS)
        return [self.language_model.tokens(before), self.language_model.tokens(after)]

    def prompt(self, history: np.ndarray, after: list[int], answer_len: int = 0) -> tuple[list[int], bool]:
        """The tokens of a prompt, and whether older items were dropped so that it fits.

        Args:
            history: (T,) items, oldest first; 0 is padding.
            after: tokens after the items.
            answer_len: tokens that must fit after the prompt.

        Raises:
            ValueError: not even the last item fits.
        """
        items = history[history > 0][-self.max_len :]
        limit = self.max_tokens or self.language_model.max_len
        room = limit - len(self.frame[0]) - len(after) - answer_len
        parts: list[list[int]] = []
        for item in items[::-1]:
            part = self.item_prompts[self.item_ends[item - 1] : self.item_ends[item]].tolist()
            room -= len(part)
            if room < 0:
                break
            parts.insert(0, part)
        if len(items) and not parts:
            raise ValueError(f"item {items[-1]} alone makes the prompt longer than {limit} tokens: raise max_tokens")
        return [*self.frame[0], *chain(*parts), *after], len(parts) < len(items)

    # Training -----------------------------------------------------------------------------------------------------

    def learn(self, split: Split, checkpoint: Path | None) -> None:
        """Train on the training part; the valid part, if there is one, chooses the best weights."""
        self.prepare(split)
        frame = split.interactions("train")
        users = [items.to_numpy() for _, items in frame.groupby("user")["item"] if len(items) > 1]
        if not users:
            raise ValueError(f"{self.name} learns from users with two training items; there is none")
        validate = validation_ndcg(self.score, split, VALIDATION_QUERIES, self.seed, self.max_len)
        batches = -(-len(users) // self.batch_size)
        config = TrainingConfig(
            steps=self.epochs * batches,
            lr=self.lr,
            weight_decay=self.weight_decay,
            warmup_steps=self.epochs * batches // 20,
            validate_every=self.validate_every * batches if validate else 0,
            patience=self.patience,
            seed=self.seed,
        )
        loss_of, identity = partial(self.loss_of, users), self.identity(split) if checkpoint else ""
        self.training = train(self.network, loss_of, config, validate, checkpoint, self.name, identity)

    def prepare(self, split: Split) -> None:
        """Initialise the network; write the prompts, and the questions and answers of image-LLM alignment."""
        dataset = split.dataset
        self.num_items = dataset.num_items
        for kind, features in self.features.items():
            check_rows(features, split, f"{self.name}, {kind}")
        standard = {kind: unit_variance(part) for kind, part in self.features.items()}
        self.feature_dims = {kind: part.shape[1] for kind, part in standard.items()}
        self.frame, self.item_prompts, self.item_ends = [], np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.llm_revision = revision(find_checkpoint(self.llm)) if self.llm else ""
        self.__dict__.pop("language_model", None)
        if self.llm:
            self.write_prompts(dataset)
        torch.manual_seed(self.seed)
        self.network = self.build_network(standard).to(load_settings().device)
        if self.is_aligned:
            self.answers = {name: self.answers_of(dataset, name) for name in properties_of(dataset)}

    def build_network(self, features: Mapping[str, Tensor]) -> ILLMNetwork:
        """A randomly initialised network for items with these (I + 1, F) features."""
        dim = self.language_model.dim if self.llm else self.shared_dim
        visual = EXPRESSIONS[self.expression][1]
        return ILLMNetwork(features, visual, dim, self.shared_dim, self.as_released)

    def empty_network(self) -> ILLMNetwork:
        """See ``BaseRecommender``."""
        return self.build_network({kind: torch.zeros(self.num_items + 1, F) for kind, F in self.feature_dims.items()})

    def answers_of(self, dataset: RecDataset, name: str) -> list[list[int]]:
        """Tokens of each item's answer to the questions about a property; entry 0 is padding."""
        llm = self.language_model
        return [llm.tokens(llm.reply(str(value or "")))[:ANSWER_LEN] for value in dataset.column(name)]

    def loss_of(self, users: list[np.ndarray], step: int) -> Tensor:
        """The loss of a step's batch: image-based retrieval (Eq. 5), plus alignment (Eq. 3) where configured."""
        rng = np.random.default_rng([self.seed, step])
        batch = [users[row] for row in batch_rows(len(users), self.batch_size, step, self.seed)]
        cuts = rng.integers(1, [len(items) for items in batch])
        histories = [items[:cut] for items, cut in zip(batch, cuts, strict=True)]
        targets = np.array([items[cut] for items, cut in zip(batch, cuts, strict=True)])
        positives = torch.from_numpy(targets).long().to(self.network.rec.device)
        negatives = sample_negatives(positives, 1, self.num_items)[:, 0] if self.loss == "bce" else None
        head, features = self.network.head, self.network.item_features
        loss = ire_loss(head, self.user_states(histories), features, positives, negatives)
        return loss + self.alignment_loss(histories, targets, rng) if self.is_aligned else loss

    def alignment_loss(self, histories: list[np.ndarray], targets: np.ndarray, rng: np.random.Generator) -> Tensor:
        """The loss of the answers to one of the questions, sampled for the whole batch."""
        name = str(rng.choice(list(self.answers)))
        question = questions_about(name)[rng.integers(5)]
        after = self.framed(question)[1]
        prompts = [self.prompt(history, after, ANSWER_LEN)[0] for history in histories]
        answers = [self.answers[name][target] for target in targets]
        return answer_loss(self.language_model, prompts, answers, self.embed)

    # Scoring ------------------------------------------------------------------------------------------------------

    def user_states(self, histories: Sequence[np.ndarray] | np.ndarray) -> Tensor:
        """(B, D) hidden states at [REC]; without an LLM, the means of the histories' adapted features.

        Counts in ``num_truncated`` the histories that lost items.
        """
        if not self.llm:
            rows = pad_right(padded(histories)[:, -self.max_len :])
            return self.network.mean_state(torch.from_numpy(rows).to(self.network.rec.device))
        prompts = [self.prompt(history, self.frame[1]) for history in histories]
        self.num_truncated += sum(is_truncated for _, is_truncated in prompts)
        return last_hidden(self.language_model, [tokens for tokens, _ in prompts], self.embed)

    @torch.no_grad()
    def score_all(self, queries: Queries) -> np.ndarray:
        """(N, I + 1) sums of the affinities of all kinds of features (Eq. 8); column 0, the padding, is 0."""
        self.network.eval()
        self.num_truncated = 0
        scores = np.zeros((len(queries), self.num_items + 1), np.float32)
        items = self.network.head.items_of(self.network.item_features)
        order = np.argsort((queries.histories > 0).sum(1), kind="stable")  # similar lengths: little padding
        for start in range(0, len(queries), SCORED):
            rows = order[start : start + SCORED]
            users = self.network.head.users_of(self.user_states(queries.histories[rows]))
            scores[rows, 1:] = sum_of_affinities(users, items).cpu().numpy()
        return scores


def properties_of(dataset: RecDataset) -> list[str]:
    """What alignment asks about: PROPERTIES, with SUBSTITUTES for those of which the data have no value."""
    columns = [name for name in (*PROPERTIES, *SUBSTITUTES) if name in dataset.items.column_names]
    return [name for name in columns if any(dataset.column(name))][: len(PROPERTIES)]


def padded(histories: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(N, T) histories of any lengths, padded with 0 at the left."""
    longest = max([1, *map(len, histories)])
    return np.array([np.pad(items, (longest - len(items), 0)) for items in histories], np.int64).reshape(-1, longest)

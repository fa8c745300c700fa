"""Recommenders on review texts: DeepCoNN's two towers, and a neural matrix factorization.

The review of an interaction that is to be predicted is never an input: texts come from training reviews only, and in
training the review of the positive interaction is masked. Otherwise it would be in both the user's and the item's text,
which is leakage; {cite}`catherine2017transnets` measure how much of DeepCoNN's published accuracy is due to it.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.recommenders.pairwise import INIT_STD, Pairs, PairwiseRecommender

TEXTS_AT_ONCE = 256
"""Texts that are encoded together."""
PAIRS_AT_ONCE = 2**17
"""Pairs of a user and an item that are scored together."""


def training_reviews(split: Split) -> list[str]:
    """The review of each training interaction, empty where there is none.

    Raises:
        ValueError: there is none at all.
    """
    reviews = [text if isinstance(text, str) else "" for text in split.interactions("train")["review"]]
    if not any(re.search(r"\w", text) for text in reviews):
        raise ValueError(
            f"{split.dataset.name} has no reviews in the training part: choose a recommender without reviews"
        )
    return reviews


class Texts:
    """The words of each user's and each item's training reviews, as token ids.

    Args:
        split: whose training interactions are read.
        vocabulary: number of words, the most frequent ones; others are ignored.
        max_len: L, words kept for each user and item, the latest.

    Attributes:
        word_ids: word -> id from 1; 0 is padding.
        users, items: (U, L) and (I + 1, L) words in order of time, padded with 0 at the right.
        user_sources, item_sources: the training interaction of each word; -1 for padding.
    """

    def __init__(self, split: Split, vocabulary: int, max_len: int) -> None:
        words = [re.findall(r"\w+", text.lower()) for text in training_reviews(split)]
        frequent = Counter(word for text in words for word in text).most_common(vocabulary)
        self.word_ids = {word: number for number, (word, _) in enumerate(frequent, 1)}
        texts_ids = [[self.word_ids[word] for word in text if word in self.word_ids] for text in words]
        numbers = np.array([number for text in texts_ids for number in text], int)
        source = np.repeat(np.arange(len(texts_ids)), [len(text) for text in texts_ids])
        frame = split.interactions("train")
        time = frame["time"].to_numpy()[source]

        def tables(kind: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
            owner = frame[kind].to_numpy()[source]
            order = np.lexsort((np.arange(len(numbers)), time, owner))
            texts, sources = _latest([numbers[order], source[order]], owner[order], rows, max_len)
            return texts, np.where(texts > 0, sources, -1)

        self.users, self.user_sources = tables("user", split.dataset.num_users)
        self.items, self.item_sources = tables("item", split.dataset.num_items + 1)


def _latest(columns: list[np.ndarray], owner: np.ndarray, rows: int, max_len: int) -> list[np.ndarray]:
    """(rows, length) the last entries of each owner, padded with 0 at the right; the owners are sorted."""
    count = np.bincount(owner, minlength=rows)
    begins = np.cumsum(count) - np.minimum(count, max_len)  # (rows,) the first entry that is kept
    position = np.arange(len(owner)) - begins[owner]
    kept, tables = position >= 0, []
    for column in columns:
        tables.append(np.zeros((rows, max_len), np.int64))
        tables[-1][owner[kept], position[kept]] = column[kept]
    return tables


@dataclass(eq=False, kw_only=True)
class DeepCoNN(PairwiseRecommender):
    """Two towers, one over the words of a user's reviews, one over those of an item's {cite}`zheng2017deepconn`.

    As in the paper, each tower is a convolution over word embeddings, max pooling over the text and a linear layer.
    Three things differ. The paper predicts ratings; here BPR's loss trains a ranking of each positive against all
    negatives sampled for the batch. The factorization machine is reduced to the terms that rank one user's items: the
    dot product of the towers and a linear term of the item. Word embeddings are learnt, not initialised by word2vec.
    Users and items without reviews have an empty text.

    Args:
        vocabulary: number of words, the most frequent ones.
        max_len: L, words of each user and item, the latest.
        word_dim: dimension of word embeddings.
        filters: of each tower, with a kernel of three words.
        dim: D, of the towers' outputs.
        dropout: of the pooled features.
    """

    vocabulary: int = 5_000
    max_len: int = 100
    word_dim: int = 32
    filters: int = 64
    dim: int = 32
    dropout: float = 0.0
    epochs: int = 6
    lr: float = 3e-3
    weight_decay: float = 0.01
    batch_size: int = 64
    name: str = "DeepCoNN"
    model: "_Towers" = field(init=False, repr=False)

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        self.texts = Texts(split, self.vocabulary, self.max_len)
        return _Towers(len(self.texts.word_ids), self.word_dim, self.filters, self.dim, self.dropout)

    def score_differences(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """See ``PairwiseRecommender``."""
        texts, users, items, own = self.texts, pairs.users[rows], pairs.items[rows], pairs.rows[rows][:, None]
        others = pairs.negatives(users, rng)
        is_negative = self.tensor(pairs.interacted[users][:, others].toarray() == 0)  # (B, B), True on the diagonal
        user_words = np.where(texts.user_sources[users] == own, 0, texts.users[users])
        item_words = np.where(texts.item_sources[items] == own, 0, texts.items[items])
        user = self.model.users(self.tensor(user_words))  # (B, D)
        item, other = self.model.items(self.tensor(np.concatenate([item_words, texts.items[others]]))).chunk(2)
        positive = (user * item).sum(dim=1, keepdim=True) + self.model.linear(item)  # (B, 1)
        return (positive - user @ other.T - self.model.linear(other).T)[is_negative]

    def embeddings(self) -> tuple[np.ndarray, ...]:
        """See ``PairwiseRecommender``."""
        users, items = (
            torch.cat(
                [tower(self.tensor(some)) for some in np.split(words, range(TEXTS_AT_ONCE, len(words), TEXTS_AT_ONCE))]
            )
            for tower, words in ((self.model.users, self.texts.users), (self.model.items, self.texts.items))
        )
        return tuple(part.cpu().numpy() for part in (users, items, self.model.linear(items)[:, 0]))


class _Tower(nn.Module):
    """(B, L) words -> (B, D): convolution over three words, max pooling, a linear layer.

    Each word's contribution to a filter is computed once for the whole vocabulary. Only the position of a filter's
    maximum has a gradient, so these positions are found without gradients.
    """

    def __init__(self, words: nn.Parameter, filters: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.words, self.filters = words, nn.Conv1d(words.shape[1], filters, kernel_size=3, padding=1)
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(filters, dim)

    def forward(self, words: Tensor) -> Tensor:
        assert self.filters.bias is not None  # by default a convolution has one
        table = torch.einsum("vw,fwk->kvf", self.words, self.filters.weight)
        table = pad(table, (0, 0, 1, 0))  # (3, vocabulary + 1, filters): padding adds nothing
        rows = pad(words, (1, 1)).unfold(1, 3, 1) + table.shape[1] * torch.arange(3, device=words.device)
        positions = self.argmax(rows, table.detach().clone())  # (B, filters)
        chosen = rows.gather(1, positions[:, :, None].expand(-1, -1, 3))  # (B, filters, 3) rows of the flat table
        numbers = torch.arange(table.shape[2], device=words.device)[:, None]
        pooled = table.flatten()[chosen * table.shape[2] + numbers].sum(dim=2) + self.filters.bias
        return self.output(self.dropout(pooled.relu() * words.any(dim=1, keepdim=True)))

    @staticmethod
    def argmax(rows: Tensor, table: Tensor) -> Tensor:
        """(B, filters) the position of each filter's maximum in each text, never at padding."""
        table[1, 0] = -torch.inf
        activations = embedding_bag(rows.flatten(0, 1), table.flatten(0, 1), mode="sum")
        return activations.view(*rows.shape[:2], -1).max(dim=1).indices  # faster than argmax


class _Towers(nn.Module):
    """Both towers on the same word embeddings."""

    def __init__(self, vocabulary: int, word_dim: int, filters: int, dim: int, dropout: float) -> None:
        super().__init__()
        words = nn.Parameter(torch.randn(vocabulary, word_dim))
        self.users, self.items = (_Tower(words, filters, dim, dropout) for _ in range(2))
        self.linear = nn.Linear(dim, 1, bias=False)


@dataclass(eq=False, kw_only=True)
class NeuralReviews(PairwiseRecommender):
    """Neural matrix factorization {cite}`he2017neural` with review features.

    The MM-GPT2Rec paper {cite}`olaniyi_mmgpt2rec` lists an "NRMF" without definition or citation. This is our reading
    of the name, not a published system: NeuMF, the element-wise product of a user's and an item's embedding plus an MLP
    over two more embeddings, whose MLP also gets the mean vectors of the user's and of the item's training reviews
    (see ``ReviewVectors``). Trained by BPR's loss, where NeuMF uses binary cross-entropy.

    Args:
        dim: D, of each of the four embeddings.
        topics: F, dimension of review vectors.
        hidden: dimension of the MLP's first layer; the second has half of it.
        dropout: after the first layer.
    """

    FITTED = (*PairwiseRecommender.FITTED, "sizes", "model")
    dim: int = 32
    topics: int = 64
    hidden: int = 64
    dropout: float = 0.2
    epochs: int = 40
    lr: float = 3e-3
    weight_decay: float = 0.3
    name: str = "NRMF (our reading)"
    model: "_NeuralFactors" = field(init=False, repr=False)

    def build_model(self, split: Split) -> nn.Module:
        """See ``PairwiseRecommender``."""
        self.reviews = ReviewVectors(split, self.topics, self.seed)
        self.sizes = (split.dataset.num_users, split.dataset.num_items, self.reviews.users.shape[1])
        return self.empty_network()

    def empty_network(self) -> nn.Module:
        """See ``BaseRecommender``."""
        num_users, num_items, topics = self.sizes
        return _NeuralFactors(num_users, num_items, self.dim, topics, self.hidden, self.dropout)

    def score_differences(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """See ``PairwiseRecommender``."""
        users, items, own = pairs.users[rows], pairs.items[rows], pairs.rows[rows]
        others = pairs.negatives(users, rng)
        user_reviews, item_reviews = self.reviews.without(own)
        user = self.model.users(self.tensor(users), self.tensor(user_reviews))
        item = self.model.items(self.tensor(items), self.tensor(item_reviews))
        other = self.model.items(self.tensor(others), self.tensor(self.reviews.items[others]))
        return self.model(user, item) - self.model(user, other)

    def embeddings(self) -> tuple[np.ndarray, ...]:
        """See ``PairwiseRecommender``."""
        users = self.model.users(slice(None), self.tensor(self.reviews.users))
        items = self.model.items(slice(None), self.tensor(self.reviews.items))
        return users.cpu().numpy(), items.cpu().numpy()

    @torch.no_grad()
    def scores_of(self, users: np.ndarray, items: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        """(N, I + 1) outputs of the network for every user with every item; it has no bias of an item."""
        parts, every = self.tensor(users).split(max(PAIRS_AT_ONCE // len(items), 1)), self.tensor(items)
        return torch.cat([self.model(part[:, None], every).cpu() for part in parts]).numpy()


class ReviewVectors:
    """Mean vectors of each user's and each item's training reviews.

    A review's vector is the TF-IDF of its words, reduced to F topics {cite}`deerwester1990indexing`.

    Attributes:
        users, items: (U, F) and (I + 1, F) means over the reviews with words; zeros without any.
    """

    def __init__(self, split: Split, topics: int, seed: int) -> None:
        frame, reviews = split.interactions("train"), training_reviews(split)
        words = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit_transform(reviews)
        topics = min(topics, words.shape[1])
        self.vectors = TruncatedSVD(topics, random_state=seed).fit_transform(words)  # (training interactions, F)
        self.has_words = self.vectors.any(axis=1)
        self.owners, self.sums, self.counts = [], [], []
        for kind, rows in (("user", split.dataset.num_users), ("item", split.dataset.num_items + 1)):
            owner, sums = frame[kind].to_numpy(), np.zeros((rows, topics), np.float32)
            np.add.at(sums, owner, self.vectors)
            self.owners.append(owner)
            self.sums.append(sums)
            self.counts.append(np.bincount(owner, self.has_words, minlength=rows))
        self.users, self.items = map(_mean, self.sums, self.counts)

    def without(self, rows: np.ndarray) -> list[np.ndarray]:
        """(B, F) of the users and of the items of some training interactions, without these interactions' reviews."""
        return [
            _mean(sums[owner[rows]] - self.vectors[rows], count[owner[rows]] - self.has_words[rows])
            for owner, sums, count in zip(self.owners, self.sums, self.counts, strict=True)
        ]


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(rows, F) sums over counts; zeros where the count is zero."""
    means = sums / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, means, 0).astype(np.float32)


class _NeuralFactors(nn.Module):
    """NeuMF whose MLP also gets review vectors.

    The first layer is linear in the user's and in the item's part, so each part is computed once: a user or an item is
    embedded in D dimensions for the product and in ``hidden`` dimensions that the first layer adds up.
    """

    def __init__(self, num_users: int, num_items: int, dim: int, topics: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dim = dim
        self.user_table, self.item_table = (nn.Embedding(num, 2 * dim) for num in (num_users, num_items + 1))
        self.user_layer, self.item_layer = (nn.Linear(dim + topics, hidden) for _ in range(2))
        self.network = nn.Sequential(
            nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 1)
        )
        self.product = nn.Parameter(torch.ones(dim))
        for table in (self.user_table, self.item_table):
            nn.init.normal_(table.weight, std=INIT_STD)

    def users(self, numbers: Tensor | slice, reviews: Tensor) -> Tensor:
        """(B, D + hidden) out of user numbers and (B, F) means."""
        return self._embed(self.user_table.weight[numbers], self.user_layer, reviews)

    def items(self, numbers: Tensor | slice, reviews: Tensor) -> Tensor:
        """(B, D + hidden) out of item numbers and (B, F) means."""
        return self._embed(self.item_table.weight[numbers], self.item_layer, reviews)

    def _embed(self, vectors: Tensor, layer: nn.Linear, reviews: Tensor) -> Tensor:
        product, network = vectors.split(self.dim, dim=1)
        return torch.cat([product, layer(torch.cat([network, reviews], dim=1))], dim=1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of user and item embeddings that broadcast against each other."""
        product = (users[..., : self.dim] * items[..., : self.dim]) @ self.product
        return product + self.network(users[..., self.dim :] + items[..., self.dim :])[..., 0]

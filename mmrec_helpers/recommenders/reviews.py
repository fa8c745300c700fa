"""Recommenders that read reviews: towers over words in the shape of DeepCoNN, and a neural factorization beside it.

What a review says of the interaction to be predicted is never read: words and vectors come from training reviews only,
and while a model learns from an interaction, that interaction's own review is hidden from it. Left in, it would stand
in the user's text and in the item's, a sign that no interaction to be predicted has; how much of DeepCoNN's published
strength came from it is told by {cite}`catherine2017transnets`.
"""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, pad

from mmrec_helpers.data.dataset import Split
from mmrec_helpers.recommenders.pairwise import SPREAD, Pairs, Pairwise

AT_ONCE = 256
"""Texts that are encoded together."""
PRODUCTS = 2**17
"""Pairs of a user and an item that are scored together."""


def training_reviews(split: Split) -> list[str]:
    """The review of each training interaction, empty where there is none.

    Raises:
        ValueError: there is none at all.
    """
    reviews = [text if isinstance(text, str) else "" for text in split.interactions("train")["review"]]
    if not any(re.search(r"\w", text) for text in reviews):
        raise ValueError(f"{split.dataset.name} has no reviews in training: take a system that reads none")
    return reviews


class Texts:
    """The words of each user's and each item's training reviews, as numbers.

    Args:
        split: whose training interactions are read.
        vocabulary: how many words are known, the most frequent ones; the others are passed over.
        max_len: L, how many words of a user or an item are kept, the latest.

    Attributes:
        known: word -> number from 1; 0 is padding.
        users, items: (U, L) and (I + 1, L) words in order of time, padded with 0 at the right.
        of_users, of_items: the training interaction that each word stands in; -1 for padding.
    """

    def __init__(self, split: Split, vocabulary: int, max_len: int):
        words = [re.findall(r"\w+", text.lower()) for text in training_reviews(split)]
        frequent = Counter(word for text in words for word in text).most_common(vocabulary)
        self.known = {word: number for number, (word, _) in enumerate(frequent, 1)}
        told = [[self.known[word] for word in text if word in self.known] for text in words]
        numbers = np.array([number for text in told for number in text], int)
        source = np.repeat(np.arange(len(told)), [len(text) for text in told])
        frame = split.interactions("train")
        time = frame["time"].to_numpy()[source]
        for kind, rows in (("user", split.dataset.num_users), ("item", split.dataset.num_items + 1)):
            owner = frame[kind].to_numpy()[source]
            order = np.lexsort((np.arange(len(numbers)), time, owner))
            texts, sources = _latest([numbers[order], source[order]], owner[order], rows, max_len)
            setattr(self, f"{kind}s", texts)
            setattr(self, f"of_{kind}s", np.where(texts > 0, sources, -1))


def _latest(columns: list[np.ndarray], owner: np.ndarray, rows: int, max_len: int) -> list[np.ndarray]:
    """(rows, length) the last entries of each owner, padded with 0 at the right; the owners are sorted."""
    count = np.bincount(owner, minlength=rows)
    begins = np.cumsum(count) - np.minimum(count, max_len)  # (rows,) the first entry that is kept
    place = np.arange(len(owner)) - begins[owner]
    kept, tables = place >= 0, []
    for column in columns:
        tables.append(np.zeros((rows, max_len), np.int64))
        tables[-1][owner[kept], place[kept]] = column[kept]
    return tables


@dataclass(eq=False, kw_only=True)
class DeepCoNN(Pairwise):
    """Two towers, one over the words of a user's reviews, one over those of an item's {cite}`zheng2017deepconn`.

    As in the paper each tower is a convolution over word vectors, the largest value of each filter over the text, and a
    fully connected layer. It is not the paper's model in three things. The paper predicts ratings; here BPR's loss
    trains a ranking, of each item taken against the items that were drawn for the whole batch and that the user did not
    take. Its factorization machine on top is cut down to what orders one user's items: the dot product of the towers
    and a linear term of the item's. And word vectors are learnt here, not read from word2vec. An item without reviews
    is an empty text, and so is a user with training interactions and no reviews.

    Args:
        vocabulary: how many words are known, the most frequent ones.
        max_len: L, words of a user or an item that are read, the latest.
        word_dim: of word vectors.
        filters: of each tower, three words wide.
        dim: D, the towers' outputs.
        dropout: share of the filters' values dropped in training.
        name: of the system in tables.
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

    def make(self, split: Split) -> nn.Module:
        self.texts = Texts(split, self.vocabulary, self.max_len)
        return _Towers(len(self.texts.known), self.word_dim, self.filters, self.dim, self.dropout)

    def margins(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        texts, users, items, own = self.texts, pairs.users[rows], pairs.items[rows], pairs.rows[rows][:, None]
        others = pairs.negatives(users, rng)
        left = self.tensor(pairs.taken[users][:, others].toarray() == 0)  # (B, B) not taken; true on the diagonal
        user_words = np.where(texts.of_users[users] == own, 0, texts.users[users])
        item_words = np.where(texts.of_items[items] == own, 0, texts.items[items])
        user = self.model.users(self.tensor(user_words))  # (B, D)
        item, other = self.model.items(self.tensor(np.concatenate([item_words, texts.items[others]]))).chunk(2)
        taken = (user * item).sum(dim=1, keepdim=True) + self.model.linear(item)  # (B, 1)
        return (taken - user @ other.T - self.model.linear(other).T)[left]

    def sides(self) -> tuple[np.ndarray, ...]:
        users, items = (
            torch.cat([tower(self.tensor(some)) for some in np.split(words, range(AT_ONCE, len(words), AT_ONCE))])
            for tower, words in ((self.model.users, self.texts.users), (self.model.items, self.texts.items))
        )
        return tuple(part.cpu().numpy() for part in (users, items, self.model.linear(items)[:, 0]))


class _Tower(nn.Module):
    """(B, L) words -> (B, D): filters over three words, the largest value of each over the text, a linear layer.

    What a word adds to a filter is worked out once for the whole vocabulary, not for every place where it stands. And
    only the place where a filter is largest has a gradient, so these places are found without gradients.
    """

    def __init__(self, words: nn.Parameter, filters: int, dim: int, dropout: float):
        super().__init__()
        self.words, self.filters = words, nn.Conv1d(words.shape[1], filters, kernel_size=3, padding=1)
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(filters, dim)

    def forward(self, words: Tensor) -> Tensor:
        table = torch.einsum("vw,fwk->kvf", self.words, self.filters.weight)
        table = pad(table, (0, 0, 1, 0))  # (3, vocabulary + 1, filters): padding adds nothing
        rows = pad(words, (1, 1)).unfold(1, 3, 1) + table.shape[1] * torch.arange(3, device=words.device)
        places = self.largest(rows, table.detach().clone())  # (B, filters)
        chosen = rows.gather(1, places[:, :, None].expand(-1, -1, 3))  # (B, filters, 3) rows of the flat table
        numbers = torch.arange(table.shape[2], device=words.device)[:, None]
        found = table.flatten()[chosen * table.shape[2] + numbers].sum(dim=2) + self.filters.bias
        return self.output(self.dropout(found.relu() * words.any(dim=1, keepdim=True)))

    @staticmethod
    def largest(rows: Tensor, table: Tensor) -> Tensor:
        """(B, filters) the place in each text where each filter is largest, never at padding."""
        table[1, 0] = -torch.inf
        everywhere = embedding_bag(rows.flatten(0, 1), table.flatten(0, 1), mode="sum")
        return everywhere.view(*rows.shape[:2], -1).max(dim=1).indices  # faster than argmax


class _Towers(nn.Module):
    """Both towers on the same word vectors."""

    def __init__(self, vocabulary: int, word_dim: int, filters: int, dim: int, dropout: float):
        super().__init__()
        words = nn.Parameter(torch.randn(vocabulary, word_dim))
        self.users, self.items = (_Tower(words, filters, dim, dropout) for _ in range(2))
        self.linear = nn.Linear(dim, 1, bias=False)


@dataclass(eq=False, kw_only=True)
class NeuralReviews(Pairwise):
    """Neural matrix factorization {cite}`he2017neural` that also reads the reviews.

    It stands where the MM-GPT2Rec paper {cite}`olaniyi_mmgpt2rec` lists an "NRMF", without a definition, a citation or
    what the letters mean. This is our reading of the name, not a known system: the element-wise product of a user's and
    an item's vector beside a network over two more such vectors, as in NeuMF, where the network is also given the mean
    vector of the user's training reviews and that of the item's (see ReviewVectors). BPR's loss trains it; NeuMF takes
    a binary cross-entropy.

    Args:
        dim: D, the width of each of the four kinds of vectors.
        topics: F, the width of the reviews' vectors.
        hidden: width of the network's first layer; the second is half as wide.
        dropout: share of the first layer's values dropped in training.
        name: of the system in tables.
    """

    dim: int = 32
    topics: int = 64
    hidden: int = 64
    dropout: float = 0.2
    epochs: int = 40
    lr: float = 3e-3
    weight_decay: float = 0.3
    name: str = "NRMF (our reading)"

    def make(self, split: Split) -> nn.Module:
        self.reviews = ReviewVectors(split, self.topics, self.seed)
        counts = (split.dataset.num_users, split.dataset.num_items)
        return _NeuralFactors(*counts, self.dim, self.reviews.users.shape[1], self.hidden, self.dropout)

    def margins(self, pairs: Pairs, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        users, items, own = pairs.users[rows], pairs.items[rows], pairs.rows[rows]
        others = pairs.negatives(users, rng)
        user_reviews, item_reviews = self.reviews.without(own)
        user = self.model.users(self.tensor(users), self.tensor(user_reviews))
        item = self.model.items(self.tensor(items), self.tensor(item_reviews))
        other = self.model.items(self.tensor(others), self.tensor(self.reviews.items[others]))
        return self.model(user, item) - self.model(user, other)

    def sides(self) -> tuple[np.ndarray, ...]:
        users = self.model.users(slice(None), self.tensor(self.reviews.users))
        items = self.model.items(slice(None), self.tensor(self.reviews.items))
        return users.cpu().numpy(), items.cpu().numpy()

    @torch.no_grad()
    def combined(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(N, I + 1) outputs of the network for every user with every item."""
        users, items = self.tensor(users), self.tensor(items)
        some = max(PRODUCTS // len(items), 1)
        return torch.cat([self.model(part[:, None], items).cpu() for part in users.split(some)]).numpy()


class ReviewVectors:
    """Mean vectors of each user's and each item's training reviews.

    A review's vector is the TF-IDF of its words, cut down to F topics {cite}`deerwester1990indexing`.

    Attributes:
        users, items: (U, F) and (I + 1, F) means over the reviews that are not blank; zeros where there is none.
    """

    def __init__(self, split: Split, topics: int, seed: int):
        frame, reviews = split.interactions("train"), training_reviews(split)
        words = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit_transform(reviews)
        topics = min(topics, words.shape[1])
        self.vectors = TruncatedSVD(topics, random_state=seed).fit_transform(words)  # (training interactions, F)
        self.told = self.vectors.any(axis=1)
        self.owners, self.sums, self.counts = [], [], []
        for kind, rows in (("user", split.dataset.num_users), ("item", split.dataset.num_items + 1)):
            owner, sums = frame[kind].to_numpy(), np.zeros((rows, topics), np.float32)
            np.add.at(sums, owner, self.vectors)
            self.owners.append(owner)
            self.sums.append(sums)
            self.counts.append(np.bincount(owner, self.told, minlength=rows))
        self.users, self.items = map(_mean, self.sums, self.counts)

    def without(self, rows: np.ndarray) -> list[np.ndarray]:
        """(B, F) of the users and of the items of some training interactions, these interactions' reviews left out."""
        return [
            _mean(sums[owner[rows]] - self.vectors[rows], count[owner[rows]] - self.told[rows])
            for owner, sums, count in zip(self.owners, self.sums, self.counts, strict=True)
        ]


def _mean(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(rows, F) sums over counts; zeros where nothing was counted."""
    means = sums / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, means, 0).astype(np.float32)


class _NeuralFactors(nn.Module):
    """NeuMF whose network is also given the vectors of reviews.

    The network's first layer is linear in the user's and in the item's part, so each part is worked out once: a user
    or an item is D numbers for the product, and ``hidden`` numbers that the first layer adds up.
    """

    def __init__(self, num_users: int, num_items: int, dim: int, topics: int, hidden: int, dropout: float):
        super().__init__()
        self.dim = dim
        self.user_table, self.item_table = (nn.Embedding(num, 2 * dim) for num in (num_users, num_items + 1))
        self.user_layer, self.item_layer = (nn.Linear(dim + topics, hidden) for _ in range(2))
        self.network = nn.Sequential(
            nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, hidden // 2), nn.ReLU(), nn.Linear(hidden // 2, 1)
        )
        self.product = nn.Parameter(torch.ones(dim))
        for table in (self.user_table, self.item_table):
            nn.init.normal_(table.weight, std=SPREAD)

    def users(self, numbers: Tensor | slice, reviews: Tensor) -> Tensor:
        """(B, D + hidden) out of user numbers and (B, F) means."""
        return self._side(self.user_table.weight[numbers], self.user_layer, reviews)

    def items(self, numbers: Tensor | slice, reviews: Tensor) -> Tensor:
        """(B, D + hidden) out of item numbers and (B, F) means."""
        return self._side(self.item_table.weight[numbers], self.item_layer, reviews)

    def _side(self, vectors: Tensor, layer: nn.Linear, reviews: Tensor) -> Tensor:
        product, network = vectors.split(self.dim, dim=1)
        return torch.cat([product, layer(torch.cat([network, reviews], dim=1))], dim=1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores of sides that broadcast against each other."""
        product = (users[..., : self.dim] * items[..., : self.dim]) @ self.product
        return product + self.network(users[..., self.dim :] + items[..., self.dim :])[..., 0]

"""From a request to a list of items: retrieval, ranking and filtering. Nothing here knows HTTP."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import faiss
import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.recommenders.base import BaseRecommender
from mmrec_helpers.recommenders.sequential import SequentialRecommender, last_positions, sort_by_length

RETRIEVED = 100
"""Candidates of a request that are ranked."""


class UnknownName(ValueError):
    """A request names an item or category that the shop does not have; the message is for the client."""


class WorkerGone(Exception):
    """A process that computes a stage has died or hangs; it is started again."""


@dataclass(frozen=True)
class Request:
    """What a client asks for, in item numbers.

    Attributes:
        history: items that the user interacted with, oldest first; they are not recommended.
        k: maximum number of items in the answer.
        category: the only one to recommend; all if empty.
        query: words that are searched for; only the items that have the most of them are recommended.
    """

    history: tuple[int, ...] = ()
    k: int = 10
    category: str = ""
    query: str = ""


Answer = list[tuple[int, float]]
"""Items and their scores, best first."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """What filters and fallback read of the items; indexed by item number, entry 0 is padding.

    Attributes:
        item_ids: (I + 1,) the shop's own names of the items.
        categories: (I + 1,) text, empty for items without one.
        texts: (I + 1,) what a search reads: category, title and description.
        popularity: (I + 1,) number of training interactions.
        available: (I + 1,) bool; False for the padding.
    """

    item_ids: np.ndarray
    categories: np.ndarray
    texts: np.ndarray
    popularity: np.ndarray
    available: np.ndarray

    @classmethod
    def of(cls, split: Split) -> "Catalogue":
        """All items of a data set, each available, with the popularity of the training part."""
        num_rows = split.dataset.num_items + 1
        popularity = np.bincount(split.interactions("train")["item"], minlength=num_rows)
        names = ("item_id", "category", "title", "description")
        ids, *fields = (np.array([text or "" for text in split.dataset.column(name)]) for name in names)
        texts = np.array([" ".join(own) for own in zip(*fields, strict=True)], object)  # of very different lengths
        return cls(ids, fields[0], texts, popularity, np.arange(num_rows) > 0)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The shop's own name of an item -> its number."""
        return {name: number for number, name in enumerate(self.item_ids.tolist()) if number}

    @cached_property
    def masks(self) -> dict[str, np.ndarray]:
        """Category -> (I + 1,) bool, its available items; the empty text stands for all categories."""
        names = set(self.categories.tolist()) - {""}
        return {"": self.available} | {name: self.available & (self.categories == name) for name in names}

    @cached_property
    def words(self) -> tuple[TfidfVectorizer, Any]:
        """TF-IDF of the items' texts, and its sparse (I + 1, V) rows."""
        vectorizer = TfidfVectorizer(token_pattern=r"\w+", stop_words="english")
        vectorizer.fit([*self.texts, "word"])  # a shop may have none
        return vectorizer, vectorizer.transform(self.texts)

    def matches(self, request: Request) -> np.ndarray:
        """(I + 1,) above 0 for items of the category; with a query, the similarity of those with most of its words."""
        mask = self.masks[request.category]
        if not request.query:
            return mask
        vectorizer, rows = self.words
        mask = mask & ~np.isin(np.arange(len(mask)), request.history)
        query = vectorizer.transform([request.query])
        number = mask * (rows.sign() @ query.sign().T).toarray()[:, 0]
        return np.where(number == number.max(), mask * (rows @ query.T).toarray()[:, 0], 0)

    def request(self, history: Sequence[str], k: int, category: str, query: str = "") -> Request:
        """The request of a client who names items and category as the shop does.

        Raises:
            UnknownName: there is no such item or category.
        """
        if unknown := [name for name in history if name not in self.numbers]:
            raise UnknownName(f"there is no item {unknown[0]!r}")
        if category not in self.masks:
            raise UnknownName(f"there is no category {category!r}")
        return Request(tuple(self.numbers[name] for name in history), k, category, query.strip())

    @cached_property
    def by_popularity(self) -> list[int]:
        """All items, the most popular first."""
        return (1 + np.argsort(-self.popularity[1:], kind="stable")).tolist()

    def most_popular(self, request: Request) -> Answer:
        """The fallback: the items with the most training interactions that the filters and the search leave."""
        mask, seen = self.matches(request), set(request.history)
        allowed = (item for item in self.by_popularity if mask[item] and item not in seen)
        return [(item, float(self.popularity[item])) for item in islice(allowed, request.k)]


class Pipeline:
    """Retrieval by an exact search over item embeddings, ranking by any recommender.

    The score of a sequential recommender is an inner product, h . e_i + b_i = (h, 1) . (e_i, b_i), so an index of the
    vectors (e_i, b_i) finds the items with the highest scores. Filters are applied before ranking: unavailable items
    and those of other categories are not searched, items of the history are dropped from what is found. A request with
    a query gets the items whose words match best, in the order of the same scores.

    Args:
        catalogue: of the items.
        retriever: fitted; its item embeddings are indexed, so it is not to be trained afterwards.
        ranker: scores the candidates; without one they keep the scores of the retriever.
        version: name of the model, which answers carry.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        retriever: SequentialRecommender,
        ranker: BaseRecommender | None = None,
        version: str = "",
    ) -> None:
        self.catalogue, self.retriever, self.ranker, self.version = catalogue, retriever, ranker, version
        for system in (retriever, ranker):
            if isinstance(system, SequentialRecommender):
                system.network.eval()  # its item embeddings are fused once
        num_items = len(catalogue.item_ids) - 1
        with torch.no_grad():
            inputs = torch.full((1, 1), retriever.special_token_id, device=retriever.device)
            outputs = retriever.network(inputs, inputs > 0)[1]  # (I, D), or (I + 1, D) with an EOS token
            items = torch.cat([outputs, retriever.network.bias[:, None]], 1)[:num_items]
        self.index = faiss.IndexFlatIP(items.shape[1])
        self.index.add(items.cpu().numpy())

    def recommend(self, requests: Sequence[Request]) -> list[Answer]:
        """The answers to some requests, ranked in one batch; the answer to one does not depend on the others."""
        queries = queries_of(requests)
        candidates, scores = self.retrieve(queries, requests)
        scores = self.rank(queries, candidates, scores)
        scores = np.where(candidates > 0, scores, -np.inf)
        order = np.argsort(-scores, axis=1, kind="stable")
        items, scores = (np.take_along_axis(values, order, axis=1) for values in (candidates, scores))
        answers = zip(requests, items.tolist(), scores.tolist(), strict=True)
        return [[pair for pair in zip(row[: r.k], values[: r.k], strict=True) if pair[0]] for r, row, values in answers]

    def retrieve(self, queries: Queries, requests: Sequence[Request]) -> tuple[np.ndarray, np.ndarray]:
        """(N, RETRIEVED) allowed items with the highest inner products, 0 where none is left, and their scores."""
        vectors = self.query_vectors(queries)
        num_found = RETRIEVED + queries.histories.shape[1]  # as many as the history can take away
        items = np.zeros((len(requests), num_found), np.int64)
        scores = np.zeros(items.shape, np.float32)
        for row, request in enumerate(requests):
            if request.query:
                match = self.catalogue.matches(request)
                best = np.argsort(-match, kind="stable")[: np.count_nonzero(match)][:RETRIEVED]
                items[row, : len(best)] = best
                scores[row, : len(best)] = self.index.reconstruct_batch(best - 1) @ vectors[row]
        categories = np.array([None if request.query else request.category for request in requests])
        for category in {request.category for request in requests if not request.query}:
            rows = np.flatnonzero(categories == category)
            bits = np.packbits(self.catalogue.masks[category][1:], bitorder="little")
            selector = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]  # wrapped at import
            parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
            scores[rows], found = self.index.search(vectors[rows], num_found, params=parameters)
            items[rows] = found + 1  # -1, where no item is left, becomes padding
        items[(items[:, :, None] == queries.histories[:, None]).any(2)] = 0
        order = np.argsort(items == 0, axis=1, kind="stable")[:, :RETRIEVED]
        return np.take_along_axis(items, order, axis=1), np.take_along_axis(scores, order, axis=1)

    def rank(self, queries: Queries, candidates: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """(N, RETRIEVED) scores of the ranker; those of the retriever if there is none."""
        return scores if self.ranker is None else self.ranker.score(queries, candidates)

    def close(self) -> None:
        """End what computes beside this process: here nothing."""

    @torch.no_grad()
    def query_vectors(self, queries: Queries) -> np.ndarray:
        """(N, D + 1) hidden states that predict the next item, and a 1 for the bias."""
        inputs = torch.from_numpy(self.retriever.inputs_of(queries)).to(self.retriever.device)
        inputs, order = sort_by_length(inputs)
        hidden = self.retriever.network(inputs, last_positions(inputs))[0].cpu().numpy()
        vectors = np.ones((len(queries), hidden.shape[1] + 1), np.float32)
        vectors[order.cpu().numpy(), :-1] = hidden
        return vectors


def queries_of(requests: Sequence[Request]) -> Queries:
    """Requests as queries of user 0 at the present time; served systems do not read the user."""
    longest = max(1, *(len(request.history) for request in requests))
    histories = np.array([(0,) * (longest - len(request.history)) + request.history for request in requests], np.int64)
    users = np.zeros(len(requests), np.int64)
    return Queries(users, histories, users[:, None], np.full(len(requests), int(time.time())))


def check_served(system: BaseRecommender, num_items: int) -> None:
    """Refuse a system that cannot be served: a client sends a history, which may be empty, and no user of the training.

    Raises:
        ValueError: the scores depend on the user, or an empty history has none.
    """
    requests = [Request((1, num_items)), Request((1, num_items)), Request()]
    scores = system.score(replace(queries_of(requests), users=np.arange(3)))
    if not np.allclose(scores[0], scores[1], atol=1e-4):  # rows of a batch may be rounded apart
        raise ValueError(f"{system.name} scores by the user: serve a system that reads the history alone")

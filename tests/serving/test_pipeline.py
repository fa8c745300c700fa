"""pipeline.py: exact retrieval is the recommender's own ranking; filters; one answer whatever is asked beside it."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.recommenders.factorization import BPR
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Config, MMGPT2Rec
from mmrec_helpers.serving import pipeline as module
from mmrec_helpers.serving.pipeline import Pipeline, Request, UnknownName, check_served, queries_of

REQUESTS = [Request((3, 7), 5), Request((), 24), Request((1, 2, 3, 4), 3, "mug"), Request(tuple(range(1, 12)), 24)]


@pytest.fixture
def retriever(sasrec):
    return copy.deepcopy(sasrec)


def own_ranking(system, request, catalogue):
    """The answer by the system's scores of all items, without an index."""
    scores = system.score(queries_of([request]))[0].astype(float)
    scores[~catalogue.masks[request.category]] = -np.inf
    scores[list(request.history)] = -np.inf
    best = np.argsort(-scores, kind="stable")[: request.k]
    return [(item, scores[item]) for item in best if np.isfinite(scores[item])]


DECODERS = {
    "start token": MMGPT2Config(),
    "EOS, free outputs": MMGPT2Config(eos=True, tie_weights=False),
    "no biases": MMGPT2Config(use_bias=False),
}


@pytest.mark.parametrize("name", ["SASRec", *DECODERS])
def test_exact_retrieval_gives_the_recommenders_own_ranking(name, shop, catalogue, retriever):
    if name != "SASRec":
        features = np.random.default_rng(0).normal(size=(25, 6))
        options = {"features": features, "dim": 16, "max_len": 10, "num_layers": 1, "epochs": 1}
        retriever = MMGPT2Rec(config=DECODERS[name], **options).fit(shop)
    expected = [own_ranking(retriever, request, catalogue) for request in REQUESTS]
    for answer, own in zip(Pipeline(catalogue, retriever).recommend(REQUESTS), expected, strict=True):
        assert [item for item, _ in answer] == [item for item, _ in own]
        assert np.allclose([score for _, score in answer], [score for _, score in own], atol=1e-5)


def test_a_ranker_orders_what_was_retrieved(catalogue, retriever, knn, monkeypatch):
    monkeypatch.setattr(module, "RETRIEVED", 6)
    pipeline = Pipeline(catalogue, retriever, knn)
    candidates, _ = pipeline.retrieve(queries_of(REQUESTS), REQUESTS)
    for request, row, answer in zip(REQUESTS, candidates, pipeline.recommend(REQUESTS), strict=True):
        items = [item for item in row if item]
        scores = knn.score(queries_of([request]))[0, items]
        order = np.argsort(-scores, kind="stable")[: request.k]
        assert answer == [(items[place], pytest.approx(scores[place])) for place in order]


def test_an_answer_does_not_depend_on_the_other_requests(catalogue, retriever):
    pipeline = Pipeline(catalogue, retriever)
    for request, together in zip(REQUESTS, pipeline.recommend(REQUESTS), strict=True):
        (alone,) = pipeline.recommend([request])
        assert [item for item, _ in alone] == [item for item, _ in together]


@pytest.mark.parametrize("by", ["model", "popularity"])
def test_filters_hold_for_the_model_and_for_the_fallback(by, catalogue, retriever):
    available = catalogue.available.copy()
    available[[5, 6, 9]] = False
    catalogue = replace(catalogue, available=available)
    pipeline = Pipeline(catalogue, retriever)
    for request in REQUESTS:
        answer = pipeline.recommend([request])[0] if by == "model" else catalogue.most_popular(request)
        items = [item for item, _ in answer]
        left = {item for item in range(1, 25) if available[item]} - {*request.history}
        left = {item for item in left if request.category in ("", catalogue.categories[item])}
        assert len(items) == len(set(items)) == min(request.k, len(left))
        assert set(items) <= left


@pytest.mark.parametrize("by", ["model", "popularity"])
def test_a_search_leaves_items_with_its_words(by, catalogue, retriever):
    """The text of item 5 is of a category, thing 5 and about thing 5; words are whole words, in any case."""
    pipeline, mugs = Pipeline(catalogue, retriever), np.flatnonzero(catalogue.categories == "mug")
    one, other, outside = mugs[0], mugs[-1], np.flatnonzero(catalogue.categories != "mug")[-1]
    cases = {
        Request((), 5, "", str(one)): [one],
        Request((), 5, "", f"{one} {other} {outside}"): [one, other, outside],
        Request((), 5, "mug", f"{one} {other} {outside}"): [one, other],
        Request((int(one),), 5, "", f"{one} {other}"): [other],
        Request((), 24, "", "A MUG"): mugs,
        Request((), 24, "", f"any mug, the {one}"): [one],
        Request((), 24, "", f"mug {outside}"): [*mugs, outside],
        Request((), 24, "", "about the"): [],
        Request((), 5, "", "thin"): [],
        Request((), 5, "", "?"): [],
    }
    answers = pipeline.recommend([*cases]) if by == "model" else [*map(catalogue.most_popular, cases)]
    for (request, wanted), answer in zip(cases.items(), answers, strict=True):
        everything = Request(request.history, 24)
        order = own_ranking(retriever, everything, catalogue) if by == "model" else catalogue.most_popular(everything)
        assert [item for item, _ in answer] == [item for item, _ in order if item in wanted], request


def test_a_search_takes_the_best_matches_first(catalogue, retriever, monkeypatch):
    """Both have the word; in the shorter text it weighs more."""
    monkeypatch.setattr(module, "RETRIEVED", 1)
    texts = catalogue.texts.copy()
    texts[[5, 9]] = "red velvet sofa with arms", "red velvet"
    (answer,) = Pipeline(replace(catalogue, texts=texts), retriever).recommend([Request((), 5, "", "velvet")])
    assert [item for item, _ in answer] == [9]


def test_a_blank_query_is_none(catalogue):
    assert catalogue.request([], 5, "", " \t") == Request((), 5)


def test_a_shop_without_words_can_be_searched(catalogue, retriever):
    wordless = replace(catalogue, texts=np.full(25, " ", object))
    assert Pipeline(wordless, retriever).recommend([Request((), 3, "", "x")]) == [[]]


def test_the_fallback_is_in_order_of_popularity(shop, catalogue):
    counts = np.bincount(shop.interactions("train")["item"], minlength=25)
    answer = catalogue.most_popular(Request((), 24))
    assert [score for _, score in answer] == sorted(counts[1:], reverse=True)
    assert all(counts[item] == score for item, score in answer)


def test_a_long_history_takes_nothing_away_from_the_answer(catalogue, retriever, monkeypatch):
    """It is longer than the candidates are many, and than what the system reads."""
    monkeypatch.setattr(module, "RETRIEVED", 5)
    history = tuple(range(1, 20)) * 5
    (answer,) = Pipeline(catalogue, retriever).recommend([Request(history, 5)])
    assert sorted(item for item, _ in answer) == [20, 21, 22, 23, 24]


def test_names_of_the_shop_become_numbers(catalogue):
    assert catalogue.request(["id-3", "id-7"], 5, "mug") == Request((3, 7), 5, "mug")
    for history, category in ((["id-3", "id-99"], ""), ([""], ""), (["id-3"], "sofa")):
        with pytest.raises(UnknownName, match="there is no"):
            catalogue.request(history, 5, category)


def test_what_cannot_answer_a_stranger_is_not_served(shop, sasrec, knn):
    check_served(sasrec, 24)
    check_served(knn, 24)
    with pytest.raises(ValueError, match="BPR scores by the user"):
        check_served(BPR(dim=4, epochs=2).fit(shop), 24)
    features = np.random.default_rng(0).normal(size=(25, 6))
    options = {"features": features, "dim": 16, "max_len": 10, "num_layers": 1, "epochs": 1}
    with pytest.raises(ValueError, match="empty history"):
        check_served(MMGPT2Rec(config=MMGPT2Config(bos="none"), **options).fit(shop), 24)


def test_requests_become_padded_queries():
    queries = queries_of([Request((3, 7)), Request(())])
    assert isinstance(queries, Queries)
    assert queries.histories.tolist() == [[3, 7], [0, 0]]
    assert queries_of([Request(())]).histories.tolist() == [[0]]


def test_what_a_system_rounds_differently_in_two_rows_is_not_its_user():
    class Rounded:
        name = "rounded"

        def score(self, queries):
            return np.array([[0.0, 1e-8, 1.0]]) + 3e-7 * queries.users[:, None]

    check_served(Rounded(), 2)

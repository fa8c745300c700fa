"""What every baseline promises: it reads the training part alone, whatever users it is asked for together."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from mmrec_helpers.data.dataset import TEST, TRAIN, UNUSED, VALID, Queries, Split
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.features import tfidf
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews

VECTORS = {"epochs": 30, "batch_size": 64, "lr": 2e-2, "weight_decay": 0.1}
SYSTEMS: dict[str, Callable] = {
    "random": lambda split, features: Random(),
    "popularity": lambda split, features: Popularity(),
    "recent popularity": lambda split, features: Popularity(days=30),
    "item-kNN": lambda split, features: ItemKNN(20, 1.0),
    "user-kNN": lambda split, features: UserKNN(20, 1.0),
    "content": lambda split, features: ContentBased(features),
    "words": lambda split, features: ContentBased(tfidf(split.dataset), "words"),
    "hybrid": lambda split, features: Hybrid([ItemKNN(), ContentBased(features)]),
    "ALS": lambda split, features: MatrixFactorization(dim=4, regularization=3.0),
    "BPR": lambda split, features: BPR(dim=8, **VECTORS),
    "VBPR": lambda split, features: VBPR(features=features, dim=8, feature_dim=4, **VECTORS),
    "DeepCoNN": lambda split, features: DeepCoNN(
        epochs=6, batch_size=32, lr=1e-2, word_dim=8, filters=8, dim=4, max_len=40
    ),
    "NRMF": lambda split, features: NeuralReviews(dim=4, topics=6, hidden=8, **VECTORS),
}
"""Name -> a small one, made for a split and features."""
IMPERSONAL = ("random", "popularity", "recent popularity")
"""Systems that cannot tell the planted groups apart."""


@dataclass
class Fitted:
    """A system that has learnt the planted world, how to make it anew, and what it said."""

    make: Callable[[Split], object]
    system: object
    scores: np.ndarray


@pytest.fixture(scope="module", params=SYSTEMS)
def fitted(request, planted, planted_features) -> Fitted:
    make = lambda split: SYSTEMS[request.param](split, planted_features).fit(split)  # noqa: E731
    system = make(planted)
    return Fitted(make, system, system.score(planted.queries("test")))


def test_scores_are_finite_float32_of_all_users_and_items(fitted, planted):
    moments = planted.queries("test")
    assert fitted.scores.shape == (len(moments), planted.dataset.num_items + 1)
    assert fitted.scores.dtype == np.float32
    assert np.isfinite(fitted.scores).all()
    assert fitted.system.name
    assert fitted.system.score(moments.take(slice(0, 0))).shape == (0, planted.dataset.num_items + 1)


def test_what_others_are_in_the_batch_changes_nothing(fitted, planted):
    moments = planted.queries("test")
    order = np.random.default_rng(0).permutation(len(moments))
    for rows in np.split(order, [1, 8, 11]):
        assert np.allclose(fitted.system.score(moments.take(rows)), fitted.scores[rows], atol=1e-5)


def test_what_came_next_is_not_looked_at(fitted, planted):
    moments = planted.queries("test")
    others = replace(moments, targets=moments.targets % planted.dataset.num_items + 1)
    assert np.array_equal(fitted.system.score(others), fitted.scores)


def test_the_same_training_gives_the_same_scores(fitted, planted):
    assert np.array_equal(fitted.make(planted).score(planted.queries("test")), fitted.scores)


def test_nothing_of_the_test_part_is_read(fitted, planted):
    frame = planted.dataset.interactions
    tested = planted.part == TEST
    changed = frame.assign(
        item=np.where(tested, frame["item"] % planted.dataset.num_items + 1, frame["item"]).astype(np.int32),
        review=np.where(tested, "soft steel of the test", frame["review"].to_numpy(object)),
        rating=np.where(tested, 1, frame["rating"]).astype(np.float32),
        time=np.where(tested, frame["time"] + 1, frame["time"]),
    )
    split = replace(planted, dataset=replace(planted.dataset, interactions=changed))
    assert np.array_equal(fitted.make(split).score(planted.queries("test")), fitted.scores)


def test_nothing_of_the_validation_part_is_learnt_from(fitted, planted):
    """Where validation chooses when to stop, it chooses among the same weights: without it the last are kept."""
    frame = planted.dataset.interactions
    held = planted.part == VALID
    reviews = np.where(held, "soft steel of the validation", frame["review"].to_numpy(object))
    unused = replace(planted, part=np.where(held, UNUSED, planted.part))
    said = replace(unused, dataset=replace(planted.dataset, interactions=frame.assign(review=reviews)))
    moments = planted.queries("test")
    assert np.array_equal(fitted.make(said).score(moments), fitted.make(unused).score(moments))


def test_the_planted_groups_are_found(fitted, planted, planted_group, request):
    if request.node.callspec.params["fitted"] in IMPERSONAL:
        return
    moments = planted.queries("test")
    wins = []
    for scores, user, history in zip(fitted.scores, moments.users, moments.histories, strict=True):
        left = np.setdiff1d(np.arange(1, 25), history)
        own = planted_group[left] == user % 2
        wins.append((scores[left[own]][:, None] > scores[left[~own]]).mean())
    assert np.mean(wins) > 0.9


def test_new_users_are_served_by_their_history_and_unknown_ones_too(fitted, planted, planted_group, request):
    """Users of whom training knows nothing, as in five folds by user; the last has no history either."""
    frame = planted.dataset.interactions
    part = np.where((planted.part == TRAIN) & (frame["user"] < 6), UNUSED, planted.part)
    system = fitted.make(replace(planted, part=part))
    moments = planted.queries("test").take(slice(6))
    items = moments.histories.copy()
    items[5] = 0
    scores = system.score(Queries(moments.users, items, moments.targets, moments.times))
    assert np.isfinite(scores).all()
    if request.node.callspec.params["fitted"] in IMPERSONAL:
        return
    for row, user in zip(scores[:5], moments.users, strict=False):
        left = np.setdiff1d(np.arange(1, 25), items[user])
        own = planted_group[left] == user % 2
        assert row[left[own]].mean() > row[left[~own]].mean()

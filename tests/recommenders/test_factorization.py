"""factorization.py: equations solved, negatives drawn as told, and VBPR without features is BPR."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mmrec_helpers.data.dataset import TEST, TRAIN, UNUSED, VALID, Split
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.matrices import directions
from mmrec_helpers.recommenders.pairwise import Pairs, UserEmbeddings

SMALL = {"epochs": 30, "batch_size": 64, "lr": 2e-2, "weight_decay": 0.1}
"""Enough for the planted world, in a second."""


# Alternating least squares --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("alpha", "regularization"), [(5.0, 3.0), (40.0, 0.1)])
def test_user_vectors_solve_the_equations_of_the_paper(planted, alpha, regularization):
    system = MatrixFactorization(dim=4, alpha=alpha, regularization=regularization).fit(planted)
    items, moments = system.item_factors.astype(float), planted.queries("test")
    scores = system.score(moments)
    for row, history in zip(scores, moments.histories, strict=True):
        preference = np.zeros(len(items))
        preference[history[history > 0]] = 1
        confidence = np.diag(1 + alpha * preference)
        left = items.T @ confidence @ items + regularization * np.eye(4)
        assert np.allclose(row, items @ np.linalg.solve(left, items.T @ confidence @ preference), atol=1e-3)


def test_item_vectors_solve_the_equations_of_the_paper(planted):
    system = MatrixFactorization(dim=4, alpha=5.0, regularization=3.0)
    solver = system._solver()
    system._solver = lambda: solver  # the system keeps the items' vectors only
    system.fit(planted)
    users, frame = solver.user_factors.astype(float), planted.interactions("train")
    for item in range(planted.dataset.num_items + 1):
        preference = np.zeros(len(users))
        preference[frame["user"][frame["item"] == item]] = 1
        confidence = np.diag(1 + 5.0 * preference)
        left = users.T @ confidence @ users + 3.0 * np.eye(4)
        expected = np.linalg.solve(left, users.T @ confidence @ preference)
        assert np.allclose(solver.item_factors[item], expected, atol=1e-3)


def test_an_item_taken_twice_has_more_confidence(planted):
    system = MatrixFactorization(dim=4, regularization=3.0).fit(planted)
    moments = planted.queries("test").take([0])
    once = replace(moments, histories=np.array([[0, 2, 12]]))
    twice = replace(moments, histories=np.array([[12, 2, 12]]))
    assert system.score(twice)[0, 12] > system.score(once)[0, 12]


# Pairs ----------------------------------------------------------------------------------------------------------------


def test_negatives_are_all_items_not_taken_and_equally_likely(planted):
    pairs, rng = Pairs(planted), np.random.default_rng(0)
    taken = planted.interactions("train").groupby("user")["item"].agg(set)
    for user in (0, 1, 39):
        drawn = pairs.negatives(np.full(20_000, user), rng)
        counts = np.bincount(drawn, minlength=27)
        left = sorted(set(range(1, 27)) - taken[user])
        assert np.flatnonzero(counts).tolist() == left
        expected = len(drawn) / len(left)
        assert np.abs(counts[left] - expected).max() < 5 * np.sqrt(expected)


def test_pairs_are_the_training_interactions_but_for_users_who_took_all(planted):
    pairs, frame = Pairs(planted), planted.interactions("train")
    assert np.array_equal(pairs.users, frame["user"])
    assert np.array_equal(pairs.items, frame["item"])
    everything = frame.iloc[[0] * 26].assign(item=np.arange(1, 27))
    frame = pd.concat([everything, frame[frame["user"] > 0]], ignore_index=True)
    pairs = Pairs(Split(replace(planted.dataset, interactions=frame), np.full(len(frame), TRAIN), "all"))
    assert pairs.rows.tolist() == list(range(26, len(frame)))
    assert np.array_equal(pairs.items, frame["item"][26:])


def test_nothing_to_learn_from_is_refused(planted):
    with pytest.raises(ValueError, match="no user has both an item"):
        Pairs(replace(planted, part=np.full_like(planted.part, UNUSED)))


def test_a_new_user_is_the_mean_of_who_took_the_history(planted):
    part = planted.part.copy()
    rows = planted.dataset.interactions["user"].to_numpy()
    part[(rows < 2) & (part != TEST) & (part != VALID)] = UNUSED
    split = replace(planted, part=part)
    vectors = np.random.default_rng(0).normal(size=(planted.dataset.num_users, 3))
    moments = split.queries("test").take(slice(3))
    moments = replace(moments, histories=np.array([[0, 4, 7], [0, 0, 26], [4, 7, 9]]))
    found, frame = UserEmbeddings.of_training(split).of(moments, vectors), split.interactions("train")
    takers = [vectors[frame["user"][frame["item"] == item]].mean(axis=0) for item in (4, 7)]
    assert np.allclose(found[0], np.mean(takers, axis=0))
    assert np.allclose(found[1], vectors[2:].mean(axis=0))
    assert np.array_equal(found[2], vectors[2])


# BPR and VBPR ---------------------------------------------------------------------------------------------------------


def test_the_margin_is_the_score_of_what_was_taken_less_that_of_another(planted, planted_features):
    system = VBPR(features=planted_features, dim=3, feature_dim=2)
    torch.manual_seed(0)
    system.model = system.build_model(planted)
    torch.nn.init.normal_(system.model.feature_bias)
    torch.nn.init.normal_(system.model.base.bias)
    pairs, rows = Pairs(planted), np.arange(5)
    margins = system.score_differences(pairs, rows, np.random.default_rng(3)).detach().numpy()
    others = pairs.negatives(pairs.users[rows], np.random.default_rng(3))
    weights = {name: weight.detach().numpy() for name, weight in system.model.named_parameters()}

    def score(user: int, item: int) -> float:
        feature = directions(planted_features)[item]
        free = weights["base.users.weight"][user] @ weights["base.items.weight"][item] + weights["base.bias"][item]
        seen = (
            weights["feature_users.weight"][user] @ (weights["projection.weight"] @ feature)
            + weights["feature_bias"] @ feature
        )
        return free + seen

    triples = zip(pairs.users[rows], pairs.items[rows], others, strict=True)
    assert np.allclose(margins, [score(user, item) - score(user, other) for user, item, other in triples], atol=1e-5)
    with torch.no_grad():
        scores = system.scores_of(*system.embeddings())
    assert np.allclose(scores[7, 3], score(7, 3), atol=1e-5)


def test_vbpr_without_features_is_bpr(planted, planted_features):
    moments = planted.queries("test")
    plain = BPR(**SMALL).fit(planted).score(moments)
    blind = VBPR(features=np.zeros_like(planted_features), **SMALL).fit(planted).score(moments)
    seeing = VBPR(features=planted_features, **SMALL).fit(planted).score(moments)
    assert np.array_equal(plain, blind)
    assert not np.allclose(plain, seeing, atol=0.1)


def test_vbpr_knows_an_item_that_nobody_took(planted, planted_features, planted_group):
    moments = planted.queries("test")
    scores = VBPR(features=planted_features, **SMALL).fit(planted).score(moments)
    own = planted_group[25] == moments.users % 2
    assert scores[own, 25].mean() > scores[~own, 25].mean() + 1


def test_the_best_epoch_of_validation_is_kept(planted):
    system = BPR(**SMALL).fit(planted)
    table = system.training.validations
    assert system.training.best_step == table["step"][table["score"].idxmax()]
    again = BPR(**SMALL | {"seed": 1}).fit(planted)
    assert not np.allclose(system.score(planted.queries("test")), again.score(planted.queries("test")))


def test_without_a_validation_part_the_last_epoch_is_kept(planted):
    split = replace(planted, part=np.where(planted.part == VALID, UNUSED, planted.part))
    system = BPR(**SMALL | {"epochs": 2}).fit(split)
    assert not len(system.training.validations)
    assert len(system.training.losses) == 2 * -(-len(split.interactions("train")) // 64)


def test_features_must_have_a_row_for_each_item(planted, planted_features):
    with pytest.raises(ValueError, match="26 rows, not 27"):
        VBPR(features=planted_features[1:]).fit(planted)

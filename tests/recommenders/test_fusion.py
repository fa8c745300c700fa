"""fusion.py: losses equal a slow reference, each task learns, what is planted is found, trainings resume, bad input."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import logsigmoid, softplus

from mmrec_helpers.lessons.fusion import FUSIONS, cross_weights
from mmrec_helpers.recommenders import fusion
from mmrec_helpers.recommenders.fusion import TASKS, FusionRecommender, coarser, standardised
from mmrec_helpers.recommenders.history_batches import HistoryBatches
from mmrec_helpers.training.loop import TrainingConfig

SMALL = {"dim": 8, "num_heads": 2, "batch_size": 20, "num_negatives": 8, "epochs": 6, "lr": 2e-2}


@pytest.fixture(scope="module")
def tokens(planted_features):
    """Three words and two patches of each item, both with its features and noise; item 3 has no image."""
    rng = np.random.default_rng(0)

    def noisy(num):
        noise = 0.1 * rng.normal(size=(len(planted_features), num, 4))
        known = planted_features.any(axis=1)[:, None, None]
        return ((planted_features[:, None] + noise) * known).astype(np.float32)

    words, patches = noisy(3), noisy(2)
    patches[3] = 0
    return {"words": words, "patches": patches}


@pytest.fixture(scope="module")
def make(tokens):
    return lambda **options: FusionRecommender(**tokens | SMALL | options)


@pytest.mark.parametrize("kind", FUSIONS)
def test_the_planted_groups_are_found(kind, fitted, planted, planted_group):
    queries = planted.queries("test")
    scores, wins = fitted(fusion=kind).score(queries), []
    for row, user, history in zip(scores, queries.users, queries.histories, strict=True):
        left = np.setdiff1d(np.arange(1, 25), history)
        own = planted_group[left] == user % 2
        wins.append((row[left[own]][:, None] > row[left[~own]]).mean())
    assert np.mean(wins) > 0.9


def test_a_score_is_the_bias_and_a_dot_product(fitted, planted):
    system, queries = fitted(), planted.queries("test")
    network, vectors = system.network, system.fuse(torch.arange(27))
    history = queries.histories[4][queries.histories[4] > 0]
    with torch.no_grad():
        expected = network.bias + vectors @ network.user(vectors[history.tolist()].mean(0))
    np.testing.assert_allclose(system.score(queries)[4], expected.numpy(), atol=1e-4)


def test_the_losses_are_those_of_a_slow_reference(make, planted):
    system = make(tasks=dict.fromkeys(TASKS, 1.0))
    system.prepare(planted)
    batch = HistoryBatches(planted, 7, 0, 3).of(1)
    negatives = deepcopy(batch.rng).integers(1, 27, 8)
    found = system.losses_of(batch)
    network, vectors = system.network, system.fuse(torch.arange(27))
    ranking, purchase, rating = [], [], []
    frame = planted.interactions("train").set_index(["user", "item"])["rating"]
    for user, history, target in zip(batch.users, batch.histories, batch.targets, strict=True):
        q = network.user(vectors[history.tolist()].mean(0))
        score, product = (lambda i, q=q: q @ vectors[i] + network.bias[i]), q * vectors[target]
        own = set(planted.interactions("train").query("user == @user")["item"])
        others = [j for j in negatives if j not in own]
        ranking.append(sum(-logsigmoid(score(target) - score(j)) for j in others) / 8)
        cost = softplus(-network.purchase(product)) + sum(softplus(network.purchase(q * vectors[j])) for j in others)
        purchase.append(cost / 9)
        rating.append((network.rating(product) - float(frame[user, target])) ** 2)
    for task, rows in (("ranking", ranking), ("purchase", purchase), ("rating", rating)):
        assert found[task].item() == pytest.approx(torch.stack(rows).mean().item(), abs=1e-4)


@pytest.mark.parametrize("uncertainty", [False, True])
def test_the_tasks_are_weighted(uncertainty, make):
    system = make(tasks={"ranking": 2.0, "rating": 0.5}, uncertainty=uncertainty)
    system.network = torch.nn.Module()
    system.network.log_variances = torch.nn.Parameter(torch.tensor([0.3, 0.0, -1.0, 0.0]))
    total = system.total({"ranking": torch.tensor(1.5), "rating": torch.tensor(4.0)})
    expected = np.exp(-0.3) * 3 + 0.3 + np.exp(1.0) * 2 - 1.0 if uncertainty else 5.0
    assert total.item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_alone_lowers_its_loss(task, make, planted):
    losses = make(tasks={task: 1.0}, epochs=20, lr=5e-3, num_negatives=100, patience=20).fit(planted).training.losses
    assert losses[-5:].mean() < 0.9 * losses[:5].mean()


def test_a_training_that_was_killed_ends_the_same(make, planted, tmp_path, monkeypatch):
    monkeypatch.setattr(fusion, "TrainingConfig", partial(TrainingConfig, save_every=3))
    queries, checkpoint = planted.queries("test"), tmp_path / "run.pt"
    options = {"tasks": dict.fromkeys(TASKS, 1.0), "uncertainty": True, "dropout": 0.2, "patience": 9}
    expected = make(**options).fit(planted).score(queries)
    killed = make(**options)
    losses_of, left = killed.losses_of, iter(range(7))

    def until_killed(batch):
        next(left)
        return losses_of(batch)

    killed.losses_of = until_killed
    with pytest.raises(StopIteration):
        killed.fit(planted, checkpoint)
    assert checkpoint.exists()
    assert np.array_equal(make(**options).fit(planted, checkpoint).score(queries), expected)


def test_bad_input_is_named(make, tokens, planted):
    with pytest.raises(ValueError, match="no fusion 'early'; it has cross-attention"):
        make(fusion="early")
    with pytest.raises(ValueError, match="no task 'clicks'; it has ranking"):
        make(tasks={"clicks": 1.0})
    with pytest.raises(ValueError, match="26 rows"):
        FusionRecommender(**tokens | {"words": tokens["words"][1:]}).fit(planted)


def test_the_attention_is_that_of_the_block(fitted):
    system = fitted()
    words, patches = (part[5:6] for part in system.tokens)
    fusion, weights = system.network.fusion, system.attention()
    with torch.no_grad():
        normed = [fusion.block.before_attention(part) for part in (fusion.words(words), fusion.patches(patches))]
        expected = cross_weights(fusion.block.attention, *normed, patches.any(2))[0].mean(0)
    np.testing.assert_allclose(weights[5], expected.numpy(), atol=1e-6)
    assert not weights[3].any()  # it has no image


def test_standardised_tokens_and_coarser_grids():
    torch.manual_seed(0)
    tokens = torch.randn(4, 3, 2) * 5 + 2
    tokens[1, 1:] = 0
    scaled = standardised(tokens, tokens)
    known = scaled[tokens.any(2)]
    torch.testing.assert_close(known.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(known.std(0, correction=0), torch.ones(2), atol=1e-4, rtol=0)
    assert (scaled[1, 1:] == 0).all()
    torch.testing.assert_close(standardised(tokens[2:], tokens), scaled[2:])
    assert coarser(torch.arange(16.0).reshape(1, 16, 1))[0, :, 0].tolist() == [2.5, 4.5, 10.5, 12.5]

"""reviews.py: which words are read, whose, and that an interaction's own review is hidden from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmrec_helpers.data.dataset import TRAIN, Split
from mmrec_helpers.recommenders.pairwise import Pairs
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews, ReviewVectors, Texts

SMALL_TOWERS = {"epochs": 6, "batch_size": 32, "lr": 1e-2, "word_dim": 8, "filters": 8, "dim": 4, "max_len": 100}
SMALL_FACTORS = {"epochs": 15, "batch_size": 64, "lr": 2e-2, "dim": 4, "topics": 6, "hidden": 8, "weight_decay": 0.1}
SYSTEMS = [(DeepCoNN, SMALL_TOWERS), (NeuralReviews, SMALL_FACTORS)]


def with_reviews(split: Split, reviews: list) -> Split:
    """The same split with other reviews."""
    frame = split.dataset.interactions.assign(review=reviews)
    return replace(split, dataset=replace(split.dataset, interactions=frame))


def randomly_initialised(planted: Split, system: DeepCoNN | NeuralReviews):
    """A system before its first step."""
    torch.manual_seed(0)
    system.model = system.build_model(planted).eval()
    return system


# Words ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_len", [7, 200])
def test_texts_are_the_latest_words_of_the_training_reviews(planted, max_len):
    texts, frame = Texts(planted, 5_000, max_len), planted.interactions("train").reset_index(drop=True)
    names = dict(zip(texts.word_ids.values(), texts.word_ids, strict=True))
    for kind, table, sources in (("user", texts.users, texts.user_sources), ("item", texts.items, texts.item_sources)):
        for owner in range(len(table)):
            some = frame[frame[kind] == owner].sort_values("time", kind="stable")
            pairs = [(word, row) for row, text in some["review"].items() for word in text.split()][-max_len:]
            padding = [0] * (max_len - len(pairs))
            assert table[owner].tolist() == [texts.word_ids[word] for word, _ in pairs] + padding
            assert sources[owner].tolist() == [row for _, row in pairs] + [-1] * len(padding)
            assert all(names[number] for number in table[owner] if number)


def test_only_the_most_frequent_words_are_known(planted):
    texts = Texts(planted, 3, 50)
    words = " ".join(planted.interactions("train")["review"]).split()
    counts = sorted((words.count(word) for word in set(words)), reverse=True)
    assert sorted((words.count(word) for word in texts.word_ids), reverse=True) == counts[:3]
    assert texts.users.max() == 3


def test_padding_words_change_nothing(planted):
    system = randomly_initialised(planted, DeepCoNN(**SMALL_TOWERS))
    words = torch.as_tensor(system.texts.items[:10, :12])
    longer = torch.cat([words, torch.zeros(10, 5, dtype=torch.long)], dim=1)
    with torch.no_grad():
        assert torch.allclose(system.model.items(words), system.model.items(longer), atol=1e-6)
        nothing = system.model.users(torch.zeros(2, 9, dtype=torch.long))
    assert torch.allclose(nothing, system.model.users.output.bias.expand(2, -1))


def test_a_tower_and_its_gradients_are_those_of_convolution_and_maximum(planted):
    system = randomly_initialised(planted, DeepCoNN(**SMALL_TOWERS))
    tower, words = system.model.items, torch.as_tensor(system.texts.items)

    def plain(words: torch.Tensor) -> torch.Tensor:
        vectors = torch.nn.functional.pad(tower.words, (0, 0, 1, 0))[words]
        found = tower.filters(vectors.transpose(1, 2)).relu()
        return tower.output((found * (words > 0)[:, None]).amax(dim=2))

    gradients = []
    for forward in (tower, plain):
        tower.zero_grad()
        vectors = forward(words)
        vectors.square().sum().backward()
        gradients.append([vectors.detach(), *(weight.grad.clone() for weight in tower.parameters())])
    assert len(gradients[0]) == 6
    for ours, reference in zip(*gradients, strict=True):
        assert torch.allclose(ours, reference, atol=1e-5)


# What is hidden -------------------------------------------------------------------------------------------------------


def margins_of(system: DeepCoNN | NeuralReviews, pairs: Pairs, row: int) -> np.ndarray:
    """The margins of one training interaction."""
    return system.score_differences(pairs, np.array([row]), np.random.default_rng(1)).detach().numpy()


@pytest.mark.parametrize("row", [3, 50, 200])
def test_towers_do_not_read_the_review_of_what_they_learn_from(planted, row):
    system, pairs = randomly_initialised(planted, DeepCoNN(**SMALL_TOWERS)), Pairs(planted)
    before, texts = margins_of(system, pairs, row), system.texts
    for words, of in ((texts.users, texts.user_sources), (texts.items, texts.item_sources)):
        assert (of == row).any()
        words[of == row] = words[of == row] % len(texts.word_ids) + 1
    assert np.array_equal(margins_of(system, pairs, row), before)
    user = pairs.users[row]
    texts.users[user] = texts.users[user] % len(texts.word_ids) + 1
    assert not np.allclose(margins_of(system, pairs, row), before)


@pytest.mark.parametrize("row", [3, 50, 200])
def test_the_factorization_does_not_read_the_review_of_what_it_learns_from(planted, row):
    system, pairs = randomly_initialised(planted, NeuralReviews(**SMALL_FACTORS)), Pairs(planted)
    reviews, before = system.reviews, margins_of(system, pairs, row)
    for read in ("users", "items"):
        assert np.isfinite(getattr(reviews, read)).all()
    change = np.ones(reviews.vectors.shape[1], np.float32)
    reviews.vectors[row] += change
    for owner, sums in zip(reviews.owners, reviews.sums, strict=True):
        sums[owner[row]] += change
    assert np.allclose(margins_of(system, pairs, row), before, atol=1e-5)
    reviews.sums[0][pairs.users[row]] += change
    assert not np.allclose(margins_of(system, pairs, row), before, atol=1e-5)


def test_vectors_of_users_and_items_are_means_over_reviews_that_say_something(planted):
    reviews = ReviewVectors(planted, 6, 0)
    frame = planted.interactions("train").reset_index(drop=True)
    told = frame["review"] != ""
    assert 0 < told.sum() < len(told)
    assert np.array_equal(reviews.vectors.any(axis=1), told)
    for kind, means in (("user", reviews.users), ("item", reviews.items)):
        for owner in range(len(means)):
            own = (frame[kind] == owner) & told
            expected = reviews.vectors[own].mean(axis=0) if own.any() else np.zeros(6)
            assert np.allclose(means[owner], expected, atol=1e-5)
    for row in (0, 100):
        rest = (frame["user"] == frame["user"][row]) & told & (frame.index != row)
        assert np.allclose(reviews.without(np.array([row]))[0], reviews.vectors[rest].mean(axis=0), atol=1e-5)


def test_one_review_less_leaves_nothing_of_a_user_with_one(planted):
    first = planted.interactions("train").groupby("user").cumcount().to_numpy() == 0
    reviews = planted.dataset.interactions["review"].to_numpy(object).copy()
    rows = np.flatnonzero(planted.part == TRAIN)
    reviews[rows[~first]], reviews[rows[first]] = None, "warm wool"
    vectors = ReviewVectors(with_reviews(planted, reviews), 6, 0)
    assert vectors.users.any(axis=1).all()
    assert not vectors.without(np.flatnonzero(first))[0].any()


# Networks -------------------------------------------------------------------------------------------------------------


def test_the_networks_sides_are_neumf_with_reviews(planted):
    system = randomly_initialised(planted, NeuralReviews(**SMALL_FACTORS))
    weights = {name: weight.detach().numpy() for name, weight in system.model.named_parameters()}
    with torch.no_grad():
        scores = system.scores_of(*system.embeddings())
    user, item = 5, 8
    users, items = (weights[f"{side}_table.weight"] for side in ("user", "item"))
    inputs = np.concatenate([users[user, 4:], system.reviews.users[user], items[item, 4:], system.reviews.items[item]])
    layer = np.concatenate([weights["user_layer.weight"], weights["item_layer.weight"]], axis=1)
    hidden = np.maximum(layer @ inputs + weights["user_layer.bias"] + weights["item_layer.bias"], 0)
    hidden = np.maximum(weights["network.2.weight"] @ hidden + weights["network.2.bias"], 0)
    network = weights["network.4.weight"][0] @ hidden + weights["network.4.bias"][0]
    product = weights["product"] @ (users[user, :4] * items[item, :4])
    assert np.isclose(scores[user, item], network + product, atol=1e-5)


def test_other_items_of_a_batch_are_not_the_users_own(planted):
    system, pairs = randomly_initialised(planted, DeepCoNN(**SMALL_TOWERS)), Pairs(planted)
    rows = np.arange(0, 240, 10)
    others = pairs.negatives(pairs.users[rows], np.random.default_rng(2))
    own = pairs.interacted.toarray()[pairs.users[rows]][:, others] > 0
    assert own.any()
    assert not own.diagonal().any()
    assert len(system.score_differences(pairs, rows, np.random.default_rng(2))) == (~own).sum()


@pytest.mark.parametrize(("kind", "options"), SYSTEMS)
@pytest.mark.parametrize("blank", [None, " ... "])
def test_without_reviews_nothing_can_be_read(planted, kind, options, blank):
    with pytest.raises(ValueError, match="has no reviews in the training part"):
        kind(**options).fit(with_reviews(planted, [blank] * len(planted.part)))

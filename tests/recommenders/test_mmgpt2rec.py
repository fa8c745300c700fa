"""gpt2rec.py: the item decoder learns a planted world, reads no more than it may; ablations are what they say."""

import json
from dataclasses import replace

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from experiments import results
from mmrec_helpers.data.dataset import ITEM_FEATURES, TEST, VALID, Queries, RecDataset, Split
from mmrec_helpers.evaluation.metrics import TargetRanks, ndcg
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders import mmgpt2rec as gpt2rec
from mmrec_helpers.recommenders.features import main_directions
from mmrec_helpers.recommenders.mmgpt2rec import FUSIONS, SETTINGS, Decoding, MMGPT2Rec, options, variants
from mmrec_helpers.recommenders.popularity import Popularity
from mmrec_helpers.recommenders.sequential import SASRec, by_length
from mmrec_helpers.settings import load_settings

USERS, CIRCLE, BOUGHT = 40, 12, 8
ITEMS = 2 * CIRCLE + 2
UNBOUGHT = ITEMS - 1
"""The last two are bought by nobody; of the very last nothing is known either."""
WIDTHS = (4, 12)
SMALL = {
    "dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "max_len": 10,
    "batch_size": 10,
    "lr": 1e-2,
    "dropout": 0.1,
    "patience": 99,
}
QUICK = SMALL | {"epochs": 3}


@pytest.fixture(scope="module")
def group():
    """(I + 1,) of each item 0 or 1; -1 for the padding, and where nothing is known."""
    return np.array([-1, *(item % 2 for item in range(1, ITEMS)), -1])


@pytest.fixture(scope="module")
def features(group):
    """(I + 1, 4 + 12) two modalities: the first tells the group, the second the item; zeros where nothing is known."""
    rng = np.random.default_rng(1)
    told = np.eye(2)[group] @ rng.normal(size=(2, 4)) + 0.1 * rng.normal(size=(len(group), 4))
    return np.concatenate([told, rng.normal(size=(len(group), 12))], axis=1) * (group >= 0)[:, None]


@pytest.fixture(scope="module")
def planted():
    """Leave-one-out of users who take 8 items in a row from the circle of their group's 12, where i + 2 follows i."""
    rng, rows = np.random.default_rng(0), []
    for user in range(USERS):
        start = rng.integers(CIRCLE)
        rows += [(user, 2 * ((start + step) % CIRCLE) + (user % 2 or 2), step, 5.0, "") for step in range(BOUGHT)]
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "rating", "review"])
    frame = frame.astype({"user": np.int32, "item": np.int32, "rating": np.float32})
    columns = {name: [None] * ITEMS for name in ITEM_FEATURES}
    columns |= {"item_id": [f"id-{item}" for item in range(1, ITEMS + 1)], "title": ["thing"] * ITEMS}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    names = np.array([f"user-{user}" for user in range(USERS)])
    return RecDataset("planted", items, frame, names).validate().leave_one_out()


@pytest.fixture(scope="module")
def moments(planted):
    return planted.queries("test")


def quality(system, moments: Queries) -> float:
    """NDCG@10."""
    return ndcg(TargetRanks.of(system.score(moments), moments.targets[:, :1], moments.histories), 10).mean()


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"fusion": name} for name in FUSIONS] + [{"tie_weights": False}, {"use_ids": True}]
)
def test_the_planted_world_is_learnt(options, planted, features, moments):
    system = MMGPT2Rec(features=features, dims=WIDTHS, **SMALL | {"epochs": 25} | options).fit(planted)
    assert quality(system, moments) > 0.9 > 3 * quality(Popularity().fit(planted), moments)


def test_ids_alone_learn_the_planted_world_and_know_nothing_of_what_nobody_bought(planted, moments, group):
    system = MMGPT2Rec(use_ids=True, **SMALL | {"epochs": 25}).fit(planted)
    assert quality(system, moments) > 0.8
    scores = system.score(moments)
    assert (scores[:, 1:UNBOUGHT].max(1) > scores[:, UNBOUGHT:].max(1)).all()


def test_a_text_alone_tells_the_group_of_an_item_that_nobody_bought(planted, features, moments, group):
    told = features[:, : WIDTHS[0]]
    system = MMGPT2Rec(features=told, **SMALL | {"epochs": 25}).fit(planted)
    scores, users = system.score(moments)[:, UNBOUGHT], group[moments.targets[:, 0]]
    assert scores[users == group[UNBOUGHT]].min() > scores[users != group[UNBOUGHT]].max()


@pytest.mark.parametrize("options", [{}, {"use_ids": True, "fusion": "attention"}, {"tie_weights": False}])
def test_the_same_seed_gives_the_same_scores_and_another_others(options, planted, features, moments):
    options = {"features": features, "dims": WIDTHS} | QUICK | options
    first, again, other = (MMGPT2Rec(**options, seed=seed).fit(planted).score(moments) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def with_items(split: Split, part: int) -> Split:
    """The split with other items in one part."""
    frame = split.dataset.interactions
    other = frame["item"].where(split.part != part, frame["item"] % ITEMS + 1).astype(np.int32)
    return Split(replace(split.dataset, interactions=frame.assign(item=other)), split.part, split.name)


def test_what_is_tested_on_is_never_read(planted, features, moments):
    changed = with_items(planted, TEST)
    assert (moments.targets != changed.queries("test").targets).all()
    one, other = (MMGPT2Rec(features=features, dims=WIDTHS, **QUICK).fit(split) for split in (planted, changed))
    assert np.array_equal(one.score(moments), other.score(moments))
    for mine, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_valid_part_only_chooses_when_to_stop(planted, features, moments):
    """With one validation, at the end, there is nothing to choose."""
    options = {"features": features, "dims": WIDTHS} | QUICK | {"validate_every": 3}
    one, other = (MMGPT2Rec(**options).fit(split) for split in (planted, with_items(planted, VALID)))
    assert len(one.training.validations) == 1
    assert one.training.validations["score"].tolist() != other.training.validations["score"].tolist()
    assert np.array_equal(one.training.losses, other.training.losses)
    assert np.array_equal(one.score(moments), other.score(moments))


def test_the_row_of_the_padding_is_not_read(planted, features, moments):
    other = features.copy()
    other[0] = 9.0
    one, other = (
        MMGPT2Rec(features=values, dims=WIDTHS, **QUICK).fit(planted).score(moments) for values in (features, other)
    )
    assert np.array_equal(one, other)


@pytest.mark.parametrize("use_ids", [False, True])
def test_items_without_a_vector_of_their_own_are_as_like_as_their_features(use_ids, planted, features, moments):
    """But for the bias: how often an item was bought."""
    alike = features.copy()
    alike[7] = alike[3]
    system = MMGPT2Rec(features=alike, dims=WIDTHS, use_ids=use_ids, **QUICK).fit(planted)
    bias = system.network.items.bias.detach().numpy()
    apart = system.score(moments)[:, 7] - system.score(moments)[:, 3]
    assert np.allclose(apart, bias[6] - bias[2], atol=1e-4) != use_ids


def test_features_do_not_learn(planted, features):
    system = MMGPT2Rec(features=features, dims=WIDTHS, **QUICK)
    torch.manual_seed(0)
    before = [part.clone() for part in system.build(planted).items.parts]
    after = list(system.fit(planted).network.items.parts)
    assert [part.shape[1] for part in after] == list(WIDTHS)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


# What is asked --------------------------------------------------------------------------------------------------------


def randomly_initialised(split, features, **options):
    """A system before its first step, with weights large enough that all that matters shows."""
    system = MMGPT2Rec(features=features, dims=WIDTHS, **QUICK | options)
    system.token = split.dataset.num_items + 1
    torch.manual_seed(0)
    system.network = system.build(split).eval()
    with torch.no_grad():
        for weight in system.network.parameters():
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))
    return system


def rows_of(lengths, dim=11):
    """(B, width) the token and items at the left, 0 at the right."""
    rows = torch.randint(1, ITEMS + 1, (len(lengths), dim))
    rows[:, 0] = ITEMS + 1
    return rows * (torch.arange(dim) < torch.tensor(lengths)[:, None])


@pytest.mark.parametrize("part", [1, 4, 32, 1_000])
@pytest.mark.parametrize("tie_weights", [True, False])
@torch.no_grad()
def test_a_batch_that_is_cut_into_parts_gives_what_the_whole_gives(part, tie_weights, planted, features, monkeypatch):
    monkeypatch.setattr(gpt2rec, "PART", part)
    network = randomly_initialised(planted, features, tie_weights=tie_weights).network
    assert isinstance(network, Decoding)
    inputs = rows_of([1 + number % 11 for number in range(70)])
    for rows in (inputs, by_length(inputs)[0]):
        scores = network.decoder(rows)
        for asked in (rows > 0, (rows > 0) & (torch.rand(rows.shape) < 0.5), (rows > 0).cumsum(1) == 2):
            hidden, vectors = network(rows, asked & (rows > 0))
            vectors_read = network.decoder.tokens()
            wanted = network.decoder.hidden(rows, vectors_read)[asked & (rows > 0)]
            torch.testing.assert_close(hidden, wanted, atol=1e-5, rtol=1e-4)
            found = network.logits(hidden, vectors)
            torch.testing.assert_close(found, scores[asked & (rows > 0)], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_scores_are_the_decoders_after_the_last_item(planted, features):
    system = randomly_initialised(planted, features)
    items = [[1, 2, 3], [], [4], [5, 6, 7, 8, 9, 10, 11, 12, 13, 14], list(range(1, 26))]
    queries = np.array([[0] * (25 - len(row)) + row for row in items])
    nothing = np.zeros(len(items), np.int64)
    scores = system.score(Queries(nothing, queries, nothing[:, None], nothing))
    assert scores.shape == (5, ITEMS + 1)
    assert not scores[:, 0].any()
    for row, found in zip(items, scores, strict=True):
        # Who has 10 items or more was cut off, or might have been: of them only these are read, without the token.
        read = row[-10:] if len(row) >= 10 else [ITEMS + 1, *row]
        wanted = system.network.decoder(torch.tensor([read]))[0, -1].numpy()
        np.testing.assert_allclose(found[1:], wanted, atol=1e-4, rtol=1e-4)


def test_all_that_learns_is_trained_and_saved(planted, features):
    """The network holds the decoder twice: by itself, and as the body and the items that its base class knows."""
    network = randomly_initialised(planted, features, use_ids=True, tie_weights=False).network
    learning = {name for name, weight in network.named_parameters() if weight.requires_grad}
    own = {name for name, weight in network.decoder.named_parameters() if weight.requires_grad}
    assert len(learning) == len(own)
    assert {id(weight) for weight in network.parameters()} == {id(weight) for weight in network.decoder.parameters()}


@pytest.mark.parametrize("loss", ["bce", "gbce"])
def test_the_sampled_losses_train_it_too(loss, planted, features, moments):
    system = MMGPT2Rec(features=features, dims=WIDTHS, loss=loss, **QUICK).fit(planted)
    assert system.training.losses[-1] < system.training.losses[0]
    assert np.isfinite(system.score(moments)).all()


# What is refused ------------------------------------------------------------------------------------------------------


def test_wrong_hyperparameters_and_features_are_refused(planted, features):
    with pytest.raises(ValueError, match="MM-GPT2Rec has no fusion 'gate'; it has concat, add, weighted, attention"):
        MMGPT2Rec(features=features, fusion="gate")
    with pytest.raises(ValueError, match="MM-GPT2Rec would know nothing of the items: give features, or use ids"):
        MMGPT2Rec()
    with pytest.raises(ValueError, match="MM-GPT2Rec has no loss 'bpr'; it has ce, bce, gbce, ssm"):
        MMGPT2Rec(use_ids=True, loss="bpr")
    for dims in ((4, 4), (16, 1), (3,)):
        with pytest.raises(ValueError, match=r"widths \(.*\) are not those of 16 columns of features"):
            MMGPT2Rec(features=features, dims=dims, **QUICK).fit(planted)
    with pytest.raises(ValueError, match=r"features of shape \(26, 16\) are not 27 rows of finite numbers"):
        MMGPT2Rec(features=features[1:], **QUICK).fit(planted)
    with pytest.raises(ValueError, match="3 heads cannot share a width of 16"):
        MMGPT2Rec(features=features, **QUICK | {"num_heads": 3}).fit(planted)


def test_columns_are_one_modality_unless_told_otherwise(planted, features):
    assert [part.shape for part in MMGPT2Rec(features=features, **QUICK).build(planted).items.parts] == [(ITEMS, 16)]
    network = MMGPT2Rec(features=features, dims=WIDTHS, **QUICK).build(planted)
    assert [part.shape for part in network.items.parts] == [(ITEMS, 4), (ITEMS, 12)]


def test_the_settings_reach_the_network(planted, features):
    options = QUICK | {"num_layers": 3, "num_heads": 4, "max_len": 6, "dropout": 0.35}
    gpt2 = MMGPT2Rec(features=features, **options).build(planted).decoder.gpt2
    assert [block.attention.num_heads for block in gpt2.blocks] == [4] * 3
    assert {block.dropout.p for block in gpt2.blocks} == {gpt2.dropout.p} == {0.35}
    assert gpt2.places.weight.shape == (7, 16)  # the token stands before the items


def test_names():
    assert MMGPT2Rec(use_ids=True).name == MMGPT2Rec(features=np.ones((3, 1))).name == "MM-GPT2Rec"
    assert MMGPT2Rec(use_ids=True, name="ids alone").name == "ids alone"
    assert {name: len(grid) for name, grid in SETTINGS.items()} == {"MM-GPT2Rec": 6, "SASRec on text and picture": 6}


# The ablations --------------------------------------------------------------------------------------------------------

NAMES = """
    MM-GPT2Rec | text alone | picture alone | ids alone | both and ids | both, shuffled | weighted | attention
    | 64 + 64 columns, add | 64 + 64 columns, identity | not tied | SASRec on text and picture
"""
NAMES = [name.strip() for name in NAMES.split("|")]


@pytest.fixture(scope="module")
def shop():
    return load_shop(0, "tiny")[0]


@pytest.fixture(scope="module")
def made(shop):
    """Name -> the system, before it is fitted."""
    return {name: make(epochs=1) for name, make in variants(shop, replace(load_settings({}), seed=3)).items()}


def test_the_ablations_have_their_names_and_the_seed(made):
    assert list(made) == NAMES
    assert [system.name for system in made.values()] == NAMES
    assert {system.seed for system in made.values()} == {3}
    assert set(SETTINGS) <= set(made)


def test_each_ablation_differs_in_what_its_name_says(made):
    full = made["MM-GPT2Rec"]
    both, (text, image) = full.features, full.dims
    assert both.shape[1] == text + image
    assert not both[0].any()
    assert np.array_equal(made["text alone"].features, both[:, :text])
    assert np.array_equal(made["picture alone"].features, both[:, text:])
    assert made["ids alone"].features is None
    assert np.array_equal(made["SASRec on text and picture"].features, both)
    assert isinstance(made["SASRec on text and picture"], SASRec)
    assert {name for name, system in made.items() if system.use_ids} == {"ids alone", "both and ids"}
    own = {name: system for name, system in made.items() if isinstance(system, MMGPT2Rec)}
    assert {name for name, system in own.items() if not system.tie_weights} == {"not tied"}
    fusions = {name: system.fusion for name, system in own.items() if system.fusion != "add"}
    assert fusions == {"weighted": "weighted", "attention": "attention", "64 + 64 columns, identity": "concat"}
    for name in ("weighted", "attention", "not tied", "both and ids"):
        assert np.array_equal(own[name].features, both)
        assert own[name].dims == full.dims


def test_shuffled_features_are_the_same_rows_at_other_items(made):
    both, shuffled = made["MM-GPT2Rec"].features, made["both, shuffled"].features
    assert not shuffled[0].any()
    assert np.array_equal(np.sort(both[1:], axis=0), np.sort(shuffled[1:], axis=0))
    assert sorted(map(tuple, both)) == sorted(map(tuple, shuffled))
    assert (both[1:] != shuffled[1:]).any(1).mean() > 0.9


def test_as_in_the_paper_both_side_by_side_are_as_wide_as_gpt2(made):
    for name in ("64 + 64 columns, add", "64 + 64 columns, identity"):
        system = made[name]
        assert system.dims == (64, 64)
        assert system.dim == system.features.shape[1] == 128
        assert not system.features[0].any()
    assert np.array_equal(made["64 + 64 columns, add"].features, made["64 + 64 columns, identity"].features)


def test_texts_are_read_by_what_the_settings_name(made, shop):
    read = variants(shop, replace(load_settings({}), text="pocket-sbert"))
    for name in ("MM-GPT2Rec", "text alone", "64 + 64 columns, add"):
        one, other = read[name](), made[name]
        assert one.features.shape == other.features.shape
        assert not np.array_equal(one.features, other.features)
    both, dim = read["MM-GPT2Rec"]().features, made["text alone"].features.shape[1]
    assert np.array_equal(both[:, dim:], made["MM-GPT2Rec"].features[:, dim:])


@pytest.mark.parametrize("name", NAMES)
def test_each_ablation_learns_and_scores(name, made, shop):
    split = shop.leave_one_out()
    system = made[name].fit(split)
    moments = split.queries("test").take(slice(0, 50))
    scores = system.score(moments)
    assert scores.shape == (50, shop.num_items + 1)
    assert np.isfinite(scores).all()
    assert scores[:, 1:].std() > 0
    assert system.training.losses[-1] < system.training.losses[0]


@pytest.mark.parametrize("num", [1, 5, 20])
def test_main_directions_are_those_of_the_svd(num):
    rng = np.random.default_rng(0)
    features = rng.normal(2, 1, size=(61, 20)) * np.linspace(1, 4, 20)
    features[0] = 99  # the padding is not read
    found = main_directions(features, num)
    centred = features[1:] - features[1:].mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    assert found.shape == (61, num)
    assert not found[0].any()
    np.testing.assert_allclose(np.abs(found[1:]), np.abs(left * sizes)[:, :num], atol=1e-8)
    assert (np.diff(found[1:].var(axis=0)) < 0).all()


def recorded(name):
    return json.loads((results.RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("seed", results.SEEDS)
def test_the_record_has_every_variant_on_each_shop_and_chapter_3s_sasrec(seed, made):
    found, league = recorded("decoder")["shops"][str(seed)], recorded("league-pocket")["shops"][str(seed)]
    assert found["fingerprint"] == league["fingerprint"] == load_shop(seed)[0].fingerprint
    assert set(found["systems"]) == {*made, "SASRec"}
    assert found["systems"]["SASRec"]["NDCG@10"] == league["systems"]["SASRec"]["NDCG@10"]
    for row in found["systems"].values():
        assert row["HR@5"][0] < row["HR@10"][0]
        assert row["NDCG@10"][0] < row["HR@10"][0]
        assert len(row["by warmth of the target"]) == 5


def test_the_recorded_settings_are_those_that_are_tried():
    for name, six in recorded("decoder")["tried"].items():
        tried = [{key: one[key] for key in ("lr", "dropout")} for one in six]
        assert tried == SETTINGS[name]


def test_each_option_had_the_same_six_settings(shop):
    tried = recorded("decoder-options")["tried"]
    assert set(tried) == set(options(shop, load_settings({}))) - {"appendix as printed"}
    for name, six in tried.items():
        assert [{key: one[key] for key in ("lr", "dropout")} for one in six] == SETTINGS["MM-GPT2Rec"], name


@pytest.mark.parametrize("seed", results.SEEDS)
def test_the_record_of_options_has_each_of_them_beside_the_same_trainings_as_before(seed, shop):
    found, known = (recorded(name)["shops"][str(seed)] for name in ("decoder-options", "decoder"))
    assert found["fingerprint"] == known["fingerprint"]
    assert set(found["systems"]) == set(options(shop, load_settings({})))
    same = found["systems"]["MM-GPT2Rec"]["NDCG@10"]
    assert same == pytest.approx(known["systems"]["MM-GPT2Rec"]["NDCG@10"], abs=2e-4)
    for name, row in found["systems"].items():
        mean, low, high = row["more than MM-GPT2Rec"]
        assert low <= mean <= high
        assert mean == pytest.approx(row["NDCG@10"][0] - found["systems"]["MM-GPT2Rec"]["NDCG@10"][0], abs=2e-4)
        assert row["best step"] in [step for step, _ in row["validations"]], name


def test_among_some_items_only_these_are_ranked_as_before(planted, moments):
    system, asked = Popularity().fit(planted), np.arange(ITEMS + 1) % 3 == 1
    before, after = system.score(moments), results.Among(system, asked).score(moments)
    assert np.array_equal(after[:, asked], before[:, asked])
    assert (after[:, ~asked].max(axis=1) < after[:, asked].min(axis=1)).all()


def test_reviews_in_place_of_descriptions_are_those_of_the_training_part_or_all(shop):
    split = shop.leave_one_out()
    some, every = (results.told_by_reviews(split, every) for every in (False, True))
    for told, frame in ((some, split.interactions("train")), (every, shop.interactions)):
        assert told.items.features == shop.items.features
        assert told.items["title"] == shop.items["title"]
        for item in (1, shop.num_items):
            known = frame.loc[(frame["item"] == item) & frame["review"].notna(), "review"]
            assert told.items["description"][item - 1] == " ".join(known)
    assert sum(map(len, every.items["description"])) > sum(map(len, some.items["description"])) > 0
    asked = shop.interactions[split.part == TEST].dropna(subset="review")
    own = [
        (every.items["description"][item - 1], text) for item, text in zip(asked["item"], asked["review"], strict=True)
    ]
    assert all(text in told for told, text in own)


def test_the_record_of_reviews_has_each_on_each_shop():
    shops = recorded("decoder-reviews")["shops"]
    assert list(shops) == [str(seed) for seed in results.SEEDS]
    for shop in shops.values():
        assert set(shop["systems"]) == {"MM-GPT2Rec", *results.REVIEWED}


def test_the_record_of_protocols_has_each_system_under_each():
    shops = recorded("decoder-protocols")["shops"]
    assert list(shops) == [str(seed) for seed in results.SEEDS]
    for seed, shop in shops.items():
        held = {protocol: set(systems) for protocol, systems in shop.items()}
        wanted = {
            name: set(systems) for name, systems in results.PROTOCOLS.items() if name != "five folds" or seed == "0"
        }
        assert held == wanted
        for rows in shop.values():
            for row in rows.values():
                assert row["HR@5, next 1"][0] <= row["HR@5, next 5"][0] + 1e-9
                assert row["P@5, next 1"][0] == pytest.approx(row["HR@5, next 1"][0] / 5, abs=1e-4)
        for row in shop["unseen category"].values():
            assert row["HR@5, next 1 in the category"][0] >= row["HR@5, next 1"][0]


def test_the_record_on_films_is_of_chapter_3s_films():
    films, league = recorded("decoder-real")["MovieLens"], recorded("league-real")["sets"]["MovieLens"]
    for reader, names in results.READERS.items():
        assert list(films[reader]) == [str(seed) for seed in results.SEEDS]
        for found in films[reader].values():
            assert found["fingerprint"] == league["fingerprint"]
            assert set(found["systems"]) == set(names)
    assert films["tfidf"]["0"]["systems"]["SASRec"]["NDCG@10"] == league["systems"]["SASRec"]["NDCG@10"]

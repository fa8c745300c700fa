"""shop.py: the same seed gives the same shop everywhere, each parameter changes one thing, and the truth is true."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pytest

from mmrec_helpers.data.dataset import ITEM_FEATURES
from mmrec_helpers.pocket_shop import shop as shop_module
from mmrec_helpers.pocket_shop.catalogue import (
    CATEGORY_PRICE,
    DAY,
    DAYS,
    MENTIONABLE,
    OPENING,
    PRICE_TIERS,
    TASTE_ATTRIBUTES,
    TIER_FACTOR,
    WRITTEN,
)
from mmrec_helpers.pocket_shop.choice_model import FIRST_CHANGE, MAX_PURCHASES
from mmrec_helpers.pocket_shop.shop import SIZES, load_shop
from mmrec_helpers.pocket_shop.text_templates import mentioned_attributes

# The fingerprint of load_shop(seed=0, size="tiny"). If it changes and you meant it to, raise SHOP_VERSION (or the
# RENDERING_VERSION or TEXT_VERSION), put here the fingerprint that the failing test shows, and execute every
# notebook again: each number in the book depends on it. If you did not mean it to, you broke the shop.
GOLDEN = "69442a4cf5e972a2"
BARE = {"missing_images": 1.0}  # pictures take most of the time, and most tests need none


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """load_shop for tiny shops in a cache folder of this module; every shop is opened once."""
    cache, shops = tmp_path_factory.mktemp("cache"), {}

    def opened(**options):
        key = tuple(sorted(options.items()))
        if key not in shops:
            shops[key] = load_shop(size="tiny", cache=cache, **options)
        return shops[key]

    return opened


@pytest.fixture(scope="module")
def generated_again(tmp_path_factory):
    """The default shop, generated a second time: its cache folder and what was opened."""
    cache = tmp_path_factory.mktemp("again")
    return cache, load_shop(size="tiny", cache=cache)


@pytest.fixture
def stored(generated_again, tmp_path) -> Path:
    """A cache folder with the default shop in it, for tests that meddle with it."""
    shutil.copytree(generated_again[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def dataset(opened):
    return opened()[0]


@pytest.fixture(scope="module")
def truth(opened):
    return opened()[1]


def image_bytes(dataset) -> list[bytes | None]:
    raw = dataset.items.cast_column("image", datasets.Image(decode=False))["image"]
    return [image and image["bytes"] for image in raw]


def pieces(shop) -> dict[str, list]:
    """Everything a shop consists of, by name."""
    dataset, truth = shop
    found = {name: list(dataset.items[name]) for name in ITEM_FEATURES if name != "image"}
    found |= {"image": image_bytes(dataset), "user_ids": dataset.user_ids.tolist()}
    found |= {name: dataset.interactions[name].tolist() for name in dataset.interactions.columns}
    for part in (truth.catalogue, truth.tastes, truth.purchases):
        prefix = type(part).__name__.lower()
        found |= {f"{prefix}.{name}": np.asarray(value).tolist() for name, value in asdict(part).items()}
    return found | {"mentions": truth.mentions.tolist()}


def moved(one, two) -> set[str]:
    """Names of the pieces in which two shops differ."""
    first, second = pieces(one), pieces(two)
    assert first.keys() == second.keys()
    return {name for name in first if first[name] != second[name]}


HISTORIES = {"user", "item", "time", "rating", "review", "purchases.rows", "purchases.days"}


def steps(dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, number of the purchase, counted from 0, and catalogue row of each interaction."""
    frame = dataset.interactions
    return frame["user"].to_numpy(), frame.groupby("user").cumcount().to_numpy(), frame["item"].to_numpy() - 1


def tastes_of_purchases(dataset, truth) -> np.ndarray:
    """(interactions, A) what the shopper cared for at each purchase."""
    user, step, _ = steps(dataset)
    after = step >= truth.tastes.change[user]
    return np.where(after[:, None], truth.tastes.after[user], truth.tastes.before[user])


# The same shop everywhere ---------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_shop_in_another_folder(opened, generated_again):
    _, again = generated_again
    assert again[0].fingerprint == opened()[0].fingerprint
    assert moved(opened(), again) == set()


def test_the_same_seed_gives_the_same_bytes_in_another_process(dataset, tmp_path):
    code = (
        "import pathlib, sys; from mmrec_helpers.pocket_shop.shop import load_shop;"
        "print(load_shop(size='tiny', cache=pathlib.Path(sys.argv[1]))[0].fingerprint)"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONHASHSEED": "99", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [dataset.fingerprint]


def test_the_tiny_shop_is_the_one_that_every_number_was_made_with(dataset):
    assert dataset.fingerprint == GOLDEN


def test_another_seed_gives_another_shop(opened):
    same = {"item_id", "category", "catalogue.category", "user_ids"}  # as many items of each category, in turn
    differs = moved(opened(), opened(seed=1))
    assert differs == set(pieces(opened())) - same
    assert opened(seed=1)[0].fingerprint != opened()[0].fingerprint
    brands = [set(opened(seed=seed)[1].catalogue.brands) for seed in (0, 1)]
    assert len(brands[0]) == len(brands[1]) == 12
    assert len(brands[0] & brands[1]) < 6


def test_a_stored_shop_is_read_and_not_drawn_again(stored, dataset, monkeypatch):
    def refuse(*args):
        raise AssertionError("drawn again")

    monkeypatch.setattr(shop_module, "render_item", refuse)
    assert load_shop(size="tiny", cache=stored)[0].fingerprint == dataset.fingerprint
    with pytest.raises(AssertionError, match="drawn again"):
        load_shop(size="tiny", cache=stored, noise=0.5)


def test_the_settings_cache_is_used_unless_another_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    load_shop(size="tiny")
    assert len(list((tmp_path / "pocket_shop").iterdir())) == 1


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_killed_generation_leaves_no_half_shop(tmp_path, monkeypatch, dataset, error):
    drawn = []

    def draw_some(*args):
        drawn.append(args)
        if len(drawn) > 100:
            raise error
        return render_item(*args)

    render_item = shop_module.render_item
    monkeypatch.setattr(shop_module, "render_item", draw_some)
    with pytest.raises(error):
        load_shop(size="tiny", cache=tmp_path)
    assert list((tmp_path / "pocket_shop").iterdir()) == []
    monkeypatch.undo()
    assert load_shop(size="tiny", cache=tmp_path)[0].fingerprint == dataset.fingerprint
    assert len(list((tmp_path / "pocket_shop").iterdir())) == 1


def test_what_another_killed_process_left_does_no_harm(stored, dataset):
    (folder,) = (stored / "pocket_shop").iterdir()
    left = folder.with_name(f".{folder.name}.{os.getpid()}") / folder.name
    left.parent.mkdir()
    folder.rename(left)
    for junk in ("items.arrow", "junk"):
        (left / junk).write_bytes(b"half")
    assert load_shop(size="tiny", cache=stored)[0].fingerprint == dataset.fingerprint
    assert not (folder / "junk").exists()


def test_a_shop_that_another_process_finished_first_does_no_harm(stored, dataset, monkeypatch):
    (folder,) = (stored / "pocket_shop").iterdir()
    other, write = stored / "other", shop_module._write_shop
    folder.rename(other)

    def write_second(part, *args):
        write(part, *args)
        other.rename(folder)

    monkeypatch.setattr(shop_module, "_write_shop", write_second)
    assert load_shop(size="tiny", cache=stored)[0].fingerprint == dataset.fingerprint
    assert [path.name for path in (stored / "pocket_shop").iterdir()] == [folder.name]


@pytest.mark.parametrize("parameter", ["overlap", "noise", "missing_images", "drift", "cold_share"])
@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_parameter_out_of_range_is_named(tmp_path, parameter, value):
    with pytest.raises(ValueError, match=f"the parameter {parameter} must lie between 0 and 1, but is {value}"):
        load_shop(size="tiny", cache=tmp_path, **{parameter: value})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_size_is_named_with_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match="no shop of size 'huge'; sizes are tiny, laptop, gpu"):
        load_shop(size="huge", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


# What is in it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1])
def test_the_data_set_is_valid_and_of_the_size_it_says(opened, seed):
    dataset, _ = opened(seed=seed)
    assert dataset.validate() is dataset
    assert (dataset.num_items, dataset.num_users) == SIZES["tiny"]
    assert dataset.items.features == ITEM_FEATURES
    assert 8 * dataset.num_users < dataset.num_interactions < 18 * dataset.num_users
    assert set(dataset.interactions["rating"]) == {1, 2, 3, 4, 5}
    assert len(set(dataset.column("item_id"))) == dataset.num_items + 1
    assert dataset.image(1).size == (64, 64)


@pytest.mark.parametrize("cold_share", [0.0, 0.08, 0.5, 1.0])
def test_purchases_have_no_holes_and_are_those_of_the_data_set(opened, cold_share):
    dataset, truth = opened(cold_share=cold_share, **BARE)
    bought = truth.purchases.rows >= 0
    assert (bought[:, 1:] <= bought[:, :-1]).all()  # -1 only after the last purchase
    user, step, row = steps(dataset)
    assert truth.purchases.lengths.sum() == len(user)
    assert (truth.purchases.rows[user, step] == row).all()
    seconds = (truth.purchases.days[user, step]) * DAY + OPENING
    assert np.abs(seconds - dataset.interactions["time"]).max() <= 0.5 + 1e-4


def test_nobody_buys_an_item_twice_or_before_its_launch_or_after_the_last_day(dataset, truth):
    frame = dataset.interactions
    assert not frame.duplicated(["user", "item"]).any()
    launch = OPENING + truth.catalogue.launch[frame["item"] - 1] * DAY
    assert (frame["time"] >= launch - 0.5).all()
    assert frame["time"].between(OPENING, OPENING + DAYS * DAY).all()
    assert (launch > OPENING).any()  # there was something to buy too early


def test_times_rise_with_the_purchases_and_come_in_bursts(dataset):
    user, _, _ = steps(dataset)
    gaps = np.diff(dataset.interactions["time"])[np.diff(user) == 0]
    assert (gaps >= 0).all()
    assert 0.35 < (gaps < 3600).mean() < 0.55
    assert (gaps > DAY).mean() > 0.4


def test_ratings_agree_with_tastes(dataset, truth):
    taste = tastes_of_purchases(dataset, truth)
    row = steps(dataset)[2]
    cared = (taste >= 0).sum(axis=1)
    met = ((taste == truth.catalogue.attributes[row]) & (taste >= 0)).sum(axis=1)
    rating = dataset.interactions["rating"].to_numpy()
    everything, nothing = rating[(cared > 0) & (met == cared)], rating[(cared > 0) & (met == 0)]
    assert min(len(everything), len(nothing)) > 100
    assert everything.mean() > 4.3
    assert nothing.mean() < 2.8


def test_reviews_praise_what_was_liked_and_regret_what_was_missed(dataset, truth):
    taste = tastes_of_purchases(dataset, truth)
    spoken = {True: 0, False: 0}
    for index, (row, liked, review) in enumerate(
        zip(steps(dataset)[2], dataset.interactions["rating"] >= 4, dataset.interactions["review"], strict=True)
    ):
        facts = truth.facts(f"item-{row}")
        mentioned = mentioned_attributes(review)
        assert mentioned.pop("category", {facts["category"]}) == {facts["category"]}
        if facts["brand"] in review:
            mentioned["brand"] = {facts["brand"]}
        met = truth.catalogue.attributes[row] == taste[index]
        may_tell = met if liked else ~met & (taste[index] >= 0)
        allowed = {name for name, may in zip(TASTE_ATTRIBUTES, may_tell, strict=True) if may}
        assert mentioned == {name: {facts[name]} for name in mentioned}, review
        assert set(mentioned) <= allowed, review
        assert len(mentioned) == min(len(allowed), 1), review
        spoken[liked] += len(mentioned)
    assert min(spoken.values()) > 500


# Parameters ---------------------------------------------------------------------------------------------------


def test_overlap_moves_the_descriptions_only(opened):
    assert moved(opened(), opened(overlap=0.9)) == {"description", "mentions"}


def told_in_descriptions(dataset, names) -> list[dict[str, set[str]]]:
    mentioned = [mentioned_attributes(text) for text in dataset.column("description")[1:]]
    return [{name: one[name] for name in names if name in one} for one in mentioned]


@pytest.mark.parametrize(("overlap", "noise"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.5, 1.0)])
def test_descriptions_mention_what_the_picture_shows_as_often_as_overlap_says(opened, overlap, noise):
    dataset, truth = opened(overlap=overlap, noise=noise, **BARE)
    assert np.abs(truth.mentions.mean(axis=0) - overlap).max() < 0.1
    if overlap in (0, 1):
        assert (truth.mentions == overlap).all()
    facts = [truth.facts(name) for name in dataset.column("item_id")[1:]]
    wanted = [
        {name: {fact[name]} for name, mentioned in zip(MENTIONABLE, mentions, strict=True) if mentioned}
        for fact, mentions in zip(facts, truth.mentions, strict=True)
    ]
    assert told_in_descriptions(dataset, MENTIONABLE) == wanted


def test_descriptions_tell_more_and_nothing_less_with_more_overlap(opened):
    shops = [opened(overlap=overlap, noise=0.0, **BARE)[0] for overlap in (0.0, 0.3, 0.5, 1.0)]
    mentioned = [told_in_descriptions(dataset, MENTIONABLE) for dataset in shops]
    for less, more in pairwise(mentioned):
        assert all(one.items() <= two.items() for one, two in zip(less, more, strict=True))
        assert less != more


def test_descriptions_tell_what_only_they_know_whatever_the_overlap(opened):
    names = [name for name in WRITTEN if name != "brand"]
    for overlap in (0.0, 1.0):
        dataset, truth = opened(overlap=overlap, noise=0.0, **BARE)
        facts = [truth.facts(name) for name in dataset.column("item_id")[1:]]
        assert told_in_descriptions(dataset, names) == [{name: {fact[name]} for name in names} for fact in facts]
        texts = dataset.column("description")[1:]
        assert all(fact["brand"] in text for fact, text in zip(facts, texts, strict=True))


def words(text: str) -> list[str]:
    """The words of a description, without mark-up."""
    for tag in ("p", "br", "b", "div", "ul", "li"):
        text = text.replace(f"<{tag}>", " ").replace(f"</{tag}>", " ")
    return unescape(text).replace(",", " , ").replace(".", " . ").split()


def test_noise_moves_the_descriptions_only_and_keeps_their_words_in_order(opened):
    assert moved(opened(), opened(noise=0.9)) == {"description"}
    clean, dirty = (opened(noise=noise, **BARE)[0].column("description")[1:] for noise in (0.0, 1.0))
    for one, two in zip(clean, dirty, strict=True):
        assert one != two
        rest = iter(words(two))
        assert all(word in rest for word in words(one)), (one, two)


def test_noise_is_the_share_of_soiled_descriptions_and_more_noise_soils_more(opened):
    clean = opened(noise=0.0, **BARE)[0].column("description")[1:]
    assert not any("<" in text or "&" in text for text in clean)
    noisy = [opened(noise=noise, **BARE)[0].column("description")[1:] != clean for noise in (0.0, 0.15, 0.5, 1.0)]
    for noise, some in zip((0.0, 0.15, 0.5, 1.0), noisy, strict=True):
        assert abs(some.mean() - noise) < 0.1 * (0 < noise < 1) + 1e-9
    assert all((less <= more).all() for less, more in pairwise(noisy))


def test_missing_images_moves_the_images_only(opened):
    assert moved(opened(missing_images=0.0), opened(missing_images=0.5)) == {"image"}


def test_missing_images_is_the_share_of_items_without_a_picture(opened):
    shops = [opened(missing_images=share)[0] for share in (0.0, 0.3, 0.5, 1.0)]
    missing = [~dataset.has_image[1:] for dataset in shops]
    for share, some in zip((0.0, 0.3, 0.5, 1.0), missing, strict=True):
        assert abs(some.mean() - share) < 0.1 * (0 < share < 1) + 1e-9
    assert all((less <= more).all() for less, more in pairwise(missing))
    pictures = [image_bytes(dataset) for dataset in shops]
    for one, two in pairwise(pictures):
        assert all(after in (None, before) for before, after in zip(one, two, strict=True))


def test_drift_moves_change_points_and_histories_only(opened):
    differs = moved(opened(), opened(drift=0.3))
    assert {"tastes.change", "item", "rating", "review"} <= differs <= {"tastes.change", *HISTORIES}


def test_more_drift_changes_more_tastes_and_earlier(opened):
    truths = [opened(drift=drift, **BARE)[1] for drift in (0.0, 0.06, 0.3, 1.0)]
    change = [truth.tastes.change for truth in truths]
    assert (change[0] == MAX_PURCHASES).all()
    assert (change[-1] == FIRST_CHANGE).all()
    for less, more in pairwise(change):
        assert (more <= less).all()
        assert (more < less).mean() > 0.3
    came = [np.mean(truth.tastes.change < truth.purchases.lengths) for truth in truths]
    assert came[0] == 0
    assert 0.2 < came[1] < 0.6 < came[2] < came[3] < 1


def test_drift_leaves_what_was_bought_before_the_change(opened):
    (calm, one), (wild, two) = opened(), opened(drift=0.3)
    until = np.minimum(one.tastes.change, two.tastes.change)
    earlier = np.arange(one.purchases.rows.shape[1]) < until[:, None]
    assert (one.purchases.rows == two.purchases.rows)[earlier].all()
    frames = []
    for dataset in (calm, wild):
        user, step, _ = steps(dataset)
        frames.append(dataset.interactions[step < until[user]].reset_index(drop=True))
    assert frames[0].equals(frames[1])


def test_cold_share_moves_launches_and_histories_only(opened):
    differs = moved(opened(), opened(cold_share=0.3))
    launches = {"catalogue.launch", "catalogue.peak"}
    assert {*launches, "item"} <= differs <= {*launches, *HISTORIES}


def test_cold_share_is_the_share_of_items_launched_in_the_last_tenth_of_the_days(opened):
    late = [opened(cold_share=share, **BARE)[1].catalogue.launch >= 0.9 * DAYS for share in (0.0, 0.08, 0.5, 1.0)]
    for share, some in zip((0.0, 0.08, 0.5, 1.0), late, strict=True):
        assert abs(some.mean() - share) < 0.1 * (0 < share < 1) + 1e-9
    assert all((less <= more).all() for less, more in pairwise(late))
    one, two = (opened(cold_share=share, **BARE)[1].catalogue for share in (0.08, 0.5))
    stays = ~(two.launch >= 0.9 * DAYS)
    assert (one.launch == two.launch)[stays].all()
    assert (one.peak == two.peak)[stays].all()


@pytest.mark.parametrize("parameter", [{"drift": 0.3}, {"cold_share": 0.3}])
def test_a_shopper_who_buys_the_same_rates_and_reviews_the_same(opened, parameter):
    queries = []
    for dataset, truth in (opened(), opened(**parameter)):
        came = truth.tastes.change < truth.purchases.lengths
        by_user = dict(list(dataset.interactions.groupby("user")))
        queries.append({user: frame.drop(columns="user") for user, frame in by_user.items() if not came[user]})
    one, two = queries
    what = ["item", "time"]
    same = [user for user in one if user in two and one[user][what].to_dict("list") == two[user][what].to_dict("list")]
    assert len(same) > 20
    for user in same:
        assert one[user].to_dict("list") == two[user].to_dict("list")


# Truth ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queries(dataset):
    return dataset.leave_one_out().queries("test", MAX_PURCHASES)


def for_sale(dataset, truth, queries) -> tuple[np.ndarray, np.ndarray]:
    """(N, I + 1) twice: surely for sale to the shopper, surely not; neither within a second of the launch."""
    launch = np.concatenate([[np.inf], OPENING + truth.catalogue.launch * DAY])
    free = np.ones((len(queries), dataset.num_items + 1), bool)
    np.put_along_axis(free, queries.histories, False, axis=1)
    free[:, 0] = False
    gap = queries.times[:, None] - launch
    return free & (gap > 1), ~free | (gap < -1)


def test_scores_are_chances_and_zero_exactly_on_what_cannot_be_bought(dataset, truth, queries):
    scores = truth.scores(dataset, queries)
    assert scores.shape == (len(queries), dataset.num_items + 1)
    assert (scores.sum(axis=1) <= 1 + 1e-9).all()
    assert np.median(scores.sum(axis=1)) == pytest.approx(1)
    can, cannot = for_sale(dataset, truth, queries)
    assert (scores[cannot] == 0).all()
    assert (scores[can] > 0).all()
    launched_later = cannot.sum(axis=1) > (queries.histories > 0).sum(axis=1) + 1
    assert launched_later.any()


def test_scores_are_the_chances_by_which_shoppers_choose(dataset, truth, queries):
    # If y is drawn from p, then p(y) is on average the sum of p squared.
    scores = truth.scores(dataset, queries)
    taken = scores[np.arange(len(scores)), queries.targets[:, 0]]
    assert (taken > 0).all()
    error = taken.std() / np.sqrt(len(taken))
    assert abs(taken.mean() - (scores**2).sum(axis=1).mean()) < 3 * error < 0.05
    wrong = np.roll(scores, 1, axis=0)  # somebody else's chances
    assert wrong[np.arange(len(scores)), queries.targets[:, 0]].mean() < taken.mean() / 5


def test_scores_of_a_filtered_shop_are_those_of_the_same_items_at_the_same_moment(dataset, truth):
    some = np.random.default_rng(0).random(dataset.num_items + 1) < 0.6
    core = dataset.select_interactions(some[dataset.interactions["item"]]).k_core(5)
    assert 50 < core.num_items < dataset.num_items
    assert 50 < core.num_users < dataset.num_users
    asked = core.leave_one_out().queries("test")
    whole_item = {name: number for number, name in enumerate(dataset.column("item_id")[1:], start=1)}
    whole_user = {name: number for number, name in enumerate(dataset.user_ids)}
    whole_number = np.array([0, *(whole_item[name] for name in core.column("item_id")[1:])])
    users = np.array([whole_user[name] for name in core.user_ids[asked.users]])
    same = replace(asked, users=users, targets=whole_number[asked.targets])
    wanted, found = truth.scores(dataset, same), truth.scores(core, asked)
    assert found.shape == (len(asked), core.num_items + 1)
    np.testing.assert_array_equal(found[:, 1:], wanted[:, whole_number[1:]])
    assert (found[:, 0] == 0).all()
    assert found.sum() > 0


def test_histories_of_another_shop_are_refused(opened, truth):
    other, _ = opened(seed=1)
    with pytest.raises(ValueError, match="not of this shop"):
        truth.scores(other, other.leave_one_out().queries("test"))


def test_facts_agree_with_the_items(dataset, truth):
    tiers = {name: factor for name, factor in zip(PRICE_TIERS, TIER_FACTOR, strict=True)}
    categories = list(dict.fromkeys(dataset.column("category")[1:]))
    for number in range(1, dataset.num_items + 1):
        item = dataset.item(number)
        facts = truth.facts(item["item_id"])
        assert list(facts) == ["category", *TASTE_ATTRIBUTES]
        assert (facts["category"], facts["brand"]) == (item["category"], item["brand"])
        usual = CATEGORY_PRICE[categories.index(item["category"])] * tiers[facts["price_tier"]]
        assert 0.84 * usual < item["price"] < 1.16 * usual
        assert len(item["title"].split()) <= 8
        assert item["brand"] in item["title"]


def test_the_stored_picture_is_the_one_that_the_truth_draws(dataset, truth):
    shown = np.flatnonzero(dataset.has_image)
    for number in shown[:: len(shown) // 12]:
        name = dataset.item(number)["item_id"]
        np.testing.assert_array_equal(np.asarray(truth.image(name, 64)), np.asarray(dataset.image(number)))
    assert truth.image(name).size == (256, 256)


def test_the_truth_can_draw_a_picture_that_the_data_set_lacks(opened, dataset):
    bare, truth = opened(missing_images=1.0)
    assert bare.image(1) is None
    np.testing.assert_array_equal(np.asarray(truth.image("item-000000", 64)), np.asarray(dataset.image(1)))


def test_changes_and_tastes_are_told_by_name(dataset, truth):
    tastes, lengths = truth.tastes, np.bincount(dataset.interactions["user"], minlength=dataset.num_users)
    came = []
    for user, name in enumerate(dataset.user_ids):
        change = truth.change_point(name)
        came.append(change is not None)
        assert change == (tastes.change[user] if tastes.change[user] < lengths[user] else None)
        for step in {0, (change or 1) - 1, change or lengths[user] - 1, lengths[user] - 1}:
            holds = (tastes.before if change is None or step < change else tastes.after)[user]
            named = truth.taste(name, step)
            assert [attribute for attribute in TASTE_ATTRIBUTES if attribute in named] == list(named)
            for attribute, value in zip(TASTE_ATTRIBUTES, holds, strict=True):
                assert named.get(attribute) == (truth.catalogue.values(attribute)[value] if value >= 0 else None)
    assert 0.2 < np.mean(came) < 0.6


def test_the_laptop_shop_is_drawn_in_ten_seconds_and_read_in_one(tmp_path):
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        load_shop(size="laptop", cache=tmp_path)
        seconds.append(time.perf_counter() - start)
    print(f"drawn in {seconds[0]:.1f} s, read in {seconds[1]:.2f} s")
    assert seconds[0] < 10
    assert seconds[1] < 1

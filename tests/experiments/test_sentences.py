"""What chapters 3, 4, 6, 8 and the data cards say of recorded runs: if a test fails, that prose has to change."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from experiments import ch03, ch04, ch06
from experiments.datasets import LEAVE_ONE_OUT, POCKET, TEMPORAL, UNSEEN_CATEGORY, benchmark_split
from experiments.systems import trials
from mmrec_helpers.evaluation.intervals import mean_interval
from mmrec_helpers.evaluation.published import PUBLISHED
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.evaluation.tables import by_group, by_seed, compare, leaderboard, pooled
from mmrec_helpers.lessons.reversals import significant_order
from mmrec_helpers.pocket_shop.events import EVENTS
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.tuning import SPACES
from mmrec_helpers.studies.ch03 import rank_reversals
from mmrec_helpers.studies.ch04 import ABLATIONS, DESIGN_CHOICES, TABLE_ONE

ON_THE_SHOP = {"data": POCKET, "split": LEAVE_ONE_OUT, "part": "test", "protocol": "full"}


FIVE_METRICS = ("HR@5", "HR@10", "NDCG@5", "NDCG@10", "MRR")


def differences(runs: list[Run]) -> pd.DataFrame:
    """The leaderboard with differences to the decoder."""
    return leaderboard(runs, ["NDCG@10"], ch04.DECODER)["NDCG@10"]


def over_trainings(runs, systems):
    """The runs of systems and of their further trainings, under the systems' names: leaderboards pool them by user."""
    return [
        replace(run, stamp=run.stamp | {"system": name, "hyperparameters": {}})
        for run in runs
        if (name := run.system.partition(", training ")[0]) in systems
    ]


def levels(board: pd.DataFrame) -> set[str]:
    """The systems whose difference to the decoder has no p below .05."""
    return set(board.index[board["p"] >= 0.05]) - {ch04.DECODER}


def equivalent(board: pd.DataFrame, mean: float) -> bool:
    """Whether all differences have intervals within a tenth of a mean, the chapter's margin."""
    return bool(board[["difference_ci_low", "difference_ci_high"]].abs().max(axis=None) < 0.1 * mean)


@pytest.fixture
def tested(runs_of):
    """Chapter 4's runs on the shop."""
    return runs_of("ch04", **ON_THE_SHOP)


# Chapter 3 ------------------------------------------------------------------------------------------------------------


def test_what_chapter_3_writes_about_real_data_is_so(runs_of):
    """The paragraphs below the table of notebook 03e, sentence by sentence."""
    boards = {}
    for data in ("movielens", "microlens", "hm-week"):
        protocol = "full, basket" if data == "hm-week" else "full"
        boards[data] = leaderboard(runs_of("ch03", data=data, part="test", protocol=protocol), ["NDCG@10"])["NDCG@10"]
    lens, few, week = (board["mean"] for board in boards.values())
    sequences = [name for name in lens.index if name.startswith(("SASRec", "GRU4Rec", "BERT4Rec"))]
    sequences.remove("SASRec, BCE")
    assert lens[sequences].idxmin() == "BERT4Rec"
    films = runs_of("ch03", data="movielens", part="test", protocol="full")
    gap = compare(films, "BERT4Rec", lens.drop([*sequences, "SASRec, BCE"]).idxmax())
    assert gap[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.017, 0.003, 0.029]
    assert lens["SASRec, BCE"] < 0.6 * lens["SASRec"]
    assert boards["movielens"]["ci_low"]["SASRec_F, image"] < lens["SASRec"]
    assert boards["movielens"]["ci_low"]["content, image"] <= lens["random"]
    assert (
        boards["microlens"]["ci_low"]["content, text"] < few["SASRec"] < boards["microlens"]["ci_high"]["content, text"]
    )
    assert boards["microlens"]["ci_low"]["SASRec_F, text"] < few["SASRec"]
    networks = week[[name for name in week.index if name.startswith(("SASRec", "GRU4Rec", "BERT4Rec", "BPR", "VBPR"))]]
    baskets = runs_of("ch03", data="hm-week", part="test", protocol="full, basket")
    for name in ("item-kNN", "user-kNN", "hybrid"):
        assert compare(baskets, name, networks.idxmax())["ci_low"] > 0
    assert week.idxmax() == "hybrid"
    low, high = boards["hm-week"]["ci_low"], boards["hm-week"]["ci_high"]
    assert low["content, text"] < week["SASRec"] < high["content, text"]
    for images in ("content, image", "content, image, lite0"):
        assert low[images] < week["popularity"] < high[images]
    assert week[["GRU4Rec_F, image", "GRU4Rec_F, text"]].min() > 1.25 * week["GRU4Rec"]
    assert week[["SASRec_F, image", "SASRec_F, text"]].max() < week["SASRec"]


def test_what_chapter_3_writes_about_the_shop_is_so(runs_of):
    """The paragraphs around the forest plot of notebook 03e, and its starting points."""
    runs = [run for run in runs_of("ch03", **ON_THE_SHOP) if run.system not in ch03.CEILINGS]
    board, shops = leaderboard(runs, ["NDCG@10"], "SASRec")["NDCG@10"], by_seed(runs)
    means, gap = board["mean"], board["difference"]
    assert (shops.loc["GRU4Rec"] > shops.loc["SASRec"]).tolist() == [True, False, True]
    assert board.loc["GRU4Rec", "p"] > 0.05
    sequences = [name for name in means.index if name.startswith(("SASRec", "GRU4Rec"))]
    assert means[sequences].drop("SASRec, BCE").min() > means.drop(sequences).max()
    assert means["BERT4Rec"] < means["BPR"] < means["SASRec, BCE"] < means["matrix factorization"] < means["hybrid"]
    assert gap[["SASRec_F, both", "GRU4Rec_F, both"]].round(3).tolist() == [0.006, 0.010]
    alone = [f"{name}, {kind}" for name in ("SASRec_F", "GRU4Rec_F") for kind in ("text", "image")]
    assert (board.loc[alone, "p"] > 0.05).all()
    groups = {name: by_group([run for run in runs if run.system == name], "NDCG@10")["mean"] for name in means.index}
    assert groups["content, both"][0] > 3 * max(groups[name][0] for name in ("popularity", "item-kNN", "SASRec"))
    assert groups["content, both"][4] < groups["popularity"][4]
    gap = compare(runs, "matrix factorization", "SASRec, BCE")
    assert gap[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.005, 0.001, 0.009]
    assert compare(runs, "BPR", "BERT4Rec")["p"].round(2) == 0.03
    gap = compare(runs, "item-kNN", "SASRec, BCE")
    assert gap["ci_low"] < 0 < gap["ci_high"]


def test_ten_systems_are_not_separated_from_the_best_on_the_temporal_split(runs_of):
    runs = runs_of("ch03", **ON_THE_SHOP | {"split": TEMPORAL})
    runs = [run for run in runs if run.system not in ch03.CEILINGS]
    best = by_seed(runs).mean(axis=1).idxmax()
    p = leaderboard(runs, ["NDCG@10"], best)["NDCG@10"]["p"].drop(best)
    assert (p < 0.05).tolist() == [False] * 10 + [True] * 16


def test_one_reversal_between_the_splits_is_significant(runs_of):
    """Notebook 03e: a tenth of the pairs is reversed, and only BPR against NRMF by more than its intervals."""
    values = []
    for split in (LEAVE_ONE_OUT, TEMPORAL):
        systems: dict[str, list[Run]] = {}
        for run in runs_of("ch03", **ON_THE_SHOP | {"split": split}):
            systems.setdefault(run.system, []).append(run)
        values.append(pd.DataFrame({k: pooled(v, "NDCG@10") for k, v in systems.items() if k not in ch03.CEILINGS}))
    values[1] = values[1][values[0].columns]
    assert len(rank_reversals(*(own.mean() for own in values))) == 37  # of 351
    orders = [significant_order(own) for own in values]
    ((better, worse),) = np.argwhere((orders[0] > 0) & (orders[1] < 0))
    assert (values[0].columns[better], values[0].columns[worse]) == ("BPR", "NRMF (our reading)")


def test_reversals_of_trials_in_chapter_3(runs_of):
    """SASRec is below GRU4Rec before its ninth trial, and above it afterwards."""
    best = {}
    for system in ("SASRec", "GRU4Rec"):
        tried = trials(ch03.STUDY, runs_of("ch03", part="valid"), system)
        best[system] = np.maximum.accumulate([score for _, score in SPACES[system].search(tried)[0]])
    assert best["SASRec"][7] < best["GRU4Rec"][7] == best["GRU4Rec"][-1] < best["SASRec"][8]


def test_sequence_models_come_first_on_gift_cards(runs_of):
    means = by_seed(runs_of("ch03", data="gift-cards", part="test", protocol="full"))["seed 0"]
    sequences = means.filter(regex="SASRec|GRU4Rec|BERT4Rec").drop("SASRec, BCE")
    assert sequences.min() > means.drop(sequences.index).drop("SASRec, BCE").max()
    assert 0.8 < means["SASRec, BCE"] / means["SASRec"] < 1


# Chapter 4, the item decoder ------------------------------------------------------------------------------------------


def test_the_decoder_is_ahead_of_chapter_3_and_level_with_sasrec_on_its_features(runs_of, tested):
    chapter_3 = ("popularity", "SASRec", "GRU4Rec_F, both")
    league = [run for run in tested if run.system in (ch04.DECODER, ch04.SASREC)]
    league += [run for run in runs_of("ch03", **ON_THE_SHOP) if run.system in (*chapter_3, *ch03.CEILINGS)]
    league += runs_of("shop", **ON_THE_SHOP, system="SASRec on all true attributes")
    shops = by_seed(league)
    assert (shops.loc[ch04.DECODER] > shops.loc[list(chapter_3)]).all(axis=None)
    board = leaderboard(league, ["NDCG@10"], ch04.DECODER, "Bayes ceiling")["NDCG@10"]
    shares = board.loc[[ch04.DECODER, "SASRec on all true attributes"], "share_of_ceiling"]
    assert shares.round(1).tolist() == [0.4, 0.5]
    assert by_seed(league, "HR@10").loc["omniscient oracle"].max() < 2 / 3


def test_the_decoder_is_equivalent_to_sasrec_on_its_features_and_undecided_on_the_temporal_split(runs_of, tested):
    """Within a tenth of the decoder's value, by each of five metrics."""
    temporal = runs_of("ch04", **ON_THE_SHOP | {"split": TEMPORAL})
    sizes = []
    for runs in (tested, temporal):
        pair, gaps = [run for run in runs if run.system in (ch04.DECODER, ch04.SASREC)], []
        for metric in FIVE_METRICS:
            gap = compare(pair, ch04.DECODER, ch04.SASREC, metric)
            mean = leaderboard(pair, [metric])[metric].loc[ch04.DECODER, "mean"]
            assert gap["ci_low"] < 0 < gap["ci_high"]
            gaps.append(gap[["mean", "ci_low", "ci_high"]] / mean)
        sizes.append((gap["users"], pd.DataFrame(gaps)))
    (users, equivalent), (fewer, undecided) = sizes
    assert equivalent.abs().max(axis=None) < 0.1
    assert undecided["ci_low"].max() < -0.1
    assert undecided["mean"].max() < 0
    assert fewer / users == pytest.approx(0.2, abs=0.02)


def test_the_date_is_a_quarter_of_what_lies_between_perfect_features_and_the_ceiling(runs_of, tested):
    values = {run.system: [] for run in tested}
    for run in (*tested, *runs_of("ch03", **ON_THE_SHOP), *runs_of("shop", **ON_THE_SHOP)):
        values.setdefault(run.system, []).append(run)
    names = ("Bayes ceiling", "Bayes ceiling, clock-blind", "SASRec on all true attributes")
    table = pd.DataFrame({name: pooled(values[name], "NDCG@10") for name in names}).dropna()  # 600 users of each shop
    ceiling, blind, attributes = table.mean()
    assert len(table) == 1800
    assert [round(ceiling, 3), round(blind, 3)] == [0.242, 0.210]
    gap = mean_interval((table["Bayes ceiling"] - table["Bayes ceiling, clock-blind"]).to_numpy())
    assert np.round(gap, 3).tolist() == [0.032, 0.024, 0.040]
    everyone, decoder = (pooled(values[name], "NDCG@10") for name in ("Bayes ceiling, all users", ch04.DECODER))
    assert len(everyone) == len(decoder)
    assert round(everyone.mean(), 3) == 0.254
    assert round(decoder.mean() / everyone.mean(), 1) == 0.4
    assert (ceiling - blind) / (ceiling - attributes) == pytest.approx(0.25, abs=0.03)
    means = by_seed(tested).mean(axis=1)
    rises = means[ch04.DECODER] - means[["text only", "image only"]]
    assert rises.between(0.0165, 0.0195).all()
    assert 0.016 < by_seed(values["SASRec on all true attributes"]).mean(axis=None) - means[ch04.DECODER] < 0.020


def test_other_inputs_and_fusions_are_equivalent_to_the_decoder(tested):
    names = ["512 numbers, add", "price as a third modality", "pocket-resnet's images", "instruction string"]
    board = differences([run for run in tested if run.system in (ch04.DECODER, *names, "date as input")])
    assert equivalent(board.drop(ch04.DECODER), board.loc[ch04.DECODER, "mean"])
    assert (board.loc[names, "p"] > 0.05).all()


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        ("date as input", [-0.003, -0.006, -0.000]),
        ("features and zero IDs", [-0.006, -0.009, -0.002]),
        ("instruction string", [-0.001, -0.004, 0.002]),
        ("MM-GPT2Rec, 90 epochs", [-0.003, -0.006, 0.000]),
        ("random backbone, LoRA alpha 1", [-0.008, -0.012, -0.005]),
    ],
)
def test_what_the_decoder_gains_from_further_changes(tested, system, wanted):
    assert compare(tested, system, ch04.DECODER)[["mean", "ci_low", "ci_high"]].round(3).tolist() == wanted


def test_a_search_of_their_own_helps_ids_less_than_a_start_at_zero(tested):
    searched, zero = "features and IDs, own search", "features and zero IDs"
    trained = over_trainings(tested, ["features and IDs"]), over_trainings(tested, [searched])
    assert [leaderboard(runs)["NDCG@10", "mean"].round(3).item() for runs in trained] == [0.082, 0.082]
    assert compare(tested, zero, searched)["ci_low"] > 0
    alpha = compare(tested, "random backbone, LoRA", "random backbone, LoRA alpha 1")
    assert alpha[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.005, 0.002, 0.008]


def test_the_widest_lists_of_table_one_are_not_the_decoders(runs_of):
    where = ON_THE_SHOP | {"split": TEMPORAL}
    runs = runs_of("ch03", **where) + runs_of("ch04", **where, system=ch04.DECODER)
    runs = [run for run in runs if run.system in (ch04.DECODER, *TABLE_ONE.values())]
    own = pd.Series([run.scalars["coverage@10"] for run in runs], [run.system for run in runs]).groupby(level=0).mean()
    assert own.nlargest(3).round(2).to_dict() == {"content, both": 0.92, "hybrid": 0.57, ch04.DECODER: 0.51}


def test_more_users_are_worth_more_than_perfect_features(runs_of):
    (run,) = runs_of("ch04", **ON_THE_SHOP | {"data": "pocket-24k"}, system=ch04.DECODER)
    perfect = by_seed(runs_of("shop", **ON_THE_SHOP, system="SASRec on all true attributes"))
    mean, low, high = mean_interval(run.metric("NDCG@10"))
    assert np.round([mean, low, high], 3).tolist() == [0.134, 0.130, 0.137]
    assert low > perfect.max(axis=None)


def test_prompting_uses_the_history_but_little_of_it(runs_of):
    runs = runs_of("ch04", data=POCKET, split=f"{LEAVE_ONE_OUT}, 300 users", protocol="20 uniform")
    board = leaderboard(runs, ["HR@5"], "random")["HR@5"]
    wanted = {"random": 0.237, "popularity": 0.479, ch04.DECODER: 0.880}
    wanted |= {"prompting, zero-shot": 0.343, "prompting, zero-shot, SmolLM2": 0.367}
    wanted |= {"prompting, few-shot": 0.287, "prompting, few-shot, SmolLM2": 0.287}
    assert board["mean"].round(3).to_dict() == wanted
    assert (board.filter(like="zero-shot", axis=0)["p"] < 0.05).all()
    assert (board.filter(like="few-shot", axis=0)["p"] > 0.05).all()
    below = leaderboard(runs, ["HR@5"], "popularity")["HR@5"].filter(like="prompting", axis=0)
    assert (below["difference_ci_high"] < 0).all()


def test_prompting_on_three_shops(runs_of):
    where = {"data": POCKET, "split": LEAVE_ONE_OUT, "protocol": "20 uniform", "part": "test"}
    runs = runs_of("ch04", **where) + [
        run for run in runs_of("ch03", **where) if run.system in ("random", "popularity")
    ]
    zero, few, plain = "prompting, zero-shot", "prompting, few-shot", "prompting, zero-shot, uncalibrated"
    board = leaderboard(runs, ["HR@5"])["HR@5"]
    assert board.loc[zero, ["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.297, 0.287, 0.307]
    assert board.loc[ch04.DECODER, "mean"].round(3) == 0.848
    gaps = {name: compare(runs, zero, name, "HR@5") for name in ("random", "popularity", few, plain)}
    assert round(gaps["random"]["mean"], 3) == 0.063
    assert round(gaps["popularity"]["mean"], 3) == -0.196
    assert gaps["random"]["ci_low"] > 0 > gaps["popularity"]["ci_high"]
    assert all(gaps[name]["ci_low"] < 0 < gaps[name]["ci_high"] for name in (few, plain))


def test_with_all_columns_concat_and_add_are_equivalent_and_closer_to_the_decoder(tested):
    concat, add = "dim 256, concat", "dim 256, add"
    board = leaderboard([run for run in tested if run.system in (concat, add)], ["NDCG@10"], add)["NDCG@10"]
    assert equivalent(board, board.loc[add, "mean"])
    assert compare(tested, add, "64 + 64 features, add")["ci_low"] > 0
    assert compare(tested, ch04.DECODER, add)[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.005, 0.002, 0.009]
    biased = compare(tested, ch04.DECODER, "date as input and in item biases")
    assert biased[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.007, 0.003, 0.012]
    date = compare(tested, ch04.DECODER, "date as input")
    assert date[["mean", "ci_low", "ci_high"]].round(4).tolist() == [0.0035, 0.0004, 0.0064]


def test_over_three_trainings_the_decoder_is_slightly_ahead_because_of_one(tested):
    pair, numbers = (ch04.DECODER, ch04.SASREC), ("", ", training 2", ", training 3")
    first = [run for run in tested if not run.system.endswith(numbers[2])]
    two, trained = (over_trainings(runs, pair) for runs in (first, tested))
    shares = []
    for metric in FIVE_METRICS:
        gap = compare(trained, *pair, metric)[["mean", "ci_low", "ci_high"]]
        shares.append(gap / leaderboard(trained, [metric])[metric].loc[ch04.DECODER, "mean"])
        if metric == "NDCG@10":
            assert gap.round(4).tolist() == [0.0025, 0.0004, 0.0049]
    shares = pd.DataFrame(shares)
    assert shares.abs().max(axis=None) < 0.1
    assert shares["mean"].round(2).agg(["min", "max"]).tolist() == [0.02, 0.04]
    shops = by_seed(tested).loc[[ch04.SASREC + number for number in numbers], "seed 0"]
    assert shops.round(3).tolist() == [0.095, 0.094, 0.085]
    gap = compare(two, *pair)
    assert gap["ci_low"] < 0 < gap["ci_high"]


def test_the_decoder_is_ahead_of_every_baseline_of_table_one(runs_of):
    where = ON_THE_SHOP | {"split": TEMPORAL}
    runs = [run for run in runs_of("ch03", **where) if run.system in TABLE_ONE.values()]
    runs += [run for run in runs_of("ch04", **where) if run.system in (ch04.DECODER, ch04.SASREC)]
    board = leaderboard(runs, ["P@5", "MAP@5", *FIVE_METRICS], ch04.DECODER)
    means = board.xs("mean", axis=1, level=1)
    assert len(means) == 2 + 9
    assert (means.drop([ch04.DECODER, ch04.SASREC]) < means.loc[ch04.DECODER]).all(axis=None)
    for metric in ("HR@5", "NDCG@5"):
        own = board[metric].drop(ch04.DECODER)
        assert own.index[own["difference_ci_high"] > 0].tolist() == [ch04.SASREC]


def test_best_of_chapter_3_on_the_shop(runs_of):
    means = by_seed([run for run in runs_of("ch03", **ON_THE_SHOP) if run.system not in ch03.CEILINGS]).mean(axis=1)
    assert means.idxmax() == "GRU4Rec_F, both"


def test_ablations_lose_but_for_the_way_of_fusion(runs_of, tested):
    runs = over_trainings(tested, ABLATIONS)
    board, shops = differences(runs), by_seed(runs)
    level = {"weighted fusion", "attention fusion", ch04.SASREC}
    assert levels(board) == level
    assert (shops.drop([ch04.DECODER, *level]) < shops.loc[ch04.DECODER]).all(axis=None)
    means = board["mean"]
    lost = means[ch04.DECODER] - means
    assert 0.7 < lost["untied"] / lost["text only"] < 1
    assert 0.7 < lost["untied"] / lost["image only"] < 1
    for pair, wanted in (
        (("64 + 64 features, concat", "64 + 64 features, add"), [-0.003, -0.005, -0.000]),
        (("weighted fusion", ch04.DECODER), [-0.001, -0.002, -0.000]),
    ):
        assert compare(runs, *pair)[["mean", "ci_low", "ci_high"]].round(3).tolist() == wanted
    gap = compare(runs, "untied", "text only")
    assert gap["ci_low"] < 0 < gap["ci_high"]
    assert equivalent(board.loc[["weighted fusion", "attention fusion"]], means[ch04.DECODER])
    narrow = ("64 + 64 features, concat", "64 + 64 features, add")
    board = leaderboard([run for run in runs if run.system in narrow], ["NDCG@10"], narrow[1])["NDCG@10"]
    assert equivalent(board, board.loc[narrow[1], "mean"])
    popularity = by_seed(runs_of("ch03", **ON_THE_SHOP, system="popularity")).mean(axis=None)
    assert means["shuffled features"] < 1.5 * popularity


def test_cold_items_are_hardly_found(tested):
    names = (ch04.DECODER, "no item biases", "ID embeddings from features")
    runs = {name: [run for run in tested if run.system == name] for name in names}
    decoder, unbiased, table = (by_group(own, "NDCG@10")["mean"] for own in runs.values())
    assert decoder[0] < 0.02
    assert (unbiased[:2] > decoder[:2]).all()
    assert unbiased[4] < decoder[4]
    assert (table < decoder).all()


# Chapter 4, design choices --------------------------------------------------------------------------------------------


def test_pretraining_does_not_help(tested):
    shops = by_seed(tested)
    assert (shops.loc["pretrained backbone"] < shops.loc[ch04.DECODER]).all()
    whole, by_block = (compare(tested, f"pretrained backbone{how}", ch04.DECODER) for how in ("", ", unfreezing"))
    assert whole["mean"] < by_block["mean"]
    assert max(whole["ci_high"], by_block["ci_high"]) < 0
    names = ("pretrained backbone, LoRA", "random backbone, LoRA")
    lora = leaderboard([run for run in tested if run.system in names], ["NDCG@10"], names[1])["NDCG@10"]
    assert lora.loc[names[0], "difference_ci_low"] < 0 < lora.loc[names[0], "difference_ci_high"]
    assert equivalent(lora, lora.loc[names[1], "mean"])
    for name, is_last in (("pretrained backbone", True), (ch04.DECODER, False)):
        for run in (run for run in tested if run.system == name):
            assert (run.scalars["best step"] == max(run.scalars["validations"]["step"])) is is_last
    longer = "pretrained backbone, 90 epochs"
    ends = {run.scalars["validations"]["step"][-1] / 24 for run in tested if run.system == longer}
    assert ends == {38, 42}
    for pair, wanted in (
        ((longer, "pretrained backbone"), [0.001, -0.003, 0.004]),
        ((ch04.DECODER, longer), [0.010, 0.007, 0.014]),
    ):
        assert compare(tested, *pair)[["mean", "ci_low", "ci_high"]].round(3).tolist() == wanted


def test_no_option_gains_from_90_epochs(tested):
    names = [name for name in {run.system for run in tested} if name.endswith(", 90 epochs")]
    gains = {name.rpartition(",")[0]: compare(tested, name, name.rpartition(",")[0]) for name in names}
    assert len(gains) == 8
    assert all(gain["ci_low"] < 0 for gain in gains.values())
    lower = {name: gain for name, gain in gains.items() if gain["ci_high"] < 0}
    assert {name: gain[["mean", "ci_low", "ci_high"]].round(3).tolist() for name, gain in lower.items()} == {
        "pretrained backbone, LoRA": [-0.007, -0.011, -0.003],
        "image only": [-0.003, -0.006, -0.001],
    }


def test_no_option_helps(runs_of, tested):
    printed = "appendix as printed, pretrained backbone"
    options = [run for run in tested if run.system in (*DESIGN_CHOICES, printed)]
    for metric in FIVE_METRICS:
        own = leaderboard(options, [metric], ch04.DECODER)[metric]
        assert own.index[(own["difference"] > 0) & (own["p"] < 0.05)].tolist() == []
    board = differences(options)
    level, means = levels(board), board["mean"]
    assert {"sampled softmax, 256 negatives", "1 layer", "dim 32"} <= level
    assert board.loc["appendix's schedule", "difference"] > -0.01
    assert not {"sampled softmax, 3 negatives", "BCE", "user BOS token", "no BOS token", "4 layers", "dim 128"} & level
    assert means["sampled softmax, 256 negatives"] > means["sampled softmax, 3 negatives"] > means["BCE"]
    gap = compare(tested, "user BOS token", "ID embeddings from features")
    assert gap["ci_low"] < 0 < gap["ci_high"]
    assert equivalent(board.loc[sorted(level)], means[ch04.DECODER])
    last = {run.system for run in options if run.scalars["best step"] == max(run.scalars["validations"]["step"])}
    assert len(last) > 5
    assert means["appendix as printed"] < 0.5 * means.drop(["appendix as printed", printed]).min()
    popularity = by_seed(runs_of("ch03", **ON_THE_SHOP, system="popularity")).mean(axis=None)
    assert 0.0145 < means[printed] < 0.0155 < popularity < means["appendix as printed"]
    assert compare(tested, printed, "appendix as printed")["ci_high"] < 0
    assert means["untied"] < means["untied, alignment loss"] < means[ch04.DECODER]
    assert compare(tested, "untied, alignment loss", "untied")["ci_low"] > 0


def test_reviews_help_and_those_of_the_future_no_more(tested):
    known, every = ch04.REVIEWS
    shops = by_seed(tested)
    assert (shops.loc[[known, every]] > shops.loc[ch04.DECODER]).all(axis=None)
    gap = compare(tested, every, known)
    assert gap["ci_low"] < 0 < gap["ci_high"]


def test_by_the_papers_count_three_baselines_of_table_one_are_not_separated_from_the_decoder(runs_of):
    """Below the table of protocols in notebook 04c."""
    boards = [
        leaderboard(runs_of("ch04", **ON_THE_SHOP | {"split": TEMPORAL, "protocol": protocol}), ["HR@5"], ch04.DECODER)
        for protocol in ("full", "full, next 5", "100 uniform, next 5")
    ]
    following, five, sampled = (board["HR@5"].drop(ch04.SASREC) for board in boards)
    assert {name for name, high in five["difference_ci_high"].items() if high > 0} == {
        "hybrid", "matrix factorization", "user-kNN"
    }  # fmt: skip
    assert five.loc["hybrid", ["difference", "difference_ci_low", "difference_ci_high"]].round(3).tolist() == [
        0.010, -0.010, 0.030
    ]  # fmt: skip
    assert five.loc[["hybrid", "matrix factorization", ch04.DECODER], "mean"].round(3).tolist() == [0.162, 0.154, 0.152]
    for board in (following, sampled):
        assert (board.loc[["hybrid", "matrix factorization", "user-kNN"], "difference_ci_high"] < 0).all()
    assert sampled.loc["hybrid", ["difference", "difference_ci_low", "difference_ci_high"]].round(3).tolist() == [
        -0.038, -0.062, -0.012
    ]  # fmt: skip


def test_any_of_five_targets_is_hit_twice_as_often_and_easily_among_20(runs_of):
    protocols = ("full", "full, next 5", "20 uniform, next 5")
    boards = [
        leaderboard(runs_of("ch04", split=TEMPORAL, protocol=protocol), ["P@5", "MRR", "HR@5"])
        for protocol in protocols
    ]
    one, five, among_20 = (board.xs("mean", axis=1, level=1).sort_index() for board in boards)
    assert (five["HR@5"] > 2 * one["HR@5"]).all()
    assert five["HR@5"].max() < 0.3
    assert 0.75 < among_20.loc["popularity", "HR@5"] < 0.85
    assert 0.87 < among_20.loc[ch04.DECODER, "HR@5"] < 0.95
    assert abs(among_20.loc["popularity", "P@5"] - 0.297) < 0.04
    assert among_20["MRR"].min() > 2 * 0.207


def test_an_unseen_category_is_not_found_but_told_apart(runs_of):
    whole, alone = (
        by_seed(runs_of("ch04", split=UNSEEN_CATEGORY, protocol=protocol)) for protocol in ("full", "same category")
    )
    assert whole.loc[[ch04.DECODER, "no item biases", "content, both"]].max(axis=None) < 0.005
    assert alone.loc[ch04.DECODER].mean() == pytest.approx(2 * alone.loc["popularity"].mean(), rel=0.2)
    assert (alone.loc["content, both"] > alone.loc[ch04.DECODER]).all()
    known, hits = "known items in the loss", runs_of("ch04", split=UNSEEN_CATEGORY, protocol="full")
    hit_rates = leaderboard(hits, ["HR@10"])["HR@10"].loc[known]
    assert hit_rates[["mean", "ci_low", "ci_high"]].round(3).tolist() == [0.002, 0.001, 0.004]
    assert hit_rates["ci_high"] < 10 / 1200
    among = runs_of("ch04", split=UNSEEN_CATEGORY, protocol="same category")
    for pair, wanted in (
        ((known, ch04.DECODER), [0.011, 0.006, 0.016]),
        (("content, both", known), [0.013, 0.004, 0.022]),
    ):
        assert compare(among, *pair)[["mean", "ci_low", "ci_high"]].round(3).tolist() == wanted


def test_on_gift_cards_features_do_not_help(runs_of):
    cards = runs_of("ch04", data="gift-cards")
    board = leaderboard(cards, ["NDCG@10"], "text only")["NDCG@10"]
    parts = ["difference", "difference_ci_low", "difference_ci_high"]
    assert board.loc["IDs only", parts].round(3).tolist() == [0.015, 0.002, 0.029]
    assert board.loc["SASRec", parts].round(3).tolist() == [0.026, 0.010, 0.040]
    level = board.loc[["features and IDs", ch04.SASREC]]
    assert ((level["difference_ci_low"] < 0) & (level["difference_ci_high"] > 0)).all()
    assert leaderboard(cards, ["HR@5"])["HR@5"]["mean"].agg(["min", "max"]).round(2).tolist() == [0.25, 0.28]
    assert {len(run.users) for run in cards} == {458}


def test_new_users_cost_something(runs_of, tested):
    folds = [run for run in runs_of("ch04", data=POCKET, protocol="full") if run.stamp["split"].startswith("fold")]
    assert by_seed(folds).loc[ch04.DECODER, "seed 0"] < by_seed(tested).loc[ch04.DECODER, "seed 0"]


def test_on_films_ids_help(runs_of):
    films = runs_of("ch04", data="movielens")
    board, trainings = differences(films), by_seed(films)
    assert (trainings.loc[["features and IDs", "SASRec"]] > trainings.loc[ch04.DECODER]).all(axis=None)
    assert board.loc["features and IDs", "difference_ci_low"] > 0 > board.loc["SASRec", "difference_ci_low"]
    assert board.loc[["text only", "image only", "SASRec on text and image"], "difference_ci_high"].max() < 0
    assert board.loc["image only", "mean"] < 0.5 * board.loc["text only", "mean"]
    of_ids = trainings.loc["IDs only"] - trainings.loc[ch04.DECODER]
    assert of_ids.min() < 0 < 0.01 < of_ids.max()
    for name in (ch04.DECODER, "features and IDs"):
        gap = compare(films, f"{name}, minilm", name)
        assert gap["ci_low"] < 0 < gap["ci_high"]


def test_in_the_hm_week_features_suffice(runs_of):
    week = runs_of("ch04", data="hm-week")
    board = differences(week)
    assert levels(board) == {"features and IDs", ch04.SASREC, "SASRec"}
    assert compare(week, ch04.DECODER, "text only")["ci_low"] > 0
    assert compare(week, "image only", "shuffled features")["ci_low"] > 0
    gap = compare(week, "text only", "IDs only")
    assert -0.006 < gap["ci_low"] < gap["ci_high"] < 0.006
    others = by_seed(runs_of("ch03", data="hm-week", part="test", protocol="full, basket"))["seed 0"]
    assert others[["item-kNN", "user-kNN", "hybrid"]].min() > board["mean"].max()


# Chapter 8, one benchmark ---------------------------------------------------------------------------------------------

FEATURES_ONLY = [ch04.DECODER, ch04.SASREC]
PLACES = {
    "shop": (POCKET, LEAVE_ONE_OUT, "full"),
    "later": (POCKET, TEMPORAL, "full"),
    **{data: (data, LEAVE_ONE_OUT, "full") for data in ("movielens", "gift-cards", "microlens")},
    "week": ("hm-week", "next day", "full, basket"),
}


@pytest.fixture
def benchmark(records):
    """Runs of the systems of chapters 3 and 4 at a place, each seed once."""
    systems = {run.system for run in records["ch03"] if run.stamp["split"] == TEMPORAL} - set(ch03.CEILINGS)

    def at(name: str) -> list[Run]:
        where = dict(zip(("data", "split", "protocol"), PLACES[name], strict=True)) | {"part": "test"}
        runs = [run for study in ("ch04", "ch03") for run in records[study]
                if run.system in systems | set(FEATURES_ONLY) and where.items() <= run.stamp.items()]  # fmt: skip
        return list({(run.system, run.stamp["seed"]): run for run in runs}.values())

    return at


def test_two_systems_on_features_alone_lead_the_shop(runs_of, benchmark):
    boards = {}
    for name in ("shop", "later"):
        runs = benchmark(name)
        ceiling = runs_of("ch03", data=POCKET, split=PLACES[name][1], protocol="full", system="Bayes ceiling")
        best = by_seed(runs).mean(axis=1).idxmax()
        boards[name] = leaderboard([*runs, *ceiling], ["NDCG@10"], best, "Bayes ceiling")["NDCG@10"][1:]
        assert (boards[name].loc[FEATURES_ONLY, "p"] > 0.05).all()
        assert (boards[name]["p"].drop(FEATURES_ONLY) < 0.05).all()
    shop, later = boards.values()
    width = [(board["ci_high"] - board["ci_low"])[FEATURES_ONLY].mean() for board in (shop, later)]
    assert 1.7 < width[1] / width[0] < 2
    assert [list(board.index[:2]) for board in (shop, later)] == [FEATURES_ONLY, FEATURES_ONLY[::-1]]
    assert (later["mean"][shop.index] < shop["mean"]).drop("random").all()
    assert 0.8 < shop["mean"]["SASRec_F, both"] / shop["mean"][ch04.SASREC] < 0.85
    assert shop.loc[FEATURES_ONLY, "share_of_ceiling"].round(1).tolist() == [0.4, 0.4]
    oracle = by_seed(runs_of("ch03", **ON_THE_SHOP, system="omniscient oracle")).mean(axis=None)
    assert (shop["mean"][FEATURES_ONLY] / oracle).round(2).between(0.24, 0.26).all()
    shops = by_seed(benchmark("shop")).loc[shop.index]
    assert (shops.min(axis=1)[:-1].to_numpy() > shops.max(axis=1)[1:].to_numpy()).mean() < 0.5
    assert later["mean"]["recent popularity"] < 1.5 * later["mean"]["random"]
    assert 0.5 < shop["mean"]["item-kNN"] / shop["mean"].max() < 0.6


def test_what_costs_are(runs_of):
    timed = [run for study in ("ch03", "ch04") for run in runs_of(study, protocol="timing")]
    cost = pd.DataFrame({run.system: run.scalars for run in timed}).T
    assert cost["score ms"].max() < 1
    assert cost["fit seconds"].max() / cost["fit seconds"].min() > 1e5
    assert cost["fit seconds"]["content, both"] < 1e-3
    assert 0.4 < cost["fit seconds"]["matrix factorization"] < 0.6
    assert round(cost["score ms"]["matrix factorization"], 2) == 0.01
    assert cost.loc[["BERT4Rec", "DeepCoNN"], "fit seconds"].min() > 60
    lists = pd.DataFrame({run.system: run.scalars for run in runs_of("ch03", **ON_THE_SHOP, seed=0)}).T
    assert lists["novelty@10"].astype(float).idxmin() == "popularity"
    assert lists["coverage@10"]["item-kNN"] == pytest.approx(2 / 3, abs=0.03)


def test_the_leaders_of_real_data(benchmark):
    boards = {}
    for name in ("movielens", "gift-cards", "microlens", "week"):
        runs = benchmark(name)
        boards[name] = leaderboard(runs, ["NDCG@10"], by_seed(runs).mean(axis=1).idxmax())["NDCG@10"]
    films, week = boards["movielens"], boards["week"]
    assert len(films) == 27
    assert films.loc[ch04.DECODER, "difference_ci_high"] < 0
    assert films.loc[ch04.DECODER, "p"] > 0.05
    assert films["mean"][["SASRec", ch04.SASREC]].round(3).tolist() == [0.059, 0.036]
    trainings = Counter(run.system for run in benchmark("movielens"))
    assert {name for name, number in trainings.items() if number == 3} == {"SASRec", *FEATURES_ONLY}
    assert [boards[name].index[0] for name in ("gift-cards", "microlens", "week")] == [*["SASRec, gBCE"] * 2, "hybrid"]
    assert (week["p"].drop("hybrid") < 0.05).all()
    assert (week["mean"][FEATURES_ONLY] / week["mean"]["hybrid"]).round(1).tolist() == [0.8, 0.8]


def test_sampled_protocols_lose_the_order_on_microlens(runs_of):
    names, taus = ("full", *ch03.SAMPLED), {}
    for data in (POCKET, "microlens"):
        means = {name: by_seed(runs_of("ch03", **ON_THE_SHOP | {"data": data, "protocol": name})).mean(axis=1)
                 for name in names}  # fmt: skip
        table = pd.DataFrame(means).dropna()
        taus[data] = [kendalltau(table["full"], table[name]).statistic for name in ch03.SAMPLED]
    uniform, popular, few = taus[POCKET]
    assert min(uniform, few) > 0.9 > 0.75 > popular
    assert round(max(taus["microlens"]), 2) == 0.55


def test_the_order_of_systems_is_that_of_the_data(benchmark):
    """Tau between data sets is below that of halves of either one, and highest and lowest as chapter 8 writes."""
    values, rng, taus = {}, np.random.default_rng(0), {}
    for name in PLACES:
        runs = benchmark(name)
        own = {system: [run for run in runs if run.system == system] for system in {run.system for run in runs}}
        values[name] = pd.DataFrame({system: pooled(of, "NDCG@10") for system, of in own.items()})
    for one, other in combinations(PLACES, 2):
        shared = values[one].columns.intersection(values[other].columns)
        tau = kendalltau(values[one][shared].mean(), values[other][shared].mean()).statistic
        halves = []
        for name in (one, other):
            for _ in range(20):
                users = rng.permutation(len(values[name]))
                means = [values[name][shared].iloc[half].mean() for half in np.array_split(users, 2)]
                halves.append((name, kendalltau(*means).statistic))
        taus[one, other] = tau, pd.DataFrame(halves).groupby(0)[1].mean().min()
    (splits, halves), *across = taus.values()  # the first pair are the two splits of the shops
    assert splits > halves
    assert all(tau < halves for tau, halves in across)
    assert all(halves - tau > 0.3 for pair, (tau, halves) in taus.items() if "week" in pair)
    between = [tau for pair, (tau, _) in taus.items() if "later" not in pair]
    average = {name: np.mean([tau for pair, (tau, _) in taus.items() if name in pair]) for name in PLACES}
    assert min(average, key=average.get) == "week"
    assert [round((1 + tau) / 2, 2) for tau in (min(between), max(between))] == [0.64, 0.86]


def test_for_whom_and_for_which_items(benchmark, runs_of):
    chosen = ["popularity", "item-kNN", "GRU4Rec_F, both", ch04.DECODER]
    groups = {name: [run for run in benchmark("shop") if run.system == name] for name in [*chosen, "content, both"]}
    means = pd.DataFrame({name: by_group(runs, "NDCG@10")["mean"] for name, runs in groups.items()})
    overall = by_seed(benchmark("shop")).mean(axis=1)[chosen]
    assert (means["content, both"][:3] > means[chosen].max(axis=1)[:3]).all()
    assert means["content, both"][4] < means[chosen].min(axis=1)[4]
    assert means[chosen].max(axis=1)[0] < 0.01
    decoder = by_group(groups[ch04.DECODER], "NDCG@10")
    gain = decoder["users"] * decoder["mean"]
    assert [round(own[4] / own.sum(), 2) for own in (decoder["users"], gain)] == [0.44, 0.8]
    assert (means[chosen].loc[4] / overall).between(1.7, 2.4).all()
    length = load_shop(0)[0].interactions.groupby("user").size() - 1
    low, high = length.quantile([0.25, 0.75])
    for name, runs in groups.items():
        run = next(run for run in runs if run.stamp["seed"] == 0)
        own, own_length = run.metric("NDCG@10"), length[run.users].to_numpy()
        short, long = (mean_interval(own[rows]) for rows in (own_length <= low, own_length > high))
        assert short[1] < long[2], name
        assert long[1] < short[2], name
    names = [ch04.DECODER, "SASRec", "content, both", "popularity"]
    whole, alone = (
        leaderboard(runs_of("ch04", split=UNSEEN_CATEGORY, protocol=protocol), ["HR@10"])["HR@10"].loc[names]
        for protocol in ("full", "same category")
    )
    assert whole["mean"].max() < 10 / 1200
    assert 1.8 < alone["mean"][ch04.DECODER] / alone["mean"]["popularity"] < 2.2
    assert alone["ci_low"]["SASRec"] < alone["mean"]["popularity"] < alone["ci_high"]["SASRec"]
    assert alone["ci_low"]["content, both"] > alone["mean"][ch04.DECODER]


# Chapter 6 ------------------------------------------------------------------------------------------------------------


def test_the_split_in_time_changes_the_ablations_of_chapter_6(runs_of):
    """The paragraphs below the temporal table of notebook 06e."""
    runs = runs_of("ch06", data=POCKET, split=TEMPORAL, part="test", seed=0)
    board = leaderboard(runs, ["AUC"], "MLLM-MSR")["AUC"]
    gap, low, p = board["difference"], board["difference_ci_low"], board["p"]
    sequences = ["SASRec", "GRU4Rec", "SASRec_F, both", "GRU4Rec_F, both"]
    assert (p[sequences] < 0.05).all()
    assert gap[sequences].between(0.05, 0.1).all()
    others = ["item-kNN", "popularity", "TALLRec", "MSR_NR", "MSR_T"]
    assert (p[others] > 0.05).all()
    assert low["item-kNN"] < 0 < gap["item-kNN"] < 0.01
    assert gap[["MSR_NR", "MSR_T", "TALLRec"]].min() > 0.01
    assert low["MSR_NR"] > 0 > low["MSR_T"]


def test_trans2d_and_mmsr_change_their_ends_of_the_papers_baselines(runs_of):
    """Below the paper's table 3, rebuilt, in notebook 06e."""
    printed = PUBLISHED["MLLM-MSR, MicroLens"]
    theirs = {name: row["AUC"] for name, row in printed.items() if name not in ("LLaVA", "TALLRec", "MLLM-MSR")}
    runs = runs_of("ch06", data=POCKET, split=LEAVE_ONE_OUT, part="test", seed=0, protocol=ch06.PROTOCOL)
    own = {run.system.partition(",")[0]: run.metric("AUC").mean() for run in runs if "users" not in run.system}
    assert len(theirs) == 8
    for auc, ends in ((theirs, ["Trans2D", "MMSR"]), (own, ["MMSR", "Trans2D"])):
        assert sorted(theirs, key=auc.__getitem__)[:: len(theirs) - 1] == ends
    assert round(own["Trans2D"], 3) == 0.862
    assert round(own["MMSR"], 3) == 0.780


def test_with_as_few_users_mllm_msr_is_not_behind_and_more_users_help_once(runs_of):
    """Below "The same training data" in notebook 06e."""
    runs = runs_of("ch06", data=POCKET, split=LEAVE_ONE_OUT, part="test", seed=0, protocol=ch06.PROTOCOL)
    names = ["MLLM-MSR", *ch06.ON_FEW, "1,200 users", "all users"]
    board = leaderboard([run for run in runs if run.system in names], ["AUC"], "MLLM-MSR")["AUC"]
    few = board.loc[list(ch06.ON_FEW)]
    assert (few["difference"] < 0).all()
    assert few.index[few["p"] < 0.0495].tolist() == ["GRU4Rec, 300 users"]
    assert board["difference_ci_low"]["1,200 users"] > 0 > board["difference_ci_high"]["all users"]
    item_knn = compare(runs, "1,200 users", "item-kNN", "AUC")
    assert item_knn["ci_high"] < 0


def test_a_ranker_of_a_retrievers_items_gains_behind_popularity_and_loses_behind_sasrec(runs_of):
    """Below "All items: retrieve, then rerank" in notebook 06e."""
    runs = runs_of("ch06", data=POCKET, seed=0, split=LEAVE_ONE_OUT, part="test")
    own = {(run.system, run.stamp["protocol"]): run for run in runs if run.stamp["protocol"].startswith("full")}
    gain = (1 / np.log2(1 + np.arange(1, 11))).sum() / ch06.TOP
    for retriever, share, wanted in (
        ("popularity", 0.07, {"alone": [0.006, 0.000, 0.013], "random": [0.012, 0.007, 0.018]}),
        ("SASRec", 0.20, {"alone": [-0.013, -0.023, -0.002], "random": [0.005, -0.003, 0.013]}),
    ):
        run = own["MLLM-MSR", f"full; of {retriever}"]
        found = run.target_ranks.num_higher[:, 0] < ch06.TOP
        others = {"alone": own[retriever, "full"].metric("NDCG@10"), "random": gain * found}
        gaps = {name: mean_interval(run.metric("NDCG@10") - other) for name, other in others.items()}
        assert {name: np.round(gap, 3).tolist() for name, gap in gaps.items()} == wanted
        assert found.mean() == pytest.approx(share, abs=0.005)
    first, second = own["SASRec", "full; of popularity"], own["1,200 users", "full; of popularity"]
    pairs = (first, own["popularity", "full"]), (first, second), (own["1,200 users", "full; of SASRec"],
                                                                 own["SASRec", "full"])  # fmt: skip
    gaps = [mean_interval(one.metric("NDCG@10") - other.metric("NDCG@10")) for one, other in pairs]
    assert np.round(gaps, 3).tolist() == [[0.016, 0.009, 0.024], [0.011, 0.005, 0.017], [-0.010, -0.020, 0.001]]


def test_other_shops_change_the_ablations_of_chapter_6(runs_of):
    """Notebook 06f, below the tables of the shops and of the trainings."""
    tested = {"data": POCKET, "split": LEAVE_ONE_OUT, "part": "test", "protocol": ch06.PROTOCOL}
    words = "GRU4Rec on descriptions", "GRU4Rec on features"
    wanted = {
        0: {"MSR_T": [-0.015, -0.027, -0.002]},
        1: {"MSR_NR": [0.078, 0.059, 0.096], "MSR_T": [0.057, 0.038, 0.075], "TALLRec": [-0.022, -0.047, 0.003],
            "zero-shot": [-0.057, -0.078, -0.034], words: [0.016, 0.007, 0.026]},
        2: {"MSR_NR": [-0.021, -0.037, -0.005], "MSR_T": [-0.007, -0.022, 0.008], "TALLRec": [-0.168, -0.188, -0.147],
            "zero-shot": [-0.120, -0.142, -0.096], words: [0.023, 0.013, 0.032]},
    }  # fmt: skip
    reached = []
    for seed, rows in wanted.items():
        runs = runs_of("ch06", **tested, seed=seed)
        for pair, numbers in rows.items():
            gap = compare(runs, *(pair if pair == words else (pair, "MLLM-MSR")), "AUC")
            assert gap[["mean", "ci_low", "ci_high"]].round(3).tolist() == numbers, (seed, pair)
        reached += [run.metric("AUC").mean() for run in runs if run.system == "MLLM-MSR"]
    own = {run.system: run.metric("AUC").mean() for run in runs_of("ch06", **tested, seed=0)}
    trainings = [own[name] for name in ("MLLM-MSR", "second training", "third training")]
    assert np.round(trainings, 3).tolist() == [0.695, 0.681, 0.627]
    assert reached[1] < min(trainings) < reached[2] < max(trainings)


def test_descriptions_of_posters_are_as_good_when_they_are_shuffled(runs_of):
    """Notebook 06f, below the tables of the posters."""
    runs = runs_of("ch06", data="movielens", part="test")
    own = {run.system.removeprefix("GRU4Rec on "): run.metric("AUC") for run in runs}
    means = {name: round(float(values.mean()), 3) for name, values in own.items()}
    assert [means[name] for name in ("descriptions", "captions", "features")] == [0.727, 0.733, 0.626]
    assert [means[name] for name in ("popularity", "GRU4Rec", "shuffled descriptions")] == [0.723, 0.885, 0.721]
    gaps = {kind: mean_interval(own[kind] - own[f"shuffled {kind}"]) for kind in ("descriptions", "features")}
    assert np.round(gaps["descriptions"], 3).tolist() == [0.006, -0.011, 0.022]
    assert np.round(gaps["features"], 3).tolist() == [-0.086, -0.116, -0.055]
    assert all(len(values) == 610 for values in own.values())


def mean_of(own: dict[str, np.ndarray], key: str | tuple[str, str], users: slice | np.ndarray = slice(None)) -> list:
    """Mean and 95 % interval of a system, or of the difference of two."""
    values = own[key] if isinstance(key, str) else own[key[0]] - own[key[1]]
    return [float(f"{number:.3f}") for number in mean_interval(values[users])]  # rounded as tables are


def test_on_real_histories_titles_are_ahead_of_summaries_and_not_of_tfidf(runs_of):
    """Notebook 06f, below the table of real histories."""
    wanted = {
        "microlens": {
            "MLLM-MSR": [0.515, 0.475, 0.552],
            "TALLRec": [0.635, 0.594, 0.676],
            ("TALLRec", "MLLM-MSR"): [0.120, 0.082, 0.157],
            ("TALLRec", "item-kNN"): [0.049, 0.007, 0.093],
            ("TALLRec", "SASRec"): [0.065, 0.009, 0.126],
            ("TALLRec", "GRU4Rec"): [0.126, 0.069, 0.185],
            ("TALLRec", "popularity"): [0.209, 0.153, 0.268],
            (ch06.CONTENT, "TALLRec"): [0.053, 0.013, 0.094],
        },
        "hm-week": {
            "MLLM-MSR": [0.494, 0.452, 0.532],
            "TALLRec": [0.639, 0.598, 0.679],
            ("TALLRec", "MLLM-MSR"): [0.144, 0.095, 0.199],
            (ch06.CONTENT, "TALLRec"): [0.009, -0.032, 0.049],
        },
    }
    for data, rows in wanted.items():
        own = {run.system: run.metric("AUC") for run in runs_of("ch06", data=data, protocol=ch06.PROTOCOL)}
        assert all(len(values) == ch06.REAL_EVALUATED for values in own.values())
        assert {key: mean_of(own, key) for key in rows} == rows
    assert [round(float(own[name].mean()), 3) for name in ("popularity", "SASRec")] == [0.742, 0.801]


def test_behind_sasrec_no_gain_of_a_language_model_is_shown_on_real_histories(runs_of):
    """Notebook 06f, below the table of "All items"."""
    wanted = {
        "microlens": {
            "SASRec": 0.048,
            ("TALLRec", "SASRec"): [-0.024, -0.042, -0.007],
            ("MLLM-MSR", "SASRec"): [-0.029, -0.052, -0.010],
            ("TALLRec", "random"): [-0.001, -0.008, 0.008],
            ("MLLM-MSR", "random"): [-0.006, -0.016, 0.005],
        },
        "hm-week": {
            "SASRec": 0.033,
            "TALLRec": 0.038,
            "MLLM-MSR": 0.025,
            ("TALLRec", "SASRec"): [0.006, -0.011, 0.023],
            ("MLLM-MSR", "SASRec"): [-0.008, -0.024, 0.006],
            ("TALLRec", "random"): [0.015, 0.004, 0.027],
            ("MLLM-MSR", "random"): [0.001, -0.009, 0.012],
        },
    }
    random_order = np.mean([1 / np.log2(1 + rank) if rank <= 10 else 0 for rank in range(1, ch06.TOP + 1)])
    for data, rows in wanted.items():
        runs = {run.system: run for run in runs_of("ch06", data=data) if run.stamp["protocol"].startswith("full")}
        own = {name: run.metric("NDCG@10") for name, run in runs.items()}
        own["random"] = random_order * (runs["SASRec"].target_ranks.num_higher[:, 0] < ch06.TOP)
        assert {key: mean_of(own, key)[0] if isinstance(key, str) else mean_of(own, key) for key in rows} == rows


def test_tallrec_is_ahead_of_sasrec_on_new_items_only(runs_of, real, monkeypatch):
    """Notebook 06f, below the table of real histories."""
    monkeypatch.setenv("MMREC_DATA_HOME", str(real))
    runs = {run.system: run for run in runs_of("ch06", data="microlens", protocol=ch06.PROTOCOL)}
    split = benchmark_split("microlens", 0, ch06.REAL["microlens"])
    split = ch06.with_fewer_users(split, 0, ch06.REAL_EVALUATED)
    queries, own = split.queries("test"), {name: run.metric("AUC") for name, run in runs.items()}
    assert (queries.users == runs["TALLRec"].users).all()
    new = ~np.isin(queries.targets[:, 0], split.interactions("train")["item"])
    assert new.sum() == 94
    assert [round(float(own[name][new].mean()), 3) for name in ("SASRec", "TALLRec")] == [0.332, 0.576]
    assert mean_of(own, ("TALLRec", "SASRec"), new) == [0.244, 0.153, 0.336]
    assert mean_of(own, ("TALLRec", "SASRec"), ~new) == [-0.043, -0.112, 0.031]
    (ranked,) = (run for run in runs_of("ch06", data="microlens", protocol="full") if run.system == "SASRec")
    assert not (ranked.target_ranks.num_higher[new, 0] < ch06.TOP).any(), "no retriever of IDs finds a new item"


def test_every_fold_has_the_same_order_of_systems_in_chapter_6(runs_of):
    for fold in ch06.FOLDS:
        own = {run.system: run.metric("AUC").mean() for run in runs_of("ch06", data=POCKET, split=fold, part="test")}
        assert own["MLLM-MSR"] + 0.12 < own["SASRec"] < own["SASRec_F, both"] < own["GRU4Rec_F, both"]
    runs = [runs_of("ch06", data=POCKET, split=fold, part="test") for fold in ch06.FOLDS]
    own = {name: np.concatenate([run.metric("AUC") for fold in runs for run in fold if run.system == name])
           for name in ch06.IN_FOLDS}  # fmt: skip
    assert mean_of(own, ("GRU4Rec_F, both", "SASRec_F, both")) == [0.008, 0.003, 0.014]


def test_descriptions_are_ahead_of_features_and_level_by_the_margin(runs_of):
    """Below the table of "Words or features" in notebook 06e."""
    runs = runs_of("ch06", data=POCKET, split=LEAVE_ONE_OUT, part="test", seed=0)
    runs = [run for run in runs if run.system in ch06.INPUTS]
    board = leaderboard(runs, ["AUC"], "GRU4Rec on features")["AUC"].drop("GRU4Rec on features")
    margin = 0.1 * (next(run for run in runs if run.system == "GRU4Rec on features").metric("AUC").mean() - 0.5)
    assert (board["difference_ci_low"] > 0).all()
    assert (board["difference_ci_high"] < margin).all()


def test_recurrent_preferences_follow_the_changes_and_a_window_follows_more(runs_of):
    """Below the table of "Are the summaries true?" in notebook 06e."""
    found = {}
    for run in runs_of("ch06", data=POCKET, seed=0, protocol=ch06.FIDELITY):
        delay = run.metric("delay, asserted")[: run.scalars["changed"]]
        found[run.system] = np.isfinite(delay).mean(), np.median(delay), np.nanmean(run.metric("precision, asserted"))
    followed, delay, precision = (dict(zip(found, column, strict=True)) for column in zip(*found.values(), strict=True))
    assert followed["direct"] < 0.5 < followed["recurrent"] < followed["counted, last 6"]
    assert (delay["recurrent"], delay["counted, last 6"]) == (7, 5)
    assert np.isinf(delay["direct"])
    assert precision["another user's"] < precision["counted, last 6"] < precision["recurrent"] < precision["direct"]


# The data cards -------------------------------------------------------------------------------------------------------


def test_what_the_largest_shop_takes(runs_of):
    """The row "Largest measured" of the Pocket Shop's card."""
    (run,) = runs_of("ch07", protocol="event log")
    found = run.scalars
    assert (found["products"], found["users"], run.stamp["hyperparameters"]) == (100_000, 8_000, {"missing_images": 1})
    assert 55 < found["shop seconds"] < 65
    assert round(found["shop peak bytes"] / 1e9, 1) == 1.3
    assert round(sum(found[name] for name in EVENTS) / 1e6, 1) == 1.5
    assert round(found["write seconds"], 1) == 1.4
    assert round(found["file bytes"] / 1e6) == 11
    assert [round(found[f"{name} peak bytes"] / 1e9, 1) for name in ("write", "at once")] == [0.9, 0.8]
    assert round(found["products"] * found["image ms"] / 60_000) == 5

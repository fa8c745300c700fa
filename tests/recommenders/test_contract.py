"""What every system promises.

Baselines: they read the training part alone. Every system: a query scores the same whatever is asked beside it, some
items as among all, and to the bit in a new process that loads what was saved.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_models import store

from mmrec_helpers.data.dataset import TEST, TRAIN, UNUSED, VALID, Queries, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.evaluation.protocols import FullRanking, SampledNegatives, evaluate, evaluate_protocols
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.bert4rec import BERT4Rec
from mmrec_helpers.recommenders.content import ContentBased, Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR, MatrixFactorization
from mmrec_helpers.recommenders.features import tfidf
from mmrec_helpers.recommenders.fusion import FusionRecommender
from mmrec_helpers.recommenders.graph import MGAT, MMGCN, LightGCN
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.illmrec import ILLMRec
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.mmsr import MMSR
from mmrec_helpers.recommenders.neighbors import ItemKNN, UserKNN
from mmrec_helpers.recommenders.popularity import Popularity, PopularityAdjusted, Random
from mmrec_helpers.recommenders.registry import GRAPHS
from mmrec_helpers.recommenders.registry import SYSTEMS as REGISTERED
from mmrec_helpers.recommenders.reranker import Reranker
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.recommenders.trans2d import Trans2D

VECTORS = {"epochs": 30, "batch_size": 64, "lr": 2e-2, "weight_decay": 0.1}
SYSTEMS: dict[str, Callable] = {
    "random": lambda split, features: Random(),
    "popularity": lambda split, features: Popularity(),
    "recent popularity": lambda split, features: Popularity(days=30),
    "item-kNN": lambda split, features: ItemKNN(20, 1.0),
    "user-kNN": lambda split, features: UserKNN(20, 1.0),
    "content": lambda split, features: ContentBased(np.asfortranarray(features)),
    "words": lambda split, features: ContentBased(tfidf(split.dataset), "words"),
    "hybrid": lambda split, features: Hybrid([ItemKNN(), ContentBased(features)]),
    "adjusted": lambda split, features: PopularityAdjusted(ItemKNN(20, 1.0), 0.5),
    "ALS": lambda split, features: MatrixFactorization(dim=4, regularization=3.0),
    "BPR": lambda split, features: BPR(dim=8, **VECTORS),
    "VBPR": lambda split, features: VBPR(features=features, dim=8, feature_dim=4, **VECTORS),
    "LightGCN": lambda split, features: LightGCN(dim=8, **VECTORS),
    "MMGCN": lambda split, features: MMGCN(features={"image": features}, dim=8, **VECTORS),
    "MGAT": lambda split, features: MGAT(features={"image": features, "text": features[:, :2]}, dim=8, **VECTORS),
    "DeepCoNN": lambda split, features: DeepCoNN(
        epochs=6, batch_size=32, lr=1e-2, word_dim=8, filters=8, dim=4, max_len=40
    ),
    "NRMF": lambda split, features: NeuralReviews(dim=4, topics=6, hidden=8, **VECTORS),
    "MLLM": lambda split, features: FusionRecommender(
        words=np.stack([features, features], 1), patches=features[:, None], dim=8, batch_size=20, num_negatives=8
    ),
}
"""Name -> a small one, made for a split and features."""
SEQUENCE = {"dim": 16, "max_len": 10, "batch_size": 20, "epochs": 1, "num_layers": 1}
DECODERS = {
    "both": {"dims": (2, 2)},
    "concat, user's token, EOS": {"dims": (1, 3), "config": MMGPT2Config(fusion="concat", bos="user", eos=True)},
    "weighted, no token, no biases": {
        "dims": (2, 2),
        "config": MMGPT2Config(fusion="weighted", bos="none", use_bias=False),
    },
    "attention, ids, untied": {
        "dims": (2, 2),
        "use_ids": True,
        "config": MMGPT2Config(fusion="attention", tie_weights=False),
    },
    "ids that begin at features": {"use_ids": True, "dim": 4, "config": MMGPT2Config(id_init="features")},
    "LoRA": {"config": MMGPT2Config(tuning="lora", training={"accumulation_steps": 2})},
    "unfreezing": {"config": MMGPT2Config(tuning="unfreezing")},
    "pretrained": {"dim": 64, "config": MMGPT2Config(backbone="pocket-gpt2")},
    "pretrained, LoRA": {"dim": 64, "config": MMGPT2Config(backbone="pocket-gpt2", tuning="lora")},
}
ALL: dict[str, Callable] = SYSTEMS | {
    "GRU4Rec": lambda split, features: GRU4Rec(**SEQUENCE),
    "BERT4Rec": lambda split, features: BERT4Rec(**SEQUENCE),
    "SASRec": lambda split, features: SASRec(loss="gbce", **SEQUENCE),
    "Trans2D": lambda split, features: Trans2D(features={"image": features, "text": features[:, :2]}, **SEQUENCE),
    "MMSR": lambda split, features: MMSR(
        features={"image": features, "text": features[:, :2]}, num_codes=3, **SEQUENCE
    ),
    "SASRec_F": lambda split, features: SASRec(features=features, **SEQUENCE),
    "GRU4Rec_F, no ids": lambda split, features: GRU4Rec(features=features, use_ids=False, **SEQUENCE),
    "hybrid of networks": lambda split, features: Hybrid(
        [BPR(dim=8, epochs=2), SASRec(**SEQUENCE), Hybrid([Random(3), Popularity()])], (3, 2, 1)
    ),
    "I-LLMRec without an LLM": lambda split, features: ILLMRec(
        features={"image": features}, llm="", batch_size=20, epochs=2
    ),
    "MLLM-MSR": lambda split, features: MLLMMSR(
        history_texts=[f"thing {item}" for item in range(len(features))], profile="items", rank=2
    ),
    "two stages": lambda split, features: Reranker(ItemKNN(), SASRec(**SEQUENCE), top=5),
    **{
        f"MM-GPT2Rec, {name}": partial(
            lambda split, features, options: MMGPT2Rec(features=features, **SEQUENCE | options), options=options
        )
        for name, options in DECODERS.items()
    },
}
"""Those, and what learns from sequences, systems of systems, and every design choice of MM-GPT2Rec."""
ATOL = {"MLLM-MSR": 1e-5}
"""Tolerances of systems whose last bits depend on the padding of a batch, or on how busy the processor is."""
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


# Every system ---------------------------------------------------------------------------------------------------------

LOAD = """
import sys
from pathlib import Path

import numpy as np

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.recommenders.base import load_recommender

folder = Path(sys.argv[1])
queries = Queries(**np.load(folder / "queries.npz"))
scores = {path.name: load_recommender(path).score(queries) for path in sorted(folder.iterdir()) if path.is_dir()}
np.savez(folder / "scores.npz", **scores)
"""


@pytest.fixture(scope="module")
def saved(planted, planted_features, tmp_path_factory):
    """Name -> the fitted system, and its scores by a new process that knows only what was saved."""
    folder = tmp_path_factory.mktemp("saved")
    queries, systems = planted.queries("test"), {}
    weights = tmp_path_factory.mktemp("pretrained") / "gpt2"
    shutil.copytree(find_checkpoint("pocket-gpt2"), weights)
    for name, make in ALL.items():
        system = make(planted, planted_features)
        if isinstance(system, MMGPT2Rec) and system.config.backbone:
            system.config = replace(system.config, backbone=str(weights))
        if isinstance(system, MLLMMSR):
            system.llm = str(store(tmp_path_factory.mktemp("llama"), "llama"))
        systems[name] = system.fit(planted)
        system.save(folder / name)
    shutil.rmtree(weights)  # whoever loads needs it no more
    np.savez(folder / "queries.npz", **vars(queries))
    subprocess.run([sys.executable, "-c", LOAD, str(folder)], check=True)
    return systems, np.load(folder / "scores.npz"), folder


def test_every_class_of_the_registry_is_among_those(planted_features):
    classes = {type(make(None, planted_features)) for name, make in ALL.items() if name != "words"}
    features = {str: {"features": planted_features}, tuple: {"features": {"image": planted_features}}}
    registered = {
        type(spec.build(**(features[type(spec.features)] if spec.features else {}))) for spec in (*REGISTERED, *GRAPHS)
    }
    assert registered | {FusionRecommender, ILLMRec, MLLMMSR, MMGPT2Rec, PopularityAdjusted, Reranker} == classes


@pytest.mark.parametrize("name", ALL)
def test_some_items_score_as_among_all(name, saved, planted):
    system, queries = saved[0][name], planted.queries("test")
    scores = system.score(queries)
    candidates = np.random.default_rng(0).integers(0, scores.shape[1], (len(queries), 7))
    expected = np.take_along_axis(scores, candidates, axis=1)
    np.testing.assert_allclose(system.score(queries, candidates), expected, rtol=0, atol=ATOL.get(name, 0))
    assert np.isfinite(scores).all()  # the padding's, too


@pytest.mark.parametrize("name", ALL)
def test_sampled_protocols_rank_as_beside_a_full_ranking(name, saved, planted):
    system, few = saved[0][name], SampledNegatives(6)
    alone = evaluate(system, planted, protocol=few)
    _, beside = evaluate_protocols([system], planted, [FullRanking(), few])[0]
    assert np.array_equal(alone.lists, beside.lists)
    for counts, others in zip(vars(alone.target_ranks).values(), vars(beside.target_ranks).values(), strict=True):
        assert np.array_equal(counts, others)


@pytest.mark.parametrize("name", ALL)
def test_what_others_are_in_the_batch_changes_nothing(name, saved, planted):
    system, queries = saved[0][name], planted.queries("test")
    scores, order = system.score(queries), np.random.default_rng(0).permutation(len(queries))
    for rows in np.split(order, [1, 8, 11]):
        assert np.allclose(system.score(queries.take(rows)), scores[rows], atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_new_process_that_loads_it_scores_the_same(name, saved, planted):
    systems, scores, _ = saved
    expected = systems[name].score(planted.queries("test"))
    assert scores[name].dtype == expected.dtype
    np.testing.assert_allclose(scores[name], expected, rtol=0, atol=ATOL.get(name, 0))


@pytest.mark.parametrize("name", ALL)
def test_what_is_loaded_can_be_saved_again_and_keeps_name_and_hyperparameters(name, saved, tmp_path):
    systems, _, folder = saved
    load_recommender(folder / name).save(tmp_path / "again")
    again, first = load_recommender(tmp_path / "again"), systems[name]
    assert repr(again) == repr(first)
    for path in filter(Path.is_file, (folder / name).rglob("*")):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder / name)).read_bytes()


@pytest.mark.parametrize("name", ALL)
def test_what_is_not_fitted_is_not_saved(name, planted, planted_features, tmp_path):
    with pytest.raises(ValueError, match=r"is not fitted, so it cannot be saved: call fit\(split\) first"):
        ALL[name](planted, planted_features).save(tmp_path / "system")
    assert not list(tmp_path.iterdir())

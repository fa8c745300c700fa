"""Chapter 6's cells: what is planned, and small runs of each kind on the tiny shop."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments import ch03, ch06, ch07, scores
from experiments.cells import Cell
from experiments.datasets import POCKET
from mmrec_helpers.data.dataset import PARTS
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.llm.summaries import ItemSummaries
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders import mllm_msr
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR


@pytest.fixture
def tiny(monkeypatch):
    """The tiny shop in the place of the benchmark's, and few users."""
    dataset, truth = load_shop(size="tiny")
    monkeypatch.setattr(ch06, "benchmark_data", lambda name, seed: dataset)
    monkeypatch.setattr(ch06, "benchmark_split", lambda name, seed, split: dataset.leave_one_out())
    monkeypatch.setattr(ch06, "open_data", lambda name, seed: (dataset, truth, None))
    monkeypatch.setattr(ch06, "EVALUATED", 5)
    monkeypatch.setattr(ch06, "TRAINED", 2)
    texts = [
        [f"{kind} {title}" if title else "" for title in dataset.column("title")] for kind in ("text", "image", "of")
    ]
    monkeypatch.setattr(ch06, "item_texts", lambda seed: ItemSummaries(*texts))
    return dataset


def validated(system, lr, number):
    """A run of the search."""
    stamp = {"study": "ch06", "data": POCKET, "seed": 0, "split": "leave-one-out", "part": "valid",
             "protocol": ch06.PROTOCOL, "system": system, "hyperparameters": {"lr": lr}}  # fmt: skip
    return Run.unranked(stamp, {}, np.arange(1), {"NDCG@10": np.array([number])})


def test_plan_follows_the_search(monkeypatch):
    monkeypatch.setattr(ch06, "baseline_settings", lambda runs: {name: {} for name in ch06.BASELINES})
    first = ch06.plan([])
    searched = [cell for cell in first if cell.system in ch06.TUNED and cell.data == POCKET]
    assert {cell.part for cell in searched} == {"valid"}
    runs = [validated(name, lr, -abs(np.log2(lr / 4e-3))) for name in ch06.TUNED for lr in (2e-3, 4e-3, 8e-3)]
    whole = [cell for cell in ch06.plan(runs) if cell.part == "test" and cell.seed == 0]
    on_first = [cell for cell in whole if cell.split == "leave-one-out" and cell.data == POCKET]
    assert {cell.system for cell in on_first} == {*ch06.VARIANTS, *ch06.BASELINES, *ch06.ON_FEW, *ch06.INPUTS}
    assert all(cell.hyperparameters["lr"] == 4e-3 for cell in on_first if cell.system in ch06.VARIANTS)
    assert len({cell.name for cell in ch06.plan(runs)}) == len(ch06.plan(runs))


def test_chapter_7s_systems_are_planned_on_one_shop_once_it_has_chosen(monkeypatch):
    monkeypatch.setattr(ch06, "baseline_settings", lambda runs: dict.fromkeys(ch06.BASELINES))
    assert not [cell for cell in ch06.plan([]) if cell.system in ch06.GRAPHS]
    chosen = {"ch07": {"lr": 1.0}}
    monkeypatch.setattr(ch06, "chosen_settings", lambda study, *search: chosen.get(study))
    planned = [replace(cell, system="") for cell in ch06.plan([]) if cell.system in ch06.GRAPHS]
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system="",
                hyperparameters=chosen["ch07"])  # fmt: skip
    assert planned == [cell] * len(ch06.GRAPHS)
    monkeypatch.setattr(ch07, "build", lambda cell: cell.system)
    assert [ch06.build(replace(cell, system=name)) for name in ch06.GRAPHS] == list(ch06.GRAPHS)


def test_fewer_users_are_tested_and_all_train(tiny):
    split = tiny.leave_one_out()
    fewer = ch06.with_fewer_users(split, 0, 5)
    assert (fewer.part[split.part == PARTS.index("train")] == PARTS.index("train")).all()
    for part in ("valid", "test"):
        assert len(fewer.queries(part)) == 5
    again = ch06.with_fewer_users(split, 0, 5)
    assert (again.part == fewer.part).all()


def test_a_baseline_learns_from_the_users_of_mllm_msr_and_ranks_for_all(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(ch06, "TRAINED", 20)
    split, seen = tiny.leave_one_out(), []
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL,
                system=ch06.ON_FEW[0])  # fmt: skip
    system = ch06.build(cell)
    monkeypatch.setattr(system, "learn", lambda split, checkpoint: seen.append(split))
    system.fit(split)
    texts = ch06.item_texts(0)
    msr = MLLMMSR(history_texts=texts.fused, candidate_texts=texts.images, max_users=20)
    assert {*seen[0].interactions("train")["user"]} == {*msr.positives(split)[0].tolist()}
    ((_, run),) = ch06.run([cell], tmp_path / "training.pt")
    assert (run.system, len(run.users)) == (cell.system, 5)


@pytest.mark.parametrize("data", ch06.REAL)
def test_on_real_data_titles_and_captions_stand_in_the_prompt(tiny, monkeypatch, tmp_path, data):
    captions = ["", *(f"caption {item}" for item in range(1, tiny.num_items + 1))]
    monkeypatch.setattr(ch06.captions, "item_captions", lambda dataset: captions)
    monkeypatch.setattr(ch06, "require_model", lambda name: None)
    monkeypatch.setattr(ch06, "REAL_EVALUATED", 3)
    ch06.real_texts.cache_clear()
    settings = ch06.REAL_SETTINGS[data] | {"llm": "pocket-instruct", "writer": "pocket-instruct", "max_users": 2}
    cell = Cell(study="ch06", data=data, split=ch06.REAL[data], part="test", protocol=ch06.PROTOCOL, system="MLLM-MSR",
                hyperparameters=settings)  # fmt: skip
    system, title = ch06.build(cell), tiny.column("title")[1]
    shown = data == "hm-week"
    assert system.history_texts[1] == (f"{title}, caption 1" if shown else title)
    assert system.candidate_texts == (captions if shown else [])
    ((_, run),) = ch06.run([cell], tmp_path / "training.pt")
    assert (len(run.users), run.stamp["cost"]["parameters"] > 0) == (3, True)
    ch06.real_texts.cache_clear()


@pytest.mark.parametrize("data", ch06.REAL)
def test_tallrec_has_no_text_beside_a_real_title(tiny, monkeypatch, data):
    monkeypatch.setattr(ch06.captions, "item_captions", lambda dataset: [""] * (tiny.num_items + 1))
    monkeypatch.setattr(ch06, "require_model", lambda name: None)
    ch06.real_texts.cache_clear()
    cell = Cell(study="ch06", data=data, split=ch06.REAL[data], part="test", protocol=ch06.PROTOCOL, system="TALLRec")
    assert ch06.build(cell).candidate_texts == [], "a real item's text is its title, which the prompt has already"
    ch06.real_texts.cache_clear()


@pytest.mark.parametrize("system", ["MLLM-MSR", "TALLRec", "zero-shot"])
def test_a_system_is_run(tiny, tmp_path, system):
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system=system,
                hyperparameters={"lr": 4e-3, **ch06.VARIANTS[system], "max_len": 6})  # fmt: skip
    ((_, run),) = ch06.run([cell], tmp_path / "training.pt")
    assert len(run.users) == 5
    assert 0 <= run.metric("AUC").mean() <= 1
    assert run.stamp["cost"]["parameters"] > 0 or system == "zero-shot"


def test_a_kill_of_the_scoring_loses_no_user_that_was_scored(tiny, monkeypatch, tmp_path):
    """And what a model leaves unanswered, or a prompt without, is counted for all users, also for a ranker."""
    monkeypatch.setattr(scores, "SCORED", 2)
    monkeypatch.setattr(ch06, "recorded", lambda study: {})
    monkeypatch.setattr(ch06, "baseline_settings", lambda runs: {"popularity": {}})
    monkeypatch.setattr(mllm_msr, "MIN_PROBABILITY", 2.0)  # nothing is an answer
    whole, score = MLLMMSR.score, []
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL,
                system="zero-shot", hyperparameters={"epochs": 0, "max_len": 6})  # fmt: skip
    cells = [cell, replace(cell, protocol="full; of popularity")]
    wanted = [run for _, run in ch06.run(cells, tmp_path / "whole.pt")]

    def killed(system, queries, candidates=None):
        score.append(len(queries))
        if len(score) == 3:
            raise KeyboardInterrupt
        return whole(system, queries, candidates)

    monkeypatch.setattr(MLLMMSR, "score", killed)
    with pytest.raises(KeyboardInterrupt):
        list(ch06.run(cells, tmp_path / "killed.pt"))
    score[:] = [0] * 3
    resumed = [run for _, run in ch06.run(cells, tmp_path / "killed.pt")]
    assert score[3:] == [1, 2, 2, 1], "one user of the first cell is left, and the second cell"
    for one, other in zip(resumed, wanted, strict=True):
        assert (one.target_ranks.num_higher == other.target_ranks.num_higher).all()
        assert one.scalars == other.scalars
        assert {"num_truncated": 0, "num_unanswered": 5}.items() <= one.scalars.items()
        assert one.stamp["cost"]["resumed"] != other.stamp["cost"]["resumed"]


def test_a_ranker_orders_what_a_retriever_finds_and_nothing_else(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(ch06, "recorded", lambda study: {})
    monkeypatch.setattr(ch06, "baseline_settings", lambda runs: {"popularity": {}})
    monkeypatch.setattr(ch06, "TOP", 4)
    alone = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol="full", system="popularity")
    ((_, first),) = ch06.run([alone], tmp_path / "training.pt")
    cells = [replace(alone, system="zero-shot", protocol=own, hyperparameters={"epochs": 0, "max_len": 6})
             for own in ("full; of popularity", ch06.PROTOCOL)]  # fmt: skip
    (_, run), (_, sampled) = ch06.run(cells, tmp_path / "training.pt")
    ranks, reranked = first.target_ranks, run.target_ranks
    assert (run.users == first.users).all()
    assert (reranked.num_candidates == ranks.num_candidates).all()
    assert (sampled.target_ranks.num_candidates == 21).all()
    inside = reranked.num_higher < 4
    assert (ranks.num_higher[inside] < 4).all()
    assert (reranked.num_higher[~inside] >= np.maximum(ranks.num_higher[~inside], 4)).all()


def test_full_ranking_is_planned_for_retrievers_and_rankers_on_one_shop_and_on_real_data(monkeypatch):
    monkeypatch.setattr(ch06, "baseline_settings", lambda runs: {name: {} for name in ch06.BASELINES})
    runs = [validated(name, lr, -abs(np.log2(lr / 4e-3))) for name in ch06.TUNED for lr in (2e-3, 4e-3, 8e-3)]
    cells = [cell for cell in ch06.plan(runs) if cell.protocol.startswith("full")]
    on_shop = [cell for cell in cells if cell.data == POCKET]
    assert {(cell.seed, cell.split) for cell in on_shop} == {(0, "leave-one-out")}
    rankers = [cell.system for cell in on_shop if cell.protocol == "full; of SASRec"]
    assert sorted(rankers) == sorted([*ch06.TUNED, ch06.ZERO_SHOT, "1,200 users"]), "the rows of the paper's Table 3"
    on_real = {(cell.data, cell.system, cell.protocol) for cell in cells if cell.data in ch06.REAL}
    planned = [(name, protocol) for name, own in ch06.RERANKED_ON_REAL_DATA.items() for protocol in own]
    assert on_real == {(data, *row) for data in ch06.REAL for row in planned}
    others = {cell.fit for cell in ch06.plan(runs) if cell.protocol == ch06.PROTOCOL}
    assert {cell.fit for cell in cells} <= others


def test_blocks_of_one_to_eight_items_are_planned_once_each(tiny):
    own = {name: own for name, own in ch06.VARIANTS.items() if name.startswith("block of ")} | {ch06.FAMILY: {}}
    cells = [Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system=name,
                  hyperparameters=settings) for name, settings in own.items()]  # fmt: skip
    assert sorted(ch06.build(cell).block for cell in cells) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_another_training_has_another_seed_on_the_same_shop(tiny):
    cells = [Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system=name,
                  hyperparameters=ch06.VARIANTS[name]) for name in (ch06.FAMILY, "second training")]  # fmt: skip
    one, other = map(ch06.build, cells)
    assert (one.seed, other.seed) == (0, 1)
    assert one.history_texts == other.history_texts


def test_texts_of_the_variants(tiny):
    texts = ch06.item_texts(0)
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system="MSR_T")
    system = ch06.build(cell)
    assert system.history_texts == texts.texts
    assert system.candidate_texts == texts.images
    system = ch06.build(replace(cell, system="TALLRec"))
    assert system.profile == "items"
    assert system.candidate_texts == texts.texts


@pytest.mark.parametrize("system", ch06.INPUTS | ch06.OF_POSTERS)
def test_inputs_of_gru4rec(tiny, monkeypatch, system):
    sizes = {"words": 3, "image": 5, "captions": 7} | {ch06.SHUFFLED + "words": 3, ch06.SHUFFLED + "image": 5}
    monkeypatch.setattr(ch06, "image_input", lambda data, seed, kind: np.ones((tiny.num_items + 1, sizes[kind])))
    cell = Cell(study="ch06", data=POCKET, split="leave-one-out", part="test", protocol=ch06.PROTOCOL, system=system)
    gru4rec = ch06.build(cell)
    assert not gru4rec.use_ids
    assert gru4rec.features.shape[1] == sum(sizes[kind] for kind in (ch06.INPUTS | ch06.OF_POSTERS)[system])


def test_a_shuffled_input_is_that_of_other_items(tiny, monkeypatch):
    vectors = np.arange(tiny.num_items + 1, dtype=np.float32)[:, None].repeat(2, 1)
    monkeypatch.setattr(ch06, "describe", lambda dataset, model: [""] * len(vectors))
    monkeypatch.setattr(ch06, "embed_texts", lambda texts, encoder: SimpleNamespace(vectors=torch.from_numpy(vectors)))
    ch06.image_input.cache_clear()
    own, shuffled = (ch06.image_input(POCKET, 0, kind) for kind in ("words", ch06.SHUFFLED + "words"))
    ch06.image_input.cache_clear()
    assert (own == vectors).all()
    assert (shuffled[0] == own[0]).all()
    assert sorted(shuffled[:, 0]) == sorted(own[:, 0])
    assert (shuffled != own).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("system", ch06.WRITERS)
def test_fidelity_of_each_user(tiny, monkeypatch, system):
    monkeypatch.setattr(ch06, "LENGTH", 6)
    monkeypatch.setattr(ch06, "CHANGES", range(1, 5))
    monkeypatch.setattr(ch06, "NUM_USERS", 4)
    ((_, run),) = ch06.run([Cell(study="ch06", data=POCKET, protocol=ch06.FIDELITY, system=system)], None)
    num_changed = run.scalars["changed"]
    for kind in ("asserted", "mentioned"):
        assert len(run.values[f"precision, {kind}"]) == len(run.users)
        assert (run.values[f"delay, {kind}"][num_changed:] == -1).all()
        assert (run.values[f"delay, {kind}"][:num_changed] > 0).all()


def test_chapter_3s_systems_keep_their_names():
    assert set(ch06.BASELINES) <= {spec.name for spec in ch03.SYSTEMS}

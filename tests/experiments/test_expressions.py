"""expressions.py and chapter 5's cells: conditions change what they name and nothing else; times, tokens and titles."""

from itertools import chain

import numpy as np
import pytest

from experiments import ch05, systems
from experiments.cells import TIMING, Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split
from experiments.expressions import (
    NUM_BEAMS,
    ROUNDS,
    generate_for_queries,
    noisy_descriptions,
    other_items,
    prompt_sizes,
    repeated,
    time_expressions,
    with_noisy_descriptions,
    with_wrong_items,
    within_window,
)
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.recommenders.illmrec import ILLMRec

pytestmark = pytest.mark.usefixtures("tiny")
EXPRESSIONS = ("image", "attributes", "summary", "description", "image, summary")


@pytest.fixture(scope="module")
def split(tiny):
    return benchmark_split(POCKET, 0, LEAVE_ONE_OUT)


@pytest.fixture(scope="module")
def expressed(split):
    """Expression -> a system with random weights; every item has an image."""
    dataset, rng = split.dataset, np.random.default_rng(0)
    images = rng.standard_normal((dataset.num_items + 1, 8)).astype(np.float32)
    summaries = ["", *(f"Summary {item}." for item in range(1, dataset.num_items + 1))]
    made = {
        name: ILLMRec(features={"image": images}, expression=name, summaries=summaries if "summary" in name else ())
        for name in EXPRESSIONS
    }
    for system in made.values():
        system.prepare(split)
    return made


def texts(system):
    """(I,) each item's expression, [k] at the image of item k."""
    prompts, decode = system.prompts, system.language_model.tokenizer.decode
    rows = np.split(prompts.tokens, prompts.ends[:-1])[1:]
    return ["".join(decode(token) if token >= 0 else f"[{-token}]" for token in row) for row in rows]


# Conditions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_window_bounds_the_prompt_and_cuts_an_item_only_where_it_is_longer_alone(expressed, split, expression):
    system, queries = expressed[expression], split.queries("test", 10)
    around = len(system.prompts.before) + len(system.prompts.after)
    before = texts(system)
    for size in (2_048, 128, 64):
        changed = within_window(system, size)
        prompts = [changed.prompt(items, len(changed.prompts.after)) for items in queries.histories[:100]]
        assert max(len(tokens) for tokens, _ in prompts) + around <= size
        sizes = np.diff(system.prompts.ends)
        for own, whole, tokens in zip(texts(changed), before, sizes, strict=True):
            assert own == whole if tokens <= size - around else whole.startswith(own)
        if size == 2_048:
            few = queries.take(slice(3))
            assert (changed.score(few) == system.score(few)).all()
    assert texts(system) == before  # the system itself is as it was


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_wrong_items_have_their_title_and_all_else_of_another_item(expressed, split, expression):
    system, dataset = expressed[expression], split.dataset
    right = texts(system)
    assert texts(with_wrong_items(system, dataset, 0.0)) == right
    others = other_items(dataset.num_items, 0.5)
    assert (others[1:] != np.arange(1, len(others))).mean() == pytest.approx(0.5, abs=0.01)
    assert others[0] == 0
    assert sorted(others) == list(range(len(others)))
    wrong = texts(with_wrong_items(system, dataset, 0.5))
    titles = dataset.column("title")
    for item in range(1, dataset.num_items + 1):
        assert wrong[item - 1].startswith(f" {titles[item]}")
        rest = right[others[item] - 1].removeprefix(f" {titles[others[item]]}")
        assert wrong[item - 1] == f" {titles[item]}{rest}"


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_larger_share_has_more_wrong_items_and_none_is_its_own(share):
    others = other_items(200, share)
    assert (others != np.arange(201)).sum() == round(share * 200)


def test_noise_is_sentences_of_others_between_the_own_ones_in_their_order(split):
    dataset = split.dataset
    own, same, noisy = (
        [text or "" for text in data.column("description")]
        for data in (dataset, noisy_descriptions(dataset, 0.0), noisy_descriptions(dataset, 1.0))
    )
    assert [text.split() for text in same] == [text.split() for text in own]
    sizes = [sum(len(text.split()) for text in column) for column in (own, noisy)]
    assert 1.9 < sizes[1] / sizes[0] < 2.6  # the last sentence is whole
    words = set(" ".join(own).split())
    for before, after in zip(own, noisy, strict=True):
        rest = iter(after.split())
        assert all(word in rest for word in before.split())  # a subsequence
        assert set(after.split()) <= words


def test_summaries_are_made_of_noisy_descriptions(expressed, split, monkeypatch):
    asked = []

    def summarise(dataset, llm):
        asked.append((dataset, llm))
        return ["", *("noisy" for _ in range(dataset.num_items))]

    monkeypatch.setattr("experiments.expressions.summarise", summarise)
    system = expressed["summary"]
    changed = with_noisy_descriptions(system, split.dataset, 0.5)
    ((noisy, llm),) = asked
    assert llm == system.llm
    assert list(noisy.column("description")) == list(noisy_descriptions(split.dataset, 0.5).column("description"))
    assert all(text.endswith(": noisy,") for text in texts(changed))
    with_noisy_descriptions(expressed["description"], split.dataset, 0.5)
    assert len(asked) == 1


@pytest.mark.parametrize("condition", sorted(set(chain(*ch05.CONDITIONS.values()))))
def test_every_planned_condition_can_be_had(expressed, split, condition):
    system = expressed["description"]
    changed = ch05.under(split, system, condition.partition("; ")[2])
    assert changed is not system
    assert ch05.under(split, system, "") is system
    assert texts(changed) != texts(system) or changed.max_tokens != system.max_tokens


# Time and titles ------------------------------------------------------------------------------------------------------


def test_histories_are_repeated_to_a_length(split):
    queries = split.queries("test", 10)
    long, short = repeated(queries, 25), repeated(queries, 2)
    for own, items, last in zip(queries.histories, long.histories, short.histories, strict=True):
        items_of = own[own > 0]
        assert items.tolist() == np.resize(items_of, 25).tolist()
        assert last.tolist() == (items_of[-2:] if len(items_of) > 1 else np.repeat(items_of, 2)).tolist()


def test_sizes_are_those_of_the_prompts(expressed, split):
    histories = split.queries("test", 10).histories
    for system in expressed.values():
        num_after = len(system.prompts.after)
        sizes = [len(system.prompt(items, num_after)[0]) + num_after for items in histories]
        assert np.array_equal(prompt_sizes(system, histories), np.add(sizes, len(system.prompts.before)))


def test_each_expression_is_timed_at_each_length(expressed, split, monkeypatch):
    monkeypatch.setattr("experiments.expressions.NUM_TIMED", 4)
    images = expressed["image"].features
    options = {"max_len": 4, "max_tokens": 10_000}
    timed = {name: ILLMRec(features=images, expression=name, **options) for name in ("image", "description")}
    timed["none"] = ILLMRec(features=images, llm="", **options)
    run = time_expressions(timed, split, (2, 4))
    assert run.target_ranks is None
    for name in timed:
        assert set(run.scalars["seconds"][name]) == set(run.scalars["tokens"][name]) == {2, 4}
        assert all(len(times) == ROUNDS and min(times) > 0 for times in run.scalars["seconds"][name].values())
        assert len(run.values[f"tokens, {name}"]) == len(run.users) == len(split.queries("test"))
    tokens = run.scalars["tokens"]
    assert tokens["none"] == {2: 0, 4: 0}
    assert tokens["image"][2] < tokens["image"][4] < tokens["description"][2] < tokens["description"][4]


@pytest.mark.parametrize("after_eos", ["", "\n"])
def test_with_the_trie_every_title_exists(split, monkeypatch, after_eos):
    """Also where the chat template goes on after EOS."""
    reply = LanguageModel.reply
    monkeypatch.setattr(LanguageModel, "reply", lambda self, answer: reply(self, answer) + after_eos)
    llm, queries = load_language_model("pocket-lm"), split.queries("test", 1).take(slice(3))
    run = generate_for_queries(llm, split, queries, steps=2, lr=1e-3)
    for name in ("free", "trie"):
        num_all, num_different = run.scalars[f"titles, {name}"]
        assert 0 < num_different <= num_all <= 3 * NUM_BEAMS
        assert run.values[f"exist, {name}"].sum() <= num_all
        assert (run.values[f"hit, {name}"] <= run.values[f"exist, {name}"]).all()
    assert run.values["exist, trie"].sum() == run.scalars["titles, trie"][0]
    assert run.users.tolist() == queries.users.tolist()


def test_a_cell_is_run_under_its_conditions(tiny, monkeypatch, tmp_path):
    few = tiny.select_interactions((tiny.interactions["user"] < 60).to_numpy()).leave_one_out()
    vectors = np.random.default_rng(0).standard_normal((few.dataset.num_items + 1, 8)).astype(np.float32)
    for module in (ch05, systems):
        monkeypatch.setattr(module, "benchmark_split", lambda *place: few)
    monkeypatch.setattr(ch05, "collaborative", lambda *place: vectors)
    place = {"study": "ch05", "data": POCKET, "split": LEAVE_ONE_OUT, "part": "test", "system": "TALLRec"}
    cells = [
        Cell(**place, protocol=protocol, hyperparameters={"epochs": 1, "lr": 1e-3})
        for protocol in ("full", "full; window 64", "full; wrong 1.0", "100 uniform")
    ]
    runs = {cell.protocol: run for cell, run in ch05.run(cells, tmp_path / "x.pt")}
    assert list(runs) == [cell.protocol for cell in cells]
    options = {name: run.stamp["protocol options"] for name, run in runs.items()}
    assert options["full"] == options["full; window 64"] == options["full; wrong 1.0"] != options["100 uniform"]
    for other in ("full; window 64", "full; wrong 1.0"):
        assert (runs[other].users == runs["full"].users).all()
        assert (runs[other].target_ranks.num_higher != runs["full"].target_ranks.num_higher).any()
        assert "validations" not in runs[other].scalars
    assert "validations" in runs["full"].scalars


def test_the_shops_expressions_are_timed(monkeypatch, tmp_path):
    """In one cell, with random weights: no SASRec is fitted for them."""
    monkeypatch.setattr(ch05, "collaborative_features", None)
    monkeypatch.setattr("experiments.illm_variants.summarise", lambda data, llm: ["short"] * (data.num_items + 1))
    monkeypatch.setattr("experiments.expressions.NUM_TIMED", 2)
    monkeypatch.setattr(ch05, "TIMED", {POCKET: (ch05.TIMED[POCKET][0], (2,))})
    cell = Cell(study="ch05", data=POCKET, split=LEAVE_ONE_OUT, protocol=TIMING, system="item expressions")
    ((timed, run),) = ch05.run([cell], tmp_path / "x.pt")
    assert timed == cell
    assert set(run.scalars["seconds"]) == set(ch05.TIMED[POCKET][0])


def test_real_data_have_the_models_of_their_profile(monkeypatch):
    asked = []
    monkeypatch.setattr(ch05, "require_model", asked.append)
    settings = ch05.book_settings("hm-week")
    assert asked == [settings.models[role] for role in ("clip", "text", "llm")]
    assert settings.models["llm"] == "smollm2"
    assert ch05.book_settings(POCKET).models["llm"] == "pocket-lm"

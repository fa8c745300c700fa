"""illmrec.py: the whole pipeline equals a slow reference; what is frozen stays so; save, load, resume; bad input."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise

import datasets
import numpy as np
import pytest
import torch
from small_models import store

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.recommenders import illmrec
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.history_batches import HistoryBatches
from mmrec_helpers.recommenders.illmrec import ANSWER_LEN, ILLMRec, one_of_each
from mmrec_helpers.recommenders.item_prompts import EXPRESSIONS
from mmrec_helpers.recommenders.pairwise import Pairs

SMALL = {"shared_dim": 6, "batch_size": 20, "epochs": 2, "max_len": 4, "validate_every": 1}
ATTRIBUTES = ("brand", "category", "title", "description")
HM = ("category", "title", "description", "department")
SUMMARIES = [f"a summary of number {item}" for item in range(27)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return store(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="module")
def features(planted_features):
    image = planted_features.copy()
    image[3] = 0  # an item without an image
    return {"image": image, "CF": planted_features[:, ::-1][:, :3].copy(), "another image": image[::-1].copy()}


@pytest.fixture(scope="module")
def make(folder, features):
    own = {"llm": str(folder), "summaries": SUMMARIES}
    return lambda **options: ILLMRec(features=features, **SMALL | own | options)


# The reference --------------------------------------------------------------------------------------------------------


def expressed(llm, dataset, network, expression, item):
    """(T, D) input embeddings of an item's expression, written once more."""
    template, kind = EXPRESSIONS[expression]
    if kind and not network.features[kind][item].any():
        template = EXPRESSIONS["description"][0]
    fields = {name: dataset.item(item)[name] or "" for name in ATTRIBUTES} | {"summary": SUMMARIES[item]}
    rows = []
    for place, part in enumerate(f" {template}".split("[VISUAL]")):
        if place:
            rows.append(network.adaptor(network.features[kind][item])[None])
        rows.append(llm.words[torch.tensor(llm.tokens(part.format(**fields)), dtype=torch.long)])
    return torch.cat([*rows, llm.words[torch.tensor(llm.tokens(","))]])


def prompt_rows(system, llm, dataset, history, request):
    """(T, D) input embeddings of the prompt of one history; the model's chat form is the one without template."""
    before, after = llm.tokens("<s>They bought"), llm.tokens(f" {request}\nAnswer:")
    items = [
        expressed(llm, dataset, system.network, system.expression, int(item)) for item in history[history > 0][-4:]
    ]
    return torch.cat([llm.words[torch.tensor(before)], *items, llm.words[torch.tensor(after)]])


def reference_scores(system, llm, dataset, history):
    """(I + 1,) scores of one history."""
    rows = prompt_rows(system, llm, dataset, history, "Which item comes next?")
    rows = torch.cat([rows, system.network.rec[None]])[None]
    hidden = llm.model(inputs_embeds=rows, output_hidden_states=True).hidden_states[-1][0, -1]
    scores = torch.zeros(dataset.num_items + 1)
    for number, kind in enumerate(system.network.kinds):
        user = system.network.head.users[number](hidden)
        for item in range(1, dataset.num_items + 1):
            scores[item] += user @ system.network.head.items[number](system.network.features[kind][item])
    return scores.numpy()


@pytest.mark.parametrize("options", [*({"expression": name} for name in EXPRESSIONS), {"kinds": ["CF"]}])
def test_scores_are_those_of_a_slow_reference(options, fitted, planted, folder):
    system, llm, queries = fitted(**options), load_language_model(folder), planted.queries("test", 6)
    scores = system.score(queries)
    assert scores.dtype == np.float32
    for row in (0, 7, 20):
        with torch.no_grad():
            expected = reference_scores(system, llm, planted.dataset, queries.histories[row])
        np.testing.assert_allclose(scores[row], expected, atol=1e-5)


@pytest.mark.parametrize(("loss", "as_released"), [("softmax", False), ("bce", False), ("bce", True)])
def test_the_loss_is_that_of_a_slow_reference(loss, as_released, make, planted, folder):
    """Without alignment; the batch and its negatives are read off, all else is computed again."""
    system, rows = make(loss=loss, as_released=as_released, alignment=False), []
    system.prepare(planted)
    batch, llm = HistoryBatches(planted, 20, 0, 4).of(1), load_language_model(folder)
    torch.manual_seed(3)
    negatives = Pairs(planted).negatives(batch.users, deepcopy(batch.rng))
    if as_released:
        drawn = torch.randint(1, planted.dataset.num_items, (len(batch.targets), 1))[:, 0].numpy()
        negatives = drawn + (drawn >= batch.targets)
    torch.manual_seed(3)
    found = float(loss_of(system.retrieval_loss_of(planted), system, batch).detach())
    for history, target, negative in zip(batch.histories, batch.targets, negatives, strict=True):
        for number, kind in enumerate(system.network.kinds):
            with torch.no_grad():
                scores = reference_scores(replace_kinds(system, kind, number), llm, planted.dataset, history)
            if loss == "bce":
                rows.append(np.logaddexp(0, -scores[target]) + np.logaddexp(0, scores[negative]))
            else:
                rows.append(np.logaddexp.reduce(scores[1:]) - scores[target])
    expected = np.mean(rows) * (1 if as_released else len(system.network.kinds))
    assert found == pytest.approx(expected, abs=1e-5)


def loss_of(loss, system, batch):
    return loss(batch, system.read_windows(batch))


def reference_alignment(system, llm, dataset, batch, targets, question):
    """Mean of the answers' tokens about the titles of some targets, one whole prompt after the other."""
    total, count = 0.0, 0
    for row in targets:
        prompt = prompt_rows(system, llm, dataset, batch.histories[row], question)
        title = dataset.item(int(batch.targets[row]))["title"] or ""
        answer = torch.tensor(llm.tokens(f" {title}</s>")[:ANSWER_LEN])
        rows = torch.cat([prompt, llm.words[answer]])[None]
        log_p = llm.model(inputs_embeds=rows).logits[0, -len(answer) - 1 : -1].log_softmax(1)
        total, count = total - float(log_p.gather(1, answer[:, None]).sum()), count + len(answer)
    return total / count


@pytest.mark.parametrize("options", [{}, {"expression": "image alone"}, {"as_released": True}])
def test_the_alignment_loss_is_that_of_a_slow_reference(options, make, planted, folder, monkeypatch):
    system, llm, batch = make(**options), load_language_model(folder), HistoryBatches(planted, 20, 0, 4).of(1)
    system.prepare(planted)
    system.questions = {"title": [llm.tokens(" What is it called?\nAnswer:")] * 5}
    system.answers = {"title": system.answers["title"]}
    firsts = np.append(0, 1 + batch.last[:-1])
    for of_each, targets in ((-1, batch.last), (0, firsts)):
        chosen = lambda rows, _, n=of_each: np.array([np.flatnonzero(rows == row)[n] for row in np.unique(rows)])  # noqa: E731
        monkeypatch.setattr(illmrec, "one_of_each", chosen)
        found = loss_of(system.alignment_loss, system, batch)
        with torch.no_grad():
            expected = reference_alignment(system, llm, planted.dataset, batch, targets, "What is it called?")
        assert float(found.detach()) == pytest.approx(expected, abs=1e-5)


def test_each_target_of_a_window_is_as_probable_for_alignment():
    rows, rng = np.array([0, 0, 0, 1, 2, 2]), np.random.default_rng(0)
    chosen = np.array([one_of_each(rows, rng) for _ in range(3_000)])
    assert (rows[chosen] == [0, 1, 2]).all()
    shares = np.bincount(chosen.ravel(), minlength=6) / 3_000
    np.testing.assert_allclose(shares, [1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2], atol=0.04)


@pytest.mark.parametrize("options", [{}, {"lora": True}])
def test_reading_items_once_for_both_losses_gives_the_gradients_of_reading_them_twice(options, make, planted):
    gradients = []
    for is_once in (True, False):
        system, batch = make(**options), HistoryBatches(planted, 20, 0, 4).of(1)
        system.prepare(planted)
        losses = [system.retrieval_loss_of(planted), system.alignment_loss]
        readers = system.read_windows(batch)
        for loss in losses:
            (loss(batch, readers) if is_once else loss_of(loss, system, batch)).backward(retain_graph=True)
        gradients.append([weight.grad for weight in system.network.parameters() if weight.grad is not None])
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice, atol=1e-6, rtol=1e-4)


def test_texts_are_read_without_a_graph_if_the_model_is_frozen(make, planted):
    for options, is_recorded in (({"expression": "title"}, False), ({}, True), ({"lora": True}, True)):
        system, batch = make(**options), HistoryBatches(planted, 20, 0, 4).of(1)
        system.prepare(planted)
        llm = system.read_windows(batch)[0].llm
        assert llm.prefix.layers[-1].keys.requires_grad == is_recorded


def training_items(split):
    """User -> training items."""
    return {user: items.to_numpy() for user, items in split.interactions("train").groupby("user")["item"]}


def test_as_written_no_negative_is_in_the_history_and_as_released_it_may_be(make, planted, monkeypatch):
    items, known = training_items(planted), {}
    for as_released in (False, True):
        system, negatives = make(loss="bce", as_released=as_released), []
        system.prepare(planted)
        monkeypatch.setattr(illmrec, "ire_loss", lambda *own, drawn=negatives: drawn.append(own[4]) or torch.zeros(()))
        batch = HistoryBatches(planted, 24, 0, 4).of(0)
        for _ in range(20):
            loss_of(system.retrieval_loss_of(planted), system, batch)
        pairs = [(user, int(item)) for row in negatives for user, item in zip(batch.users, row, strict=True)]
        known[as_released] = any(item in items[user] for user, item in pairs)
    assert known == {False: False, True: True}


def replace_kinds(system, kind, number):
    """A stand-in whose head has one kind of features only; expressions still read all."""

    class Head:
        users, items = [system.network.head.users[number]], [system.network.head.items[number]]

    class Network:
        features, kinds = system.network.features, [kind]
        adaptor, rec, head = system.network.adaptor, system.network.rec, Head

    class System:
        network, expression = Network, system.expression

    return System


# Training -------------------------------------------------------------------------------------------------------------


def test_the_model_is_frozen_bit_by_bit_and_all_else_learns(fitted, make, planted, folder):
    system, before = fitted(), load_language_model(folder).model.state_dict()
    for name, weight in system.language_model.model.state_dict().items():
        assert torch.equal(weight, before[name])
    assert not any(weight.requires_grad for weight in system.language_model.model.parameters())
    fresh = make()
    fresh.prepare(planted)
    pairs = zip(system.network.named_parameters(), fresh.network.parameters(), strict=True)
    for (name, weight), start in pairs:
        assert torch.equal(weight, start) != weight.requires_grad, name
    assert set(fresh.answers) == {"title", "description"}  # the planted items have neither brand nor category
    assert max(map(len, fresh.answers["title"])) <= ANSWER_LEN


def test_the_planted_groups_are_found_with_and_without_a_language_model(make, planted, planted_group):
    few = {"epochs": 30, "lr": 1e-2, "alignment": False, "expression": "image alone", "validate_every": 10}
    for options in ({}, {"llm": ""}):
        system, queries = make(**few | options).fit(planted), planted.queries("test")
        scores, own = system.score(queries)[:, 1:25], planted_group[1:25] == queries.users[:, None] % 2
        assert scores[own].mean() > scores[~own].mean() + 1


@pytest.mark.parametrize(("options", "trained"), [({"lora": True}, "lora_"), ({"as_released": True}, "embed_tokens")])
def test_where_the_model_is_finetuned_only_those_weights_change(options, trained, make, fitted, planted):
    system, fresh = fitted(**options), make(**options)
    fresh.prepare(planted)
    before = fresh.language_model.model.state_dict()
    changed = {
        name
        for name, weight in system.language_model.model.state_dict().items()
        if not torch.equal(weight, before[name])
    }
    assert changed
    assert all(trained in name for name in changed)
    assert len(system.network.finetuned) == len(changed)


def test_in_two_stages_the_second_leaves_the_adaptor_as_the_first_left_it(make, planted, monkeypatch):
    system, states = make(two_stage=True), []
    train = illmrec.train

    def watched(network, *rest):
        history = train(network, *rest)
        states.append({name: weight.clone() for name, weight in network.state_dict().items()})
        return history

    monkeypatch.setattr(illmrec, "train", watched)
    system.fit(planted)
    fresh = make(two_stage=True)
    fresh.prepare(planted)
    stages = [fresh.network.state_dict(), *states]
    moved = [
        {name.split(".")[0] for name, weight in after.items() if not torch.equal(weight, before[name])}
        for before, after in pairwise(stages)
    ]
    assert moved == [{"adaptor"}, {"rec", "head"}]


def test_items_as_output_tokens_are_the_states_products_with_their_embeddings(fitted, planted):
    system, queries = fitted(vocabulary=True), planted.queries("test")
    with torch.no_grad():
        states = system.user_states(queries.histories)
        expected = (states @ system.network.head.tokens.T).numpy()
    np.testing.assert_allclose(system.score(queries)[:, 1:], expected, atol=1e-5)
    assert system.network.head.tokens.shape == (planted.dataset.num_items, system.language_model.dim)


def test_items_without_an_image_are_expressed_by_their_description(make, planted):
    system, whole = make(imageless=[5, 7]), make()
    for one in (system, whole):
        one.prepare(planted)
    assert not np.isin([-3, -5, -7], system.prompts.tokens).any()  # item 3 has no features
    assert np.isin([-5, -7], whole.prompts.tokens).all()
    spelled = system.language_model.tokenizer.decode(system.prompts.of_items(np.array([5])))
    assert planted.dataset.item(5)["description"].split()[-1] in spelled


def test_random_weights_are_another_model(fitted, planted):
    system = fitted(random_llm=True, expression="title")
    assert not torch.equal(system.language_model.words, fitted(expression="title").language_model.words)


@pytest.mark.parametrize(
    ("columns", "asked"),
    [
        (ATTRIBUTES, ATTRIBUTES),
        (("title", "description", "category", "department", "colour", "pattern"), HM),
        (("title", "description", "category"), HM[:3]),
    ],
)
def test_every_question_occurs(columns, asked, make, planted, monkeypatch):
    """Twenty for the Pocket Shop and hm-week, which lacks brands; fifteen for MovieLens: its genres are categories."""
    items, found = planted.dataset.items.remove_columns([*ATTRIBUTES]), set()
    for name in dict.fromkeys((*ATTRIBUTES, *columns)):
        texts = [f"{name} {item}" if name in columns else None for item in range(1, 27)]
        items = items.add_column(name, texts, feature=datasets.Value("string"))
    split = replace(planted, dataset=replace(planted.dataset, items=items))
    system = make()
    system.prepare(split)
    assert tuple(system.answers) == asked
    assert system.language_model.tokenizer.decode(system.answers[asked[-1]][7]).strip().startswith(f"{asked[-1]} 7")
    monkeypatch.setattr(illmrec, "answer_loss", lambda _, own, *rest: found.add((*own[0],)) or torch.zeros(()))
    batch = HistoryBatches(split, 20, 0, 4).of(0)
    readers = system.read_windows(batch)
    for seed in range(300):
        system.alignment_loss(replace(batch, rng=np.random.default_rng(seed)), readers)
    assert len(found) == 5 * len(asked)


# Saving and resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"expression": "attributes"}, {"llm": ""}, {"lora": True}, {"as_released": True}, {"vocabulary": True}],
)
def test_what_is_loaded_scores_the_same(options, fitted, planted, tmp_path):
    system, queries = fitted(**options), planted.queries("test")
    system.save(tmp_path / "system")
    loaded = load_recommender(tmp_path / "system")
    assert np.array_equal(loaded.score(queries), system.score(queries))
    assert repr(loaded) == repr(system)
    some = np.array([3, 30, 11, 5])
    np.testing.assert_allclose(system.score(queries.take(some)), system.score(queries)[some], atol=1e-5)


@pytest.mark.parametrize(("kind", "options"), [("gpt2", {}), ("qwen2", {}), ("gpt2", {"lora": True})])
def test_the_whole_pipeline_takes_other_architectures(kind, options, make, planted, tmp_path):
    folder = store(tmp_path / "model", kind)
    system, queries = make(llm=str(folder), epochs=1, **options).fit(planted), planted.queries("test", 6)
    scores, llm = system.score(queries), load_language_model(folder)
    if not options:
        assert all(map(torch.equal, system.language_model.model.parameters(), llm.model.parameters()))
        with torch.no_grad():
            expected = reference_scores(system, llm, planted.dataset, queries.histories[7])
        np.testing.assert_allclose(scores[7], expected, atol=1e-5)
    system.save(tmp_path / "system")
    assert np.array_equal(load_recommender(tmp_path / "system").score(queries), scores)


def test_a_system_does_not_score_with_other_files_of_its_model(make, planted, tmp_path):
    other = store(tmp_path / "model", "llama")
    make(llm=str(other), epochs=1).fit(planted).save(tmp_path / "system")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(ValueError, match=r"fitted with other files of .*: fit it anew"):
        load_recommender(tmp_path / "system").score(planted.queries("test"))


@pytest.mark.parametrize("options", [{}, {"two_stage": True}, {"lora": True}])
def test_a_killed_training_resumes_to_the_same_scores(options, make, fitted, planted, tmp_path, monkeypatch):
    from mmrec_helpers.training import loop

    checkpoint, queries = tmp_path / "run.pt", planted.queries("test")
    killed, steps = make(**options), []

    def stop(readers):
        steps.append(1)
        if len(steps) > 1:
            raise KeyboardInterrupt
        return type(killed).states_at_rec(killed, readers)

    monkeypatch.setattr(killed, "states_at_rec", stop)
    save_each = lambda config: replace(config, save_every=1)  # noqa: E731
    train = loop.train
    monkeypatch.setattr(
        "mmrec_helpers.recommenders.illmrec.train",
        lambda network, loss_of, config, *rest: train(network, loss_of, save_each(config), *rest),
    )
    with pytest.raises(KeyboardInterrupt):
        killed.fit(planted, checkpoint)
    assert checkpoint.exists()
    resumed = make(**options).fit(planted, checkpoint)
    assert np.array_equal(resumed.score(queries), fitted(**options).score(queries))


# Bad input ------------------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_loses_its_oldest_items_and_its_user_is_named(fitted, planted):
    queries = planted.queries("test")
    system = fitted(expression="title")
    system.score(queries)
    assert not len(system.truncated)
    num_after = len(system.prompts.after)
    prompts = [system.prompt(items, num_after)[0] for items in queries.histories]
    system.max_tokens = len(system.prompts.before) + max(map(len, prompts)) + num_after - 1
    shorter = [system.prompt(items, num_after) for items in queries.histories]
    system.score(queries)
    assert 0 < len(system.truncated) < len(queries)
    assert np.array_equal(system.truncated, queries.users[[0 in ends for _, ends in shorter]])
    for (tokens, ends), whole, items in zip(shorter, prompts, queries.histories, strict=True):
        assert len(system.prompts.before) + len(tokens) == ends[-1] <= system.max_tokens - num_after
        expected = system.prompt(items[items > 0][-3:], num_after)[0] if 0 in ends else whole
        assert tokens == expected
    system.max_tokens = len(system.prompts.before) + len(system.prompts.after) + 2
    with pytest.raises(ValueError, match=r"item \d+ alone makes the prompt longer than \d+ tokens: raise max_tokens"):
        system.score(queries)
    system.max_tokens = 0


def test_targets_whose_whole_history_was_dropped_are_not_learnt(make, planted):
    system, batch = make(expression="title", alignment=False), HistoryBatches(planted, 20, 0, 4).of(0)
    system.prepare(planted)
    kept = [np.concatenate([reader.targets(batch)[0] for reader in system.read_windows(batch)])]
    longest = max(len(system.prompt(batch.histories[row], 0)[0]) for row in batch.last)
    system.max_tokens = len(system.prompts.before) + longest // 2 + system.longest_suffix
    kept.append(np.concatenate([reader.targets(batch)[0] for reader in system.read_windows(batch)]))
    assert sorted(kept[0]) == [*range(len(batch.targets))]
    assert {*batch.last} < {*kept[1]} < {*kept[0]}
    assert torch.isfinite(loss_of(system.retrieval_loss_of(planted), system, batch))


def test_an_item_without_anything_and_an_empty_history_are_scored(fitted, planted):
    for options in ({}, {"llm": ""}):
        system, items = fitted(**options), np.zeros((2, 3), int)
        items[1, 2] = 26  # neither image nor text
        queries = planted.queries("test").take(slice(2))
        scores = system.score(Queries(queries.users, items, queries.targets, queries.times))
        assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expression": "song"}, "no expression 'song'.* it has title, attributes"),
        ({"loss": "hinge"}, "no loss 'hinge'"),
        ({"features": {"text": np.zeros((27, 2))}}, "expression 'image' needs image features"),
        ({"features": {}, "expression": "title"}, "needs some features"),
        ({"kinds": ["image", "price"]}, "no price features; there are image, CF"),
        ({"expression": "summary"}, "needs summaries"),
        ({"alignment": False, "two_stage": True}, "two stages need an LLM, alignment"),
        ({"vocabulary": True, "loss": "bce"}, "output tokens are trained by the softmax"),
        ({"llm": "", "expression": "title"}, r"without an LLM, choose an expression with \[VISUAL\]"),
    ],
)
def test_what_cannot_be_is_refused(options, message, features):
    with pytest.raises(ValueError, match=message):
        ILLMRec(**{"features": features} | options)


def test_a_checkpoint_of_an_adaptor_for_another_encoder_is_refused(make, planted, features, tmp_path):
    make(epochs=1, llm="").fit(planted, tmp_path / "run.pt")
    wider = {kind: np.hstack([part, part[:, :1]]) for kind, part in features.items()}
    with pytest.raises(ValueError, match=r"run\.pt is the checkpoint of another training: .*other data or hyperparam"):
        ILLMRec(features=wider, **SMALL | {"epochs": 1, "llm": ""}).fit(planted, tmp_path / "run.pt")


def test_features_of_other_items_are_refused(planted, features):
    short = {kind: part[:-1] for kind, part in features.items()}
    with pytest.raises(ValueError, match="I-LLMRec, image"):
        ILLMRec(features=short, llm="").fit(planted)

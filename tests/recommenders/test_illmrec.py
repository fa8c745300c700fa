"""illmrec.py: the whole pipeline equals a slow reference; what is frozen stays so; save, load, resume; bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import store

from mmrec_helpers.data.dataset import Queries
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.illmrec import ANSWER_LEN, EXPRESSIONS, ILLMRec, properties_of

SMALL = {"shared_dim": 6, "batch_size": 20, "epochs": 2, "max_len": 4, "validate_every": 1}
ATTRIBUTES = ("brand", "category", "title", "description")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return store(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="module")
def features(planted_features):
    image = planted_features.copy()
    image[3] = 0  # an item without an image
    return {"image": image, "CF": planted_features[:, ::-1][:, :3].copy()}


@pytest.fixture(scope="module")
def make(folder, features):
    return lambda **options: ILLMRec(features=features, **SMALL | {"llm": str(folder)} | options)


@pytest.fixture(scope="module")
def fitted(make, planted):
    systems = {}

    def fit(**options):
        key = str(options)
        if key not in systems:
            systems[key] = make(**options).fit(planted)
        return systems[key]

    return fit


# The reference --------------------------------------------------------------------------------------------------------


def expressed(llm, dataset, network, expression, item):
    """(T, D) input embeddings of an item's expression, written once more."""
    template, kind = EXPRESSIONS[expression]
    if kind and not network.features[kind][item].any():
        template = EXPRESSIONS["description"][0]
    fields = {name: dataset.item(item)[name] or "" for name in ATTRIBUTES}
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
    for number, kind in enumerate(system.network.features):
        user = system.network.head.users[number](hidden)
        for item in range(1, dataset.num_items + 1):
            scores[item] += user @ system.network.head.items[number](system.network.features[kind][item])
    return scores.numpy()


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_scores_are_those_of_a_slow_reference(expression, fitted, planted, folder):
    system, llm, queries = fitted(expression=expression), load_language_model(folder), planted.queries("test", 6)
    scores = system.score(queries)
    assert scores.dtype == np.float32
    for row in (0, 7, 20):
        with torch.no_grad():
            expected = reference_scores(system, llm, planted.dataset, queries.histories[row])
        np.testing.assert_allclose(scores[row], expected, atol=1e-5)


@pytest.mark.parametrize("loss", ["bce", "softmax"])
def test_the_loss_is_that_of_a_slow_reference(loss, make, planted, folder):
    """Of the first step, without alignment: histories and negatives are read off, all else is computed again."""
    system, seen = make(loss=loss, alignment=False), {}
    system.prepare(planted)
    train = planted.interactions("train").groupby("user")["item"]
    users = [items.to_numpy() for _, items in train]
    states = system.user_states
    system.user_states = lambda histories: states(seen.setdefault("histories", histories))
    torch.manual_seed(3)
    found = system.loss_of(users, 0)
    torch.manual_seed(3)
    llm, rows = load_language_model(folder), []
    drawn = torch.randint(1, planted.dataset.num_items, (20, 1))[:, 0]
    for history, other in zip(seen["histories"], drawn, strict=True):
        own = next(items for items in users if np.shares_memory(items, history))
        target = int(own[len(history)])
        negative = int(other) + (int(other) >= target)
        with torch.no_grad():
            total = [np.zeros(planted.dataset.num_items + 1) for _ in system.network.features]
            for number, kind in enumerate(system.network.features):
                one = replace_kinds(system, kind, number)
                total[number] = reference_scores(one, llm, planted.dataset, history)
        for scores in total:
            if loss == "bce":
                rows.append(np.logaddexp(0, -scores[target]) + np.logaddexp(0, scores[negative]))
            else:
                rows.append(np.logaddexp.reduce(scores[1:]) - scores[target])
    assert float(found.detach()) == pytest.approx(sum(rows) / 20, abs=1e-5)


def replace_kinds(system, kind, number):
    """A stand-in whose head has one kind of features only; expressions still read all."""

    class Head:
        users, items = [system.network.head.users[number]], [system.network.head.items[number]]

    class Features(dict):
        def __iter__(self):
            return iter([kind])

    class Network:
        features = Features({name: part for name, part in system.network.features.items()})
        adaptor, rec, head = system.network.adaptor, system.network.rec, Head

    class System:
        network, expression = Network, system.expression

    return System


# Training -------------------------------------------------------------------------------------------------------------


def test_the_model_is_frozen_bit_by_bit_and_all_else_learns(fitted, make, planted, folder):
    system, before = fitted(), load_language_model(folder).model.state_dict()
    for name, weight in system.language_model.model.state_dict().items():
        assert torch.equal(weight, before[name])
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


def test_random_weights_are_another_model(fitted, planted):
    system = fitted(random_llm=True, expression="title")
    assert not torch.equal(system.language_model.words, fitted(expression="title").language_model.words)


def test_every_question_occurs(make, planted, monkeypatch):
    system, asked = make(), set()
    system.prepare(planted)
    framed = system.framed
    monkeypatch.setattr(system, "framed", lambda question: asked.add(question) or framed(question))
    for seed in range(60):
        system.alignment_loss([np.array([1])], np.array([2]), np.random.default_rng(seed))
    assert len(asked) == 5 * len(properties_of(planted.dataset))


# Saving and resuming --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"expression": "attributes"}, {"llm": ""}])
def test_what_is_loaded_scores_the_same(options, fitted, planted, tmp_path):
    system, queries = fitted(**options), planted.queries("test")
    system.save(tmp_path / "system")
    loaded = load_recommender(tmp_path / "system")
    assert np.array_equal(loaded.score(queries), system.score(queries))
    assert repr(loaded) == repr(system)
    some = np.array([3, 30, 11, 5])
    np.testing.assert_allclose(system.score(queries.take(some)), system.score(queries)[some], atol=1e-5)


def test_a_system_does_not_score_with_other_files_of_its_model(make, planted, tmp_path):
    other = store(tmp_path / "model", "llama")
    make(llm=str(other), epochs=1).fit(planted).save(tmp_path / "system")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    with pytest.raises(ValueError, match=r"fitted with other files of .*: fit it anew"):
        load_recommender(tmp_path / "system").score(planted.queries("test"))


def test_a_killed_training_resumes_to_the_same_scores(make, fitted, planted, tmp_path, monkeypatch):
    from mmrec_helpers.training import loop

    checkpoint, queries = tmp_path / "run.pt", planted.queries("test")
    killed, steps = make(), []

    def stop(*arguments):
        steps.append(1)
        if len(steps) > 3:
            raise KeyboardInterrupt
        return type(killed).alignment_loss(killed, *arguments)

    monkeypatch.setattr(killed, "alignment_loss", stop)
    save_each = lambda config: replace(config, save_every=1)  # noqa: E731
    train = loop.train
    monkeypatch.setattr(
        "mmrec_helpers.recommenders.illmrec.train",
        lambda network, loss_of, config, *rest: train(network, loss_of, save_each(config), *rest),
    )
    with pytest.raises(KeyboardInterrupt):
        killed.fit(planted, checkpoint)
    assert checkpoint.exists()
    resumed = make().fit(planted, checkpoint)
    assert np.array_equal(resumed.score(queries), fitted().score(queries))


# Bad input ------------------------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_loses_its_oldest_items_and_is_counted(make, fitted, planted):
    queries = planted.queries("test")
    system = fitted(expression="title")
    system.score(queries)
    assert system.num_truncated == 0
    prompts = [system.prompt(items, system.frame[1])[0] for items in queries.histories]
    system.max_tokens = max(map(len, prompts)) - 1
    shorter = [system.prompt(items, system.frame[1]) for items in queries.histories]
    system.score(queries)
    assert 0 < sum(cut for _, cut in shorter) == system.num_truncated < len(queries)
    for (tokens, cut), whole, items in zip(shorter, prompts, queries.histories, strict=True):
        assert len(tokens) <= system.max_tokens
        expected = system.prompt(items[items > 0][-3:], system.frame[1])[0] if cut else whole
        assert tokens == expected
    system.max_tokens = len(system.frame[0]) + len(system.frame[1]) + 2
    with pytest.raises(ValueError, match=r"item \d+ alone makes the prompt longer than \d+ tokens: raise max_tokens"):
        system.score(queries)
    system.max_tokens = 0


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
        ({"llm": "", "expression": "title"}, r"without an LLM, choose an expression with \[VISUAL\]"),
    ],
)
def test_what_cannot_be_is_refused(options, message, features):
    with pytest.raises(ValueError, match=message):
        ILLMRec(**{"features": features} | options)


def test_features_of_other_items_are_refused(planted, features):
    short = {kind: part[:-1] for kind, part in features.items()}
    with pytest.raises(ValueError, match="I-LLMRec, image"):
        ILLMRec(features=short, llm="").fit(planted)

"""prompting.py: scores are log-likelihoods, examples leak nothing, the instruction is before the items."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from experiments import ch04, prompting
from experiments.cells import Cell
from experiments.datasets import LEAVE_ONE_OUT, POCKET, benchmark_split
from experiments.prompting import FEW, FEW_SHOT, SHOT_LEN, TASK, Prompted, split_of

pytestmark = pytest.mark.usefixtures("tiny")


def cell(name: str, **fields: object) -> Cell:
    return Cell(study="ch04", data=POCKET, split=LEAVE_ONE_OUT, part="test", system=name, **fields)


def fitted(**options: object) -> Prompted:
    return Prompted(**options).fit(benchmark_split(POCKET, 0, LEAVE_ONE_OUT))


@pytest.fixture(scope="module")
def queries():
    return benchmark_split(POCKET, 0, LEAVE_ONE_OUT).queries("test").take(slice(3))


def plain_score(system: Prompted, user: int, history: list[int], item: int) -> float:
    """The log-likelihood of a title after the whole prompt, token by token."""
    shown = [own for own in system.examples if own != user][: system.num_shots]
    lines = "".join(system.line(system.examples[own][:-1], system.examples[own][-1]) for own in shown)
    llm = system.language_model
    tokens = llm.tokens(llm.chat(f"{TASK}{lines}{system.line(history)}") + llm.reply(system.titles[item]))
    size = len(llm.tokens(llm.reply(system.titles[item])))
    with torch.no_grad():
        logits = llm.model(torch.tensor([tokens])).logits[0].log_softmax(1)
    return sum(float(logits[at - 1, tokens[at]]) for at in range(len(tokens) - size, len(tokens)))


@pytest.mark.parametrize("num_shots", [0, 2])
def test_a_score_is_the_log_likelihood_of_the_title_by_a_plain_loop(queries, num_shots):
    candidates = np.array([[1, 5], [7, 2], [3, 3]])
    plain, calibrated = (fitted(num_shots=num_shots, calibrated=own) for own in (False, True))
    scores, differences = plain.score(queries, candidates), calibrated.score(queries, candidates)
    for row, user in enumerate(queries.users):
        history = queries.histories[row][-plain.max_len :]
        history = history[history > 0].tolist()
        for column, item in enumerate(candidates[row]):
            expected = plain_score(plain, user, history, item)
            assert scores[row, column] == pytest.approx(expected, abs=1e-4)
            prior = plain_score(plain, user, [], item)
            assert differences[row, column] == pytest.approx(expected - prior, abs=1e-4)
    whole = plain.score(queries.take(slice(1)))
    np.testing.assert_allclose(whole[0, candidates[0]], scores[0], atol=1e-4)


def test_examples_are_of_other_users_and_of_the_training_part_alone():
    split = benchmark_split(POCKET, 0, LEAVE_ONE_OUT)
    system = fitted(num_shots=3)
    training = split.interactions("train").groupby("user")["item"].apply(list)
    assert len(system.examples) == 4  # one is in place of the query's user
    for user, items in system.examples.items():
        assert items == training[user][-SHOT_LEN - 1 :]
    user, *others = system.examples
    queries = split.queries("test")
    row = queries.take(queries.users == user)
    system.score(row, np.array([[1]]))
    assert list(system.prefixes) == [tuple(others)]
    last = queries.take(queries.users != user).take(slice(1))
    system.score(last, np.array([[1]]))
    assert all(last.users[0] not in shown for shown in system.prefixes)


def test_targets_and_other_queries_change_no_score(queries):
    system, candidates = fitted(num_shots=2), np.array([[1, 5], [7, 2], [3, 3]])
    scores = system.score(queries, candidates)
    shorter = queries.histories.copy()
    shorter[0, :-1] = 0
    changed = system.score(replace(queries, histories=shorter, targets=queries.targets[:, ::-1]), candidates)
    assert (changed[0] != scores[0]).any()
    np.testing.assert_array_equal(changed[1:], scores[1:])


def test_a_split_of_fewer_users_has_the_same_training_part():
    few = split_of(replace(cell(FEW_SHOT), split=FEW.replace("300", "5")))
    whole = benchmark_split(POCKET, 0, LEAVE_ONE_OUT)
    assert len(few.queries("test")) == 5 < len(whole.queries("test"))
    assert few.interactions("train").equals(whole.interactions("train"))


@pytest.mark.parametrize("name", prompting.INSTRUCTED)
def test_every_sequence_begins_with_the_words_of_the_instruction(name):
    system = ch04.build(cell(name, hyperparameters={"epochs": 1, "lr": 4e-3, "dropout": 0.0}))
    rows = system.prepare(benchmark_split(POCKET, 0, LEAVE_ONE_OUT))
    network, words = system.network, system.network.words
    assert not words.requires_grad
    inputs = rows[:2, :-1]
    embeddings = network.item_embedding()
    hidden = network.encode(inputs, embeddings)
    assert hidden.shape == (*inputs.shape, system.dim)
    network.words.data[0].neg_()  # the items attend to the words
    assert not torch.allclose(network.encode(inputs, embeddings)[:, 0], hidden[:, 0])
    loss = system.loss_of(rows, 0)
    loss.backward()
    assert loss.isfinite()
    assert words.grad is None


def test_a_cell_of_a_prompt_is_recorded(tmp_path):
    one = cell(FEW_SHOT, protocol="20 uniform", hyperparameters={"num_shots": 1, "max_len": 2})
    ((told, run),) = ch04.run([replace(one, split=f"{LEAVE_ONE_OUT}, 4 users")], tmp_path / "x.pt")
    assert told.system == run.system == FEW_SHOT
    assert len(run.users) == 4
    assert (run.target_ranks.num_candidates == 21).all()

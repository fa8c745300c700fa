"""pretraining/train.py and corpus.py: a killed run ends as one that was never killed."""

import pytest
import torch

from pretraining import train
from pretraining.corpus import sample_corpus


@pytest.fixture(scope="module")
def corpus():
    return sample_corpus((77,), "tiny")


def test_a_corpus_has_a_picture_and_words_for_each_item(corpus):
    assert corpus.pixels.shape == (len(corpus), 64, 64, 3)
    assert len(corpus) == 240
    for facts, description in zip(corpus.facts, corpus.descriptions, strict=True):
        assert facts["brand"] in description


def test_what_is_to_be_left_out_is_left_out(corpus):
    without = frozenset(corpus.descriptions[:100])
    left = sample_corpus((77,), "tiny", without)
    assert not without & set(left.descriptions)
    assert left.descriptions == [text for text in corpus.descriptions if text not in without]


def weights_after(monkeypatch, tmp_path, kill_at: int | None) -> torch.Tensor:
    """The weights of a small model after 250 steps, with or without a kill."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    calls = 0

    def loss_of(rng):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise KeyboardInterrupt
        given = torch.from_numpy(rng.normal(size=(8, 3))).float()
        return (model(given) - given.sum(1, keepdim=True)).square().mean()

    for _ in range(2):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)
        try:
            train.fit("toy", model, loss_of, 250)
        except KeyboardInterrupt:
            continue
        return model.weight.detach().clone()
    raise AssertionError("killed twice")


def test_a_killed_run_ends_as_one_that_was_never_killed(monkeypatch, tmp_path):
    whole = weights_after(monkeypatch, tmp_path / "whole", None)
    resumed = weights_after(monkeypatch, tmp_path / "killed", 230)
    assert torch.equal(whole, resumed)
    torch.manual_seed(0)
    assert (whole - 1).abs().sum() < (torch.nn.Linear(3, 1).weight - 1).abs().sum()  # it has learnt something

"""tools/bench_msr.py: both sides of each race compute the same, and the race says what was demanded."""

import bench_msr
import numpy as np
import pytest

from mmrec_helpers.evaluation.protocols import SampledNegatives
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.mllm_msr import MLLMMSR

HISTORIES = [["a red mug", "a blue cap"], ["a steel lamp"] * 4, ["a wool rug of a long description"]]


def test_batches_and_single_messages_are_written_alike(capsys):
    llm, raced = load_language_model("pocket-instruct"), []
    bench_msr.race_writing(lambda name, *sides: raced.append((name, sides)), llm, HISTORIES)
    ((name, (ours, reference, other)),) = raced
    assert (name, other) == ("preferences, 3 messages", "one by one")
    assert ours() == reference()
    assert all("like" in text for text in ours())
    printed = capsys.readouterr().out
    assert "demanded: 3 times as fast" in printed
    assert "3 users, 7 items, blocks of 3" in printed


def test_the_plain_loop_has_the_probabilities_of_the_shared_prefix(tmp_path, monkeypatch):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    split = load_shop(0, "tiny")[0].leave_one_out()
    texts = [" ".join(str(text or "").split()[:3]) for text in split.dataset.column("description")]
    system = MLLMMSR(history_texts=texts, candidate_texts=texts, profile="items", epochs=0).fit(split)
    queries = split.queries("test").take(slice(2))
    candidates = np.concatenate([queries.targets[:, :1], SampledNegatives(5).sample(split, "test")[:2]], axis=1)
    shared = 1 / (1 + np.exp(-system.score(queries, candidates).astype(float)))
    assert bench_msr.plain_probabilities(system, queries, candidates) == pytest.approx(shared, abs=1e-4)

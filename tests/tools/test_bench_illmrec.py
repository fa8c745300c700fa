"""tools/bench_illmrec.py: the race of a GPU runs without one, too, and counts what it says."""

import bench_illmrec
import pytest

TINY = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY |= {"num_key_value_heads": 1, "vocab_size": 2_048}


def test_the_race_of_a_gpu_runs_without_one_too():
    found = bench_illmrec.race_on_gpu(TINY, "tiny", 4)
    image, description = found["image"], found["description"]
    assert description["tokens"] > 4 * image["tokens"] > 0
    for one in (image, description):
        assert one["tokens_per_second"] == pytest.approx(one["tokens"] * one["users_per_second"])
    assert found["ratio"] == pytest.approx(image["users_per_second"] / description["users_per_second"])

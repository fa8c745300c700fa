"""The weights of the pocket models: whole, of today's shop, and as good as they must be on held-out worlds."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_tier import SHOP
from torch.nn.functional import cross_entropy

from mmrec_helpers.encoders.checkpoints import PHOTO, POCKET, WEIGHTS, digests_of
from mmrec_helpers.evaluation.runs import load_runs
from mmrec_helpers.files import damaged
from mmrec_helpers.pocket_shop.rendering import RENDERING_VERSION
from mmrec_helpers.pocket_shop.shop import SHOP_VERSION
from mmrec_helpers.pocket_shop.text_templates import TEXT_VERSION
from pretraining import encoders, language
from pretraining.corpus import HELD_OUT_SEEDS, TRAINING_SEEDS, sample_corpus, training_corpus
from pretraining.measure import measure

SEEN = {"category": 0.95, "colour": 0.9, "pattern": 0.8}
ZERO_SHOT = {f"zero-shot {attribute}": bar for attribute, bar in SEEN.items()}
ASKED = ("category", "material", "occasion", "colour", "pattern", "style", "all")
BARS = {
    "pocket-clip": ZERO_SHOT,
    "pocket-siglip": ZERO_SHOT,
    "pocket-resnet": {f"probe of pictures: {attribute}": 0.95 for attribute in (*SEEN, "style")},
    "pocket-sbert": {f"probe of descriptions: {attribute}": 0.9 for attribute in ("category", "material", "occasion")},
    "pocket-lm": {f"answer about a text: {attribute}": 0.9 for attribute in ASKED},
    "pocket-instruct": {f"answer about a text: {attribute}": 0.9 for attribute in ASKED},
    "pocket-vlm": {f"named in a description: {attribute}": bar for attribute, bar in SEEN.items()},
    "pocket-gpt2": {},
}
"""What a model must reach on a world that it was not trained on."""
MEGABYTES = 30
ROOT = Path(__file__).resolve().parents[2]
RECORD = "book/results/models.parquet"
"""One run a model and a held-out world, whose scalars are the tasks."""


WORLDS = (*SHOP, "pretraining/corpus.py", "pretraining/dialogues.py")
"""What worlds, trained on or held out, are made by."""


def inputs_of(name):
    """What the measures of a model depend on. That the package loads it as the library does is tested elsewhere."""
    record = [RECORD] if (ROOT / RECORD).exists() else []
    files = [f"mmrec_helpers/pretrained/weights/{name}/*", "pretraining/measure.py"]
    files += ["pretraining/preferences.py"] if name == "pocket-instruct" else []
    return (*WORLDS, *files, *record, "torch==", "transformers==")


@pytest.fixture(scope="module")
def held_out():
    """Two worlds that no model was trained on."""
    return [sample_corpus((seed,)) for seed in HELD_OUT_SEEDS[:2]]


@pytest.mark.parametrize("name", POCKET)
def test_the_shop_has_not_changed_since_the_weights_were_trained(name):
    stamp = json.loads((WEIGHTS / name / "stamp.json").read_text())
    assert (stamp["drawing"], stamp["wording"], stamp["shop"]) == (RENDERING_VERSION, TEXT_VERSION, SHOP_VERSION), (
        "run `make pretrained`: the weights know an older shop"
    )


@pytest.mark.parametrize("name", [*POCKET, *PHOTO])
def test_all_files_of_a_model_have_their_digests(name):
    digests = json.loads((WEIGHTS / name / digests_of(name)).read_text())
    assert set(digests) == {path.name for path in (WEIGHTS / name).iterdir()}
    assert damaged(WEIGHTS / name, digests_of(name)) is None


def test_all_weights_together_are_small():
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < MEGABYTES * 1e6


@pytest.mark.slow(*WORLDS)
def test_no_picture_and_no_text_of_a_held_out_world_was_trained_on(held_out):
    assert not set(TRAINING_SEEDS) & set(HELD_OUT_SEEDS)
    trained = training_corpus()
    pictures = {hashlib.sha256(pixels).digest() for pixels in trained.pixels}
    for world in held_out:
        assert not set(world.descriptions) & set(trained.descriptions)
        assert not pictures & {hashlib.sha256(pixels).digest() for pixels in world.pixels}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow(*inputs_of(name))) for name in POCKET])
def test_weights_do_what_the_record_says_and_clear_their_bars(name, held_out):
    if not (ROOT / RECORD).exists():
        pytest.skip("the models are not recorded yet: `make results ONLY='models/*'` does it")
    worlds = {run.stamp["seed"]: run.scalars for run in load_runs(ROOT / RECORD, system=name)}
    assert set(worlds) == set(HELD_OUT_SEEDS)
    rows = {asked: [worlds[seed][asked] for seed in HELD_OUT_SEEDS] for asked in worlds[HELD_OUT_SEEDS[0]]}
    found = measure(name, *held_out)
    for asked, value in found.items():
        print(f"{name}, {asked}: {value:.3f}")
        assert value == pytest.approx(rows[asked][0], abs=0.005)
    for asked, bar in BARS[name].items():
        assert min(found[asked], *rows[asked]) >= bar
    for asked in found:
        if asked.startswith("probe of pictures"):  # a text tower may forget what no picture shows
            assert found[asked] > rows[f"untrained, {asked}"][0]
    if name in ("pocket-clip", "pocket-siglip"):
        assert found["picture to description, first of 100"] >= 5 * found["the same by category alone"]
    if name == "pocket-lm":
        assert found["kind of the next purchase"] > 1.5 * found["the same, always the commonest kind"]
    if name in ("pocket-lm", "pocket-gpt2"):
        assert found["perplexity of texts, a token"] < min(rows["the same, a 3-gram model"])


@pytest.mark.slow(*inputs_of("pocket-lm"), "pretraining/language.py")
def test_the_language_model_reads_the_end_of_its_context_as_well_as_its_beginning(held_out, monkeypatch):
    from transformers import AutoTokenizer, LlamaForCausalLM

    monkeypatch.setattr(language, "LONG_EVERY", 1)
    folder = WEIGHTS / "pocket-lm"
    reader, model = AutoTokenizer.from_pretrained(folder), LlamaForCausalLM.from_pretrained(folder).float()
    rows = torch.cat([language.sample_rows(held_out[0], reader, np.random.default_rng(seed)) for seed in range(8)])
    assert rows.shape == (8, language.MAX_LEN)
    with torch.no_grad():
        logits = torch.cat([model(input_ids=some).logits[:, :-1] for some in rows.split(2)])
    losses = cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")  # (8, CONTEXT - 1)
    assert losses[:, -512:].mean() < 1.2 * losses[:, :512].mean()


@pytest.mark.slow(*WORLDS, "pretraining/encoders.py", "pretraining/language.py", "tokenizers==")
@pytest.mark.parametrize("name", ["pocket-clip", "pocket-siglip", "pocket-sbert", "pocket-lm"])
def test_a_tokenizer_is_what_its_recipe_trains(name):
    recipes = {
        "pocket-clip": lambda corpus: encoders.dual_encoder_tokenizer(corpus, "clip"),
        "pocket-siglip": lambda corpus: encoders.dual_encoder_tokenizer(corpus, "siglip"),
        "pocket-sbert": encoders.sbert_tokenizer,
        "pocket-lm": language.causal_lm_tokenizer,
    }
    trained = json.loads(recipes[name](training_corpus()).backend_tokenizer.to_str())
    shipped = json.loads((WEIGHTS / name / "tokenizer.json").read_text())
    batching = ("truncation", "padding")  # as the last batch of the training was padded
    assert {key: trained[key] for key in trained if key not in batching} == {
        key: shipped[key] for key in shipped if key not in batching
    }

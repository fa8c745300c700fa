"""Profile `paper`: a training step and a query of each chapter that uses its models.

Under the models' hub names lie tiny, randomly initialised checkpoints of their architectures.
"""

import huggingface_hub
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from torch.nn.functional import normalize
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from experiments import illm_variants
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.encoders.features import encode_images, encode_texts
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.lessons.overlap import info_nce
from mmrec_helpers.llm.backbones import backbone_weights
from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.registry import build_system, system_inputs
from mmrec_helpers.settings import PROFILES, load_settings
from mmrec_helpers.studies.ch02 import nearest_images, study_overlap
from mmrec_helpers.studies.ch04 import build_variant, decoder_inputs, design_choices

COMMIT = "0123456789abcdef" * 2 + "01234567"
EDGE, MAX_LEN = 32, 16
"""Pixels and tokens that the encoders take."""
DIMS = {"clip": 64, "siglip": 24, "text": 32}
"""Of the embeddings: a dimension for each role, so that none is taken for another."""
GPT2_SIZES = {"dim": 16, "num_layers": 3, "num_heads": 2}
PIECES = ["<s>", "<pad>", "</s>", "<unk>"]


def make_tokenizer(texts):
    """A BPE tokenizer that puts a text between BOS and EOS."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, special_tokens=PIECES))
    bpe.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), PIECES, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, model_input_names=["input_ids", "attention_mask"], model_max_length=MAX_LEN, **names
    )


def make_models(num_tokens):
    """Role -> the parts of its checkpoint beside the tokenizer."""

    def layers(dim):
        return {"hidden_size": dim, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}

    tokens = {"vocab_size": num_tokens, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}

    def parts(dim):
        return {
            "text_config": layers(dim) | tokens | {"max_position_embeddings": MAX_LEN},
            "vision_config": layers(dim) | {"image_size": EDGE, "patch_size": 8},
        }

    edge = {"height": EDGE, "width": EDGE}
    pixels = CLIPImageProcessor(size={"shortest_edge": EDGE}, crop_size=edge), SiglipImageProcessor(size=edge)
    gpt2 = {"n_embd": GPT2_SIZES["dim"], "n_layer": GPT2_SIZES["num_layers"], "n_head": GPT2_SIZES["num_heads"]}
    return {
        "clip": (CLIPModel(CLIPConfig(**parts(32), projection_dim=DIMS["clip"])), pixels[0]),
        "siglip": (SiglipModel(SiglipConfig(**parts(DIMS["siglip"]))), pixels[1]),
        "text": (MPNetModel(MPNetConfig(**layers(DIMS["text"]), **tokens, max_position_embeddings=MAX_LEN + 2)),),
        "gpt2": (GPT2LMHeadModel(GPT2Config(**gpt2, **tokens)),),
        "llm": (LlamaForCausalLM(LlamaConfig(**layers(32), **tokens)),),
    }


@pytest.fixture(scope="module")
def shop():
    """The tiny shop with its truth."""
    return load_shop(0, "tiny")


@pytest.fixture(scope="module")
def settings(shop, tmp_path_factory):
    """The profile's settings; the hub's cache holds a snapshot of each model, and there is no network."""
    home, tokenizer = tmp_path_factory.mktemp("hub"), make_tokenizer(shop[0].items["description"][:])
    torch.manual_seed(0)
    for role, parts in make_models(len(tokenizer)).items():
        folder = home / f"models--{PROFILES['paper'][role].replace('/', '--')}"
        for part in (*parts, tokenizer):
            part.save_pretrained(folder / "snapshots" / COMMIT)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(COMMIT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home))
        patch.setenv("MMREC_CACHE", str(home / "cache"))
        patch.setenv("MMREC_PROFILE", "paper")
        patch.delenv("MMREC_MODELS", raising=False)
        yield load_settings()


def score_one_query(system, split):
    """Scores of all items for the first test query."""
    scores = np.asarray(system.score(split.queries("test").take([0])))
    assert scores.shape == (1, split.dataset.num_items + 1)
    assert np.isfinite(scores[:, 1:]).all()
    assert scores[:, 1:].std() > 0


def test_every_role_has_its_model_in_the_cache_of_the_hub(settings):
    assert {find_checkpoint(name).name for name in settings.models.values()} == {COMMIT}
    assert len({find_checkpoint(name) for name in settings.models.values()}) == len(settings.models)


@pytest.mark.parametrize("role", ["clip", "siglip"])
def test_chapter_2_compares_images_with_descriptions(shop, settings, role):
    (dataset, truth), name = shop, settings.models[role]
    found = study_overlap(dataset, truth, name)
    assert found["pairs"] == dataset.has_image.sum()
    assert set(found["table"]) == {"matched", "random", "same category", "same category and colour"}
    assert np.isfinite(found["table"]["random"]).all()
    assert found["truncated"] > 0.9
    images, texts = encode_images(dataset, name), encode_texts(dataset, name, "description")
    assert images.vectors.shape == texts.vectors.shape == (dataset.num_items, DIMS[role])
    assert nearest_images("a red lamp", normalize(images.vectors), dataset.items, load_encoder(name)).data


def test_a_step_of_chapter_2s_contrastive_learning_lowers_the_loss(shop, settings):
    images, texts = (encode(shop[0], settings.models["clip"]) for encode in (encode_images, encode_texts))
    rows = (images.present & texts.present).nonzero()[:64, 0]
    projection = torch.nn.Linear(DIMS["clip"], DIMS["clip"])

    def loss():
        return info_nce(normalize(projection(images.vectors[rows])), normalize(texts.vectors[rows]), 0.07)

    before = loss()
    before.backward()
    torch.optim.SGD(projection.parameters(), lr=0.01).step()
    assert loss() < before


def test_chapter_2_finds_siglips_scale_and_bias(settings):
    model = load_encoder(settings.models["siglip"]).model
    assert np.isfinite([model.logit_scale.exp().item(), model.logit_bias.item()]).all()


@pytest.mark.parametrize("name", ["VBPR, image", "SASRec_F, both"])
def test_chapter_3_trains_and_queries_systems_with_image_features(shop, settings, name):
    dataset, _ = shop
    inputs, split = system_inputs(dataset, settings.models["clip"]), dataset.leave_one_out()
    assert inputs["image"].shape == (dataset.num_items + 1, DIMS["clip"])
    score_one_query(build_system(name, inputs, epochs=1).fit(split), split)


@pytest.mark.parametrize("tuning", ["", ", LoRA"])
def test_chapter_4_trains_and_queries_the_decoder_with_the_pretrained_backbone(shop, settings, tuning):
    (dataset, _), name = shop, f"pretrained backbone{tuning}"
    inputs, choices = decoder_inputs(dataset, settings), design_choices(dataset, settings)
    assert inputs["both"]["dims"] == (DIMS["text"], DIMS["clip"])
    assert "random backbone of its size" in choices
    system = build_variant(name, choices[name], inputs, settings, epochs=1, batch_size=10_000)
    assert {size: getattr(system, size) for size in GPT2_SIZES} == GPT2_SIZES
    system.fit(split := dataset.leave_one_out())
    assert len(system.training.losses) == 1
    score_one_query(system, split)
    positions = dict(system.network.backbone.named_parameters())["positions.weight"].detach().cpu()
    stored = backbone_weights(settings.models["gpt2"])["transformer.wpe.weight"]
    assert torch.equal(positions, stored) == bool(tuning)  # LoRA freezes them
    torch.testing.assert_close(positions, stored, atol=0.01, rtol=0)


@pytest.mark.parametrize("name", ["I-LLMRec", "I-LLMRec+D", "LoRA", "half of the images missing"])
def test_chapter_5_trains_and_queries_i_llmrec_with_the_llm(shop, settings, name):
    split = shop[0].leave_one_out()
    cf = np.random.default_rng(0).standard_normal((split.dataset.num_items + 1, 8)).astype(np.float32)
    system = illm_variants.build_variant(
        name, illm_variants.VARIANTS[name], split, cf, settings, epochs=1, batch_size=10_000
    )
    assert system.llm == PROFILES["paper"]["llm"]
    system.fit(split)
    assert len(system.training.losses) == 1
    score_one_query(system, split)

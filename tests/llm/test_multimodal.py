"""multimodal.py: pocket-vlm, and a hub's kind of LLaVA; batches generate what single forward passes generate."""

from shutil import copytree

import pytest
import torch
from PIL import Image
from small_models import LLAMA
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from mmrec_helpers.encoders.checkpoints import WEIGHTS, find_checkpoint
from mmrec_helpers.llm.multimodal import load_multimodal_model
from mmrec_helpers.pocket_shop.rendering import render_item

TEMPLATE = (
    "{% for message in messages %}USER: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} ASSISTANT:{% endfor %}"
)
"""Of messages that are lists of parts, as on the hub; without a BOS token."""
RED, BLUE = (Image.new("RGB", (40, 70), colour) for colour in ("red", "blue"))
MESSAGES = ["Describe the picture.", "What is it?", "A red mug made of steel.\nSummarise it.", "What colour is it?"]
IMAGES = [RED, BLUE, None, RED]


def store_llava(folder):
    """A randomly initialised LLaVA in hub layout, of eight pixels a patch."""
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**vision, image_size=16, patch_size=8),
        text_config=LlamaConfig(**LLAMA),
        image_token_index=5,
        image_seq_length=4,
    )
    torch.manual_seed(0)
    LlavaForConditionalGeneration(config).half().save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        tokenizer=AutoTokenizer.from_pretrained(find_checkpoint("pocket-lm")),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
TOWER |= {"image_size": 16, "patch_size": 8}


def llava_next(tokenizer):
    """LLaVA-1.6's architecture: an image as a whole and in parts, as many as its shape needs."""
    grid = [[16, 32], [32, 16], [32, 32]]
    size = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}, "image_grid_pinpoints": grid}
    towers = {"vision_config": CLIPVisionConfig(**TOWER), "text_config": LlamaConfig(**LLAMA)}
    config = LlavaNextConfig(**towers, image_token_index=5, image_seq_length=4, image_grid_pinpoints=grid)
    form = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaNextProcessor(LlavaNextImageProcessor(**size), tokenizer, chat_template=TEMPLATE, **form)
    return LlavaNextForConditionalGeneration(config), processor


def idefics3(tokenizer):
    """SmolVLM's architecture."""
    images = Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=TEMPLATE)
    text = LlamaConfig(**LLAMA | {"vocab_size": len(tokenizer)})
    ids = {"image_token_id": processor.image_token_id, "pad_token_id": 0}
    config = Idefics3Config(vision_config=TOWER, text_config=text, scale_factor=2, **ids)
    return Idefics3ForConditionalGeneration(config), processor


def qwen2_vl(tokenizer):
    """Qwen-VL's architecture: as many vectors as an image has pixels for, and another token for it."""
    names = {"image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|start|>", "vision_end": "<|end|>"}
    tokenizer.add_special_tokens({"additional_special_tokens": [*names.values()]})
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    text, patches = LLAMA | {"vocab_size": len(tokenizer), "rope_parameters": rope}, {"patch_size": 4}
    vision = {"embed_dim": 16, "hidden_size": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 2, **patches}
    images = Qwen2VLImageProcessor(**patches, min_pixels=64, max_pixels=256)
    template = TEMPLATE.replace("<image>", "<|start|><|image_pad|><|end|>")
    processor = Qwen2VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(**patches), chat_template=template)
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **ids)), processor


@pytest.mark.parametrize("make", [llava_next, idefics3, qwen2_vl])
def test_other_families_of_the_hub_reply_in_batches_what_they_reply_one_by_one(make, tmp_path):
    torch.manual_seed(0)
    for part in make(AutoTokenizer.from_pretrained(find_checkpoint("pocket-lm"))):
        part.save_pretrained(tmp_path)
    vlm = load_multimodal_model(tmp_path)
    together = vlm.replies(MESSAGES, IMAGES, 6)
    assert together == [vlm.replies([one], [image], 6)[0] for one, image in zip(MESSAGES, IMAGES, strict=True)]
    assert vlm.replies(MESSAGES[:1], [BLUE], 6) != together[:1]  # the image counts


@pytest.fixture(scope="module", params=["pocket-vlm", "llava"])
def vlm(request, tmp_path_factory):
    name = request.param if request.param != "llava" else store_llava(tmp_path_factory.mktemp("models"))
    return load_multimodal_model(name)


@torch.no_grad()
def by_hand(vlm, message, image, steps):
    """The most probable token, one forward pass each; and whether the last one is the EOS token."""
    images = None if image is None else [image]
    prompt = vlm.chat(message, image is not None)
    options = {"add_special_tokens": not prompt.startswith("<s>"), "return_tensors": "pt"}
    inputs = vlm.processor(text=prompt, images=images, **options)
    tokens, start, eos = inputs.pop("input_ids"), inputs.pop("attention_mask").shape[1], 2
    assert tokens[0].tolist().count(1) == 1  # one BOS token
    while tokens.shape[1] < start + steps and (tokens.shape[1] == start or tokens[0, -1] != eos):
        best = vlm.model(input_ids=tokens, **inputs).logits[:, -1:].argmax(-1)
        tokens = torch.cat([tokens, best], dim=1)
    return vlm.processor.decode(tokens[0, start:], skip_special_tokens=True).strip(), bool(tokens[0, -1] == eos)


def test_batches_with_and_without_images_reply_what_single_forward_passes_do(vlm):
    replies = vlm.replies(MESSAGES, IMAGES, 8)
    assert replies == [by_hand(vlm, *pair, 8) for pair in zip(MESSAGES, IMAGES, strict=True)]
    assert vlm.replies([], [], 8) == []


def test_a_chat_has_the_form_of_the_template(vlm):
    template_of_the_hub = vlm.name != "pocket-vlm"
    forms = ("USER: <image>\nWhat? ASSISTANT:", "USER: What? ASSISTANT:")
    pocket = ("<s><|user|> <image>\nWhat?<|assistant|>", "<s><|user|> What?<|assistant|>")
    assert (vlm.chat("What?", True), vlm.chat("What?", False)) == (forms if template_of_the_hub else pocket)


def test_a_text_cannot_ask_for_an_image(vlm):
    assert vlm.chat("<image> 'type': mug", True).count("<image>") == 1
    assert len(vlm.replies(["<image><image> mug"], [None], 2)) == 1


def test_samples_follow_from_the_seed_and_leave_other_draws_alone(vlm):
    torch.manual_seed(7)
    drawn = [vlm.replies(MESSAGES, IMAGES, 8, temperature=5.0, seed=seed) for seed in (0, 0, 1)]
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))
    assert drawn[0] == drawn[1] != drawn[2]
    assert vlm.replies(MESSAGES, IMAGES, 8, seed=1) == vlm.replies(MESSAGES, IMAGES, 8) != drawn[0]


def test_a_reply_says_whether_it_was_truncated(vlm):
    assert not any(ended for _, ended in vlm.replies(MESSAGES, IMAGES, 1))


def test_pocket_vlm_describes_the_image_that_it_gets():
    vlm = load_multimodal_model("pocket-vlm")
    colours = ("red", "blue")
    images = [render_item("mug", colour, "plain", "modern", (0, 0), 0, 64) for colour in colours]
    for colour, (reply, ended) in zip(colours, vlm.replies(["Describe the picture."] * 2, images, 16), strict=True):
        assert {colour, "mug"} <= set(reply.split())
        assert ended
    assert not any(weight.requires_grad for weight in vlm.model.parameters())


def test_weights_may_be_loaded_in_half_the_memory(tmp_path):
    vlm = load_multimodal_model(store_llava(tmp_path), torch.bfloat16)
    assert {weight.dtype for weight in vlm.model.parameters()} == {torch.bfloat16}
    assert len(vlm.replies(MESSAGES, IMAGES, 2)) == len(MESSAGES)


def test_what_is_no_multimodal_model_is_refused():
    with pytest.raises(ValueError, match=r"pocket-lm has no usable multimodal model .* such as pocket-vlm"):
        load_multimodal_model("pocket-lm")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("tokenizer_config.json", '"eos_token": "</s>",', ""),
        ("processor_config.json", '"patch_size": 8,', ""),
        ("processor_config.json", '"width": 64', '"width": "x"'),
        ("chat_template.jinja", "{% endfor %}", ""),
    ],
)
def test_damage_that_shows_only_in_use_is_named_when_a_model_is_loaded(tmp_path, name, old, new):
    copytree(WEIGHTS / "pocket-vlm", tmp_path, dirs_exist_ok=True)
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=rf"^{tmp_path} has no usable multimodal model .*fetch it again"):
        load_multimodal_model(tmp_path)


def test_without_a_padding_token_replies_are_the_same(tmp_path):
    copytree(WEIGHTS / "pocket-vlm", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "<pad>",', ""))
    replies = [load_multimodal_model(name).replies(MESSAGES, IMAGES, 3) for name in ("pocket-vlm", tmp_path)]
    assert replies[0] == replies[1]

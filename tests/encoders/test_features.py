"""The encoders: tiny random models in the layout of the hub, compared with the calls of the libraries."""

import json
import time
from dataclasses import replace
from shutil import copy, copytree

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from small_data import rec_dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from mmrec_helpers.encoders import checkpoints
from mmrec_helpers.encoders import features as encoders
from mmrec_helpers.encoders.checkpoints import find_checkpoint, revision
from mmrec_helpers.encoders.features import (
    embed_images,
    embed_texts,
    encode_images,
    encode_patches,
    encode_texts,
    encode_tokens,
)
from mmrec_helpers.encoders.models import Encoder, load_encoder, randomly_initialised
from mmrec_helpers.files import damaged, write_digests

TEXTS = [
    "a red lamp",
    "An oak desk with two drawers, made in a small workshop. Its legs are turned; its top is plain and oiled.",
    "blue",
    "a red desk and a blue lamp, " * 4,
    "Mugs! Six of them.",
    "a lamp of oak",
    "the small blue mug with a red stripe, for coffee",
]
LIMIT = 24
"""Tokens that the tiny models read; some of TEXTS are longer."""
CLIP_PIXELS = transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
COMMIT = "0123456789abcdef" * 2 + "01234567"


def sample_images(num: int = 7) -> list[Image.Image]:
    """Noise in several sizes and modes."""
    rng = np.random.default_rng(0)
    sizes, modes = [(40, 40), (64, 48), (30, 50)], ["RGB", "L", "RGBA", "P"]
    noise = [rng.integers(0, 256, (*sizes[row % 3], 3), dtype=np.uint8) for row in range(num)]
    return [Image.fromarray(shades).convert(modes[row % 4]) for row, shades in enumerate(noise)]


def close(found: torch.Tensor, wanted: torch.Tensor | list[torch.Tensor]) -> None:
    wanted = torch.stack(list(wanted)) if isinstance(wanted, list) else wanted
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


# Checkpoints ----------------------------------------------------------------------------------------------------------


def text_config(vocabulary: int) -> dict:
    tiny = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return tiny | {"max_position_embeddings": LIMIT, "vocab_size": vocabulary}


def vision_config() -> dict:
    return {key: value for key, value in text_config(0).items() if not key.startswith(("max", "vocab"))} | {
        "image_size": 32,
        "patch_size": 8,
    }


def make_clip(folder):
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=alphabet, special_tokens=special, end_of_word_suffix="</w>"
    )
    bpe.train_from_iterator([text.lower() for text in TEXTS], trainer)
    model = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = transformers.CLIPTokenizer(vocab=model["vocab"], merges=merges, model_max_length=LIMIT)
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPConfig(
        text_config=text_config(len(tokenizer)) | ends, vision_config=vision_config(), projection_dim=16
    )
    for part in (transformers.CLIPModel(config), tokenizer):
        part.save_pretrained(folder)
    # As openai's models have them, in the form of older versions.
    write(folder / "vocab.json", model["vocab"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in merges))
    colours = {"image_mean": CLIP_PIXELS.image_mean, "image_std": CLIP_PIXELS.image_std}
    steps = {"do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3}
    sizes = {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 32, "size": 32}
    write(folder / "preprocessor_config.json", colours | steps | sizes)


def make_siglip(folder):
    unigram = Tokenizer(models.Unigram())
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>", "</s>"], unk_token="<unk>")
    unigram.train_from_iterator(TEXTS, trainer)
    names = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "</s>", "model_max_length": LIMIT}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=unigram, model_input_names=["input_ids"], **names)
    config = transformers.SiglipConfig(text_config=text_config(len(tokenizer)), vision_config=vision_config())
    processor = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    for part in (transformers.SiglipModel(config), processor, tokenizer):
        part.save_pretrained(folder)


def make_sentences(folder, pooling="mean", normalise=True):
    pieces = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces.train_from_iterator(
        [text.lower() for text in TEXTS], trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    )
    tokenizer = transformers.BertTokenizer(vocab=pieces.get_vocab(), model_max_length=2 * LIMIT)
    config = transformers.BertConfig(**text_config(len(tokenizer)) | {"max_position_embeddings": 2 * LIMIT})
    for part in (transformers.BertModel(config), tokenizer):
        part.save_pretrained(folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"} | ({"2_Normalize": "Normalize"} if normalise else {})
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    write(folder / "modules.json", modules)
    write(folder / "sentence_bert_config.json", {"max_seq_length": LIMIT, "do_lower_case": False})
    modes = {f"pooling_mode_{mode}_tokens": mode == pooling for mode in ("mean", "max")}
    write(folder / "1_Pooling/config.json", modes | {"pooling_mode_cls_token": pooling == "cls"})


def make_network(folder):
    timm.models.save_for_hf(timm.create_model("test_resnet", num_classes=5), folder, safe_serialization=True)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


MAKERS = {"clip": make_clip, "siglip": make_siglip, "sentences": make_sentences, "network": make_network}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of each kind of model."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, make in MAKERS.items():
        make(home / name)
    return {name: home / name for name in MAKERS}


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """The hub's cache, empty, and nothing beyond it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def shop():
    """Seven items; the third and the sixth lack a picture."""
    return rec_dataset([(0, item, item) for item in range(1, 8)], description=[*TEXTS[:6], ""])


def features_in(folder):
    return sorted((folder / "cache/features").iterdir())


# The same as the libraries --------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_clip_as_the_library(made):
    model = transformers.CLIPModel.from_pretrained(made["clip"])
    tokenizer = transformers.CLIPTokenizer.from_pretrained(made["clip"])
    seen, read = embed_images(sample_images(), made["clip"]), embed_texts(TEXTS, str(made["clip"]))
    assert seen.vectors.shape == read.vectors.shape == (7, 16)
    assert seen.vectors.dtype == read.vectors.dtype == torch.float32
    pixels = [CLIP_PIXELS(picture.convert("RGB"), return_tensors="pt") for picture in sample_images()]
    close(seen.vectors, [model.get_image_features(**one).pooler_output[0] for one in pixels])
    tokens = [tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt") for text in TEXTS]
    close(read.vectors, [model.get_text_features(**one).pooler_output[0] for one in tokens])
    both = model(input_ids=tokens[0]["input_ids"], **pixels[0])  # what the model itself compares
    close(torch.nn.functional.normalize(seen.vectors[:1]), both.image_embeds)
    close(torch.nn.functional.normalize(read.vectors[:1]), both.text_embeds)


@torch.inference_mode()
def test_siglip_as_the_library(made):
    model = transformers.SiglipModel.from_pretrained(made["siglip"])
    processor = transformers.AutoImageProcessor.from_pretrained(made["siglip"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(made["siglip"])
    seen, read = embed_images(sample_images(), made["siglip"]), embed_texts(TEXTS, made["siglip"])
    pixels = [processor(picture.convert("RGB"), return_tensors="pt") for picture in sample_images()]
    close(seen.vectors, [model.get_image_features(**one).pooler_output[0] for one in pixels])
    tokens = [tokenizer(text, padding="max_length", truncation=True, return_tensors="pt") for text in TEXTS]
    assert {one["input_ids"].shape for one in tokens} == {(1, LIMIT)}
    close(read.vectors, [model.get_text_features(**one).pooler_output[0] for one in tokens])
    both = model(input_ids=tokens[0]["input_ids"], **pixels[0])
    close(torch.nn.functional.normalize(seen.vectors[:1]), both.image_embeds)
    close(torch.nn.functional.normalize(read.vectors[:1]), both.text_embeds)


@torch.inference_mode()
@pytest.mark.parametrize(("kind", "num_patches"), [("clip", 16), ("siglip", 16), ("network", None)])
def test_patches_average_to_what_the_library_pools_or_are_its_last_layer(made, kind, num_patches):
    encoder = load_encoder(made[kind])
    picture = sample_images()[1].convert("RGB")
    found = embed_images([None, picture], encoder, encoder.patches)
    assert found.present.tolist() == [False, True]
    assert not found.vectors[0].any()
    if kind == "network":
        close(found.vectors[1].mean(0), embed_images([picture], encoder).vectors[0])
        return
    hidden = encoder.model.vision_model(**encoder.processor([picture], return_tensors="pt")).last_hidden_state[0]
    close(found.vectors[1], hidden[-num_patches:])
    assert len(hidden) == num_patches + (kind == "clip")


@torch.inference_mode()
def test_tokens_average_to_the_pooled_vector(made, shop, loads):
    encoder = load_encoder(made["sentences"])
    found = embed_texts(TEXTS, encoder, lambda texts: (encoder.tokens(texts, LIMIT), False)).vectors
    num_tokens = found.any(2).sum(1)
    assert num_tokens.tolist() == [min(len(encoder.tokenizer(text)["input_ids"]), LIMIT) for text in TEXTS]
    pooled = torch.nn.functional.normalize(found.sum(1) / num_tokens[:, None])
    close(pooled, torch.nn.functional.normalize(embed_texts(TEXTS, encoder).vectors))
    short = embed_texts(TEXTS, encoder, lambda texts: (encoder.tokens(texts, 3), False)).vectors
    close(short, found[:, :3])


def test_patches_and_tokens_of_a_data_set_are_cached_apart(made, shop, loads):
    tokens, patches = encode_tokens(shop, made["sentences"], 5), encode_patches(shop, made["clip"])
    assert tokens.vectors.shape[:2] == (shop.num_items, 5)
    assert (patches.vectors.any(2).all(1) == patches.present).all()
    count = len(loads)
    assert torch.equal(encode_tokens(shop, made["sentences"], 5).vectors, tokens.vectors)
    assert len(loads) == count
    assert encode_tokens(shop, made["sentences"], 4).vectors.shape[1] == 4


@torch.inference_mode()
@pytest.mark.parametrize(("pooling", "normalise"), [("mean", True), ("mean", False), ("cls", True)])
def test_sentences_as_pooled_by_hand(tmp_path, pooling, normalise):
    make_sentences(tmp_path, pooling, normalise)
    model = transformers.BertModel.from_pretrained(tmp_path)
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    wanted = []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        ids = ids if len(ids) <= LIMIT else [*ids[: LIMIT - 1], tokenizer.sep_token_id]
        hidden = model(input_ids=torch.tensor([ids])).last_hidden_state[0]  # (T, D)
        mean = [sum(float(token[place]) for token in hidden) / len(ids) for place in range(hidden.shape[1])]
        vector = mean if pooling == "mean" else hidden[0].tolist()
        length = sum(value**2 for value in vector) ** 0.5 if normalise else 1
        wanted.append(torch.tensor([value / length for value in vector]))
    close(embed_texts(TEXTS, tmp_path).vectors, wanted)


def test_no_more_tokens_are_read_than_the_model_has_positions_for(made, tmp_path):
    copytree(made["sentences"], tmp_path, dirs_exist_ok=True)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 10**9})
    found = embed_texts(["a red lamp " * 99], tmp_path)
    assert found.vectors.isfinite().all()
    assert found.truncated.all()


def test_pooling_as_newer_versions_write_it_and_without_modules(made, tmp_path):
    plain = embed_texts(TEXTS, made["sentences"]).vectors
    copytree(made["sentences"], tmp_path, dirs_exist_ok=True)
    write(tmp_path / "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "mean"})
    assert torch.equal(embed_texts(TEXTS, tmp_path).vectors, plain)
    (tmp_path / "modules.json").unlink()
    close(torch.nn.functional.normalize(embed_texts(TEXTS, tmp_path).vectors), plain)


@torch.inference_mode()
def test_network_as_the_library(made):
    model = timm.create_model("test_resnet", num_classes=5).eval()
    state = timm.models.load_state_dict(made["network"] / "model.safetensors")
    model.load_state_dict(state)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = embed_images(sample_images(), made["network"]).vectors
    for picture, vector in zip(sample_images(), found, strict=True):
        maps = model.forward_features(transform(picture.convert("RGB"))[None])  # (1, D, height, width)
        close(vector, maps.mean(dim=(2, 3))[0])


def test_half_precision_is_computed_in_single(made, tmp_path):
    copytree(made["clip"], tmp_path, dirs_exist_ok=True)
    transformers.CLIPModel.from_pretrained(tmp_path).half().save_pretrained(tmp_path)
    found = embed_texts(TEXTS, tmp_path).vectors
    assert found.dtype == torch.float32
    assert 0 < (found - embed_texts(TEXTS, made["clip"]).vectors).abs().max() < 1e-2


# Order, batches, gaps -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKERS)
def test_order_is_kept_and_the_batch_does_not_matter(made, kind, monkeypatch):
    model = load_encoder(made[kind])
    jobs = [] if kind == "sentences" else [(embed_images, sample_images())]
    jobs += [] if kind == "network" else [(embed_texts, TEXTS)]
    for embed, things in jobs:
        together = embed(things, model)
        assert len(np.unique(together.vectors.numpy().round(4), axis=0)) == 7
        monkeypatch.setattr(encoders, "BATCH_SIZE", 2)
        close(embed(things, model).vectors, together.vectors)
        close(embed(things[::-1], model).vectors, together.vectors.flip(0))
        alone = [embed([thing], model).vectors[0] for thing in things]
        close(together.vectors, alone)


@pytest.mark.parametrize("kind", ["clip", "siglip", "sentences"])
def test_truncated_texts_are_flagged(made, kind):
    tokenizer = transformers.AutoTokenizer.from_pretrained(made[kind])
    found = embed_texts(TEXTS, made[kind])
    assert found.truncated.tolist() == [len(tokenizer(text)["input_ids"]) > LIMIT for text in TEXTS]
    assert 0 < found.truncated.sum() < 7
    grown = [("red " * words).strip() for words in range(1, 4 * LIMIT)]
    (longest,) = {text for text in grown if len(tokenizer(text)["input_ids"]) == LIMIT}
    assert not embed_texts([longest], made[kind]).truncated.any()
    assert embed_texts([f"{longest} red"], made[kind]).truncated.all()
    assert found.present.all()
    beginnings = embed_texts([TEXTS[3], TEXTS[3] + "and a mug"], made[kind])
    close(beginnings.vectors[0], beginnings.vectors[1])


def test_nothing_to_encode_is_flagged_and_zero(made, shop):
    read = embed_texts(["a lamp", "", None, " \n"], made["sentences"])
    assert read.present.tolist() == [True, False, False, False]
    assert read.vectors[0].any()
    assert not read.vectors[1:].any()
    seen = encode_images(shop, made["clip"])
    assert seen.present.tolist() == shop.has_image[1:].tolist() == [True, True, False, True, True, False, True]
    assert not seen.vectors[[2, 5]].any()
    close(
        seen.vectors[seen.present], embed_images([shop.image(item) for item in (1, 2, 4, 5, 7)], made["clip"]).vectors
    )
    for none in (embed_images([None, None], made["network"]), embed_texts(["", None], made["clip"])):
        assert none.vectors.shape[0] == 2
        assert not none.vectors.any()
        assert not none.present.any()
    assert embed_images([], made["clip"]).vectors.shape == embed_texts([], made["clip"]).vectors.shape == (0, 16)


def test_texts_of_items_are_their_fields_joined(made, shop):
    wanted = [f"thing {item}. {text}" for item, text in enumerate(TEXTS[:6], 1)] + ["thing 7"]
    close(
        encode_texts(shop, made["clip"]).vectors, embed_texts([text.strip() for text in wanted], made["clip"]).vectors
    )
    only = encode_texts(shop, made["clip"], "description")
    assert only.present.tolist() == [True] * 6 + [False]
    close(only.vectors, encode_texts(shop, made["clip"], ["description"]).vectors)
    for wrong in ("price", "colour", ("title", "image"), ()):
        with pytest.raises(ValueError, match="they are in item_id, title, description"):
            encode_texts(shop, made["clip"], wrong)


def test_vectors_can_be_trained_on(made):
    layer = torch.nn.Linear(16, 1)
    layer(embed_texts(TEXTS, made["clip"]).vectors).sum().backward()
    assert layer.weight.grad.any()


# The cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch):
    """Names of the models that were loaded."""
    names = []

    def load(encoder):
        if not isinstance(encoder, Encoder):
            names.append(str(encoder))
        return load_encoder(encoder)

    monkeypatch.setattr(encoders, "load_encoder", load)
    return names


def test_made_once_and_then_read(made, shop, loads):
    for encode, kind in ((encode_images, "network"), (encode_texts, "clip")):
        first = encode(shop, made[kind])
        loads.clear()
        again = encode(replace(shop), str(made[kind]))
        assert loads == []
        assert all(torch.equal(getattr(first, part), getattr(again, part)) for part in vars(first))


def test_each_change_is_made_anew(made, shop, loads, tmp_path):
    copytree(made["clip"], tmp_path / "other")
    encode_texts(shop, made["clip"])
    encode_texts(shop, made["clip"], "title")
    encode_texts(shop, made["clip"], ("description", "title"))
    encode_texts(replace(shop, items=shop.items.select([1, 0, 2, 3, 4, 5, 6])), made["clip"])
    encode_images(shop, made["clip"])
    encode_texts(shop, made["siglip"])
    encode_texts(shop, tmp_path / "other")
    for name in ("model.safetensors", "merges.txt", "preprocessor_config.json"):
        with (tmp_path / "other" / name).open("ab") as file:
            file.write(b" ")
        assert revision(tmp_path / "other") != revision(made["clip"])
    (tmp_path / "other/model.safetensors").write_bytes((made["clip"] / "model.safetensors").read_bytes())
    encode_texts(shop, tmp_path / "other")
    assert len(loads) == len(features_in(tmp_path)) == 8


@pytest.mark.parametrize("damage", ["empty", "short", "flipped", "foreign", "part"])
def test_a_damaged_file_is_made_anew(made, shop, loads, damage, tmp_path):
    first = encode_texts(shop, made["clip"])
    (file,) = features_in(tmp_path)
    whole = file.read_bytes()
    middle = len(whole) // 4  # within the vectors
    if damage == "part":
        np.savez(file, vectors=first.vectors.numpy())
    else:
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        file.write_bytes({"empty": b"", "short": whole[:-200], "flipped": flipped, "foreign": b"hello"}[damage])
    again = encode_texts(shop, made["clip"])
    assert len(loads) == 2
    assert torch.equal(first.vectors, again.vectors)
    assert file.read_bytes() == whole


def test_a_write_that_breaks_off_leaves_nothing(made, shop, monkeypatch, tmp_path):
    def killed(file, **parts):
        file.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(encoders.np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        encode_texts(shop, made["clip"])
    assert features_in(tmp_path) == []


# Where models are -----------------------------------------------------------------------------------------------------


def test_hub_models_are_found_in_its_cache_without_a_network(made, shop, offline, loads):
    for name, branch, kind in (("some/clip", "main", "clip"), ("timm/tiny", "refs/pr/3", "network")):
        home = offline / f"models--{name.replace('/', '--')}"
        copytree(made[kind], home / "snapshots" / COMMIT, dirs_exist_ok=True)
        (home / "refs" / branch).parent.mkdir(parents=True, exist_ok=True)
        (home / "refs" / branch).write_text(COMMIT)
        asked = name if branch == "main" else f"{name}@{branch}"
        assert revision(find_checkpoint(asked)) == COMMIT
        close(embed_images(sample_images(), asked).vectors, embed_images(sample_images(), made[kind]).vectors)
    encode_texts(shop, "some/clip")
    loads.clear()
    encode_texts(shop, "some/clip")
    assert loads == []


@pytest.mark.parametrize("name", ["openai/clip-vit-large-patch14-336", "timm/resnet18.a1_in1k", "some/model@refs/pr/7"])
def test_offline_and_not_cached(offline, name):
    start = time.perf_counter()
    with pytest.raises(ConnectionError) as caught:
        embed_texts(["a"], name)
    assert time.perf_counter() - start < 5
    hub, _, branch = name.partition("@")
    text = str(caught.value)
    assert f"hf download {hub}{' --revision ' * bool(branch)}{branch}\n" in text
    assert str(offline) in text
    assert "HF_HUB_OFFLINE" in text
    assert checkpoints.CHOICES in text
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_known_revision_with_safetensors(offline):
    with pytest.raises(ConnectionError, match="hf download openai/clip-vit-base-patch32 --revision refs/pr/15"):
        find_checkpoint("openai/clip-vit-base-patch32")


def test_pocket_models(made, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match="`make pretrained`"):
        find_checkpoint("pocket-resnet")
    copytree(made["clip"], tmp_path / "pocket-resnet", dirs_exist_ok=True)
    with pytest.raises(
        ValueError, match=r"pocket-resnet\.digests\.json is damaged: .*`make pretrained ONLY=pocket-resnet`"
    ):
        find_checkpoint("pocket-resnet")
    write_digests(tmp_path / "pocket-resnet", checkpoints.digests_of("pocket-resnet"))
    assert embed_texts(["a"], "pocket-resnet").vectors.shape == (1, 16)


def test_pocket_models_are_those_that_were_made(monkeypatch, tmp_path):
    """A change is found when a file is read, in every process; a file that did not change is read once."""
    for path in checkpoints.WEIGHTS.glob("pocket-resnet*"):
        copytree(path, tmp_path / path.name) if path.is_dir() else copy(path, tmp_path)
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    folder, reads = find_checkpoint("pocket-resnet"), []
    monkeypatch.setattr(checkpoints, "damaged", lambda *of: reads.append(of) or damaged(*of))
    for path in sorted(folder.iterdir()):
        assert find_checkpoint("pocket-resnet") == folder
        whole = path.read_bytes()
        path.write_bytes(whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:])
        with pytest.raises(ValueError, match=f"{path} is damaged: restore it from the repository, install the package"):
            find_checkpoint("pocket-resnet")
        path.write_bytes(whole)
    assert len(reads) < 3 * len(list(folder.iterdir()))


@pytest.mark.parametrize("name", ["clip", "../clip", "/nowhere/at/all", "pocket-clap", "~/no/such/folder"])
def test_no_such_folder(name, offline):
    with pytest.raises(FileNotFoundError, match=name.strip("~.")):
        find_checkpoint(name)


def test_folders_that_hold_no_model(made, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        find_checkpoint(tmp_path)
    write(tmp_path / "config.json", {"model_type": "llama"})
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        find_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match="model_type is 'llama'; encoders are clip, siglip, aligned, bert"):
        load_encoder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("part", ["pytorch_model.bin", "../model.safetensors", "none.safetensors", 3])
def test_weights_in_parts_are_safetensors_only(made, part, tmp_path):
    copytree(made["clip"], tmp_path / "clip")
    torch.save({}, tmp_path / "clip" / "pytorch_model.bin")
    (tmp_path / "clip" / "model.safetensors").rename(tmp_path / "model.safetensors")
    write(tmp_path / "clip" / "model.safetensors.index.json", {"weight_map": {"a": part}})
    with pytest.raises(ValueError, match=r"index.json names .*, which is no file of safetensors there"):
        find_checkpoint(tmp_path / "clip")


def test_a_network_of_timm_in_parts_is_refused(made, tmp_path):
    """timm would read the pickled file."""
    copytree(made["network"], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "part-1.safetensors")
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "part-1.safetensors"}})
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has its weights in parts: save them in one file"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("kind", ["clip", "network"])
def test_damaged_weights_are_named(made, kind, tmp_path):
    copytree(made[kind], tmp_path, dirs_exist_ok=True)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for content in (whole[: len(whole) // 2], b"version https://git-lfs.github.com/spec/v1", b""):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=f"{tmp_path} has no usable encoder"):
            load_encoder(tmp_path)


@pytest.mark.parametrize(("kind", "lacking"), [("clip", ": the weights lack logit_scale"), ("network", "weights lack")])
def test_weights_of_another_model_are_refused(made, tmp_path, kind, lacking):
    copytree(made[kind], tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes((made["sentences"] / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=f"{tmp_path}.*{lacking}"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", "{", "", "[" * 100_000, "\0"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_damaged_json_of_a_folder_is_named(tmp_path, name, content):
    copytree(checkpoints.WEIGHTS / "pocket-clip", tmp_path, dirs_exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}") as caught:
        load_encoder(tmp_path)
    assert "fetch it again" in str(caught.value)


NO_PADDING = {"pad_token": None}, "the tokenizer has no padding token"


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("pocket-clip", *NO_PADDING),
        ("pocket-siglip", *NO_PADDING),
        ("pocket-sbert", *NO_PADDING),
        ("pocket-sbert", {"model_max_length": -1}, ""),
    ],
)
def test_damage_of_a_tokenizer_is_named_when_an_encoder_is_loaded(tmp_path, name, change, reason):
    copytree(checkpoints.WEIGHTS / name, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "tokenizer_config.json"
    write(path, json.loads(path.read_text()) | change)
    with pytest.raises(ValueError, match=rf"^{tmp_path} has no usable encoder .*{reason}.*fetch it again"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("name", ["pocket-siglip", "pocket-sbert"])
def test_weights_and_tokens_that_the_configuration_does_not_fit_are_named(tmp_path, name):
    """The library loads each of them: it leaves layers out, and looks up what is not there when a text has it."""

    def fault():
        with pytest.raises(ValueError, match=rf"^{tmp_path} has no usable encoder .*fetch it again") as caught:
            load_encoder(tmp_path)
        return str(caught.value)

    copytree(checkpoints.WEIGHTS / name, tmp_path, dirs_exist_ok=True)
    config, tokenizer = (json.loads((tmp_path / file).read_text()) for file in ("config.json", "tokenizer.json"))
    write(tmp_path / "config.json", config | {key: {**config[key], "num_hidden_layers": 1} for key in config
                                              if key.endswith("_config")} | {"num_hidden_layers": 1})  # fmt: skip
    assert "a layer more than config.json" in fault()
    write(tmp_path / "config.json", config)
    word = next(iter(tokenizer["model"]["vocab"]))
    tokenizer["model"]["vocab"][f"{word}x"] = 9_999
    write(tmp_path / "tokenizer.json", tokenizer)
    assert "the tokenizer has a token 9999, and the model only 2000" in fault()
    del tokenizer["model"]["vocab"][f"{word}x"]
    special = tokenizer["post_processor"]["special_tokens"]
    tokenizer["post_processor"]["special_tokens"] = {}
    write(tmp_path / "tokenizer.json", tokenizer)
    assert "PanicException" in fault()
    tokenizer["post_processor"]["special_tokens"] = special
    write(tmp_path / "tokenizer.json", tokenizer)
    weights = load_file(tmp_path / "model.safetensors")
    key = next(key for key in weights if key.endswith(("token_embedding.weight", "word_embeddings.weight")))
    weights[key][-1, 0] = torch.inf
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert f"the weights {key} are not finite" in fault()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pocket-clip", {"image_std": 0}),
        ("pocket-siglip", {"image_std": [0.5, 0, 0.5]}),
        ("pocket-resnet", {"std": [0.5, 0, 0.5]}),
        ("pocket-resnet", {"mean": 3}),
        ("pocket-resnet", {"mean": [0.5, 0.5]}),
        ("pocket-resnet", {"std": []}),
        ("pocket-resnet", {"input_size": [3, 64, 0]}),
        ("pocket-resnet", {"input_size": [3, -1, 64]}),
        ("pocket-resnet", {"crop_pct": -1}),
    ],
)
def test_damage_of_what_images_are_normalised_by_is_named(tmp_path, name, change):
    copytree(checkpoints.WEIGHTS / name, tmp_path, dirs_exist_ok=True)
    path = next(path for path in (tmp_path / "preprocessor_config.json", tmp_path / "config.json") if path.exists())
    content = json.loads(path.read_text())
    content.get("pretrained_cfg", content).update(change)  # timm's are within config.json
    write(path, content)
    with pytest.raises(ValueError, match=f"^{tmp_path} has no usable encoder .*fetch it again"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("name", ["x" * 5_000, "a/" + "x" * 5_000, "~nobody-of-this-name/model", "a\0b"])
def test_a_name_that_cannot_be_is_refused(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises((FileNotFoundError, ConnectionError), match=f"there is no folder {name[:100]}"):
        find_checkpoint(name)


def test_poolings_and_modules_that_are_not_known(made, tmp_path):
    copytree(made["sentences"], tmp_path, dirs_exist_ok=True)
    modes = {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}
    for config, named in ((modes, "mean_tokens and pooling_mode_max_tokens"), ({"pooling_mode": "max"}, "is max;")):
        write(tmp_path / "1_Pooling/config.json", config)
        with pytest.raises(ValueError, match=named):
            load_encoder(tmp_path)
    modules = [{"path": "", "type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Dense")]
    write(tmp_path / "modules.json", modules)
    with pytest.raises(ValueError, match="Transformer, Dense; known are"):
        load_encoder(tmp_path)


def test_the_wrong_modality(made):
    with pytest.raises(ValueError, match=r"network encodes no texts; there are pocket-clip"):
        embed_texts(["a"], made["network"])
    with pytest.raises(ValueError, match=r"sentences encodes no images; there are pocket-clip"):
        embed_images(sample_images(), made["sentences"])
    with pytest.raises(ValueError, match=r"sentences has no patches"):
        load_encoder(made["sentences"]).patches(sample_images())
    with pytest.raises(ValueError, match=r"network has no vectors of tokens"):
        load_encoder(made["network"]).tokens(["a"], 3)


# The control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pocket-clip", "pocket-resnet", "pocket-sbert"])
def test_a_randomly_initialised_encoder_is_the_same_network_with_other_weights(name):
    trained = load_encoder(name)
    control = randomly_initialised(trained)
    weights, random = trained.model.state_dict(), control.model.state_dict()
    assert {key: value.shape for key, value in random.items()} == {key: value.shape for key, value in weights.items()}
    assert not all(torch.equal(random[key], weights[key]) for key in weights)
    again = randomly_initialised(name).model.state_dict()
    assert all(torch.equal(random[key], again[key]) for key in random)

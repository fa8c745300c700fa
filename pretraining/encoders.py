"""How the pocket encoders are trained: two pairs of towers for pictures and words, a network of pictures, sentences."""

import numpy as np
import timm
import torch
from timm.models import save_for_hf
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy, logsigmoid, normalize
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

from mmrec_helpers.encoders.checkpoints import WEIGHTS
from mmrec_helpers.pocket_shop.catalogue import VALUES
from mmrec_helpers.pocket_shop.shop import PIXELS
from pretraining.corpus import Corpus, caption, sentences
from pretraining.dialogues import summary, told
from pretraining.train import fit, pixel_values, store, together, training_corpus

VOCABULARY, WIDTH, BATCH = 2_000, 128, 128
CONTEXT = {"clip": 77, "siglip": 64, "sbert": 128}
"""Tokens that are read, as by models of these kinds."""
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}
SPECIAL = ("<pad>", "<s>", "<unk>", "</s>")
"""Numbered from 0. Were the end 2, transformers' CLIP would read a text's vector at its highest number instead."""
WORDS = {"caption": 0.55, "title": 0.1, "sentences": 0.2, "description": 0.15}
"""What stands beside the pictures of a batch, and how often; one kind a batch, so that little of it is padding."""
HEADS = {name: len(VALUES[name]) for name in ("category", "colour", "pattern", "style")}
"""What the network of pictures learns to name, and the number of values of each."""
SHADES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
"""Pixels go from -1 to 1."""
TEMPERATURE = 0.05
"""Of the sentence encoder's loss."""


# What is seen and read ------------------------------------------------------------------------------------------------


def make_tokenizer(texts: list[str], context: int, **options) -> PreTrainedTokenizerFast:
    """A lower-case byte-pair tokenizer learnt from texts: <s> text </s>."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, SPECIAL.index(name)) for name in ("<s>", "</s>")]
    )
    names = dict(zip(("pad_token", "bos_token", "unk_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=context, **names, **options)


def draw_items(corpus: Corpus, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """BATCH rows, and whether they are of two kinds of things only, as in half of the batches.

    To tell a mug from mugs, a model must look at more than its kind.
    """
    alike = rng.random() < 0.5
    category = np.array([facts["category"] for facts in corpus.facts])
    rows = np.flatnonzero(np.isin(category, rng.choice(VALUES["category"], 2, replace=False))) if alike else len(corpus)
    return rng.choice(rows, BATCH, replace=False), alike


def draw_pairs(corpus: Corpus, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """BATCH rows and the words beside their pictures."""
    kind = rng.choice(list(WORDS), p=list(WORDS.values()))
    rows, alike = draw_items(corpus, rng)
    return rows, [words_beside(corpus, row, kind, 0.9 if alike else 0.7, rng) for row in rows]


def words_beside(corpus: Corpus, row: int, kind: str, told: float, rng: np.random.Generator) -> str:
    """What may stand beside a picture: a caption, the title, two sentences of the description, or all of it."""
    if kind == "caption":
        return caption(corpus.facts[row], rng, told)
    if kind == "sentences":
        parts = sentences(corpus.descriptions[row])
        first = rng.integers(len(parts))
        return " ".join(parts[first : first + 2])
    return corpus.titles[row] if kind == "title" else corpus.descriptions[row]


def halves(corpus: Corpus, row: int, rng: np.random.Generator) -> tuple[str, str]:
    """Two texts on one item that share no sentence, of its title, its description and one of its reviews."""
    reviews = corpus.reviews[row]
    parts = [corpus.titles[row], *sentences(corpus.descriptions[row])]
    if reviews:
        parts.append(reviews[rng.integers(len(reviews))])
    parts = [parts[place] for place in rng.permutation(len(parts))]
    middle = len(parts) // 2
    return " ".join(parts[:middle]), " ".join(parts[middle:])


def two_texts(corpus: Corpus, row: int, rng: np.random.Generator) -> tuple[str, str]:
    """What is said of one item, twice: two halves, or the description and a summary of all that it tells."""
    if rng.random() < 0.5:
        return halves(corpus, row, rng)
    text = corpus.descriptions[row]
    return text, summary(told(corpus.facts[row], text))


def both_ways(logits: torch.Tensor) -> torch.Tensor:
    """InfoNCE of (B, B) similarities whose pairs stand on the diagonal."""
    own = torch.arange(len(logits))
    return (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2


def pairwise(logits: torch.Tensor) -> torch.Tensor:
    """SigLIP's loss of (B, B) similarities whose pairs stand on the diagonal: each pair is yes or no by itself."""
    return -logsigmoid(logits * (2 * torch.eye(len(logits)) - 1)).sum(1).mean()


# Models ---------------------------------------------------------------------------------------------------------------


def towers(name: str, steps: int) -> None:
    """CLIP by InfoNCE, or SigLIP by its sigmoid loss, on pictures and words beside them.

    SigLIP goes on from CLIP's layers: from random weights its loss of 128 pairs learns far more slowly.
    """
    kind = name.removeprefix("pocket-")
    corpus, rng, context = training_corpus(), np.random.default_rng(0), CONTEXT[kind]
    texts = [caption(facts, rng) for facts in corpus.facts] + corpus.titles + corpus.descriptions
    torch.manual_seed(0)
    if kind == "clip":
        tokenizer, crop = make_tokenizer(texts, context), {"height": PIXELS, "width": PIXELS}
        processor = CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=crop, **SHADES)
        model, loss, padding = CLIPModel(CLIPConfig(**configs(tokenizer), projection_dim=WIDTH)), both_ways, True
    else:
        # SigLIP reads a text at its last place, so that every text is filled up to the same length.
        tokenizer = make_tokenizer(texts, context, model_input_names=["input_ids"])
        processor = SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS}, **SHADES)
        model, loss, padding = SiglipModel(SiglipConfig(**configs(tokenizer))), pairwise, "max_length"
        copy_layers(CLIPModel.from_pretrained(WEIGHTS / "pocket-clip", dtype=torch.float32), model)
        torch.nn.init.constant_(model.logit_scale, np.log(10))
        torch.nn.init.constant_(model.logit_bias, -10)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows, words = draw_pairs(corpus, rng)
        tokens = tokenizer(words, truncation=True, max_length=context, padding=padding, return_tensors="pt")
        return loss(model(**tokens, pixel_values=pixel_values(corpus.pixels[rows])).logits_per_image.float())

    minutes = fit(name, model, loss_of, steps)
    store(name, together(model.half(), processor, tokenizer), minutes)


def copy_layers(clip: CLIPModel, siglip: SiglipModel) -> None:
    """Begin with the layers that both have. SigLIP reads fewer tokens, and has no place for a class token."""
    own, layers = siglip.state_dict(), clip.state_dict()
    seen, read = (f"{side}_model.embeddings.position_embedding.weight" for side in ("vision", "text"))
    layers |= {seen: layers[seen][1:], read: layers[read][: len(own[read])]}
    siglip.load_state_dict(own | {name: layers[name] for name in own.keys() & layers.keys() if "logit" not in name})


def configs(tokenizer: PreTrainedTokenizerFast) -> dict[str, dict]:
    """The configurations of a tower for texts and one for pictures."""
    ends = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    length = {"max_position_embeddings": tokenizer.model_max_length, "projection_size": WIDTH}
    return {
        "text_config": {**TOWER, **ends, **length, "vocab_size": VOCABULARY},
        "vision_config": {**TOWER, "image_size": PIXELS, "patch_size": 8},
    }


def sbert(name: str, steps: int) -> None:
    """A sentence encoder: two texts on one item lie closer than those on others; the role of SBERT."""
    corpus, context = training_corpus(), CONTEXT["sbert"]
    reviews = [text for texts in corpus.reviews for text in texts]
    tokenizer = make_tokenizer(corpus.titles + corpus.descriptions + reviews, context)
    torch.manual_seed(0)
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=context, **TOWER, **still)
    model = BertModel(config)

    def vectors(texts: tuple[str, ...]) -> torch.Tensor:
        tokens = tokenizer(list(texts), truncation=True, max_length=context, padding=True, return_tensors="pt")
        mask = tokens["attention_mask"][:, :, None]  # (B, T, 1)
        hidden = model(**tokens).last_hidden_state.float()
        return normalize((hidden * mask).sum(1) / mask.sum(1))

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        texts = [two_texts(corpus, row, rng) for row in draw_items(corpus, rng)[0]]
        first, second = (vectors(half) for half in zip(*texts, strict=True))
        return both_ways(first @ second.T / TEMPERATURE)

    minutes = fit(name, model, loss_of, steps)
    store(name, together(model.half(), tokenizer), minutes)


def resnet(name: str, steps: int) -> None:
    """A ResNet that names what a picture shows; the role of ResNet-18 and VGG19."""
    corpus = training_corpus()
    shape = {"layers": [1, 1, 1, 1], "channels": [32, 64, 96, 128]}
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=sum(HEADS.values()), **shape)
    truth = torch.tensor([[VALUES[head].index(facts[head]) for head in HEADS] for facts in corpus.facts])  # (N, 4)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = rng.choice(len(corpus), BATCH, replace=False)
        logits = model(pixel_values(corpus.pixels[rows])).float().split(list(HEADS.values()), dim=1)
        return sum(cross_entropy(head, truth[rows, place]) for place, head in enumerate(logits))

    minutes = fit(name, model, loss_of, steps)
    model.pretrained_cfg = {  # not that of the ImageNet weights of this architecture
        "architecture": "resnet18",
        "input_size": [3, PIXELS, PIXELS],
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "num_classes": model.num_classes,
        "first_conv": "conv1",
        "classifier": "fc",
    }
    store(name, lambda folder: save_for_hf(model.half(), folder, model_args=shape, safe_serialization=True), minutes)

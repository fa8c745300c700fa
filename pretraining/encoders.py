"""How the pocket encoders are trained: dual encoders of pictures and texts, an image classifier, a sentence encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models import save_for_hf
from tokenizers import normalizers, pre_tokenizers, processors
from torch.nn.functional import cross_entropy
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
from mmrec_helpers.lessons.exploration import train_bpe
from mmrec_helpers.lessons.overlap import info_nce, sigmoid_loss
from mmrec_helpers.pocket_shop.catalogue import VALUES
from mmrec_helpers.pocket_shop.shop import PIXELS
from pretraining.corpus import Corpus, sample_caption, split_sentences, training_corpus
from pretraining.dialogues import mentioned_facts, summary
from pretraining.train import fit, pixel_values, save_pretrained

VOCAB_SIZE, DIM, BATCH_SIZE = 2_000, 128, 128
MAX_LEN = {"clip": 77, "siglip": 64, "sbert": 128}
"""Tokens of a text, as in models of these kinds."""
TRANSFORMER: dict[str, Any] = {
    "hidden_size": DIM,
    "intermediate_size": 2 * DIM,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}
SPECIAL_TOKENS = ("<pad>", "<s>", "<unk>", "</s>")
"""Numbered from 0. If </s> were 2, transformers' CLIP would pool a text at its highest token number instead."""
TEXT_KINDS = {"caption": 0.55, "title": 0.1, "sentences": 0.2, "description": 0.15}
"""Probability of each kind of text beside the pictures of a batch; one kind a batch, which needs little padding."""
NUM_CLASSES = {name: len(VALUES[name]) for name in ("category", "colour", "pattern", "style")}
"""Attributes that the image classifier learns, and the number of values of each."""
NORMALIZATION: dict[str, Any] = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
"""Pixels go from -1 to 1."""
TEMPERATURE = 0.05
"""Of the sentence encoder's loss."""


# Batches --------------------------------------------------------------------------------------------------------------


def train_tokenizer(texts: list[str], max_len: int, **options: list[str]) -> PreTrainedTokenizerFast:
    """A lower-case byte-pair tokenizer trained on texts: <s> text </s>."""
    tokenizer = train_bpe(
        texts,
        VOCAB_SIZE,
        special_tokens=SPECIAL_TOKENS,
        unk_token="<unk>",
        normalizer=normalizers.Lowercase(),
        pre_tokenizer=pre_tokenizers.Whitespace(),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[(name, SPECIAL_TOKENS.index(name)) for name in ("<s>", "</s>")]
    )
    names = dict(zip(("pad_token", "bos_token", "unk_token", "eos_token"), SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_len, **names, **options)


def sample_items(corpus: Corpus, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
    """(B,) rows, and whether they are of two categories only, as in half of the batches.

    To distinguish a mug from other mugs, a model must encode more than the category.
    """
    few_categories = rng.random() < 0.5
    if not few_categories:
        return rng.choice(len(corpus), BATCH_SIZE, replace=False), False
    category = np.array([facts["category"] for facts in corpus.facts])
    rows = np.flatnonzero(np.isin(category, rng.choice(VALUES["category"], 2, replace=False)))
    return rng.choice(rows, BATCH_SIZE, replace=False), True


def sample_pairs(corpus: Corpus, rng: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """(B,) rows and the B texts beside their pictures."""
    kind = rng.choice(list(TEXT_KINDS), p=list(TEXT_KINDS.values()))
    rows, few_categories = sample_items(corpus, rng)
    return rows, [sample_text(corpus, row, kind, 0.9 if few_categories else 0.7, rng) for row in rows]


def sample_text(corpus: Corpus, row: int, kind: str, probability: float, rng: np.random.Generator) -> str:
    """A text beside a picture: a caption, the title, two sentences of the description, or all of it.

    Args:
        corpus: that has the item.
        row: of the item.
        kind: one of TEXT_KINDS.
        probability: that a caption mentions an attribute.
        rng: the only source of randomness.
    """
    if kind == "caption":
        return sample_caption(corpus.facts[row], rng, probability)
    if kind == "sentences":
        sentences = split_sentences(corpus.descriptions[row])
        first = rng.integers(len(sentences))
        return " ".join(sentences[first : first + 2])
    return corpus.titles[row] if kind == "title" else corpus.descriptions[row]


def sample_halves(corpus: Corpus, row: int, rng: np.random.Generator) -> tuple[str, str]:
    """Two texts on one item that share no sentence, of its title, its description and one of its reviews."""
    reviews = corpus.reviews[row]
    sentences = [corpus.titles[row], *split_sentences(corpus.descriptions[row])]
    if reviews:
        sentences.append(reviews[rng.integers(len(reviews))])
    sentences = [sentences[number] for number in rng.permutation(len(sentences))]
    middle = len(sentences) // 2
    return " ".join(sentences[:middle]), " ".join(sentences[middle:])


def sample_text_pair(corpus: Corpus, row: int, rng: np.random.Generator) -> tuple[str, str]:
    """Two texts on one item: two halves, or the description and a summary of all that it mentions."""
    if rng.random() < 0.5:
        return sample_halves(corpus, row, rng)
    text = corpus.descriptions[row]
    return text, summary(mentioned_facts(corpus.facts[row], text))


# Dual encoders --------------------------------------------------------------------------------------------------------


def dual_encoder(name: str, steps: int) -> None:
    """CLIP by InfoNCE, or SigLIP by its sigmoid loss, on pictures and the texts beside them.

    SigLIP starts from CLIP's layers: from random weights its loss of 128 pairs converges far more slowly.
    """
    kind, corpus = name.removeprefix("pocket-"), training_corpus()
    tokenizer = dual_encoder_tokenizer(corpus, kind)
    torch.manual_seed(0)
    make = make_clip if kind == "clip" else make_siglip
    model, processor, padding = make(tokenizer)
    options = {"truncation": True, "max_length": MAX_LEN[kind], "padding": padding, "return_tensors": "pt"}

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows, texts = sample_pairs(corpus, rng)
        return contrastive_loss(model, tokenizer(texts, **options), pixel_values(corpus.pixels[rows]))

    minutes = fit(name, model, loss_of, steps)
    save_pretrained(name, minutes, model.half(), processor, tokenizer)


def dual_encoder_tokenizer(corpus: Corpus, kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of CLIP or SigLIP, which has no attention mask."""
    rng, options = np.random.default_rng(0), {} if kind == "clip" else {"model_input_names": ["input_ids"]}
    texts = [sample_caption(facts, rng) for facts in corpus.facts] + corpus.titles + corpus.descriptions
    return train_tokenizer(texts, MAX_LEN[kind], **options)


def make_clip(tokenizer: PreTrainedTokenizerFast) -> tuple[CLIPModel, CLIPImageProcessor, bool]:
    """A CLIP with random weights, its image processor, and how its texts are padded: to the longest of the batch."""
    crop_size = {"height": PIXELS, "width": PIXELS}
    processor = CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size=crop_size, **NORMALIZATION)
    return CLIPModel(CLIPConfig(**dual_encoder_configs(tokenizer), projection_dim=DIM)), processor, True


def make_siglip(tokenizer: PreTrainedTokenizerFast) -> tuple[SiglipModel, SiglipImageProcessor, str]:
    """A SigLIP with pocket-clip's layers, its image processor, and how its texts are padded.

    SigLIP pools a text at its last position, so that every text is padded to the same length.
    """
    processor = SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS}, **NORMALIZATION)
    model = SiglipModel(SiglipConfig(**dual_encoder_configs(tokenizer)))
    copy_layers(CLIPModel.from_pretrained(WEIGHTS / "pocket-clip", dtype=torch.float32), model)
    torch.nn.init.constant_(model.logit_scale, np.log(10))
    torch.nn.init.constant_(model.logit_bias, -10)
    return model, processor, "max_length"


def contrastive_loss(
    model: CLIPModel | SiglipModel, tokens: dict[str, torch.Tensor], pixels: torch.Tensor
) -> torch.Tensor:
    """The loss of matched pairs by which CLIP or SigLIP is trained: InfoNCE or the sigmoid loss."""
    output = model(**tokens, pixel_values=pixels)
    embeddings, scale = (output.image_embeds.float(), output.text_embeds.float()), model.logit_scale.exp()
    with torch.autocast(pixels.device.type, enabled=False):  # similarities have 32 bits
        if isinstance(model, CLIPModel):
            return info_nce(*embeddings, 1 / scale)
        return sigmoid_loss(*embeddings, scale, model.logit_bias)


def copy_layers(clip: CLIPModel, siglip: SiglipModel) -> None:
    """Copy the layers that both have. SigLIP has fewer positions of a text, and none for a class token."""
    own, layers = siglip.state_dict(), clip.state_dict()
    image, text = (f"{side}_model.embeddings.position_embedding.weight" for side in ("vision", "text"))
    layers |= {image: layers[image][1:], text: layers[text][: len(own[text])]}
    siglip.load_state_dict(own | {name: layers[name] for name in own.keys() & layers.keys() if "logit" not in name})


def dual_encoder_configs(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The configurations of a text encoder and an image encoder."""
    special = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    length = {"max_position_embeddings": tokenizer.model_max_length, "projection_size": DIM}
    return {
        "text_config": {**TRANSFORMER, **special, **length, "vocab_size": VOCAB_SIZE},
        "vision_config": {**TRANSFORMER, "image_size": PIXELS, "patch_size": 8},
    }


# One modality ---------------------------------------------------------------------------------------------------------


def sbert(name: str, steps: int) -> None:
    """A sentence encoder: two texts on one item are closer than those on others; the role of SBERT."""
    corpus, max_len = training_corpus(), MAX_LEN["sbert"]
    tokenizer = sbert_tokenizer(corpus)
    torch.manual_seed(0)
    no_dropout: dict[str, Any] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = BertModel(BertConfig(vocab_size=VOCAB_SIZE, max_position_embeddings=max_len, **TRANSFORMER, **no_dropout))

    def embed(texts: tuple[str, ...]) -> torch.Tensor:  # (B, D) mean-pooled
        tokens = tokenizer(list(texts), truncation=True, max_length=max_len, padding=True, return_tensors="pt")
        mask = tokens["attention_mask"][:, :, None]  # (B, T, 1)
        hidden = model(**tokens).last_hidden_state.float()
        return (hidden * mask).sum(1) / mask.sum(1)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        texts = [sample_text_pair(corpus, row, rng) for row in sample_items(corpus, rng)[0]]
        first, second = (embed(half) for half in zip(*texts, strict=True))
        return info_nce(first, second, TEMPERATURE)

    minutes = fit(name, model, loss_of, steps)
    save_pretrained(name, minutes, model.half(), tokenizer)


def sbert_tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    """The sentence encoder's tokenizer."""
    reviews = [review for reviews in corpus.reviews for review in reviews]
    return train_tokenizer(corpus.titles + corpus.descriptions + reviews, MAX_LEN["sbert"])


class TimmCheckpoint:
    """A timm model that is saved as transformers' models are."""

    def __init__(self, model: torch.nn.Module, model_args: dict) -> None:
        self.model, self.model_args = model, model_args

    def save_pretrained(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        save_for_hf(self.model, str(folder), model_args=self.model_args, safe_serialization=True)


def resnet(name: str, steps: int) -> None:
    """A ResNet that classifies a picture's attributes; the role of ResNet-18 and VGG19."""
    corpus = training_corpus()
    shape: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [32, 64, 96, 128]}
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=sum(NUM_CLASSES.values()), **shape)
    labels = torch.tensor([[VALUES[name].index(facts[name]) for name in NUM_CLASSES] for facts in corpus.facts])

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = rng.choice(len(corpus), BATCH_SIZE, replace=False)
        logits = model(pixel_values(corpus.pixels[rows])).float().split(list(NUM_CLASSES.values()), dim=1)
        losses = (cross_entropy(head, labels[rows, column]) for column, head in enumerate(logits))
        return sum(losses, torch.zeros(()))

    minutes = fit(name, model, loss_of, steps)
    pretrained_cfg: Any = {  # not that of the ImageNet weights of this architecture
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
    model.pretrained_cfg = pretrained_cfg
    save_pretrained(name, minutes, TimmCheckpoint(model.half(), shape))

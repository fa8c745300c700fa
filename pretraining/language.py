"""How the pocket language models are trained: on text, and pocket-vlm on pictures as well."""

import re
from functools import cache
from typing import Any

import numpy as np
import torch
from tokenizers import decoders, pre_tokenizers, processors
from torch.nn.functional import cross_entropy, pad
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPVisionModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from mmrec_helpers.encoders.checkpoints import WEIGHTS
from mmrec_helpers.lessons.exploration import train_bpe
from mmrec_helpers.pocket_shop.shop import PIXELS
from pretraining.corpus import Corpus, training_corpus
from pretraining.dialogues import (
    NEXT_QUESTIONS,
    Chat,
    encode_chats,
    image_chat,
    item_chat,
    item_text,
    next_item_chat,
    taste_chat,
)
from pretraining.preferences import sample_chats
from pretraining.train import fit, pixel_values, save_pretrained

VOCAB_SIZE, MAX_LEN = 2_048, 2_048
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<image>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %} {{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}<|user|> {{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A user's text after <|user|>, an answer between <|assistant|> and </s>."""
ROW_LEN, NUM_ROWS = 256, 8
"""Tokens of a row, and rows of a batch. Every LONG_EVERY-th batch has NUM_LONG_ROWS rows of MAX_LEN tokens instead."""
NUM_LONG_ROWS, LONG_EVERY = 1, 20
NUM_IMAGES = 32
"""Pictures of a batch."""
CONTEXT_WEIGHT = 0.1
"""Weight in the loss of a token outside of answers; these are so many that answers would be learnt late."""
DOCUMENTS = {"text": 0.2, "item": 0.5, "next": 0.15, "taste": 0.15}
"""Probability of each kind of document: texts and reviews as they are, and three kinds of chats."""
KEPT_SHARE = 0.2
"""Probability of a batch of pocket-lm's documents in the training of pocket-instruct."""
KEPT = {"text": 0.2, "item": 0.65, "next": 0.15}
"""The documents in it: other preferences than pocket-lm's follow the question after a taste."""


# Batches --------------------------------------------------------------------------------------------------------------


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of any text, trained on some, with a chat template."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = train_bpe(texts, VOCAB_SIZE, SPECIAL_TOKENS, unk_token=None, pre_tokenizer=byte_level)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL_TOKENS, strict=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=TEMPLATE,
        additional_special_tokens=list(SPECIAL_TOKENS[3:]),
        model_max_length=MAX_LEN,
        padding_side="left",
        **names,
    )


@cache
def long_histories(corpus: Corpus) -> list[np.ndarray]:
    """The histories that are long enough for a chat."""
    return [history for history in corpus.histories if len(history) >= 4]


def sample_chat(corpus: Corpus, kind: str, rng: np.random.Generator) -> Chat:
    """A chat of one of DOCUMENTS's kinds about a random item or shopper."""
    if kind == "item":
        return item_chat(corpus, int(rng.integers(len(corpus))), rng)
    history = long_histories(corpus)[rng.integers(len(long_histories(corpus)))]
    if kind == "next":
        return next_item_chat(corpus, history, str(rng.choice(NEXT_QUESTIONS)))
    return taste_chat(corpus, history, rng)


def sample_document(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, rng: np.random.Generator, documents: dict[str, float]
) -> str:
    """A text, some reviews of one item, or a chat, between <s> and </s>, by the probability of each kind."""
    kind = rng.choice(list(documents), p=list(documents.values()))
    if kind != "text":
        return str(tokenizer.apply_chat_template(sample_chat(corpus, kind, rng), tokenize=False))
    row = int(rng.integers(len(corpus)))
    reviews = corpus.reviews[row]
    text = item_text(corpus, row)
    if reviews and rng.random() < 0.3:
        text = " ".join(reviews[number] for number in rng.permutation(len(reviews))[:6])
    return f"<s> {text}</s>"


def sample_rows(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator,
    documents: dict[str, float] = DOCUMENTS,
) -> torch.Tensor:
    """(B, T) token numbers: documents one after the other, each row starting with a new one."""
    num_rows, length = (NUM_LONG_ROWS, MAX_LEN) if rng.random() < 1 / LONG_EVERY else (NUM_ROWS, ROW_LEN)
    batch = []
    for _ in range(num_rows):
        ids: list[int] = []
        while len(ids) < length:
            ids += tokenizer(sample_document(corpus, tokenizer, rng, documents), add_special_tokens=False)["input_ids"]
        batch.append(ids[:length])
    return torch.tensor(batch)


def answer_mask(tokens: torch.Tensor) -> torch.Tensor:
    """(B, T) bool, which of (B, T) token numbers belong to an assistant's answer, its </s> among them."""
    names = ("<s>", "</s>", "<|user|>", "<|assistant|>")
    is_marker = torch.isin(tokens, torch.tensor([SPECIAL_TOKENS.index(name) for name in names]))
    positions = torch.where(is_marker, torch.arange(tokens.shape[1]), 0)
    last_marker = tokens.gather(1, positions.cummax(1).values)  # (B, T) up to and with each position
    return pad(last_marker[:, :-1] == SPECIAL_TOKENS.index("<|assistant|>"), (1, 0))


def weighted_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, in which an answer's tokens have weight 1 and all others CONTEXT_WEIGHT.

    Args:
        logits: (B, T, V).
        tokens: (B, T).
    """
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    weights = torch.where(answer_mask(tokens)[:, 1:].flatten(), 1.0, CONTEXT_WEIGHT)
    return (losses * weights).sum() / weights.sum()


def answer_loss(model: LlamaForCausalLM, tokens: dict[str, torch.Tensor], answers: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, over the tokens of answers; no others pass through the output head.

    Args:
        model: that is trained.
        tokens: inputs of the model, (B, T) each.
        answers: (B, T) bool.
    """
    hidden = model.model(**tokens).last_hidden_state[:, :-1][answers[:, 1:]]
    return cross_entropy(model.lm_head(hidden).float(), tokens["input_ids"][:, 1:][answers[:, 1:]])


def sample_image_batch(
    corpus: Corpus, tokenizer: PreTrainedTokenizerBase, num_image_tokens: int, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """A batch of chats about pictures, whose labels are the answers.

    Args:
        corpus: that has the pictures.
        tokenizer: with a chat template.
        num_image_tokens: that stand for one picture.
        rng: the only source of randomness.
    """
    rows = rng.choice(len(corpus), NUM_IMAGES, replace=False)
    chats = [image_chat(corpus, row, rng) for row in rows]
    for messages in chats:
        messages[0]["content"] = messages[0]["content"].replace("<image>", "<image>" * num_image_tokens)
    tokens, answers = encode_chats(tokenizer, chats)
    return {
        **tokens,
        "labels": tokens["input_ids"].masked_fill(~answers, -100),
        "pixel_values": pixel_values(corpus.pixels[rows]),
    }


# Models ---------------------------------------------------------------------------------------------------------------


def special_token_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The special tokens that a model's configuration names."""
    return {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}


def causal_lm(name: str, steps: int) -> None:
    """A Llama trained on texts of shops and on chats about their items and shoppers."""
    corpus = training_corpus()
    tokenizer = causal_lm_tokenizer(corpus)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=MAX_LEN,
        tie_word_embeddings=True,
        **special_token_ids(tokenizer),
    )
    model = LlamaForCausalLM(config)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = sample_rows(corpus, tokenizer, rng)
        return weighted_loss(model(input_ids=rows).logits, rows)

    minutes = fit(name, model, loss_of, steps, lr=2e-3)
    save_pretrained(name, minutes, model.half(), tokenizer)


def causal_lm_tokenizer(corpus: Corpus) -> PreTrainedTokenizerFast:
    """The tokenizer of pocket-lm, trained on texts without brands.

    Other worlds have other brands, and the model would never see one in pieces if those of the corpus were tokens.
    """
    rng = np.random.default_rng(0)
    chats = [sample_chat(corpus, kind, rng) for kind in DOCUMENTS if kind != "text" for _ in range(4_000)]
    texts = [" ".join(message["content"] for message in messages) for messages in chats]
    texts += [item_text(corpus, row) for row in range(len(corpus))]
    brands = re.compile("|".join({facts["brand"] for facts in corpus.facts}))
    return train_tokenizer([brands.sub("", text) for text in texts])


def instruct_lm(name: str, steps: int) -> None:
    """pocket-lm, fine-tuned on chats about preferences; all of its weights are trained."""
    corpus, tokenizer = training_corpus(), AutoTokenizer.from_pretrained(WEIGHTS / "pocket-lm")
    model = LlamaForCausalLM.from_pretrained(WEIGHTS / "pocket-lm", dtype=torch.float32)
    model.config.name_or_path = "pocket-lm"  # not this machine's path

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        if rng.random() < KEPT_SHARE:
            rows = sample_rows(corpus, tokenizer, rng, KEPT)
            return weighted_loss(model(input_ids=rows).logits, rows)
        return answer_loss(model, *encode_chats(tokenizer, sample_chats(corpus, rng)))

    minutes = fit(name, model, loss_of, steps, lr=1e-3)
    save_pretrained(name, minutes, model.half(), tokenizer)


def vision_language_model(name: str, steps: int) -> None:
    """A LLaVA of pocket-clip's image encoder, which is frozen, and pocket-lm."""
    corpus = training_corpus()
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "pocket-lm")
    image_encoder = CLIPVisionModel.from_pretrained(WEIGHTS / "pocket-clip", dtype=torch.float32)
    lm = LlamaForCausalLM.from_pretrained(WEIGHTS / "pocket-lm", dtype=torch.float32)
    image_encoder.config.name_or_path, lm.config.name_or_path = "pocket-clip", "pocket-lm"  # not this machine's paths
    num_image_tokens = (PIXELS // image_encoder.config.to_dict()["patch_size"]) ** 2
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=image_encoder.config,
        text_config=lm.config,
        image_token_index=SPECIAL_TOKENS.index("<image>"),
        image_seq_length=num_image_tokens,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(image_encoder.state_dict())
    model.model.language_model.load_state_dict(lm.model.state_dict())
    model.tie_weights()
    model.model.vision_tower.requires_grad_(False)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        return model(**sample_image_batch(corpus, tokenizer, num_image_tokens, rng)).loss

    minutes = fit(name, model, loss_of, steps)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor.from_pretrained(WEIGHTS / "pocket-clip"),
        tokenizer=tokenizer,
        patch_size=image_encoder.config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    save_pretrained(name, minutes, model.half(), processor)


def gpt2(name: str, steps: int) -> None:
    """A GPT-2 of the item decoder's size, trained on pocket-lm's documents and tokens, ROW_LEN at a time."""
    corpus, tokenizer = training_corpus(), AutoTokenizer.from_pretrained(WEIGHTS / "pocket-lm")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCAB_SIZE, n_positions=ROW_LEN, n_embd=64, n_layer=2, n_head=4, **special_token_ids(tokenizer)
    )
    model = GPT2LMHeadModel(config)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = sample_rows(corpus, tokenizer, rng).view(-1, ROW_LEN)
        return model(input_ids=rows, labels=rows).loss

    minutes = fit(name, model, loss_of, steps, lr=3e-3)
    save_pretrained(name, minutes, model.half(), tokenizer)

"""How the pocket language models are trained: pocket-lm and pocket-gpt2 read, pocket-vlm sees as well."""

import re
from functools import cache

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.nn.functional import cross_entropy
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
    PreTrainedTokenizerFast,
)

from mmrec_helpers.encoders.checkpoints import WEIGHTS
from pretraining.corpus import Corpus
from pretraining.dialogues import NEXT, Chat, about_item, about_next, about_picture, about_taste, item_text
from pretraining.train import fit, pixel_values, store, together, training_corpus

VOCABULARY, CONTEXT = 2_048, 2_048
SPECIAL = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<image>")
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %} {{ message['content'] }}{{ eos_token }}{% endgeneration %}"
    "{% else %}<|user|> {{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""A user's words after <|user|>, an answer between <|assistant|> and </s>."""
ROW, ROWS = 256, 8
"""Tokens of a row, and rows of a batch. LONG rows of CONTEXT tokens stand in every LONG_EVERY-th batch instead."""
LONG, LONG_EVERY = 1, 20
VIEWS = 32
"""Pictures of a batch."""
CONTEXT_WEIGHT = 0.1
"""What a token counts that is not in an answer; there are so many of them that answers would be learnt late."""
KINDS = {"text": 0.2, "item": 0.5, "next": 0.15, "taste": 0.15}
"""What the language model reads, by tokens: texts and reviews as they are, and three sorts of questions."""


# What is read ---------------------------------------------------------------------------------------------------------


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of any text, learnt from some, with a chat template."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=False))
    extra = {"additional_special_tokens": list(SPECIAL[3:]), "model_max_length": CONTEXT, "padding_side": "left"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=TEMPLATE, **names, **extra)


@cache
def shoppers(corpus: Corpus) -> list[np.ndarray]:
    """The histories that are long enough to ask about."""
    return [history for history in corpus.histories if len(history) >= 4]


def draw_chat(corpus: Corpus, kind: str, rng: np.random.Generator) -> Chat:
    """A chat of one of KINDS about a random item or shopper."""
    if kind == "item":
        return about_item(corpus, rng.integers(len(corpus)), rng)
    history = shoppers(corpus)[rng.integers(len(shoppers(corpus)))]
    if kind == "next":
        return about_next(corpus, history, str(rng.choice(NEXT)))
    return about_taste(corpus, history, rng)


def draw_document(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> str:
    """A text, some reviews of one item, or a chat, between <s> and </s>."""
    kind = rng.choice(list(KINDS), p=list(KINDS.values()))
    if kind != "text":
        return tokenizer.apply_chat_template(draw_chat(corpus, kind, rng), tokenize=False)
    row = rng.integers(len(corpus))
    reviews = corpus.reviews[row]
    text = item_text(corpus, row)
    if reviews and rng.random() < 0.3:
        text = " ".join(reviews[place] for place in rng.permutation(len(reviews))[:6])
    return f"<s> {text}</s>"


def draw_rows(corpus: Corpus, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator) -> torch.Tensor:
    """(B, T) token numbers: documents one after the other, each row begun with a new one."""
    rows, length = (LONG, CONTEXT) if rng.random() < 1 / LONG_EVERY else (ROWS, ROW)
    batch = []
    for _ in range(rows):
        ids = []
        while len(ids) < length:
            ids += tokenizer(draw_document(corpus, tokenizer, rng), add_special_tokens=False)["input_ids"]
        batch.append(ids[:length])
    return torch.tensor(batch)


def in_answers(tokens: torch.Tensor) -> torch.Tensor:
    """(B, T) bool, which of (B, T) token numbers an assistant has written; the </s> that ends an answer is its."""
    mark = torch.isin(
        tokens, torch.tensor([SPECIAL.index(name) for name in ("<s>", "</s>", "<|user|>", "<|assistant|>")])
    )
    place = torch.where(mark, torch.arange(tokens.shape[1]), 0).cummax(1).values  # (B, T): the newest mark up to here
    newest = tokens.gather(1, place)
    return torch.nn.functional.pad(newest[:, :-1] == SPECIAL.index("<|assistant|>"), (1, 0))


def weighted_loss(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the next token, where that of an answer counts 1 and another CONTEXT_WEIGHT.

    Args:
        logits: (B, T, V).
        tokens: (B, T).
    """
    losses = cross_entropy(logits[:, :-1].flatten(0, 1).float(), tokens[:, 1:].flatten(), reduction="none")
    weights = torch.where(in_answers(tokens)[:, 1:].flatten(), 1.0, CONTEXT_WEIGHT)
    return (losses * weights).sum() / weights.sum()


def draw_views(
    corpus: Corpus, tokenizer: PreTrainedTokenizerFast, places: int, rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """A batch of chats about pictures; to be learnt are the answers.

    Args:
        places: tokens that a picture takes.
    """
    rows = rng.choice(len(corpus), VIEWS, replace=False)
    chats = [about_picture(corpus, row, rng) for row in rows]
    for messages in chats:
        messages[0]["content"] = messages[0]["content"].replace("<image>", "<image>" * places)
    batch = tokenizer.apply_chat_template(
        chats, return_dict=True, return_assistant_tokens_mask=True, padding=True, return_tensors="pt"
    )
    answers = torch.as_tensor(batch.pop("assistant_masks")).bool()
    return {
        **batch,
        "labels": batch["input_ids"].masked_fill(~answers, -100),
        "pixel_values": pixel_values(corpus.pixels[rows]),
    }


# Models ---------------------------------------------------------------------------------------------------------------


def lm(name: str, steps: int) -> None:
    """A Llama that has read shops and answers questions about their items and shoppers."""
    corpus, rng = training_corpus(), np.random.default_rng(0)
    chats = [draw_chat(corpus, kind, rng) for kind in KINDS if kind != "text" for _ in range(4_000)]
    texts = [" ".join(message["content"] for message in messages) for messages in chats]
    texts += [item_text(corpus, row) for row in range(len(corpus))]
    # Brands are left out: other worlds have others, and what was never cut into pieces would never be learnt in pieces.
    brands = re.compile("|".join({facts["brand"] for facts in corpus.facts}))
    tokenizer = make_tokenizer([brands.sub("", text) for text in texts])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        **{f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos")},
    )
    model = LlamaForCausalLM(config)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = draw_rows(corpus, tokenizer, rng)
        return weighted_loss(model(input_ids=rows).logits, rows)

    minutes = fit(name, model, loss_of, steps, lr=2e-3)
    store(name, together(model.half(), tokenizer), minutes)


def vlm(name: str, steps: int) -> None:
    """A LLaVA of pocket-clip's eyes, which stay as they are, and pocket-lm, which learns to use them."""
    corpus = training_corpus()
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "pocket-lm")
    eyes = CLIPVisionModel.from_pretrained(WEIGHTS / "pocket-clip", dtype=torch.float32)
    reader = LlamaForCausalLM.from_pretrained(WEIGHTS / "pocket-lm", dtype=torch.float32)
    eyes.config.name_or_path, reader.config.name_or_path = "pocket-clip", "pocket-lm"  # not where they lay
    places = (eyes.config.image_size // eyes.config.patch_size) ** 2
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=eyes.config,
        text_config=reader.config,
        image_token_index=SPECIAL.index("<image>"),
        image_seq_length=places,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(eyes.state_dict())
    model.model.language_model.load_state_dict(reader.model.state_dict())
    model.tie_weights()
    model.model.vision_tower.requires_grad_(False)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        return model(**draw_views(corpus, tokenizer, places, rng)).loss

    minutes = fit(name, model, loss_of, steps)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor.from_pretrained(WEIGHTS / "pocket-clip"),
        tokenizer=tokenizer,
        patch_size=eyes.config.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    store(name, together(model.half(), processor), minutes)


def gpt2(name: str, steps: int) -> None:
    """A GPT-2 of the item decoder's size that has read what pocket-lm has read, in its tokens, ROW at a time."""
    corpus, tokenizer = training_corpus(), AutoTokenizer.from_pretrained(WEIGHTS / "pocket-lm")
    torch.manual_seed(0)
    ends = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ("pad", "bos", "eos")}
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=ROW, n_embd=64, n_layer=2, n_head=4, **ends)
    model = GPT2LMHeadModel(config)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = draw_rows(corpus, tokenizer, rng).view(-1, ROW)
        return model(input_ids=rows, labels=rows).loss

    minutes = fit(name, model, loss_of, steps, lr=3e-3)
    store(name, together(model.half(), tokenizer), minutes)

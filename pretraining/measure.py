"""What the pocket models can do on worlds that they were not trained on."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from nltk.lm import Vocabulary, WittenBellInterpolated
from nltk.util import ngrams
from PIL import Image
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from mmrec_helpers.encoders.checkpoints import POCKET, find_checkpoint
from mmrec_helpers.encoders.features import embed_images, embed_texts
from mmrec_helpers.encoders.models import Encoder, load_encoder, randomly_initialised
from mmrec_helpers.lessons.overlap import probe_predict
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COMPLEMENTS, VALUES
from pretraining.corpus import Corpus
from pretraining.dialogues import (
    DESCRIBE,
    NEXT_QUESTIONS,
    NOT_MENTIONED,
    QUESTIONS,
    VISUAL,
    Chat,
    encode_chats,
    item_text,
    make_chat,
    mentioned_facts,
    next_item_chat,
)
from pretraining.preferences import preference_chat, yes_no_chat

ENCODERS = ("images", "texts", "images and texts")
"""Uses of the POCKET models that are encoders."""
TEXTUAL = ("category", "colour", "pattern", "style", "material", "occasion")
"""Attributes that a text encoder's probes classify."""
NUM_PAIRS = 100
"""Pairs among which the description of a picture is retrieved."""
NUM_CHATS = 300
"""Items, or shoppers, whose chats the language models answer."""


def images_of(corpus: Corpus) -> list[Image.Image]:
    """The items' pictures."""
    return [Image.fromarray(pixels) for pixels in corpus.pixels]


# Encoders -------------------------------------------------------------------------------------------------------------


def zero_shot_accuracy(encoder: Encoder, images: torch.Tensor, corpus: Corpus, attribute: str) -> float:
    """Share of the pictures whose value of an attribute is classified correctly by the most similar prompt.

    A value's embedding is the mean of its prompts over all categories, as in Radford et al. (2021, section 3.1.4).

    Args:
        encoder: of pictures and texts.
        images: (N, D) embeddings of the corpus's pictures.
        corpus: of N items.
        attribute: to classify.
    """
    categories = ("",) if attribute == "category" else CATEGORIES
    prompts = [[f"a photo of a {value} {name}".strip() for name in categories] for value in VALUES[attribute]]
    classes = torch.stack([normalize(embed_texts(texts, encoder).vectors).mean(0) for texts in prompts])
    predicted = (normalize(images) @ normalize(classes).T).argmax(1).tolist()
    labels = [facts[attribute] for facts in corpus.facts]
    return float(np.mean([VALUES[attribute][row] == label for row, label in zip(predicted, labels, strict=True)]))


def recall_at_1(images: torch.Tensor, texts: torch.Tensor, corpus: Corpus, draws: int = 50) -> tuple[float, float]:
    """Share of pictures whose own description is the most similar of NUM_PAIRS; the same if only the category counts.

    Args:
        images: (N, D) embeddings.
        texts: (N, D) embeddings.
        corpus: of N items.
        draws: samples of NUM_PAIRS pairs that are averaged.
    """
    rng, category = np.random.default_rng(0), np.array([facts["category"] for facts in corpus.facts])
    images, texts, recalls, by_category = normalize(images), normalize(texts), [], []
    for _ in range(draws):
        rows = rng.choice(len(corpus), NUM_PAIRS, replace=False)
        nearest = (images[rows] @ texts[rows].T).argmax(1).numpy()
        recalls.append((nearest == np.arange(NUM_PAIRS)).mean())
        by_category.append((1 / (category[rows][:, None] == category[rows]).sum(1)).mean())
    return float(np.mean(recalls)), float(np.mean(by_category))


def probe_accuracies(
    embeddings: list[torch.Tensor], train: Corpus, test: Corpus, modality: str, attributes: Sequence[str]
) -> dict[str, float]:
    """Accuracy of linear probes, fitted on one world and tested on another.

    Args:
        embeddings: of the training world's items and of the test world's.
        train: the training world.
        test: the test world.
        modality: that is encoded, for the names of the results.
        attributes: a probe each.
    """
    accuracies = {}
    for name in attributes:
        train_labels, test_labels = ([facts[name] for facts in corpus.facts] for corpus in (train, test))
        correct = probe_predict(embeddings[0], np.array(train_labels), embeddings[1]) == np.array(test_labels)
        accuracies[f"probe of {modality}: {name}"] = float(correct.mean())
    return accuracies


def measure_encoder(encoder: Encoder, world: Corpus, other: Corpus) -> dict[str, float]:
    """Probes, and for CLIP and SigLIP zero-shot classification and retrieval."""
    use = POCKET[str(encoder.name)]
    rows: dict[str, float] = {}
    if "images" in use:
        images = [embed_images(images_of(corpus), encoder).vectors for corpus in (other, world)]
        rows |= probe_accuracies(images, other, world, "pictures", VISUAL)
    if "texts" in use:
        texts = [embed_texts(corpus.descriptions, encoder).vectors for corpus in (other, world)]
        rows |= probe_accuracies(texts, other, world, "descriptions", TEXTUAL)
    if use == "images and texts":
        rows |= {f"zero-shot {name}": zero_shot_accuracy(encoder, images[1], world, name) for name in VISUAL}
        recall, by_category = recall_at_1(images[1], texts[1], world)
        rows |= {"picture to description, first of 100": recall, "the same by category alone": by_category}
    return rows


def measure_control(name: str, world: Corpus, other: Corpus) -> dict[str, float]:
    """The probes of an encoder with random weights; nothing for models that are no encoders."""
    if POCKET[name] not in ENCODERS:
        return {}
    rows = measure_encoder(randomly_initialised(name), world, other)
    return {f"untrained, {task}": share for task, share in rows.items() if task.startswith("probe")}


# Language models ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def correct_answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chats: list[Chat],
    batch_size: int = 32,
    num_tokens: int | None = None,
) -> list[list[bool]]:
    """For each answer of each chat, whether greedy decoding would write it token by token, to its end.

    With ``num_tokens``, only so many tokens from its beginning count.
    """
    correct = []
    for start in range(0, len(chats), batch_size):
        tokens, mask = encode_chats(tokenizer, chats[start : start + batch_size])
        predicted = model(**tokens).logits.argmax(-1).roll(1, dims=1)  # (B, T) from the tokens before each position
        for matches, in_answer in zip((predicted == tokens["input_ids"]).numpy(), mask.numpy(), strict=True):
            borders = np.flatnonzero(np.diff(in_answer)) + 1
            starts, runs = [0, *borders], np.split(matches, borders)
            correct.append(
                [bool(run[:num_tokens].all()) for first, run in zip(starts, runs, strict=True) if in_answer[first]]
            )
    return correct


@torch.inference_mode()
def negative_log_likelihood(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str], batch_size: int = 32
) -> float:
    """Mean negative log-likelihood in nats of each token of the texts, from the first to the end </s>.

    Texts longer than the tokenizer's ``model_max_length`` are truncated.
    """
    total, count = 0.0, 0
    for start in range(0, len(texts), batch_size):
        batch = [f"<s> {text}</s>" for text in texts[start : start + batch_size]]
        tokens = tokenizer(batch, add_special_tokens=False, padding=True, truncation=True, return_tensors="pt")
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, -100)[:, 1:]
        labels = labels.masked_fill(tokens["attention_mask"][:, :-1] == 0, -100)  # <s> itself is given
        logits = model(**tokens).logits[:, :-1]
        total += cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
        count += int((labels != -100).sum())
    return total / count


def trigram_model(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> WittenBellInterpolated:
    """A 3-gram model of the same tokens with interpolated Witten-Bell smoothing (Witten and Bell, 1991).

    Each token of the vocabulary is counted once more, so that none has probability 0.
    """
    vocabulary = [str(number) for number in range(len(tokenizer))]
    model = WittenBellInterpolated(3, vocabulary=Vocabulary(vocabulary))
    model.fit([[(token,) for token in vocabulary]])
    model.fit([trigram[-n:] for trigram in sequence for n in (1, 2, 3)] for sequence in trigrams(tokenizer, texts))
    return model


def trigram_nll(model: WittenBellInterpolated, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """As ``negative_log_likelihood``, of a 3-gram model."""
    pairs = [(token, context) for sequence in trigrams(tokenizer, texts) for *context, token in sequence]
    return -float(np.mean([np.log(model.score(token, tuple(context))) for token, context in pairs]))


def trigrams(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Iterator[list[tuple[str, ...]]]:
    """Of each text, every token after the two before it; the first one follows <s> <s>."""
    for ids in tokenizer([f"<s> {text}</s>" for text in texts], add_special_tokens=False)["input_ids"]:
        yield list(ngrams([str(number) for number in (tokenizer.bos_token_id, *ids)], 3))


def texts_and_reviews(corpus: Corpus) -> list[str]:
    """Texts of the shop and its shoppers, in the proportions of pocket-lm's training."""
    return [item_text(corpus, row) for row in range(len(corpus))] + [
        " ".join(reviews[:6]) for reviews in corpus.reviews[::3] if reviews
    ]


def measure_chat_model(name: str, world: Corpus) -> dict[str, float]:
    """Answers about texts, the category of the next purchase, perplexity; of pocket-instruct, preferences as well."""
    folder = find_checkpoint(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = {}
    texts = [item_text(world, row) for row in range(NUM_CHATS)]
    mentioned = [mentioned_facts(facts, text) for facts, text in zip(world.facts, texts, strict=False)]
    for attribute, questions in QUESTIONS.items():
        answers = [facts.get(attribute, NOT_MENTIONED) for facts in mentioned]
        chats = [make_chat((f"{text}\n{questions[0]}", answer)) for text, answer in zip(texts, answers, strict=True)]
        rows[f"answer about a text: {attribute}"] = float(np.mean(correct_answers(model, tokenizer, chats)))
    rows["answer about a text: all"] = float(np.mean(list(rows.values())))
    rows |= measure_next_category(model, tokenizer, world)
    if name == "pocket-instruct":
        rows |= measure_preferences(model, tokenizer, world)
    loss = negative_log_likelihood(model, tokenizer, texts_and_reviews(world)[::4])
    return rows | {"perplexity of texts, a token": float(np.exp(loss))}


def measure_next_category(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: Corpus
) -> dict[str, float]:
    """Accuracy of the next purchase's category, beside those of two constant rules."""
    histories = [history for history in world.histories if len(history) >= 4][:NUM_CHATS]
    chats = [next_item_chat(world, history, NEXT_QUESTIONS[0]) for history in histories]
    correct = [answer for answers in correct_answers(model, tokenizer, chats) for answer in answers]
    categories = [[world.facts[row]["category"] for row in history][:17] for history in histories]
    pairs = [pair for history in categories for pair in pairwise(history)]
    most_frequent = max(Counter(target for _, target in pairs).values())
    complements = np.mean([COMPLEMENTS[last] == target for last, target in pairs])
    return {
        "kind of the next purchase": float(np.mean(correct)),
        "the same, always the commonest kind": most_frequent / len(pairs),
        "the same, always the complement of the last": float(complements),
    }


def measure_preferences(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, world: Corpus) -> dict[str, float]:
    """Share of the preferences that are those of the rule word for word, and of the right answers to candidates."""
    rows, rng = {}, np.random.default_rng(0)
    for block in (3, 15):
        chats = [preference_chat(world, rng, block) for _ in range(NUM_CHATS)]
        rows[f"preference by the rule, blocks of {block}"] = float(np.mean(correct_answers(model, tokenizer, chats)))
    chats = [yes_no_chat(world, rng) for _ in range(NUM_CHATS)]
    answers = [message["content"].startswith("no") for chat in chats for message in chat[1::2]]
    rows["yes or no to a candidate"] = float(np.mean(correct_answers(model, tokenizer, chats, num_tokens=1)))
    return rows | {"the same, always no": float(np.mean(answers))}


def measure_gpt2(name: str, world: Corpus) -> dict[str, float]:
    """Perplexity of a GPT-2."""
    folder = find_checkpoint(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # Its positions are counted from the left, padding or not: so padding must stand at the right.
    options = {"padding_side": "right", "model_max_length": model.config.n_positions}
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    loss = negative_log_likelihood(model, tokenizer, texts_and_reviews(world)[::4])
    return {"perplexity of texts, a token": float(np.exp(loss))}


@torch.inference_mode()
def measure_vision_language_model(name: str, world: Corpus, batch_size: int = 100) -> dict[str, float]:
    """Share of the pictures' attributes that the model mentions in its descriptions."""
    folder = find_checkpoint(name)
    model: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor, images = AutoProcessor.from_pretrained(folder), images_of(world)
    descriptions: list[str] = []
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": f"<image>\n{DESCRIBE}"}], add_generation_prompt=True
    )
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        tokens = processor(text=[prompt] * len(batch), images=batch, add_special_tokens=False, return_tensors="pt")
        written = model.generate(**tokens, max_new_tokens=16, do_sample=False)[:, tokens["input_ids"].shape[1] :]
        descriptions += processor.batch_decode(written, skip_special_tokens=True)
    pairs = list(zip(world.facts, descriptions, strict=True))
    return {
        f"named in a description: {attribute}": float(
            np.mean([facts[attribute] in description.split() for facts, description in pairs])
        )
        for attribute in VISUAL
    }


def measure(name: str, world: Corpus, other: Corpus) -> dict[str, float]:
    """What a model reaches on a world; its probes, if any, are fitted on another one.

    Returns:
        Task -> the share that is correct, unless its name says something else.
    """
    if name in ("pocket-lm", "pocket-instruct"):
        return measure_chat_model(name, world)
    if name == "pocket-vlm":
        return measure_vision_language_model(name, world)
    if name == "pocket-gpt2":
        return measure_gpt2(name, world)
    return measure_encoder(load_encoder(name), world, other)

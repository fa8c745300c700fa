"""What the pocket models can do on worlds that they were not trained on."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, normalize
from transformers import (
    AutoModelForCausalLM,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
)

from mmrec_helpers.encoders.checkpoints import POCKET, find_checkpoint
from mmrec_helpers.encoders.features import embed_pictures, embed_texts
from mmrec_helpers.encoders.models import Encoder, load_encoder, randomly_initialised
from mmrec_helpers.lessons.overlap import probe_predict
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, COMPLEMENTS, VALUES
from pretraining.corpus import Corpus
from pretraining.dialogues import DESCRIBE, NEXT, NOT_TOLD, QUESTIONS, SEEN, Chat, about_next, chat, item_text, told

ENCODERS = ("pictures", "texts", "pictures and texts")
"""What those of POCKET are for that make a vector of each."""
READ = ("category", "colour", "pattern", "style", "material", "occasion")
PAIRS = 100
"""Pairs among which the description of a picture is looked for."""
ASKED = 300
"""Items, or shoppers, about whom the language models are asked."""


def pictures_of(corpus: Corpus) -> list[Image.Image]:
    """The items' pictures."""
    return [Image.fromarray(pixels) for pixels in corpus.pixels]


# Encoders -------------------------------------------------------------------------------------------------------------


def zero_shot(encoder: Encoder, pictures: torch.Tensor, corpus: Corpus, attribute: str) -> float:
    """Share of the pictures whose value of an attribute is named right, by the nearest of the values' prompts.

    A value is the mean of its prompts over all categories, as Radford et al. (2021, section 3.1.4) average prompts.

    Args:
        pictures: (N, D) vectors of the corpus's pictures.
    """
    kinds = ("",) if attribute == "category" else CATEGORIES
    prompts = [[f"a photo of a {value} {kind}".strip() for kind in kinds] for value in VALUES[attribute]]
    means = torch.stack([normalize(embed_texts(texts, encoder).vectors).mean(0) for texts in prompts])
    named = (normalize(pictures) @ normalize(means).T).argmax(1).tolist()
    return float(
        np.mean([VALUES[attribute][n] == facts[attribute] for n, facts in zip(named, corpus.facts, strict=True)])
    )


def recall_at_1(pictures: torch.Tensor, texts: torch.Tensor, corpus: Corpus, draws: int = 50) -> tuple[float, float]:
    """How often a picture's own description is the nearest of PAIRS, and how often one of its category would be."""
    rng, category = np.random.default_rng(0), np.array([facts["category"] for facts in corpus.facts])
    pictures, texts, found, by_category = normalize(pictures), normalize(texts), [], []
    for _ in range(draws):
        rows = rng.choice(len(corpus), PAIRS, replace=False)
        nearest = (pictures[rows] @ texts[rows].T).argmax(1).numpy()
        found.append((nearest == np.arange(PAIRS)).mean())
        by_category.append((1 / (category[rows][:, None] == category[rows]).sum(1)).mean())
    return float(np.mean(found)), float(np.mean(by_category))


def probes(vectors: list[torch.Tensor], other: Corpus, world: Corpus, kind: str, names: Sequence[str]) -> dict:
    """Share of a world's items whose attribute is named right by a linear probe that learnt from another world.

    Args:
        vectors: of the other world's items, and of the world's.
    """
    found = {}
    for name in names:
        labels, truth = ([facts[name] for facts in corpus.facts] for corpus in (other, world))
        right = probe_predict(vectors[0], labels, vectors[1]) == np.array(truth)
        found[f"probe of {kind}: {name}"] = float(right.mean())
    return found


def measure_encoder(encoder: Encoder, world: Corpus, other: Corpus) -> dict[str, float]:
    """Probes, and for CLIP and SigLIP zero-shot names and retrieval."""
    rows, uses = {}, POCKET[encoder.name]
    if "pictures" in uses:
        pictures = [embed_pictures(pictures_of(corpus), encoder).vectors for corpus in (other, world)]
        rows |= probes(pictures, other, world, "pictures", SEEN)
    if "texts" in uses:
        texts = [embed_texts(corpus.descriptions, encoder).vectors for corpus in (other, world)]
        rows |= probes(texts, other, world, "descriptions", READ)
    if uses == "pictures and texts":
        rows |= {f"zero-shot {attribute}": zero_shot(encoder, pictures[1], world, attribute) for attribute in SEEN}
        own, by_category = recall_at_1(pictures[1], texts[1], world)
        rows |= {"picture to description, first of 100": own, "the same by category alone": by_category}
    return rows


def measure_control(name: str, world: Corpus, other: Corpus) -> dict[str, float]:
    """The probes of an encoder with random weights; nothing for models that are none."""
    if POCKET[name] not in ENCODERS:
        return {}
    rows = measure_encoder(randomly_initialised(name), world, other)
    return {f"untrained, {asked}": share for asked, share in rows.items() if asked.startswith("probe")}


# Language models ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def answered(model, tokenizer, chats: list[Chat]) -> list[list[bool]]:
    """For each chat, whether each of its answers is what the model would write, word by word, to its end."""
    right = []
    for start in range(0, len(chats), 32):
        tokens = tokenizer.apply_chat_template(
            chats[start : start + 32],
            return_dict=True,
            return_assistant_tokens_mask=True,
            padding=True,
            return_tensors="pt",
        )
        answer = torch.as_tensor(tokens.pop("assistant_masks")).bool()
        guess = model(**tokens).logits.argmax(-1).roll(1, dims=1)  # (B, T): what is expected at each place
        for good, place in zip((guess == tokens["input_ids"]).tolist(), answer.tolist(), strict=True):
            runs = np.split(good, np.flatnonzero(np.diff(place)) + 1)
            starts = np.concatenate([[0], np.flatnonzero(np.diff(place)) + 1])
            right.append([bool(np.all(run)) for run, at in zip(runs, starts, strict=True) if place[at]])
    return right


@torch.inference_mode()
def surprise(model, tokenizer, texts: list[str]) -> float:
    """Mean negative logarithm of the probability of each token of some texts, from the first to the end </s>.

    What is longer than the tokenizer's ``model_max_length`` is cut off.
    """
    total = count = 0
    for start in range(0, len(texts), 32):
        batch = [f"<s> {text}</s>" for text in texts[start : start + 32]]
        tokens = tokenizer(batch, add_special_tokens=False, padding=True, truncation=True, return_tensors="pt")
        labels = tokens["input_ids"].masked_fill(tokens["attention_mask"] == 0, -100)[:, 1:]
        labels = labels.masked_fill(tokens["attention_mask"][:, :-1] == 0, -100)  # <s> itself is given
        logits = model(**tokens).logits[:, :-1]
        total += cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
        count += (labels != -100).sum().item()
    return total / count


def trigram_surprise(tokenizer, known: list[str], texts: list[str]) -> float:
    """The same of an interpolated 3-gram model of the same tokens (Witten and Bell, 1991), learnt from known texts."""
    size = len(tokenizer)

    def grams(texts: list[str]) -> np.ndarray:  # (N, 3): each token after the two before it
        rows = tokenizer([f"<s> {text}</s>" for text in texts], add_special_tokens=False)["input_ids"]
        return np.concatenate([np.lib.stride_tricks.sliding_window_view([1, *row], 3) for row in rows])

    def packed(columns: np.ndarray) -> np.ndarray:  # (N, n) -> (N,)
        return columns @ size ** np.arange(columns.shape[1])

    def looked_up(keys: np.ndarray, counts: np.ndarray, asked: np.ndarray) -> np.ndarray:
        place = np.searchsorted(keys, asked).clip(max=len(keys) - 1)
        return np.where(keys[place] == asked, counts[place], 0)

    known, asked = grams(known), grams(texts)
    chance = np.full(len(asked), 1 / size)
    for order in (1, 2, 3):
        seen = looked_up(*np.unique(packed(known[:, -order:]), return_counts=True), packed(asked[:, -order:]))
        context = packed(known[:, -order:-1])
        total = looked_up(*np.unique(context, return_counts=True), packed(asked[:, -order:-1]))
        kinds = np.unique(known[:, -order:], axis=0)  # a context's different followers
        kinds = looked_up(*np.unique(packed(kinds[:, :-1]), return_counts=True), packed(asked[:, -order:-1]))
        chance = np.where(total > 0, (seen + kinds * chance) / np.maximum(total + kinds, 1), chance)
    return float(-np.log(chance).mean())


def texts_and_reviews(corpus: Corpus) -> list[str]:
    """What the shop and its customers write, in the mixture that pocket-lm learnt from."""
    return [item_text(corpus, row) for row in range(len(corpus))] + [
        " ".join(reviews[:6]) for reviews in corpus.reviews[::3] if reviews
    ]


def measure_reader(name: str, world: Corpus) -> dict[str, float]:
    """Answers about texts, the next purchase, perplexity."""
    folder = find_checkpoint(name)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        AutoTokenizer.from_pretrained(folder),
    )
    rows = {}
    for attribute, asked in QUESTIONS.items():
        texts = [item_text(world, row) for row in range(ASKED)]
        truth = [told(world.facts[row], text).get(attribute, NOT_TOLD) for row, text in enumerate(texts)]
        chats = [chat((f"{text}\n{asked[0]}", answer)) for text, answer in zip(texts, truth, strict=True)]
        rows[f"answer about a text: {attribute}"] = float(np.mean(answered(model, tokenizer, chats)))
    rows["answer about a text: all"] = float(np.mean(list(rows.values())))
    histories = [history for history in world.histories if len(history) >= 4][:ASKED]
    chats = [about_next(world, history, NEXT[0]) for history in histories]
    kinds = [[world.facts[row]["category"] for row in history][:17] for history in histories]
    pairs = [pair for each in kinds for pair in pairwise(each)]
    right = [good for each in answered(model, tokenizer, chats) for good in each]
    times = max(Counter(next_items for _, next_items in pairs).values())
    complement = np.mean([COMPLEMENTS[last] == next_items for last, next_items in pairs])
    perplexity = np.exp(surprise(model, tokenizer, texts_and_reviews(world)[::4]))
    return rows | {
        "kind of the next purchase": float(np.mean(right)),
        "the same, always the commonest kind": times / len(pairs),
        "the same, always the complement of the last": float(complement),
        "perplexity of texts, a token": float(perplexity),
    }


def measure_writer(name: str, world: Corpus) -> dict[str, float]:
    """Perplexity of a GPT-2."""
    folder = find_checkpoint(name)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    # It counts places from the left, padding or not: so padding must stand at the right.
    room = {"padding_side": "right", "model_max_length": model.config.n_positions}
    tokenizer = AutoTokenizer.from_pretrained(folder, **room)
    return {"perplexity of texts, a token": float(np.exp(surprise(model, tokenizer, texts_and_reviews(world)[::4])))}


@torch.inference_mode()
def measure_viewer(name: str, world: Corpus) -> dict[str, float]:
    """What the model says of pictures in its own words."""
    folder = find_checkpoint(name)
    model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor, pictures, said = AutoProcessor.from_pretrained(folder), pictures_of(world), []
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": f"<image>\n{DESCRIBE}"}], add_generation_prompt=True
    )
    for start in range(0, len(pictures), 100):
        batch = pictures[start : start + 100]
        tokens = processor(text=[prompt] * len(batch), images=batch, add_special_tokens=False, return_tensors="pt")
        written = model.generate(**tokens, max_new_tokens=16, do_sample=False)[:, tokens["input_ids"].shape[1] :]
        said += processor.batch_decode(written, skip_special_tokens=True)
    return {
        f"named in a description: {attribute}": float(
            np.mean([facts[attribute] in words.split() for facts, words in zip(world.facts, said, strict=True)])
        )
        for attribute in SEEN
    }


def measure(name: str, world: Corpus, other: Corpus) -> dict[str, float]:
    """What a model reaches on a world; its probes, if any, learn from another one.

    Returns:
        What was asked -> the share that was right, unless it says something else.
    """
    if name == "pocket-lm":
        return measure_reader(name, world)
    if name == "pocket-vlm":
        return measure_viewer(name, world)
    if name == "pocket-gpt2":
        return measure_writer(name, world)
    return measure_encoder(load_encoder(name), world, other)

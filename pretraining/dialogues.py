"""Chats from which the pocket language models learn: a shop's texts, and questions about them with their answers.

A chat is a list of messages as chat templates take them, {"role": "user" | "assistant", "content": text}, in turn.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mmrec_helpers.pocket_shop.text_templates import FOR_OCCASION, mentioned_attributes
from pretraining.corpus import Corpus, split_sentences

Chat = list[dict[str, str]]

QUESTIONS = {
    "category": ("What kind of thing is it?", "What is it?", "Which category does it belong to?"),
    "colour": ("What colour is it?", "Which colour does it have?", "Name the colour."),
    "pattern": ("What pattern does it have?", "Which pattern is on it?", "Name the pattern."),
    "style": ("What style is it?", "Which style does it have?", "Name the style."),
    "material": ("What is it made of?", "Which material is it?", "Name the material."),
    "occasion": ("What is it for?", "Which occasion is it for?", "Name the occasion."),
    "brand": ("Who makes it?", "Which brand is it?", "Name the brand."),
}
"""Ways to ask for an attribute; the first is the one that the models are measured by."""
NOT_MENTIONED = "not told"
"""The answer where a text does not mention an attribute."""
NEXT_QUESTIONS = ("What kind of thing may they buy next?", "What comes next?", "Name the kind of the next purchase.")
SUMMARY_QUESTIONS = ("Summarise it.", "Say it in a few words.")
TASTE_QUESTIONS = ("What do they like?", "Summarise their taste.")
DESCRIBE = "Describe the picture."
VISUAL = ("category", "colour", "pattern", "style")
"""Attributes that the models learn from pictures; the brand's logo is left to the text."""
ADJECTIVES = ("style", "pattern", "colour", "material")
"""Attributes before the category, in the order of a summary."""
TASTE = ("colour", "pattern", "style", "material", "occasion")
"""Attributes in a summary of a taste."""


def make_chat(*turns: tuple[str, str]) -> Chat:
    """Pairs of a question and its answer as a chat."""
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def encode_chats(tokenizer: PreTrainedTokenizerBase, chats: list[Chat]) -> tuple[dict[str, Any], torch.Tensor]:
    """A batch of chats as a model's inputs, padded, and the (B, T) bool mask of the answers' tokens."""
    options: dict[str, Any] = {"return_dict": True, "return_assistant_tokens_mask": True, "return_tensors": "pt"}
    tokens: Any = tokenizer.apply_chat_template(chats, padding=True, **options)
    return tokens, torch.as_tensor(tokens.pop("assistant_masks")).bool()


def mentioned_facts(facts: dict[str, str], text: str) -> dict[str, str]:
    """Those of an item's facts that a text mentions."""
    values = mentioned_attributes(text)
    values["brand"] = {facts["brand"]} if facts["brand"] in text else set()
    return {name: facts[name] for name in QUESTIONS if facts[name] in values.get(name, ())}


def summary(facts: dict[str, str], order: Sequence[str] = ADJECTIVES) -> str:
    """An item in a few words, by the facts that are known: "rustic striped steel mug by Dorvobeck for everyday use"."""
    words = [facts[name] for name in (*order, "category") if name in facts]
    if "brand" in facts:
        words.append(f"by {facts['brand']}")
    if "occasion" in facts:
        words.append(FOR_OCCASION[facts["occasion"]][0])
    return " ".join(words)


def taste_summary(items: list[dict[str, str]]) -> str:
    """What items have in common: each value that two fifths of them share, two at least; and their categories."""
    least = max(2, 0.4 * len(items))
    likes = [
        value
        for name in TASTE
        for value, count in Counter(facts[name] for facts in items if name in facts).most_common(1)
        if count >= least
    ]
    categories = [category for category, _ in Counter(facts["category"] for facts in items).most_common(3)]
    return f"They like {', '.join(likes) or 'nothing in particular'}. They buy {', '.join(categories)}."


def item_text(corpus: Corpus, row: int) -> str:
    """An item's title and description."""
    return f"{corpus.titles[row]}. {corpus.descriptions[row]}"


def item_chat(corpus: Corpus, row: int, rng: np.random.Generator) -> Chat:
    """A text, then questions about it in random order: each attribute, yes or no, and a summary.

    Half of the texts are two or three sentences of the description, so that fewer attributes are mentioned.
    """
    text = item_text(corpus, row)
    if rng.random() < 0.5:
        sentences = split_sentences(corpus.descriptions[row])
        text = " ".join(sentences[number] for number in rng.permutation(len(sentences))[: rng.integers(2, 4)])
    known = mentioned_facts(corpus.facts[row], text)
    turns = [(str(rng.choice(questions)), known.get(name, NOT_MENTIONED)) for name, questions in QUESTIONS.items()]
    turns.append((str(rng.choice(SUMMARY_QUESTIONS)), summary(known) or NOT_MENTIONED))
    if checkable := sorted(known.keys() - {"brand", "category"}):
        name = rng.choice(checkable)
        other = corpus.facts[rng.integers(len(corpus))][name] if rng.random() < 0.5 else known[name]
        turns.append((f"Is its {name} {other}?", "yes" if other == known[name] else "no"))
    turns = [turns[number] for number in rng.permutation(len(turns))]
    return make_chat((f"{text}\n{turns[0][0]}", turns[0][1]), *turns[1:])


def next_item_chat(corpus: Corpus, history: np.ndarray, question: str) -> Chat:
    """A shopper's first purchases one by one; after each, the category of the next."""
    categories = [corpus.facts[row]["category"] for row in history]
    turns = list(zip(history[:-1], categories[1:], strict=True))[:16]
    return make_chat(*((f"They bought {corpus.titles[row]}. {question}", category) for row, category in turns))


def taste_chat(corpus: Corpus, history: np.ndarray, rng: np.random.Generator) -> Chat:
    """A shopper's purchases in two or three parts; after each part, a summary of the taste so far."""
    names = ("category", *TASTE)
    items = [{name: corpus.facts[row][name] for name in names} for row in history[:12]]
    size, turns = rng.integers(3, 7), []
    for start in range(0, len(items), size):
        lines = "\n".join(f"- {summary(facts)}" for facts in items[start : start + size])
        turns.append((f"They bought\n{lines}\n{rng.choice(TASTE_QUESTIONS)}", taste_summary(items[: start + size])))
    return make_chat(*turns)


def image_chat(corpus: Corpus, row: int, rng: np.random.Generator) -> Chat:
    """A picture, then questions about it: a caption, its attributes, and a summary together with the text."""
    facts = corpus.facts[row]
    visual = {name: facts[name] for name in VISUAL}
    turns = [(rng.choice(QUESTIONS[name]), value) for name, value in visual.items()]
    turns.append((DESCRIBE, summary(visual)))
    turns = [turns[number] for number in rng.permutation(len(turns))]
    if rng.random() < 0.3:
        text = item_text(corpus, row)
        turns[0] = (f"{text}\n{rng.choice(SUMMARY_QUESTIONS)}", summary(mentioned_facts(facts, text) | visual))
    return make_chat((f"<image>\n{turns[0][0]}", turns[0][1]), *turns[1:])

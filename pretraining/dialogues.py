"""What the pocket language models read: a shop's texts, and questions with their answers.

A chat is a list of messages as chat templates take them, {"role": "user" | "assistant", "content": text}, in turn.
"""

from collections import Counter

import numpy as np

from mmrec_helpers.pocket_shop.text_templates import FOR_OCCASION, mentioned_attributes
from pretraining.corpus import Corpus, sentences

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
NOT_TOLD = "not told"
NEXT = ("What kind of thing may they buy next?", "What comes next?", "Name the kind of the next purchase.")
SUMMARISE = ("Summarise it.", "Say it in a few words.")
LIKES = ("What do they like?", "Summarise their taste.")
DESCRIBE = "Describe the picture."
SEEN = ("category", "colour", "pattern", "style")
"""What the models name of a picture; the brand's mark is left to the text."""
LIKED = ("colour", "pattern", "style", "material", "occasion")
"""What a summary of a taste is about."""


def chat(*turns: tuple[str, str]) -> Chat:
    """Pairs of a question and its answer as a chat."""
    return [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def told(facts: dict[str, str], text: str) -> dict[str, str]:
    """Those of an item's facts that a text tells."""
    found = mentioned_attributes(text)
    found["brand"] = {facts["brand"]} if facts["brand"] in text else set()
    return {name: facts[name] for name in QUESTIONS if facts[name] in found.get(name, ())}


def summary(facts: dict[str, str]) -> str:
    """An item in a few words, by the facts that are known: "rustic striped steel mug by Dorvobeck for everyday use"."""
    words = [facts[name] for name in ("style", "pattern", "colour", "material", "category") if name in facts]
    if "brand" in facts:
        words.append(f"by {facts['brand']}")
    if "occasion" in facts:
        words.append(FOR_OCCASION[facts["occasion"]][0])
    return " ".join(words)


def taste(items: list[dict[str, str]]) -> str:
    """What some items have in common: each value that two fifths of them share, at least two; and the kinds."""
    need = max(2, 0.4 * len(items))
    likes = [
        value
        for name in LIKED
        for value, count in Counter(facts[name] for facts in items if name in facts).most_common(1)
        if count >= need
    ]
    kinds = [kind for kind, _ in Counter(facts["category"] for facts in items).most_common(3)]
    return f"They like {', '.join(likes) or 'nothing in particular'}. They buy {', '.join(kinds)}."


def item_text(corpus: Corpus, row: int) -> str:
    """An item's title and description."""
    return f"{corpus.titles[row]}. {corpus.descriptions[row]}"


def about_item(corpus: Corpus, row: int, rng: np.random.Generator) -> Chat:
    """A text, then questions about it in random order: each attribute, yes or no, and a summary.

    Half of the texts are two or three sentences of the description, which leave more untold.
    """
    text = item_text(corpus, row)
    if rng.random() < 0.5:
        parts = sentences(corpus.descriptions[row])
        text = " ".join(parts[place] for place in rng.permutation(len(parts))[: rng.integers(2, 4)])
    known = told(corpus.facts[row], text)
    turns = [(str(rng.choice(asked)), known.get(name, NOT_TOLD)) for name, asked in QUESTIONS.items()]
    turns.append((str(rng.choice(SUMMARISE)), summary(known) or NOT_TOLD))
    if checkable := sorted(known.keys() - {"brand", "category"}):
        name = rng.choice(checkable)
        other = corpus.facts[rng.integers(len(corpus))][name] if rng.random() < 0.5 else known[name]
        turns.append((f"Is its {name} {other}?", "yes" if other == known[name] else "no"))
    turns = [turns[place] for place in rng.permutation(len(turns))]
    return chat((f"{text}\n{turns[0][0]}", turns[0][1]), *turns[1:])


def about_next(corpus: Corpus, history: np.ndarray, asked: str) -> Chat:
    """A shopper's first purchases one by one; after each, the kind of the next."""
    kinds = [corpus.facts[row]["category"] for row in history]
    turns = zip(history[:-1], kinds[1:], strict=True)
    return chat(*((f"They bought {corpus.titles[row]}. {asked}", kind) for row, kind in list(turns)[:16]))


def about_taste(corpus: Corpus, history: np.ndarray, rng: np.random.Generator) -> Chat:
    """A shopper's purchases in two or three parts; after each part, what they like by all that was bought so far."""
    names = ("category", *LIKED)
    items = [{name: corpus.facts[row][name] for name in names} for row in history[:12]]
    size, turns = rng.integers(3, 7), []
    for start in range(0, len(items), size):
        lines = "\n".join(f"- {summary(facts)}" for facts in items[start : start + size])
        turns.append((f"They bought\n{lines}\n{rng.choice(LIKES)}", taste(items[: start + size])))
    return chat(*turns)


def about_picture(corpus: Corpus, row: int, rng: np.random.Generator) -> Chat:
    """A picture, then questions about it: a caption, what it shows, and a summary together with the text."""
    facts = corpus.facts[row]
    turns = [(rng.choice(QUESTIONS[name]), facts[name]) for name in SEEN]
    turns.append((DESCRIBE, summary({name: facts[name] for name in SEEN})))
    turns = [turns[place] for place in rng.permutation(len(turns))]
    if rng.random() < 0.3:
        known = told(facts, item_text(corpus, row)) | {name: facts[name] for name in SEEN}
        turns[0] = (f"{item_text(corpus, row)}\n{rng.choice(SUMMARISE)}", summary(known))
    return chat((f"<image>\n{turns[0][0]}", turns[0][1]), *turns[1:])

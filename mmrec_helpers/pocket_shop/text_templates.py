"""The texts of the Pocket Shop: brand names, titles, descriptions and reviews, filled from ``templates.json``.

No function samples: the caller passes a row of ``draws`` in [0, 1), and each position of the row always serves the same
choice. So the same row with other ``mentions`` gives the same description except in the sentences about the attributes
that are now mentioned or hidden, which makes the parameter ``overlap`` of the shop a controlled experiment.

In ``templates.json`` the order of options matters, because draws select by position. ``{thing}`` names the item,
``{short}`` is its name in later sentences; both take a verb in the singular. An attribute that a description does not
mention is replaced by one of the ``fillers``, which contain nothing about the appearance of the item; each attribute's
fillers have their own topic (care, delivery, sizes and returns). ``joins`` combine an opener with praise and regret;
capitalised fields start a sentence.
"""

import json
import re
from collections.abc import Collection, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import numpy as np

from mmrec_helpers.pocket_shop.catalogue import MENTIONABLE, VALUES

T = TypeVar("T")
Json = Any
Draws = Sequence[float] | np.ndarray
"""Samples in [0, 1)."""
TEXT_VERSION = 1
"""Raise it when a template changes: stored shops and stored numbers depend on every word."""

NUM_DRAWS_BRAND = 8
NUM_DRAWS_TITLE = 8
NUM_DRAWS_DESCRIPTION = 24
NUM_DRAWS_NOISE = 8
NUM_DRAWS_REVIEW = 8


def _with_tuples(value: Json) -> Json:
    """A JSON value with tuples in place of lists."""
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value


TEMPLATES = _with_tuples(json.loads(files(__package__).joinpath("templates.json").read_text("utf-8")))
FOR_OCCASION: dict[str, tuple[str, ...]] = {
    occasion: forms["phrases"] for occasion, forms in TEMPLATES["occasions"].items()
}
"""The two phrases of each occasion; a template with {for_occasion} is filled with each."""
SLOT_POSITIONS = {
    "who": 1, "who_material": 2, "who_occasion": 3, "who_all": 4, "material_occasion": 5, "material": 6,
    "occasion": 8, "colour": 9, "pattern": 10, "style": 11, "service": 12,
}  # fmt: skip
"""The draw of a description that selects the sentence of a slot; draw 0 selects the frame. Every slot has its own
position, used or not, so that the choice in one slot never shifts the choice in another."""
SENTIMENTS = {5: "good", 4: "good", 3: "mixed", 2: "bad", 1: "bad"}
TEXTILE_CATEGORIES = ("cushion", "t-shirt", "sneaker", "cap", "backpack")
STIFF_MATERIALS = ("ceramic", "glass", "steel", "oak", "bamboo")


# --- Filling the templates: all options are filled once per combination of values and cached -------------------------
def _pick(options: Sequence[T], draw: float) -> T:
    """The option that a draw in [0, 1) selects."""
    return options[int(draw * len(options))]


def _an(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def _kind_of(category: str, adjective: str) -> str:
    """The item with an adjective before its noun: "oak desk", "pair of wool sneakers"."""
    return f"pair of {adjective} sneakers" if category == "sneaker" else f"{adjective} {category}"


def _material_noun(category: str, material: str) -> str:
    """The name of an item's material in a sentence."""
    if material == "plastic":
        return "recycled plastic"
    return "bamboo fibre" if material == "bamboo" and category in TEXTILE_CATEGORIES else material


@cache
def _forms(category: str, material: str, occasion: str) -> dict[str, str]:
    """The values of the fields of a description's templates; the brand is filled in last."""
    noun = _material_noun(category, material)
    adjective = noun.removesuffix(" fibre")
    material_thing = _kind_of(category, adjective)
    made = f"made of {noun}"
    if category == "umbrella" and material in STIFF_MATERIALS:  # no canopy is made of oak
        material_thing, made = f"umbrella with {_an(adjective)} shaft", f"built on a shaft of {noun}"
    elif category in ("cushion", "umbrella") or (category, material) == ("chair", "leather"):
        made = f"covered in {noun}"
    elif (category, material) == ("desk", "glass"):
        made = "topped with glass"
    thing, occasion_thing = TEMPLATES["categories"][category]["thing"], _kind_of(category, occasion)
    return {
        "brand": "{brand}",
        "thing": thing,
        "a_thing": _an(thing),
        "short": TEMPLATES["categories"][category]["short"],
        "material": noun,
        "made": made,
        "material_thing": material_thing,
        "a_material_thing": _an(material_thing),
        "occasion_thing": occasion_thing,
        "an_occasion_thing": _an(occasion_thing),
    }


@cache
def _fact_options(slot: str, category: str, material: str, occasion: str) -> tuple[str, ...]:
    """All sentences for a slot."""
    is_occasion = slot == "occasion"
    templates = TEMPLATES["occasion_sentences"][occasion] if is_occasion else TEMPLATES["fact_sentences"][slot]
    forms = _forms(category, material, occasion)
    sentences = (
        template.format(**forms, for_occasion=phrase) for template in templates for phrase in FOR_OCCASION[occasion]
    )
    return tuple(dict.fromkeys(sentences))  # a template without {for_occasion} gives duplicates


@cache
def _visible_options(attribute: str, category: str, value: str | None) -> tuple[str, ...]:
    """All sentences that mention the value of a visible attribute, or for None all fillers in its place."""
    words = TEMPLATES["categories"][category]
    forms = {"brand": "{brand}", "short": words["short"]}
    if value is not None:
        templates = TEMPLATES["mention_sentences"][attribute]
        forms |= {"value": value, "a_value": _an(value)}
    else:
        fillers = TEMPLATES["fillers"][attribute]
        templates = fillers["all"] + fillers[words["group"] if words["group"] in fillers else "small"]
    return tuple(template.format(**forms) for template in templates)


@cache
def _opening_options(part: str, rating: int, category: str) -> tuple[str, ...]:
    """All whole reviews ("whole") or all openers ("opener") for the rating."""
    thing = TEMPLATES["categories"][category]["thing"]
    return tuple(template.format(thing=thing) for template in TEMPLATES["reviews"][part][str(int(rating))])


@cache
def _clause_options(feeling: str, attribute: str, value: str) -> tuple[str, ...]:
    """All clauses that praise ("liked") or regret ("missed") the value."""
    return tuple(template.format(value=value) for template in TEMPLATES["reviews"][feeling][attribute])


# --- The texts --------------------------------------------------------------------------------------------------------
def brand_name(draws: Draws) -> str:
    """Make a brand name, e.g. "Aldermere", from ``NUM_DRAWS_BRAND`` draws; different ones may give the same name."""
    return "".join(_pick(parts, draw) for parts, draw in zip(TEMPLATES["brand_names"].values(), draws, strict=False))


def title(facts: dict[str, str], draws: Draws) -> str:
    """Write an item's title: brand, a model name, category and sometimes the occasion, in at most eight words.

    It takes the item's values by attribute name, and at least ``NUM_DRAWS_TITLE`` draws.
    """
    titles = TEMPLATES["titles"]
    return _pick(titles["templates"], draws[0]).format(
        brand=facts["brand"],
        model=_pick(titles["models"], draws[1]) + _pick(titles["series"], draws[2]),
        thing=TEMPLATES["categories"][facts["category"]]["title"],
        occasion=facts["occasion"].title(),
        for_occasion=TEMPLATES["occasions"][facts["occasion"]]["title"],
    )


def description(facts: dict[str, str], mentions: Collection[str], draws: Draws) -> str:
    """Write a description of 4 to 7 sentences: category, brand, material, occasion and what is in ``mentions``.

    Args:
        facts: The item's values, by attribute name.
        mentions: Which of "colour", "pattern" and "style" to mention; the text contains nothing about the others.
        draws: At least ``NUM_DRAWS_DESCRIPTION`` numbers in [0, 1).

    Raises:
        ValueError: Another attribute is to be mentioned.
    """
    for mention in mentions:
        if mention not in MENTIONABLE:
            raise ValueError(f"cannot mention {mention!r}; a description may mention {', '.join(MENTIONABLE)}")
    category, material, occasion = facts["category"], facts["material"], facts["occasion"]
    sentences = []
    for slot in _pick(TEMPLATES["frames"], draws[0]):
        if slot in MENTIONABLE:
            options = _visible_options(slot, category, facts[slot] if slot in mentions else None)
        else:
            options = _fact_options(slot, category, material, occasion)
        sentences.append(_pick(options, draws[SLOT_POSITIONS[slot]]))
    return " ".join(sentences).replace("{brand}", facts["brand"])


def add_noise(description: str, draws: Draws) -> str:
    """Add noise to a description: HTML, capitals and boilerplate. All words stay, in order.

    It takes at least ``NUM_DRAWS_NOISE`` draws.
    """
    noise = TEMPLATES["noise"]
    sentences = [sentence.removesuffix(".") + "." for sentence in description.split(". ")]
    replaced = int(draws[0] * len(sentences))
    sentences[replaced] = sentences[replaced].replace(*_pick(noise["replacements"], draws[1]))
    bold = int(draws[2] * len(sentences))
    sentences[bold] = f"<b>{sentences[bold]}</b>"
    # The line in capitals is first or last, the line about shipping anywhere.
    sentences.insert(0 if draws[4] < 0.5 else len(sentences), _pick(noise["shouts"], draws[3]))
    sentences.insert(int(draws[6] * (len(sentences) + 1)), _pick(noise["shipping"], draws[5]))
    before, between, after = _pick(noise["layouts"], draws[7])
    return before + between.join(sentences) + after


def review(facts: dict[str, str], rating: int, liked: str | None, missed: str | None, draws: Draws) -> str:
    """Write one or two short sentences by a customer who gave ``rating`` stars.

    Args:
        facts: The item's values, by attribute name.
        rating: 1 to 5.
        liked: The attribute whose value the customer praises, if any.
        missed: The attribute whose value the customer regrets, if any.
        draws: At least ``NUM_DRAWS_REVIEW`` numbers in [0, 1).

    Raises:
        ValueError: The rating is not 1 to 5, or no review is about the attribute.
    """
    if rating not in SENTIMENTS:
        raise ValueError(f"rating must be 1, 2, 3, 4 or 5, got {rating!r}")
    category = facts["category"]
    if liked is None and missed is None:
        return _pick(_opening_options("whole", rating, category), draws[0])
    fields = {"opener": _pick(_opening_options("opener", rating, category), draws[1])}
    for feeling, attribute, draw in (("liked", liked, draws[2]), ("missed", missed, draws[3])):
        if attribute is not None:
            clause = _pick(_clause_options(feeling, attribute, _value_in_review(attribute, facts)), draw)
            fields[feeling], fields[feeling.capitalize()] = clause, clause[0].upper() + clause[1:]
    joins = TEMPLATES["reviews"]["joins"]["both" if liked and missed else "liked" if liked else "missed"]
    return _pick(joins[SENTIMENTS[rating]], draws[4]).format_map(fields)


def _value_in_review(attribute: str, facts: dict[str, str]) -> str:
    """The item's value in the words of the clauses about the attribute."""
    if attribute not in TEMPLATES["reviews"]["liked"]:
        known = ", ".join(TEMPLATES["reviews"]["liked"])
        raise ValueError(f"a review cannot be about {attribute!r}; it can be about {known}")
    if attribute == "material":
        return _material_noun(facts["category"], facts["material"])
    return FOR_OCCASION[facts["occasion"]][0] if attribute == "occasion" else facts[attribute]


# --- Parsing a text ---------------------------------------------------------------------------------------------------
_MEANING = {value: (attribute, value) for attribute, values in VALUES.items() for value in values}
_MEANING |= {word: ("occasion", value) for value, forms in TEMPLATES["occasions"].items() for word in forms["words"]}
_MEANING["sneakers"] = ("category", "sneaker")
# A look-up of every word is several times faster than a search for an alternation of all values.
_WORD = re.compile(r"t-shirt\b|\w+")


def mentioned_attributes(text: str) -> dict[str, set[str]]:
    """Attribute -> its values that a text mentions, without an entry where there is none.

    Brands are not searched for, any capitalised word could be one.
    """
    mentioned: dict[str, set[str]] = {}
    for word in _MEANING.keys() & _WORD.findall(text.lower()):
        attribute, value = _MEANING[word]
        mentioned.setdefault(attribute, set()).add(value)
    return mentioned

"""Chats from which pocket-instruct learns: preferences that are written and updated, and yes or no to a candidate.

Both follow rules of counting, which need no taste and no next purchase. **The rule of a preference**: for each
attribute, every item that mentions it is a vote for its value, and the previous preference is as many votes for its
value as its strength. A value that has more votes than all others together is mentioned, and its strength is the
difference, at most 3. So a preference that new items contradict becomes weaker, disappears, and is replaced. **The rule
of an answer**: yes, if the strengths of the preferred values that a candidate has are at least ENOUGH in sum.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmrec_helpers.lessons.preferences import preference_message
from mmrec_helpers.lessons.yes_no import quoted
from mmrec_helpers.pocket_shop.catalogue import CATEGORIES, VALUES
from mmrec_helpers.recommenders.mllm_msr import CANDIDATE, PROMPT, USER
from pretraining.corpus import Corpus
from pretraining.dialogues import ADJECTIVES, Chat, make_chat, mentioned_facts, summary

PREFERABLE = (*ADJECTIVES, "occasion")
"""Attributes in a preference, in the order in which it mentions them."""
DEGREES = {3: " clearly", 2: "", 1: " maybe"}
"""Strength -> what follows the value."""
ANY = "any"
"""Written where no value is preferred."""
MENTION = re.compile(rf"\b({'|'.join(PREFERABLE)}) ([\w-]+)( clearly| maybe|)(?=[,.])")
NUM_CATEGORIES = 3
"""Categories in a preference."""
ENOUGH = 3
"""Strengths in sum from which on a candidate is liked: a clear preference, or two, one of them more than a maybe."""
BLOCKS = {1: 0.1, 2: 0.12, 3: 0.45, 4: 0.07, 5: 0.07, 6: 0.04, 8: 0.05, 12: 0.03, 15: 0.07}
"""Items of a block -> its probability in training; from DIRECT on there is one block, as in direct inference."""
DIRECT = 12
NUM_QUESTIONS = 6
"""Candidates of a chat."""
NUM_ITEMS = 70
"""Items in a batch of chats, approximately."""


# The rules ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preference:
    """What a preference mentions.

    Attributes:
        strengths: attribute -> preferred value and its strength, of DEGREES.
        categories: of the latest items, the latest first.
    """

    strengths: dict[str, tuple[str, int]] = field(default_factory=dict)
    categories: tuple[str, ...] = ()

    def update(self, items: Sequence[dict[str, str]]) -> "Preference":
        """The preference after further items, by the rule above."""
        strengths = {}
        for name in PREFERABLE:
            votes = Counter(facts[name] for facts in items if name in facts)
            value, strength = self.strengths.get(name, ("", 0))
            votes[value] += strength
            value, most = votes.most_common(1)[0]
            if (margin := 2 * most - votes.total()) > 0:
                strengths[name] = value, min(margin, max(DEGREES))
        latest = [facts["category"] for facts in reversed(items) if "category" in facts]
        return Preference(strengths, tuple(dict.fromkeys([*latest, *self.categories]))[:NUM_CATEGORIES])

    def text(self, order: Sequence[str] = PREFERABLE) -> str:
        """The preference in words, attributes in an order: "They like style playful clearly, pattern any, ..."."""
        values = {name: f"{value}{DEGREES[strength]}" for name, (value, strength) in self.strengths.items()}
        likes = f"They like {', '.join(f'{name} {values.get(name, ANY)}' for name in order)}."
        return f"{likes} They buy {', '.join(self.categories)}." if self.categories else likes

    def match(self, facts: dict[str, str]) -> int:
        """The strengths of the preferred values that an item has, in sum."""
        return sum(strength for name, (value, strength) in self.strengths.items() if facts.get(name) == value)

    def answer(self, facts: dict[str, str]) -> str:
        """Yes or no to an item, and the preferred values that it has."""
        shared = [value for name, (value, _) in self.strengths.items() if facts.get(name) == value]
        return ", ".join(["yes" if self.match(facts) >= ENOUGH else "no", *shared])


def read_preference(text: str) -> Preference:
    """The preference of a text as ``Preference.text`` writes it; what cannot be read is left out."""
    level_of = {degree: level for level, degree in DEGREES.items()}
    likes, _, buys = text.partition("They buy ")
    found = [(name, value, level_of[degree]) for name, value, degree in MENTION.findall(likes) if value in VALUES[name]]
    categories = [word for word in buys.strip(".").split(", ") if word in CATEGORIES]
    return Preference({name: (value, level) for name, value, level in found}, tuple(categories))


# Chats ----------------------------------------------------------------------------------------------------------------


def sample_item(facts: dict[str, str], rng: np.random.Generator) -> tuple[dict[str, str], str]:
    """What an item's text mentions, and the text: some attributes are missing, some texts have another order."""
    missing = 0.4 if rng.random() < 0.15 else 0.04
    known = {name: facts[name] for name in (*PREFERABLE, "category", "brand") if rng.random() >= missing}
    order = ADJECTIVES if rng.random() < 0.85 else [ADJECTIVES[row] for row in rng.permutation(len(ADJECTIVES))]
    return known, summary(known, order)


def sample_history(corpus: Corpus, rng: np.random.Generator, least: int = 1) -> np.ndarray:
    """The items of a random shopper with ``least`` items at least."""
    while True:
        history = corpus.histories[rng.integers(len(corpus.histories))]
        if len(history) >= least:
            return history


def sample_preference(
    corpus: Corpus, rng: np.random.Generator, block: int
) -> tuple[Preference, list[tuple[dict[str, str], str]], np.ndarray]:
    """A shopper's preference before a random block, the items of that block, and the shopper's items after it."""
    history = sample_history(corpus, rng, least=block if block >= DIRECT else 1)
    blocks = np.split(history, range(block, len(history), block))
    number, before = 0 if block >= DIRECT else int(rng.integers(min(len(blocks), 10))), Preference()
    for rows in blocks[:number]:
        before = before.update([sample_item(corpus.facts[row], rng)[0] for row in rows])
    return before, [sample_item(corpus.facts[row], rng) for row in blocks[number]], history[(number + 1) * block :]


def preference_chat(corpus: Corpus, rng: np.random.Generator, block: int) -> Chat:
    """The message for a random block of a shopper's items, and the preference after it.

    In one of ten updates the previous preference is that of another shopper, so that the model learns to recover.
    """
    before, items, _ = sample_preference(corpus, rng, block)
    if before != Preference() and rng.random() < 0.1:
        before = sample_preference(corpus, rng, 3)[0]
    known, texts = zip(*items, strict=True)
    message = preference_message(texts, before.text(sample_order(rng)) if before != Preference() else "")
    return make_chat((message, before.update(known).text()))


def sample_order(rng: np.random.Generator) -> list[str]:
    """The order of the attributes in a previous preference: mostly the usual one."""
    return [*PREFERABLE] if rng.random() < 0.85 else [PREFERABLE[row] for row in rng.permutation(len(PREFERABLE))]


def yes_no_chat(corpus: Corpus, rng: np.random.Generator) -> Chat:
    """A preference and candidates one by one; yes and no are equally frequent, where there are items for both."""
    before, items, later = sample_preference(corpus, rng, 3)
    preference, turns = before.update([known for known, _ in items]), []
    pool = np.array([*later[:6], *rng.integers(len(corpus), size=60)])
    is_liked = np.array([preference.match(corpus.facts[row]) >= ENOUGH for row in pool])
    for _ in range(NUM_QUESTIONS):
        wanted = is_liked == (rng.random() < 0.5)
        row = rng.choice(pool[wanted] if wanted.any() else pool)
        text = sample_item(corpus.facts[row], rng)[1] if rng.random() < 0.9 else ""
        line = f" {quoted(corpus.titles[row])} {text}".rstrip()
        turns.append((PROMPT.replace(CANDIDATE, line), preference.answer(mentioned_facts(corpus.facts[row], line))))
    (message, answer), *others = turns
    first = message.replace(USER, preference.text(sample_order(rng))), answer
    return make_chat(first, *((message.removeprefix(f"{USER}\n"), answer) for message, answer in others))


def sample_chats(corpus: Corpus, rng: np.random.Generator) -> list[Chat]:
    """A batch of chats of similar length: of a random size of the block, or questions about candidates."""
    if rng.random() < 0.3:
        return [yes_no_chat(corpus, rng) for _ in range(NUM_ITEMS // (NUM_QUESTIONS + 1))]
    block = int(rng.choice(list(BLOCKS), p=list(BLOCKS.values())))
    return [preference_chat(corpus, rng, block) for _ in range(max(NUM_ITEMS // (block + 1), 4))]

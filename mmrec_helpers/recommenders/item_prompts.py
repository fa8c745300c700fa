"""Items in the prompts of a language model: expressed by texts, by a vector at [VISUAL], or by both."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.lessons.adaptor import ITEMS, item_tokens
from mmrec_helpers.llm.language_models import LanguageModel

EXPRESSIONS = {
    "title": ("{title}", ""),
    "attributes": ("{title}, {brand}, {category}", ""),
    "summary": ("{title}: {summary}", ""),
    "description": ("{title}: {description}", ""),
    "CF": ("{title} [VISUAL]", "CF"),
    "image, attributes": ("{title}, {brand}, {category} [VISUAL]", "image"),
    "image": ("{title} [VISUAL]", "image"),
    "image, summary": ("{title} [VISUAL]: {summary}", "image"),
    "image alone": ("[VISUAL]", "image"),
    "another image": ("{title} [VISUAL]", "another image"),
}
"""Item expression -> its template, and the kind of the features at [VISUAL]. In their order: a control, TALLRec's,
TRSR's, the full description, A-LLMRec's, UniMP's, I-LLMRec's, I-LLMRec+D's, and two more controls. They lack the field
names of Eq. 2 ("Visual Representation:"), for which a small vocabulary needs more tokens than for the title."""
FIELDS = ("title", "brand", "category", "description")
HISTORY, REQUEST = "They bought", "Which item comes next?"
"""Text of the prompt before and after the items."""


@dataclass(frozen=True, eq=False)
class ItemPrompts:
    """The tokens of all items' expressions, and of the prompt around them; -i stands at [VISUAL] of item i.

    Attributes:
        before, after: tokens before the items and after them, up to [REC].
        tokens: (total,) those of the expressions, one after the other.
        ends: (I + 1,) where the expression of each item ends; entry 0 is padding.
    """

    before: list[int]
    after: list[int]
    tokens: np.ndarray
    ends: np.ndarray

    def most_recent(self, items: np.ndarray, limit: int) -> np.ndarray:
        """The last ones of (T,) items whose expressions have no more tokens than the limit together."""
        sizes = np.cumsum(self.sizes(items)[::-1])
        return items[len(items) - np.searchsorted(sizes, limit, side="right") :]

    def sizes(self, items: np.ndarray) -> np.ndarray:
        """(T,) tokens of the expressions of items."""
        return self.ends[items] - self.ends[items - 1]

    def of_items(self, items: np.ndarray) -> list[int]:
        """The tokens of items' expressions."""
        return [*chain(*(self.tokens[self.ends[item - 1] : self.ends[item]].tolist() for item in items))]


def write_prompts(
    llm: LanguageModel, dataset: RecDataset, expression: str, has_vector: np.ndarray, summaries: Sequence[str]
) -> ItemPrompts:
    """Tokenise the expressions of all items.

    Args:
        llm: whose tokens.
        dataset: of the items.
        expression: of EXPRESSIONS.
        has_vector: (I + 1,) bool, the others are expressed by their description where [VISUAL] would stand.
        summaries: (I + 1,) of the items, for expressions with a summary.
    """
    template, visual = EXPRESSIONS[expression]
    columns = {name: dataset.column(name) for name in FIELDS} | {"summary": summaries or [""] * (dataset.num_items + 1)}
    rows: list[list[int]] = [[]]
    for item in range(1, dataset.num_items + 1):
        fields = {name: str(column[item] or "") for name, column in columns.items()}
        form = template if has_vector[item] or not visual else EXPRESSIONS["description"][0]
        rows.append([*item_tokens(llm, f" {form}", item, **fields), *llm.tokens(",")])
    before, after = around_items(llm, REQUEST)
    ends = np.cumsum([len(row) for row in rows])
    return ItemPrompts(before, [*after, -(dataset.num_items + 1)], np.array([*chain(*rows)], np.int64), ends)


def around_items(llm: LanguageModel, request: str) -> tuple[list[int], list[int]]:
    """The tokens of a prompt before and after the items."""
    before, after = llm.chat(f"{HISTORY}{ITEMS} {request}").split(ITEMS)
    return llm.tokens(before), llm.tokens(after)

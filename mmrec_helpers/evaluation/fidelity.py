"""Fidelity of texts that models write about items: the attributes that they mention, beside the true ones."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mmrec_helpers.pocket_shop.text_templates import mentioned_attributes

ATTRIBUTES = ("colour", "pattern", "style", "material", "occasion")
"""Attributes of an item beside its category that a text can mention by a word of its own."""


def described(texts: Sequence[str], facts: Sequence[Mapping[str, str]]) -> pd.DataFrame:
    """How N texts describe N items: of each attribute, the share of the texts that mention the true value, and another.

    Args:
        texts: of the items.
        facts: attribute -> true value of each item.
    """
    mentioned = [mentioned_attributes(text) for text in texts]
    rows = {}
    for name in ("category", *ATTRIBUTES):
        pairs = [(own.get(name, set()), {item[name]}) for own, item in zip(mentioned, facts, strict=True)]
        rows[name] = {
            "correct": np.mean([true <= values for values, true in pairs]),
            "wrong": np.mean([bool(values - true) for values, true in pairs]),
        }
    return pd.DataFrame(rows).T

"""Summaries of items by a language model, from the settings' cache where they were written before."""

import hashlib
import json
from contextlib import suppress

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.checkpoints import find_checkpoint, revision
from mmrec_helpers.files import atomic
from mmrec_helpers.llm.generation import generate
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.settings import load_settings

SUMMARIES_VERSION = 1
"""Raise it when the same model would write other summaries."""
REQUEST = "Summarise it."
MAX_TOKENS = 40
"""Of a summary."""
FIELDS = ("title", "brand", "category", "description")
"""What the model is given of an item, as in figure 8 of {cite}`kim2025illmrec`."""


def summarise(dataset: RecDataset, model: str) -> list[str]:
    """(I + 1,) summaries of the items' texts; empty for the padding and where there is no text.

    Raises:
        FileNotFoundError: the model does not exist.
        ValueError: it is no causal language model.
    """
    key = json.dumps([SUMMARIES_VERSION, dataset.fingerprint, revision(find_checkpoint(model)), REQUEST, MAX_TOKENS])
    path = load_settings().cache / "summaries" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if path.exists():
        with suppress(ValueError):  # damaged: written again
            return json.loads(path.read_text())
    columns = [dataset.column(name) for name in FIELDS]
    texts = [". ".join(str(part) for part in row if part) for row in zip(*columns, strict=True)]
    summaries, rows = [""] * len(texts), [row for row, text in enumerate(texts) if text and row]
    llm = load_language_model(model)
    prompts = [llm.tokens(llm.chat(f"{texts[row]}\n{REQUEST}")) for row in rows]
    for row, tokens in zip(rows, generate(llm, prompts, MAX_TOKENS), strict=True):
        summaries[row] = llm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    with atomic(path) as part:
        part.write_text(json.dumps(summaries))
    return summaries

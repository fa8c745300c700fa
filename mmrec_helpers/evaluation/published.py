"""Tables of the papers that the chapters check, as printed; no number here is ours."""

import json
from importlib.resources import files


def _shares(table: dict) -> dict[str, dict[str, float]]:
    """System -> metric -> number of a printed table, in its unit: a percentage becomes a share of 1."""
    return {
        system: {
            metric: round(number * table["unit"], 6) for metric, number in zip(table["metrics"], printed, strict=True)
        }
        for system, printed in table["systems"].items()
    }


_TABLES = json.loads(files(__package__).joinpath("published_tables.json").read_text("utf-8"))
PUBLISHED = {name: _shares(table) for name, table in _TABLES.items()}
"""Paper and data -> system -> metric -> number, a share of 1: table I of {cite}`olaniyi_mmgpt2rec`, table 3 of
{cite}`ye2025mllmmsr` (whose AUC is kept for MicroLens only)."""
ROUNDING = {name: table["rounding"] for name, table in _TABLES.items()}
"""What the last printed digit of PUBLISHED's tables is worth."""

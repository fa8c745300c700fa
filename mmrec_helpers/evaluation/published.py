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
"""Paper and data -> system -> metric -> number, a share of 1: tables I and II of {cite}`olaniyi_mmgpt2rec`, table 3 of
{cite}`ye2025mllmmsr`, tables 1 to 4, 6 and 7 of {cite}`kim2025illmrec`, table 2 of {cite}`thiyagarajan2025mllm`."""
ROUNDING = {name: table["rounding"] for name, table in _TABLES.items()}
"""What the last printed digit of PUBLISHED's tables is worth."""
RELEVANT = {name: tuple(table.get("relevant", (1, 1))) for name, table in _TABLES.items()}
"""How many relevant items a user has, at least and at most; 1 under leave-one-out, and where it makes a row possible;
from 1 to 20 where the paper leaves it open otherwise."""
CANDIDATES = {name: table.get("candidates", 0) for name, table in _TABLES.items()}
"""Of how many candidates a system ranks all; 0 if only the top of a list is measured."""

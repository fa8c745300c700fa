"""Hyperparameter search by one rule for every family of systems: hill climbing on the validation part."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Settings = dict[str, Any]
"""Hyperparameter -> value."""
Trial = tuple[Settings, float]
"""Settings, and their validation metric."""
MAX_TRIALS = 20
"""Settings that a family may try: the same budget for all."""
DROPOUTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RATES = (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2, 6.4e-2, 0.128)
DECAYS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Space:
    """The settings of a family.

    Attributes:
        axes: hyperparameter -> its values in order, wider than any optimum is expected to lie.
        start: the settings that are tried first.
        natural: ends of axes beyond which there is nothing, such as no dropout at all; an optimum may lie there.
    """

    axes: dict[str, tuple]
    start: Settings
    natural: dict[str, tuple] = field(default_factory=dict)

    def neighbors(self, settings: Settings) -> list[Settings]:
        """The settings one step away along one axis."""
        found = []
        for name, values in self.axes.items():
            place = values.index(settings[name])
            steps = [step for step in (place - 1, place + 1) if 0 <= step < len(values)]
            found += [settings | {name: values[step]} for step in steps]
        return found

    def search(self, tried: Sequence[Trial]) -> tuple[list[Trial], list[Settings]]:
        """The trials of the search so far, and the settings to try next: none when it has ended.

        The start and its neighbours are tried, then the neighbours of the best, until none is better or MAX_TRIALS are
        spent. The search depends on the metrics alone, not on the order in which trials were made or became known.
        """
        visited: list[Trial] = []
        wanted = [self.start, *self.neighbors(self.start)]
        while wanted:
            known = [trial for settings in wanted for trial in tried if trial[0] == settings]
            if len(known) < len(wanted):
                return visited + known, [settings for settings in wanted if settings not in [own for own, _ in known]]
            visited += known
            seen = [settings for settings, _ in visited]
            around = self.neighbors(best_settings(visited))
            wanted = [settings for settings in around if settings not in seen][: MAX_TRIALS - len(visited)]
        return visited, []


def best_settings(tried: Sequence[Trial]) -> Settings:
    """The settings with the best validation metric, the first of equal ones."""
    return max(tried, key=lambda trial: trial[1])[0]


def _learning(lr: float, dropout: float) -> Space:
    return Space({"lr": RATES, "dropout": DROPOUTS}, {"lr": lr, "dropout": dropout}, {"dropout": (0.0,)})


def _decayed(lr: float, weight_decay: float) -> Space:
    return Space({"lr": RATES, "weight_decay": DECAYS}, {"lr": lr, "weight_decay": weight_decay})


_NEIGHBORS = Space(
    {"num_neighbors": (10, 20, 50, 100, 200, 300, 500, 1_000), "shrinkage": (0.0, 1.0, 3.0, 10.0, 30.0, 100.0)},
    {"num_neighbors": 100, "shrinkage": 10.0},
    {"shrinkage": (0.0,)},
)
_WEIGHTS = ([1, 0], [1, 0.25], [1, 0.5], [1, 1], [1, 2], [1, 4], [0, 1])

SPACES = {
    "recent popularity": Space({"days": (1, 3, 7, 14, 30, 60, 90, 180)}, {"days": 30}),
    "item-kNN": _NEIGHBORS,
    "user-kNN": _NEIGHBORS,
    "hybrid": Space({"weights": _WEIGHTS}, {"weights": [1, 1]}, {"weights": (_WEIGHTS[0], _WEIGHTS[-1])}),
    "matrix factorization": Space(
        {"dim": (8, 16, 32, 64, 128, 256), "regularization": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)},
        {"dim": 32, "regularization": 30.0},
    ),
    "BPR": _decayed(4e-3, 1.0),
    "VBPR": _decayed(8e-3, 1.0),
    "DeepCoNN": Space({"lr": RATES, "epochs": (3, 6, 12, 24, 48)}, {"lr": 2e-3, "epochs": 12}),
    "NRMF (our reading)": _decayed(8e-3, 1.0),
    "BERT4Rec": _learning(2e-3, 0.2),
    "GRU4Rec": _learning(4e-3, 0.4),
    "GRU4Rec_F": _learning(4e-3, 0.4),
    "SASRec": _learning(2e-3, 0.4),
    "SASRec, BCE": _learning(2e-3, 0.4),
    "SASRec, gBCE": _learning(2e-3, 0.4),
    "SASRec_F": _learning(2e-3, 0.4),
    "MM-GPT2Rec": _learning(4e-3, 0.2),
    "I-LLMRec": Space({"lr": RATES}, {"lr": 1e-3}),
    "no LLM": Space({"lr": RATES, "epochs": (2, 4, 8, 16, 32)}, {"lr": 1e-3, "epochs": 8}),
    "LightGCN": _decayed(8e-3, 0.3),
    "MMGCN": _decayed(4e-3, 1.0),
    "MGAT": _decayed(4e-3, 1.0),
    "Trans2D": _learning(2e-3, 0.4),
    "MMSR": _learning(2e-3, 0.4),
    "MLLM-MSR": Space({"lr": RATES}, {"lr": 4e-3}),
    "MLLM": Space({"lr": RATES}, {"lr": 8e-3}),
}
"""Family -> its space: two hyperparameters or fewer, from the same start to the same end. Others have none to tune."""

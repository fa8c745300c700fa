"""What chapter 6's yes/no recommender is measured by, and compared with; its answers and profiles as widgets."""

import re
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import numpy as np
from IPython.display import HTML, display

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.display.cards import item_card, show_widget, static_view, titled_rows
from mmrec_helpers.evaluation.metrics import TargetRanks, auc, hit_rate, reciprocal_rank

SHOWN = 3
"""Most probable candidates that the widget shows, and users of its static view."""


def candidate_metrics(scores: np.ndarray) -> dict[str, np.ndarray]:
    """The metrics of {cite}`ye2025mllmmsr`, (N,) each, of (N, C) scores of candidates; column 0 is the target."""
    padded = np.pad(np.asarray(scores, float), ((0, 0), (1, 0)))  # item 0 is padding
    ranks = TargetRanks.of(padded, np.ones((len(padded), 1), int))
    return {"AUC": auc(ranks), "HR@5": hit_rate(ranks, 5), "MRR@5": reciprocal_rank(ranks, 5)}


def shared_words(profiles: Sequence[str], texts: Sequence[str], candidates: np.ndarray) -> np.ndarray:
    """(N, C) how many words of a candidate's text, of ``texts`` (I + 1,), are in the user's profile; N profiles."""
    words = [_words(text) for text in texts]
    pairs = zip(map(_words, profiles), candidates, strict=True)
    return np.array([[len(profile & words[item]) for item in own] for profile, own in pairs])


def within_user_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of two (N, C) scores, each without its user's mean, which orders no candidates."""
    centred = [(own - own.mean(axis=1, keepdims=True)).ravel() for own in (one, other)]
    return float(np.corrcoef(*centred)[0, 1])


def answer_panel(
    dataset: RecDataset, profile: str, candidates: Sequence[int], scores: np.ndarray, texts: Sequence[str]
) -> HTML:
    """A user's profile, the true next item, and the most probable candidates with their probabilities.

    The C candidates, the true one first, have (C,) log-odds as scores and their entry of the (I + 1,) texts.
    """
    probabilities = 1 / (1 + np.exp(-np.asarray(scores, float)))
    cards = [
        item_card(dataset, item, [f"p = {probability:.2f}", texts[item]])
        for item, probability in zip(candidates, probabilities, strict=True)
    ]
    best = np.argsort(-probabilities, kind="stable")[:SHOWN]
    return titled_rows({profile: [], "true next item": cards[:1], "most probable": [cards[k] for k in best]})


def show_answers(
    dataset: RecDataset, profiles: Sequence[str], candidates: np.ndarray, scores: np.ndarray, texts: Sequence[str]
) -> None:
    """Show the widget: choose a user. Its static view has the first users. Arguments as of ``answer_panel``."""

    def panel(user: int) -> HTML:
        return answer_panel(dataset, profiles[user], candidates[user], scores[user], texts)

    _browse(panel, len(profiles), "the answers for some users")


def show_leak(
    dataset: RecDataset, candidates: np.ndarray, profiles: Mapping[str, Sequence[str]], scores: Mapping[str, np.ndarray]
) -> None:
    """Show the widget: choose a user. By kind of profile its text, and the rank of the true item by (N, C) scores."""
    ranks = {kind: 1 + (own[:, 1:] > own[:, :1]).sum(axis=1) for kind, own in scores.items()}

    def panel(user: int) -> HTML:
        lines = {kind: f"rank {ranks[kind][user]} of {candidates.shape[1]}" for kind in profiles}
        cards = {kind: [item_card(dataset, candidates[user, 0], [line])] for kind, line in lines.items()}
        return titled_rows({f"{kind}: {own[user]}": cards[kind] for kind, own in profiles.items()})

    _browse(panel, len(candidates), "the profiles of some users")


def _browse(panel: Callable[[int], HTML], num_users: int, name: str) -> None:
    browse = ipywidgets.interactive(lambda user: display(panel(user)), user=(0, num_users - 1))
    show_widget(browse, static_view({f"user {user}": panel(user) for user in range(min(SHOWN, num_users))}, name))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z-]+", text.lower()))

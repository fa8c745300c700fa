"""Preference summaries: a widget that steps through the blocks of a history, and how summaries follow a change."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, display

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.display.cards import item_card, plain, show_widget, static_view, titled_rows
from mmrec_helpers.display.plots import use_book_style

WIDTH = 170
"""Of a card, in CSS pixels."""


@dataclass(frozen=True)
class Step:
    """One block of a history.

    Attributes:
        items: of the block, in order of time.
        marked: those after the change of taste.
        facts: title -> what is shown below: a text, such as the preference, or more items, such as recommended ones.
    """

    items: Sequence[int]
    marked: Sequence[int]
    facts: Mapping[str, str | Sequence[int]]


def step_panel(dataset: RecDataset, step: Step, texts: Sequence[str]) -> HTML:
    """A block's items, each with its text of (I + 1,), as the language model gets it, and the facts."""

    def cards(shown: str | Sequence[int]) -> list[str]:
        if isinstance(shown, str):
            return [f'<div class="card">{plain(shown)}</div>']
        return [item_card(dataset, i, [texts[i]], width=WIDTH, extra="changed" * (i in step.marked)) for i in shown]

    return titled_rows({title: cards(shown) for title, shown in {"items": step.items, **step.facts}.items()})


def show_steps(dataset: RecDataset, steps_of: Callable[[int], list[Step]], users: int, texts: Sequence[str]) -> None:
    """Show the widget: choose a user, from 0, and a block. Its static view has all blocks of the first user.

    The texts, (I + 1,), are those that the language model gets.
    """

    def show(user: int, block: int) -> None:
        steps = steps_of(user)
        display(step_panel(dataset, steps[min(block, len(steps)) - 1], texts))

    longest = max(len(steps_of(user)) for user in range(users))
    browse = ipywidgets.interactive(show, user=(0, users - 1), block=(1, longest))
    panels = {f"block {number}": step_panel(dataset, step, texts) for number, step in enumerate(steps_of(0), 1)}
    show_widget(browse, static_view(panels, "the blocks of one user"))


def plot_drift(curves: Mapping[str, pd.DataFrame]) -> None:
    """Draw each summariser's curves, by interactions since the change: shares of ``new`` and of ``old`` preferences."""
    use_book_style()
    _, axes = plt.subplots(1, 2, sharey=True)
    for axis, column in zip(axes, ("new", "old"), strict=True):
        for name, curve in curves.items():
            axis.plot(curve[column], marker="o", label=name)
        axis.set(title=f"{column} preferences", xlabel="interactions since the change", ylim=(0, 1))
    axes[0].set_ylabel("share mentioned")
    axes[1].legend()

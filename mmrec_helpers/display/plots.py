"""One style for all figures of the book, and the plot of means with their intervals."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes

# Okabe and Ito's colours without yellow: distinguishable for colour-blind readers and in print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), "-")


def use_book_style() -> None:
    """Set matplotlib's defaults: an opaque background for dark pages, and accessible colours and dashes."""
    plt.rcParams.update(
        {
            "figure.figsize": (7.0, 3.2),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "figure.constrained_layout.use": True,
            "axes.prop_cycle": cycler(color=COLOURS) + cycler(linestyle=DASHES),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e3e6e8",
            "font.size": 10,
            "legend.frameon": False,
            "image.cmap": "cividis",
        }
    )


def plot_intervals(
    board: pd.DataFrame, metrics: Sequence[str], references: Mapping[str, float] | None = None
) -> list[Axes]:
    """Forest plot: a panel for each metric with the mean and 95 % interval of each system, the first row on top.

    ``board`` is indexed by system, with columns (metric, ``mean``), (metric, ``ci_low``) and (metric, ``ci_high``);
    ``references`` are metric -> value of a dotted line.
    """
    size = (7.4, 0.7 + 0.3 * len(board))
    panels = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)[1]
    for panel, metric in zip(panels[0], metrics, strict=True):
        own = board[metric]
        error = np.maximum([own["mean"] - own["ci_low"], own["ci_high"] - own["mean"]], 0)  # 0 up to rounding
        panel.errorbar(own["mean"], np.arange(len(own)), xerr=error, fmt="o")
        if references:
            panel.axvline(references[metric], color="0.4", linestyle=":")
        panel.set(xlabel=metric, xlim=(0, None))
    panels[0, 0].set_yticks(np.arange(len(board)), board.index)
    panels[0, 0].set_ylim(len(board) - 0.5, -0.5)
    return list(panels[0])

"""One style for all figures of the book."""

import matplotlib.pyplot as plt
from cycler import cycler

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

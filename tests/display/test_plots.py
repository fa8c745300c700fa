"""plots.py: figures stay readable on dark pages and for colour-blind readers."""

import itertools

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmrec_helpers.display.plots import COLOURS, plot_intervals, use_book_style

# Linear maps of RGB that show what people without long- or middle-wave cones see (Vienot et al. 1999, rounded).
BLINDNESS = {
    "protan": [[0.11, 0.89, 0.0], [0.11, 0.89, 0.0], [0.0, 0.0, 1.0]],
    "deutan": [[0.29, 0.71, 0.0], [0.29, 0.71, 0.0], [-0.02, 0.02, 1.0]],
}


def test_figures_have_opaque_paper():
    with plt.rc_context():
        use_book_style()
        for name in ("figure.facecolor", "savefig.facecolor", "axes.facecolor"):
            assert matplotlib.colors.to_rgba(plt.rcParams[name])[3] == 1


def test_lines_differ_in_dash_as_well_as_in_colour():
    with plt.rc_context():
        use_book_style()
        styles = [(style["color"], str(style["linestyle"])) for style in plt.rcParams["axes.prop_cycle"]]
    assert len(set(styles)) == len(COLOURS)
    assert len({dash for _, dash in styles}) >= len(COLOURS) - 1


def test_first_colours_are_told_apart_without_red_or_green_cones():
    for matrix in BLINDNESS.values():
        seen = [np.array(matrix) @ np.array(matplotlib.colors.to_rgb(colour)) for colour in COLOURS[:4]]
        for one, other in itertools.combinations(seen, 2):
            assert np.abs(one - other).max() > 0.1


def test_a_forest_plot_has_the_first_system_on_top_and_its_interval():
    columns = pd.MultiIndex.from_product([["HR@10", "MRR"], ["mean", "ci_low", "ci_high"]])
    board = pd.DataFrame([[0.3, 0.2, 0.5, 0.2, 0.1, 0.4], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]], ["one", "other"], columns)
    first, second = plot_intervals(board, ["HR@10", "MRR"], {"HR@10": 0.25, "MRR": 0.05})
    positions = dict(zip([label.get_text() for label in first.get_yticklabels()], first.get_yticks(), strict=True))
    to_pixels = first.transData.transform
    assert to_pixels((0, positions["one"]))[1] > to_pixels((0, positions["other"]))[1]
    means, _, (bars,) = first.containers[0]
    assert means.get_xdata().tolist() == [0.3, 0.1]
    assert np.allclose(bars.get_segments()[0], [[0.2, 0], [0.5, 0]])
    assert second.get_xlabel() == "MRR"
    assert second.lines[-1].get_xdata() == [0.05, 0.05]
    plt.close()

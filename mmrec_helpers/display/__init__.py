"""Everything that only shows: cards, plots, widgets, exercises."""

"""The book's progress bars: one setting keeps them out of outputs that are stored or rendered."""

from collections.abc import Iterable

from tqdm.auto import tqdm

from mmrec_helpers.settings import load_settings


def progress(iterable: Iterable | None = None, **options: object) -> tqdm:
    """A progress bar, removed when it is done; none at all where the settings switch it off.

    tqdm itself obeys ``TQDM_DISABLE`` in a console only (4.70): its notebook bar is an output of its own, which would
    be stored with the notebook and rendered as a second figure of the cell.

    Args:
        iterable: what to count; without it the caller updates the bar.
        **options: of ``tqdm``.
    """
    return tqdm(iterable, disable=not load_settings().progress, leave=False, **options)

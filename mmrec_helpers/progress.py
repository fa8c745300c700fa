"""The book's progress bars: one setting keeps them out of outputs that are stored or rendered."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without transformers' progress bars and warnings on loading: errors are raised, the rest varies between runs."""
    from transformers.utils import logging  # takes seconds to import

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

"""What chapter 5's notebooks compare with."""

import numpy as np
import pandas as pd

from mmrec_helpers.data.dataset import Queries, Split


def category_baselines(split: Split, queries: Queries) -> dict[str, float]:
    """Accuracy of two predictions of the next item's category without a language model, on queries with a history.

    Returns:
        ``majority``: the most frequent category of all next items of the training part; ``after the last item``: the
        most frequent one after the category of the history's last item, and the majority where nothing followed it.
    """
    categories = np.array(split.dataset.column("category"))
    frame = split.interactions("train")
    names, is_next = pd.Series(categories[frame["item"]]), frame["user"].eq(frame["user"].shift()).to_numpy()
    following, preceding = names[is_next], names.shift()[is_next]
    majority = following.mode()[0]
    after = following.groupby(preceding).agg(lambda column: column.mode()[0])
    wanted, last = categories[queries.targets[:, 0]], pd.Series(categories[queries.histories[:, -1]])
    return {
        "majority": float((wanted == majority).mean()),
        "after the last item": float((wanted == last.map(after).fillna(majority).to_numpy()).mean()),
    }

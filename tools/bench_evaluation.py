"""Full-ranking evaluation of one dot-product model: ours, and RecTools's and RecBole's where they are installed.

They are no dependencies of the book and need other versions of its packages than it does: install one of them into an
environment of its own, with ``datasets`` and ``tqdm``, and run this file there. ``make bench`` runs it too.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import datasets
import numpy as np
import pandas as pd
import torch

from mmrec_helpers.data.dataset import ITEM_FEATURES, Queries, RecDataset, Split
from mmrec_helpers.evaluation.protocols import evaluate

NUM_ITEMS, LENGTH, WIDTH, CUTS = 20_000, 11, 64, (5, 10, 20)
NAMES = ("HR", "P", "R", "NDCG", "MRR", "MAP")


def crowd(num_users: int) -> Split:
    """Leave-one-out of users who have 11 items each, sampled at random."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "user": np.repeat(np.arange(num_users, dtype=np.int32), LENGTH),
            "item": rng.integers(1, NUM_ITEMS + 1, num_users * LENGTH).astype(np.int32),
            "time": np.tile(np.arange(LENGTH), num_users),
            "rating": np.float32(5),
            "review": None,
        }
    )
    columns = {name: [None] * NUM_ITEMS for name in ITEM_FEATURES} | {"item_id": [str(n) for n in range(NUM_ITEMS)]}
    items = datasets.Dataset.from_dict(columns, features=ITEM_FEATURES)
    return RecDataset("crowd", items, frame, np.arange(num_users).astype(str)).leave_one_out()


def vectors(num: int, seed: int) -> torch.Tensor:
    """(num, WIDTH)."""
    return torch.randn(num, WIDTH, generator=torch.Generator().manual_seed(seed))


class DotProduct:
    """Scores by the dot product of a user's and an item's vector."""

    name = "dot product"

    def __init__(self, num_users: int) -> None:
        self.users, self.items = vectors(num_users, 0), vectors(NUM_ITEMS + 1, 1)

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> torch.Tensor:
        """(N, I + 1) scores of all items, or (N, C) of some."""
        scores = self.users[torch.from_numpy(queries.users)] @ self.items.T
        return scores if candidates is None else scores.gather(1, torch.from_numpy(candidates))


def ours(split: Split) -> Callable[[], None]:
    """Rank, and all metrics at all cuts."""
    model = DotProduct(split.dataset.num_users)
    _ = split.dataset.fingerprint  # made once a data set, and kept

    def job() -> None:
        run = evaluate(model, split, k=max(CUTS))
        for name in NAMES:
            for cut in CUTS:
                run.metric(f"{name}@{cut}")
        run.metric("AUC")

    return job


def rectools(split: Split) -> Callable[[], None]:
    """RecTools: recommend by implicit's own ranker, then calc_metrics."""
    from implicit.als import AlternatingLeastSquares
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.metrics import MAP, MRR, NDCG, HitRate, Precision, Recall, calc_metrics
    from rectools.models import ImplicitALSWrapperModel

    names = {"user": Columns.User, "item": Columns.Item, "time": Columns.Datetime, "rating": Columns.Weight}
    frame = split.dataset.interactions[list(names)].rename(columns=names)
    frame[Columns.Datetime] = pd.to_datetime(frame[Columns.Datetime], unit="D")
    test = frame[split.part == 2]
    train = frame.drop(test.index)
    data = Dataset.construct(train)
    threads = torch.get_num_threads()
    model = ImplicitALSWrapperModel(
        AlternatingLeastSquares(factors=WIDTH, iterations=1, num_threads=threads), recommend_n_threads=threads
    )
    model.fit(data)
    model.model.user_factors = vectors(data.user_id_map.size, 0).numpy()
    model.model.item_factors = vectors(data.item_id_map.size, 1).numpy()
    kinds = dict(zip(NAMES, (HitRate, Precision, Recall, NDCG, MRR, MAP), strict=True))
    wanted = {f"{name}@{cut}": kind(k=cut) for name, kind in kinds.items() for cut in CUTS}
    users, catalogue = test[Columns.User].unique(), train[Columns.Item].unique()

    def job() -> None:
        lists = model.recommend(users, data, k=max(CUTS), filter_viewed=True)
        calc_metrics(wanted, lists, test, train, catalogue)

    return job


def recbole(split: Split, eval_batch_size: int) -> Callable[[], None]:
    """RecBole: Trainer.evaluate in full mode, with so many scores at a time, and one user at least."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.trainer import Trainer
    from recbole.utils import InputType

    class Dot(GeneralRecommender):
        input_type = InputType.PAIRWISE

        def __init__(self, config: Config, dataset: object) -> None:
            super().__init__(config, dataset)
            self.users = torch.nn.Parameter(vectors(self.n_users, 0))
            self.items = torch.nn.Parameter(vectors(self.n_items, 1))

        def full_sort_predict(self, interaction: Mapping[str, torch.Tensor]) -> torch.Tensor:
            return (self.users[interaction[self.USER_ID]] @ self.items.T).view(-1)

    options = {
        "eval_args": {"split": {"LS": "test_only"}, "order": "TO", "mode": "full", "group_by": "user"},
        "metrics": ["Hit", "Precision", "Recall", "NDCG", "MRR", "MAP"],
        "topk": list(CUTS),
        "eval_batch_size": eval_batch_size,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "crowd").mkdir()
        frame = split.dataset.interactions[["user", "item", "time"]]
        header = ["user_id:token", "item_id:token", "timestamp:float"]
        frame.to_csv(Path(folder) / "crowd" / "crowd.inter", sep="\t", index=False, header=header)
        config = Config(model="BPR", dataset="crowd", config_dict={**options, "data_path": folder})
        dataset = create_dataset(config)
        test = data_preparation(config, dataset)[2]
    trainer = Trainer(config, Dot(config, dataset))
    return lambda: trainer.evaluate(test, load_best_model=False)


def main(num_users: int = 6_000, many: int = 100_000, repetitions: int = 5) -> None:
    """Print the throughput of ours, and how many times faster than the others it is."""
    torch.set_num_threads(2)
    split = crowd(num_users)
    jobs = {"ours": ours(split)}
    peers: dict[str, Callable[[Split], Callable[[], None]]] = {
        "rectools": rectools,
        "recbole": partial(recbole, eval_batch_size=4096),
        "recbole, 128 users at once": partial(recbole, eval_batch_size=128 * NUM_ITEMS),
    }
    for name, make in peers.items():
        package = name.partition(",")[0]
        if find_spec(package):
            jobs[name] = make(split)
        else:
            print(f"{'full ranking':28s} {package} is not installed here: no comparison")
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repetitions + 1):  # the first one warms up
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            taken[name].append(time.perf_counter() - start)
    mine = median(taken.pop("ours")[1:])
    print(f"{'full ranking, 20,000 items':28s} {mine / num_users * 1e6:9.0f} us a user")
    for name, seconds in taken.items():
        other = median(seconds[1:])
        print(f"{'':28s} {other / mine:7.1f} times as fast as {name} ({other / num_users * 1e6:.0f} us a user)")
    unit = 1e9 if sys.platform == "darwin" else 1e6
    job = ours(crowd(many))
    start = time.perf_counter()
    job()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    print(f"{'':28s} {many:,} users in {time.perf_counter() - start:.1f} s, peak memory {peak:.1f} GB (demanded: 4 GB)")


if __name__ == "__main__":
    main()

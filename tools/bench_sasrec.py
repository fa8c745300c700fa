"""SASRec on MovieLens: ours, RecTools's and RecBole's, on one split, ranked by one evaluator, with one budget each.

    python tools/bench_sasrec.py ours|rectools|recbole

writes what was found into ``book/results/sasrec-peers.json``, beside what the other runs wrote there. RecTools and
RecBole are no dependencies of the book and need other versions of its packages than it does: install one of them into
an environment of its own, with ``datasets`` and ``tqdm``, and run this file there. MMREC_DATA_HOME must name the
folder that holds MovieLens latest-small.

The budget: each package tries its settings in at most 1,500 seconds of one CPU core, and stops each at the first
validation after BUDGET seconds at the latest. All networks have the same dimension, layers and heads. Epoch and
setting are chosen by NDCG@10 over the full catalogue on the validation part; the chosen setting then trains from more
seeds.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import torch

from mmrec_helpers.data.dataset import Queries, Split
from mmrec_helpers.evaluation.protocols import evaluate
from mmrec_helpers.loading import load_data
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.settings import load_settings

RECORD = Path(__file__).resolve().parents[1] / "book" / "results" / "sasrec-peers.json"
SEEDS = {"ours": (0, 1, 2), "recbole": (0, 1, 2), "rectools": (0,)}
"""The first chooses the setting; more where two are near."""
BUDGET, PATIENCE = 600, 5
"""Seconds of one core for a setting; validations without a gain after which it stops earlier."""
WIDTH, LAYERS, HEADS = 64, 2, 2
NOTHING = -1e9
"""The score of an item that a package did not see in training."""


def movielens() -> Split:
    """Leave-one-out of the part of MovieLens latest-small where users and items have at least five interactions."""
    spec = f"folder:{os.environ['MMREC_DATA_HOME']}/movielens-posters"
    return load_data(load_settings({**os.environ, "MMREC_DATA": spec}))[0].k_core(5).leave_one_out()


class Trained:
    """A running training of a peer's: scores, and NDCG@10 on the validation part by CPU seconds.

    Args:
        split: of the data.
        score: (N, I + 1) scores for histories, by the network as it stands.
        network: whose best weights are kept.
    """

    name = "SASRec"

    def __init__(self, split: Split, score: Callable[[Queries], np.ndarray], network: torch.nn.Module) -> None:
        self.split, self.score_all, self.network = split, score, network
        self.curve: list[tuple[float, float]] = []
        self.start = time.process_time()
        self.best: dict[str, torch.Tensor] = {}

    def score(self, queries: Queries, candidates: np.ndarray | None = None) -> np.ndarray:
        """(N, I + 1) scores of all items, or (N, C) of some."""
        scores = self.score_all(queries)
        return scores if candidates is None else np.take_along_axis(scores, candidates, axis=1)

    def validate(self) -> bool:
        """Score the network; whether its training is over."""
        spent = time.process_time() - self.start
        self.network.eval()
        with torch.no_grad():
            reached = float(evaluate(self, self.split, part="valid").metric("NDCG@10").mean())
        self.network.train()
        best = int(np.argmax([score for _, score in self.curve])) if self.curve else -1
        if best < 0 or reached > self.curve[best][1]:
            self.best = {name: value.clone() for name, value in self.network.state_dict().items()}
            best = len(self.curve)
        self.curve.append((spent, reached))
        print(f"   {spent:6.0f} s {reached:.4f}", flush=True)
        return len(self.curve) - 1 - best >= PATIENCE or spent >= BUDGET

    def test(self) -> np.ndarray:
        """(N,) NDCG@10 on the test part with the best weights."""
        self.network.load_state_dict(self.best)
        self.network.eval()
        with torch.no_grad():
            return evaluate(self, self.split).metric("NDCG@10")


def ours(split: Split, seed: int, lr: float, dropout: float) -> tuple[list, np.ndarray]:
    """The book's; its clock is set to CPU seconds."""
    system = SASRec(lr=lr, dropout=dropout, dim=WIDTH, num_layers=LAYERS, num_heads=HEADS, patience=PATIENCE, seed=seed)
    with mock.patch("mmrec_helpers.training.loop.time", SimpleNamespace(perf_counter=time.process_time)):
        system.fit(split)
    curve = system.training.validations[["seconds", "score"]].to_numpy().tolist()
    return curve, evaluate(system, split).metric("NDCG@10")


def rectools(split: Split, seed: int, lr: float, dropout: float) -> tuple[list, np.ndarray]:
    """RecTools's, with its history of 100 items: it learns from the last of each user."""
    from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
    from rectools import Columns
    from rectools.dataset import Dataset
    from rectools.models import SASRecModel

    seed_everything(seed)
    frame = split.interactions("train")
    data = Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: frame["user"],
                Columns.Item: frame["item"],
                Columns.Weight: 1.0,
                Columns.Datetime: pd.Timestamp("2000-01-01") + pd.to_timedelta(np.arange(len(frame)), unit="s"),
            }
        )
    )
    max_len, running = 100, {}

    def score(queries: Queries) -> np.ndarray:
        ids = model.data_preparator.item_id_map.external_ids  # the padding, then the items of the training part
        number = {item: place for place, item in enumerate(ids)}
        rows = np.zeros((len(queries), max_len), np.int64)
        for row, items in zip(rows, queries.histories, strict=True):
            known = [number[item] for item in items if item and item in number][-max_len:]
            row[max_len - len(known) :] = known
        network = model.lightning_model.torch_model
        vectors = network.item_model.get_all_embeddings()
        found = np.full((len(queries), split.dataset.num_items + 1), NOTHING, np.float32)
        parts = [network.encode_sessions({"x": part}, vectors)[:, -1] for part in torch.from_numpy(rows).split(128)]
        found[:, ids[1:].astype(int)] = (torch.cat(parts) @ vectors.T)[:, 1:].numpy()
        return found

    class Validate(Callback):
        def on_train_start(self, trainer: Trainer, module: LightningModule) -> None:
            running["it"] = Trained(split, score, module.torch_model)

        def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
            if trainer.current_epoch % 2 == 1:
                trainer.should_stop = running["it"].validate()

    model = SASRecModel(
        n_blocks=LAYERS,
        n_heads=HEADS,
        n_factors=WIDTH,
        dropout_rate=dropout,
        lr=lr,
        session_max_len=max_len,
        batch_size=16,
        get_trainer_func=lambda: Trainer(
            max_epochs=1000,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            enable_checkpointing=False,
            accelerator="cpu",
            callbacks=[Validate()],
        ),
    )
    model.fit(data)
    return running["it"].curve, running["it"].test()


def recbole(split: Split, seed: int, lr: float, dropout: float) -> tuple[list, np.ndarray]:
    """RecBole's, with its history of 50 items: it learns from each position of a history as a row of its own."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.model.sequential_recommender import SASRec as Theirs
    from recbole.trainer import Trainer
    from recbole.utils import init_seed

    options = {
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "train_neg_sample_args": None,
        "train_batch_size": 256,
        "learning_rate": lr,
        "hidden_dropout_prob": dropout,
        "attn_dropout_prob": dropout,
        "hidden_size": WIDTH,
        "n_layers": LAYERS,
        "n_heads": HEADS,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "seed": seed,
    }
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ml").mkdir()
        frame = split.dataset.interactions
        table = pd.DataFrame({"user_id:token": frame["user"], "item_id:token": frame["item"]})
        table["timestamp:float"] = frame.groupby("user").cumcount()  # the order, without equal times
        table.to_csv(Path(folder) / "ml" / "ml.inter", sep="\t", index=False)
        config = Config(model="SASRec", dataset="ml", config_dict={**options, "data_path": folder})
        init_seed(config["seed"], True)
        dataset = create_dataset(config)
        train = data_preparation(config, dataset)[0]
    assert len(train.dataset) == int((split.part == 0).sum()) - split.dataset.num_users  # all but each user's first
    network = Theirs(config, dataset)
    trainer = Trainer(config, network)
    names = dataset.field2id_token["item_id"]  # the padding, then the items
    number = np.zeros(split.dataset.num_items + 1, np.int64)
    number[names[1:].astype(int)] = np.arange(1, len(names))
    max_len = config["MAX_ITEM_LIST_LENGTH"]

    def score(queries: Queries) -> np.ndarray:
        rows, lengths = np.zeros((len(queries), max_len), np.int64), np.zeros(len(queries), np.int64)
        for place, items in enumerate(queries.histories):
            known = number[items[items > 0]][-max_len:]
            rows[place, : len(known)], lengths[place] = known, len(known)
        asked = Interaction({"item_id_list": torch.from_numpy(rows), "item_length": torch.from_numpy(lengths)})
        found = np.zeros((len(queries), split.dataset.num_items + 1), np.float32)
        found[:, 1:] = network.full_sort_predict(asked).numpy()[:, number[1:]]
        return found

    running = Trained(split, score, network)
    over, epoch = False, 0
    while not over:
        trainer._train_epoch(train, epoch)
        over, epoch = running.validate(), epoch + 1
    return running.curve, running.test()


SETTINGS = {
    ours: [{"lr": lr, "dropout": dropout} for lr in (2e-3, 4e-3) for dropout in (0.2, 0.3, 0.5)],
    rectools: [{"lr": 1e-3, "dropout": dropout} for dropout in (0.2, 0.5)],
    recbole: [{"lr": 1e-3, "dropout": dropout} for dropout in (0.2, 0.5)],
}
"""Ours as in the benchmark. RecTools's dropout is .2 by default, RecBole's .5; both learning rates 1e-3."""


def main(package: str) -> None:
    """Try a package's settings, train the best from each seed, and write what they reached."""
    torch.set_num_threads(1)
    split, fit = movielens(), next(fit for fit in SETTINGS if fit.__name__ == package)

    def run(seed: int, settings: dict) -> dict:
        start = time.process_time()
        curve, found = fit(split, seed, **settings)
        seconds, valid = max(curve, key=lambda point: point[1])
        run = {"seed": seed, **settings, "valid": valid, "test": float(found.mean()), "best after": seconds}
        run["seconds"] = time.process_time() - start
        print(f"{package}: {run}", flush=True)
        return run | {"curve": curve, "by user": found}

    first, *more = SEEDS[package]
    tried = [run(first, settings) for settings in SETTINGS[fit]]
    best = max(range(len(tried)), key=lambda place: tried[place]["valid"])
    seeds = [tried[best], *(run(seed, SETTINGS[fit][best]) for seed in more)]
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    packages = {"ours": "mmrec-helpers", "rectools": "rectools", "recbole": "recbole"}
    recorded["fingerprint"] = split.dataset.fingerprint
    recorded[package] = {
        "version": version(packages[package]),
        "torch": torch.__version__,
        "tried": [{name: value for name, value in run.items() if name not in ("curve", "by user")} for run in tried],
        "seeds": [{name: value for name, value in run.items() if name != "by user"} for run in seeds],
        "test": np.mean([run["by user"] for run in seeds], axis=0).round(4).tolist(),
    }
    RECORD.write_text(json.dumps(recorded, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""base.py: what is saved is all or nothing, what is wrong is named with its path, and a killed fit goes on."""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders import base, pairwise
from mmrec_helpers.recommenders.base import BaseRecommender, load_recommender, part_checkpoint
from mmrec_helpers.recommenders.bert4rec import BERT4Rec
from mmrec_helpers.recommenders.content import Hybrid
from mmrec_helpers.recommenders.factorization import BPR, VBPR
from mmrec_helpers.recommenders.gru4rec import GRU4Rec
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Config, MMGPT2Rec
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.popularity import Popularity, Random
from mmrec_helpers.recommenders.reranker import Reranker
from mmrec_helpers.recommenders.reviews import DeepCoNN, NeuralReviews
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.recommenders.sequential import SequentialRecommender

# Save and load --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(planted, tmp_path) -> Path:
    """A saved system."""
    ItemKNN(5).fit(planted).save(tmp_path / "system")
    return tmp_path / "system"


def files(folder: Path) -> dict[str, bytes]:
    """Path -> content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(folder: Path, **values):
    """Write other values into the record."""
    path = folder / base.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_folder_holds_two_files_and_an_older_system_is_replaced(folder, planted):
    assert set(files(folder)) == {base.RECORD, base.ARRAYS}
    Popularity().fit(planted).save(folder)
    assert isinstance(load_recommender(folder), Popularity)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_save_that_is_interrupted_leaves_the_older_system(folder, planted, monkeypatch):
    before, hybrid = files(folder), Hybrid([Popularity(), Random()]).fit(planted)
    hybrid.parts[1].is_fitted = False  # as after an interrupted fit
    with pytest.raises(ValueError, match="random is not fitted"):
        hybrid.save(folder)
    monkeypatch.setattr(base, "_digest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Popularity().fit(planted).save(folder)
    assert files(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_with_something_else_is_not_replaced(planted, tmp_path):
    (tmp_path / "thesis.tex").write_text("chapter 1")
    with pytest.raises(FileExistsError, match="contains something else than a recommender: name another folder"):
        Popularity().fit(planted).save(tmp_path)
    assert files(tmp_path) == {"thesis.tex": b"chapter 1"}


def test_a_system_that_failed_to_fit_is_not_saved(planted, tmp_path, monkeypatch):
    system = SASRec(dim=16, epochs=1).fit(planted)
    monkeypatch.setattr(SASRec, "loss_of", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        system.fit(planted)
    with pytest.raises(ValueError, match="SASRec is not fitted"):
        system.save(tmp_path / "system")


def test_what_is_missing_is_named(folder):
    with pytest.raises(
        FileNotFoundError, match=r"none/recommender.json does not exist: save\(\) has written no recommender"
    ):
        load_recommender(folder / "none")
    (folder / base.ARRAYS).unlink()
    with pytest.raises(FileNotFoundError, match=r"system/arrays.safetensors does not exist"):
        load_recommender(folder)


@pytest.mark.parametrize("name", [base.RECORD, base.ARRAYS])
def test_damaged_files_are_refused(name, folder):
    path = folder / name
    content = path.read_bytes()
    other = content.replace(b"10.0", b"10.1") if name == base.RECORD else content[:-9] + b"x" + content[-8:]
    for damaged in (b"", content[:-9], other):
        assert damaged != content
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"system is damaged: fit the recommender and save it again"):
            load_recommender(folder)
    for text in ("[]", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match="is damaged"):
            load_recommender(folder)
    path.unlink()
    path.mkdir()
    for folder_or_name in (folder, Path("x" * 5_000)):
        with pytest.raises(ValueError, match="is damaged: fit the recommender"):
            load_recommender(folder_or_name)


def test_another_version_is_refused(folder):
    change(folder, format=base.FORMAT + 1)
    with pytest.raises(ValueError, match=rf"recommender.json has format {base.FORMAT + 1}, this package reads"):
        load_recommender(folder)


@pytest.mark.parametrize(
    "name",
    [3, [], "os.system", "neighbors.OtherKNN", "neighbors", "..neighbors.ItemKNN", "pairwise.UserEmbeddings", ""],
)
def test_only_recommenders_of_the_package_are_loaded(name, folder):
    change(folder, **{"class": name})
    with pytest.raises(ValueError, match=r"recommender.json names the class .*, which .* does not have"):
        load_recommender(folder)


def test_a_system_of_elsewhere_is_not_saved(planted, tmp_path):
    @dataclass(eq=False)
    class Mine(Popularity):
        pass

    with pytest.raises(ValueError, match=r"only systems in mmrec_helpers.recommenders can be saved"):
        Mine().fit(planted).save(tmp_path / "system")


def test_what_cannot_be_written_is_named(planted, tmp_path):
    system = Popularity().fit(planted)
    system.days = {"a set"}
    with pytest.raises(TypeError, match=r"days is <class 'set'>, which cannot be saved"):
        system.save(tmp_path / "system")


def test_weights_of_another_network_are_refused(planted, tmp_path, monkeypatch):
    SASRec(dim=16, epochs=1).fit(planted).save(tmp_path / "system")
    monkeypatch.setattr(SASRec, "empty_network", lambda self: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"system has other weights than SASRec of this package"):
        load_recommender(tmp_path / "system")


def test_a_loaded_system_only_scores(folder, planted):
    with pytest.raises(ValueError, match=r"item-kNN was loaded from .*system to score; build it anew to fit it"):
        load_recommender(folder).fit(planted)


def test_loading_draws_no_random_number(planted, tmp_path):
    SASRec(dim=16, epochs=1).fit(planted).save(tmp_path / "system")
    state = torch.get_rng_state()
    load_recommender(tmp_path / "system")
    assert torch.equal(torch.get_rng_state(), state)


def test_neither_features_nor_reviews_are_saved(planted, planted_features, tmp_path):
    """Where they are not read for scores; features of sequential recommenders are, standardised."""
    wide = np.tile(planted_features, 50)
    systems = {
        "VBPR": VBPR(features=wide, dim=4, epochs=1).fit(planted),
        "NRMF": NeuralReviews(dim=4, epochs=1).fit(planted),
        "SASRec_F": SASRec(features=wide, dim=16, epochs=1).fit(planted),
    }
    for name, system in systems.items():
        system.save(tmp_path / name)
        assert not hasattr(load_recommender(tmp_path / name), "training")
        assert not {"features", "reviews", "training", "optimizer"} & set(vars(load_recommender(tmp_path / name)))
    sizes = {name: sum(map(len, files(tmp_path / name).values())) for name in systems}
    assert sizes["VBPR"] < wide.nbytes
    assert sizes["SASRec_F"] < 2 * wide.nbytes


# Checkpoints ----------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Instead of the death of the process."""


SEQUENCE = {"dim": 8, "max_len": 10, "batch_size": 10, "epochs": 40, "num_layers": 1, "patience": 99}  # 160 steps
PAIRS = {"dim": 4, "batch_size": 20, "epochs": 15, "weight_decay": 0.1, "patience": 99}  # 180 steps
TRAINED = {
    "BPR": lambda: BPR(**PAIRS),
    "DeepCoNN": lambda: DeepCoNN(**PAIRS, word_dim=4, filters=4, max_len=20),
    "NRMF": lambda: NeuralReviews(**PAIRS, topics=4, hidden=4),
    "SASRec": lambda: SASRec(**SEQUENCE),
    "GRU4Rec": lambda: GRU4Rec(**SEQUENCE),
    "BERT4Rec": lambda: BERT4Rec(**SEQUENCE),
    "MM-GPT2Rec": lambda: MMGPT2Rec(use_ids=True, config=MMGPT2Config(tuning="unfreezing"), **SEQUENCE),
    "hybrid": lambda: Hybrid([BPR(**PAIRS), SASRec(**SEQUENCE)]),
    "two stages": lambda: Reranker(BPR(**PAIRS), SASRec(**SEQUENCE), top=5),
}
"""Each trains for more than the 100 steps between two checkpoints."""
LIVES = {"hybrid": (130, 210), "two stages": (130, 210)}
"""Steps until each death where there are two trainings: in the first and, after 80 more steps of it, in the second."""


@pytest.fixture
def kill_at(monkeypatch):
    """A function that lets losses be computed so many times, or always."""
    left = [0.0]

    def living(function):
        def loss(*args):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args)

        return loss

    monkeypatch.setattr(pairwise, "bpr_loss", living(pairwise.bpr_loss))
    monkeypatch.setattr(SequentialRecommender, "loss_of", living(SequentialRecommender.loss_of))
    return lambda number: left.__setitem__(0, number)


@pytest.mark.parametrize("name", TRAINED)
def test_a_killed_fit_goes_on_to_the_same_bits(name, planted, tmp_path, kill_at):
    queries, checkpoint = planted.queries("test"), tmp_path / "runs" / "run.pt"
    kill_at(np.inf)
    whole = TRAINED[name]().fit(planted).score(queries)
    for life in LIVES.get(name, (50, 130)):
        kill_at(life)
        with pytest.raises(Killed):
            TRAINED[name]().fit(planted, checkpoint)
    kill_at(np.inf)
    assert np.array_equal(TRAINED[name]().fit(planted, checkpoint).score(queries), whole)
    kill_at(0)  # what is finished is not trained again
    assert np.array_equal(TRAINED[name]().fit(planted, checkpoint).score(queries), whole)


KILLED = """
import os, signal, sys
from pathlib import Path

import torch

from mmrec_helpers.pocket_shop.shop import load_shop
from mmrec_helpers.recommenders.sasrec import SASRec

loss_of = SASRec.loss_of


def deadly(self, rows, step):
    if step == 130:
        os.kill(os.getpid(), signal.SIGKILL)
    return loss_of(self, rows, step)


SASRec.loss_of = deadly
torch.set_num_threads(int(sys.argv[2]))
SASRec(dim=8, epochs=4, batch_size=16).fit(load_shop(0, "tiny")[0].leave_one_out(), Path(sys.argv[1]))
"""


def test_a_killed_process_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    split = load_shop(0, "tiny")[0].leave_one_out()
    queries, steps, loss_of = split.queries("test"), [], SASRec.loss_of
    make = lambda: SASRec(dim=8, epochs=4, batch_size=16)  # noqa: E731
    whole = make().fit(split)
    assert len(whole.training.losses) > 130
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "run.pt"), str(torch.get_num_threads())])
    assert killed.returncode == -signal.SIGKILL
    monkeypatch.setattr(SASRec, "loss_of", lambda *args: steps.append(args[-1]) or loss_of(*args))
    again = make().fit(split, tmp_path / "run.pt")
    assert steps[0] == 100
    assert np.array_equal(again.score(queries), whole.score(queries))
    assert np.array_equal(again.training.losses, whole.training.losses)


def test_a_training_is_of_one_class_its_hyperparameters_features_and_split(planted, planted_features):
    others = [
        (BPR(), planted),
        (SASRec(), planted),
        (SASRec(dropout=0.3), planted),
        (SASRec(features=planted_features), planted),
        (SASRec(features=planted_features + 1), planted),
        (SASRec(), planted.dataset.temporal_split()),
        (MMGPT2Rec(features=planted_features), planted),
        (MMGPT2Rec(features=planted_features, config=MMGPT2Config(alignment_weight=1.0, tie_weights=False)), planted),
    ]
    assert len({system.identity(split) for system, split in others}) == len(others)
    assert SASRec().identity(planted) == SASRec().identity(planted)


def test_a_checkpoint_of_another_training_is_refused(planted, tmp_path):
    SASRec(epochs=1, dim=8).fit(planted, tmp_path / "run.pt")
    with pytest.raises(ValueError, match=r"run\.pt is the checkpoint of another training: .*other data or hyperparam"):
        SASRec(epochs=1, dim=8, dropout=0.1).fit(planted, tmp_path / "run.pt")


def test_systems_without_training_ignore_a_checkpoint(planted, tmp_path):
    ItemKNN().fit(planted, tmp_path / "run.pt")
    assert not list(tmp_path.iterdir())
    assert part_checkpoint(None, "0") is None
    assert part_checkpoint(Path("runs/run.pt"), "0") == Path("runs/run.0.pt")


def test_a_system_says_what_it_lacks(planted):
    class Bare(BaseRecommender):
        name = "bare"

    for asked in (lambda: Bare().fit(planted), lambda: Bare().score(planted.queries("test")), Bare().empty_network):
        with pytest.raises(NotImplementedError):
            asked()

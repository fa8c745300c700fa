"""What happens when a file of ours is damaged: the same content, made again or as it was, or an error that names it."""

import subprocess
import sys
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
import torch
from small_data import rec_dataset
from torch import nn

from mmrec_helpers.encoders import features
from mmrec_helpers.evaluation.runs import Run, load_runs, save_runs
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.pocket_shop import shop
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.pipeline import Catalogue
from mmrec_helpers.training.loop import TrainingConfig, train

REBUILT, REFUSED = "rebuilt", "refused"
FILES = {
    ("shop", "items.arrow"): REBUILT,
    ("shop", "interactions.parquet"): REBUILT,
    ("shop", "truth.npz"): REBUILT,
    ("shop", "digests.json"): REBUILT,
    ("features", "*.npz"): REBUILT,
    ("replies", "*.json"): REBUILT,
    ("checkpoint", "run.pt"): REFUSED,
    ("system", "recommender.json"): REFUSED,
    ("system", "arrays.safetensors"): REFUSED,
    ("runs", "ch00.parquet"): REFUSED,
    ("version", "catalogue.parquet"): REFUSED,
    ("version", "digests.json"): REFUSED,
    ("version", "activated.json"): REFUSED,
}
"""Kind of file and its name -> what becomes of a damaged one."""


class Stopped(Exception):
    """A killed training."""


class Echo(Replies):
    """Replies without a model."""

    def _generate(self, pairs):
        return [[f"the reply to {message}", True] for message, _ in pairs]


@pytest.fixture
def open_again(tmp_path, monkeypatch):
    """Kind -> function that opens what is there, or makes it, and returns its content in a form to compare."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "load_encoder", cache(features.load_encoder))
    monkeypatch.setitem(shop.SIZES, "tiny", (24, 30))
    dataset = rec_dataset([(user, item, 10 * user + item) for user in range(8) for item in range(1 + user % 3, 9)])
    split = dataset.leave_one_out()
    queries = split.queries("test")

    def pocket_shop():
        shown, truth = shop.load_shop(size="tiny", missing_images=0.5)
        return shown.fingerprint, truth.tastes.after.tobytes(), truth.purchases.days.tobytes()

    def texts():
        return [part.numpy().tobytes() for part in vars(features.encode_texts(dataset, "pocket-sbert")).values()]

    def fit(stop_at=None):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 1))

        def loss(step):
            if step == stop_at:
                raise Stopped
            return (model(torch.ones(4, 8) * step) - 1).square().mean()

        history = train(model, loss, TrainingConfig(6, warmup_steps=0, save_every=2), checkpoint=tmp_path / "run.pt")
        return history.losses.tolist(), [weight.tolist() for weight in model.parameters()]

    def system():
        folder = tmp_path / "system"
        if not folder.exists():
            ItemKNN(5).fit(split).save(folder)
        return load_recommender(folder).score(queries).tobytes()

    def runs():
        path = tmp_path / "ch00.parquet"
        if not path.exists():
            stamp = {name: "x" for name in ("study", "data", "split", "part", "protocol", "system")} | {"seed": 0}
            run = Run.unranked(stamp | {"hyperparameters": {}}, {"c": 1.5}, np.arange(20), {"v": np.arange(20) / 7})
            save_runs(path, [run])
        (run,) = load_runs(path, seed=0)
        return run.stamp, run.scalars, run.users.tolist(), run.values["v"].tolist()

    def version():
        root = tmp_path / "versions"
        if not root.exists():
            sasrec = SASRec(dim=16, max_len=10, num_layers=1, epochs=1).fit(split)
            for name in ("a2", "a1"):
                versions.publish(root, name, Catalogue.of(split), sasrec)
                versions.activate(root, name)
        return [str(values) for values in vars(versions.load(root, versions.active(root)).catalogue).values()]

    def checkpoint():
        if not (tmp_path / "run.pt").exists():
            with suppress(Stopped):
                fit(stop_at=3)
            return None  # what is saved is the middle
        return fit()

    return {
        "shop": pocket_shop,
        "features": texts,
        "replies": lambda: Echo("pocket-instruct")(["one", "two and more"]),
        "checkpoint": checkpoint,
        "system": system,
        "runs": runs,
        "version": version,
    }


@pytest.mark.parametrize(("kind", "name"), FILES)
def test_a_damaged_file_never_gives_other_content(kind, name, open_again, tmp_path, capfd):
    """One wrong bit, or a lost end."""
    wanted = open_again[kind]()
    path = min(tmp_path.rglob(name))
    whole, rng = path.read_bytes(), np.random.default_rng(len(name))
    if kind == "checkpoint":
        wanted = open_again[kind]()
    count = 3 if kind in ("shop", "version") else 12
    damaged = [whole[:size] for size in (0, *rng.integers(1, len(whole), size=count // 3).tolist())]
    for at in rng.integers(len(whole), size=count).tolist():
        damaged.append(whole[:at] + bytes([whole[at] ^ 1 << int(rng.integers(8))]) + whole[at + 1 :])
    outcomes, messages = set(), []
    for content in damaged:
        for other in path.parent.glob(name):  # replies are named by their content
            other.unlink()
        path.write_bytes(content)
        capfd.readouterr()
        try:
            assert open_again[kind]() == wanted
        except (ValueError, FileNotFoundError) as error:
            messages.append(str(error))
            continue
        if path.exists() and path.read_bytes() == content:
            continue  # the bit was not of the content
        if kind != "checkpoint":  # a training that resumes writes its end
            assert "damaged" in capfd.readouterr().err
            outcomes.add(REBUILT)
    for message in messages:
        outcomes.add(REFUSED)
        assert str(path.parent) in message
        assert any(fix in message for fix in ("delete", "save it", "make it again", "update the package"))
    assert outcomes == {FILES[kind, name]}
    path.write_bytes(whole)
    assert open_again[kind]() == wanted


FULL = """
import resource, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import save
from mmrec_helpers.files import atomic
tensor = torch.zeros(2_000)
writers = {
    "text": lambda part: part.write_text("x" * 8_000),
    "arrays": lambda part: np.savez(part.open("wb"), tensor.numpy()),
    "tensors": lambda part: torch.save(tensor, part.open("wb")),
    "safetensors": lambda part: part.write_bytes(save({"a": tensor})),
}
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, resource.RLIM_INFINITY))
for name, write in writers.items():
    try:
        with atomic(Path(sys.argv[1]) / name) as part:
            write(part)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_is_named_with_its_fix(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    for name, message in zip(("text", "arrays", "tensors", "safetensors"), done.stdout.splitlines(), strict=True):
        assert message.startswith(f"{tmp_path / name} cannot be written")
        assert "MMREC_CACHE" in message
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_no_folder_is_named_with_its_fix(open_again, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match=r"file/cache/pocket_shop/.* cannot be written .* set by MMREC_CACHE"):
        open_again["shop"]()


def test_two_trainings_on_one_checkpoint_both_end_right(open_again, tmp_path):
    """The second resumes from what the first has saved, while it still runs."""

    def fit(meanwhile=None):
        torch.manual_seed(0)
        model = nn.Linear(8, 1)

        def loss(step):
            if meanwhile and step == 3:
                meanwhile()
            torch.manual_seed(step)
            return (model(torch.randn(4, 8)) - 1).square().mean()

        train(model, loss, TrainingConfig(6, warmup_steps=0, save_every=2), checkpoint=tmp_path / "run.pt")
        return [weight.tolist() for weight in model.parameters()]

    others = []
    first = fit(lambda: others.append(fit()))
    (tmp_path / "run.pt").unlink()
    assert [first, fit()] == [*others, first]

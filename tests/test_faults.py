"""The rows of book/faults.md; and any damage of a file of ours gives the same content as before, or an error."""

import re
import subprocess
import sys

import faults
import numpy as np
import pytest
import torch
from fault_cases import CASES, REBUILT, REFUSED, WRITTEN, observe, openers
from torch import nn

from mmrec_helpers.training.loop import TrainingConfig, train

FILES = [(kind, name) for kind, (_, _, names) in WRITTEN.items() for name in names.split()]


@pytest.fixture
def open_again(tmp_path, monkeypatch):
    """Kind -> function that opens what is there, or makes it, and returns its content in a form to compare."""
    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    return openers(tmp_path, monkeypatch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_what_happens_is_what_the_page_says(case, tmp_path):
    line = faults.row(case.fault, *observe(case, tmp_path))
    assert line in faults.PAGE.read_text().splitlines(), "run tools/faults.py, and read what changes on the page"


def test_the_page_has_the_rows_of_all_cases_and_no_others():
    text = faults.PAGE.read_text()
    lines = [line for line in text.splitlines() if re.match(r"\| (?!What is wrong)", line)]
    assert text == faults.page([(case.group, line) for case, line in zip(CASES, lines, strict=True)])
    assert len({(case.group, case.fault) for case in CASES}) == len(CASES)


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
    assert outcomes == {WRITTEN[kind][1]}
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

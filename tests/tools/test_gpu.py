"""tools/gpu.py: a dry run of `make gpu`, its record, limits and failures; what is installed, from which wheels."""

import json
import os
import shutil
import subprocess
import sys
import time

import gpu
import numpy as np
import psutil
import pytest
from small_data import rec_dataset

from mmrec_helpers.pocket_shop.shop import SIZES
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.training.loop import step_memory

CODE = "import pathlib, tasks; tasks.BUILD = pathlib.Path({build!r}); import gpu; gpu.main()"
SLEEPER = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
CHILD = "import os, pathlib, time; os.setsid(); pathlib.Path({path!r}).write_text(str(os.getpid())); time.sleep(60)"


def python(text, name="part", limit=60.0):
    return gpu.Part(name, "runs Python", limit, ("-c", text))


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run parts for some minutes, with a record of their own; gives the record."""
    monkeypatch.setattr(gpu, "HOME", tmp_path)
    monkeypatch.setattr(gpu, "RECORDS", [tmp_path / "gpu.json", tmp_path / "out" / "gpu.json"])
    monkeypatch.setattr(gpu, "stamp", lambda gpu: {"code": "1"})

    def run(*parts, minutes=5.0):
        done = gpu.run_parts(list(parts), time.monotonic() + 60 * minutes)
        record, copy = (json.loads(path.read_text()) for path in gpu.RECORDS)
        assert record == copy
        assert record["parts"] == done
        return record

    return run


def test_a_dry_run_runs_each_kind_of_part_and_a_second_one_none(root, tmp_path):
    environment = os.environ | {"DRY": "1", "OUT": str(tmp_path / "out"), "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPYCACHEPREFIX": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": ""}  # imports take long
    code = CODE.format(build=str(tmp_path / "build"))
    results = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], cwd=root / "tools", env=environment, check=True)
        results.append(json.loads((tmp_path / "out" / "gpu.json").read_text()))
    assert results[0] == results[1]  # seconds and dates, too
    parts = results[0]["parts"]
    assert {part["status"] for part in parts.values()} == {"ok"}
    assert {"decoder", "bench", "01a_data_exploration"} == set(parts)
    assert results[0]["left"] == results[0]["missing"] == []
    assert parts["decoder"]["numbers"].keys() > {"ndcg@10", "tokens_per_second", "gpu_hours_per_100k", "paper"}
    assert parts["bench"]["numbers"]["ours"]["tokens_per_second"] > 0
    assert parts["bench"]["stamp"].keys() == {
        *("commit", "clean", "code", "gpu", "driver", "torch", "transformers", "date")
    }


def test_without_a_gpu_nothing_runs(monkeypatch, root):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("DRY", raising=False)
    refused = subprocess.run([sys.executable, "tools/gpu.py"], cwd=root, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "no GPU" in refused.stderr


def test_a_part_that_exceeds_its_limit_ends_with_its_children_and_the_rest_runs(run, tmp_path):
    """The child has a session of its own, as the kernel of a notebook has."""
    path = tmp_path / "pid"
    sleeper = SLEEPER.format(child=CHILD.format(path=str(path)))
    parts = run(python(sleeper, "slow", limit=2), python("print('a'); 1 / 0", "wrong"), python("", "good"))["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "slow": "timed out",
        "wrong": "failed",
        "good": "ok",
    }
    assert 2 <= parts["slow"]["seconds"] < 10
    assert parts["wrong"]["output"][0] == "a"
    assert parts["wrong"]["output"][-1].startswith("ZeroDivisionError")
    child = int(path.read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_the_record_is_complete_after_each_part(run, tmp_path):
    """The last part reads it."""
    reads = f"import pathlib; print(pathlib.Path({str(tmp_path / 'gpu.json')!r}).read_text())"
    writes = python("print({'a': 1}); print('{\"a\": 2}'); print('the end')", "first")
    run(writes, python(f"{reads.replace('print', 'text = ')}; print(text.replace(chr(10), ''))", "second"))
    read = json.loads((tmp_path / "second.log").read_text())
    assert read["left"] == ["second"]
    assert read["parts"]["first"]["numbers"] == {"a": 2}


def test_another_call_goes_on_and_tries_last_what_did_not_succeed(run, monkeypatch, tmp_path):
    order = tmp_path / "order"
    note = f"import pathlib, sys; file = open({str(order)!r}, 'a'); file.write('NAME '); file.close(); "
    good, wrong, long = (
        python(note.replace("NAME", name) + end, name, limit)
        for name, end, limit in (("good", "", 60), ("wrong", "sys.exit(1)", 60), ("long", "", 200))
    )
    assert run(wrong, long, good, minutes=2)["left"] == ["long"]
    assert run(wrong, long, good)["left"] == []
    assert order.read_text() == "wrong good long wrong "
    monkeypatch.setattr(gpu, "stamp", lambda gpu: {"code": "2"})  # what another code gave does not count
    run(wrong, long, good)
    assert order.read_text() == "wrong good long wrong wrong long good "


def distribution(folder, name, version, *requires):
    place = folder / f"{name}-{version}.dist-info"
    place.mkdir(parents=True)
    lines = [f"Requires-Dist: {text}\n" for text in requires]
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{''.join(lines)}")


def test_what_is_missing_is_found_by_name_version_and_marker(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    distribution(tmp_path, "outer_a", "1.0", "inner-b>=2", "inner-c>=2", "other; extra == 'more'", "gone<1")
    distribution(tmp_path, "inner_b", "1.0")
    distribution(tmp_path, "inner_c", "2.1+local")
    distribution(tmp_path, "torch_d", "1.0", "gone-too")
    monkeypatch.setattr(gpu, "needed", lambda: ["outer.A>=1", "torch-d", "never; python_version < '3'"])
    monkeypatch.setattr(gpu, "BROUGHT", ("torch-d",))
    assert gpu.unmet() == {"inner-b": "inner-b>=2 (here: 1.0)", "gone": "gone<1 (here: none)"}


def test_this_environment_lacks_nothing():
    assert gpu.unmet() == {}


def test_only_what_is_missing_is_installed_and_the_rest_is_named(monkeypatch, tmp_path, capfd):
    """Wheels are made here by hand, so that no network is needed."""
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    for name in ("carried_one", "numpy"):
        distribution(tmp_path / name, name, "1.0")
        folder = tmp_path / name / f"{name}-1.0.dist-info"
        (folder / "WHEEL").write_text("Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        (folder / "RECORD").write_text("")
        wheels.mkdir(exist_ok=True)
        shutil.make_archive(str(wheels / name), "zip", tmp_path / name)
        (wheels / f"{name}.zip").rename(wheels / f"{name}-1.0-py3-none-any.whl")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(gpu, "needed", lambda: ["carried-one", "numpy", "absent>=3"])
    monkeypatch.setattr(gpu, "WHEELS", wheels)
    monkeypatch.setattr(gpu, "SITE", site)
    assert gpu.install() == ["absent>=3 (here: none)"]
    assert gpu.version_of("carried-one") == "1.0"
    assert gpu.version_of("numpy") != "1.0"
    assert "absent>=3" in capfd.readouterr().out


def test_a_training_step_of_the_gpu_profile_fits_into_a_t4():
    """By what a step holds for as many items as the profile has: a tenth of 14 GB, as temporary tensors come on top."""
    num_items, rng = SIZES["gpu"][0], np.random.default_rng(0)
    items = rng.integers(1, num_items + 1, (130, 60))
    items[-1, -1] = num_items
    rows = [(user, int(item), time) for user, own in enumerate(items) for time, item in enumerate(own)]
    split = rec_dataset(rows, image=[None] * num_items).leave_one_out()
    features = rng.standard_normal((num_items + 1, 256)).astype(np.float32)
    features[0] = 0
    for system in (SASRec(), MMGPT2Rec(features=features, dims=(128, 128))):
        windows = system.prepare(split)
        memory = step_memory(system.network, lambda: system.loss_of(windows, 0))  # noqa: B023, called at once
        assert 1e7 < sum(memory.values()) < 1.4e9, (system.name, memory)

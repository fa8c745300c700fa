"""tools/serve.py: the first call publishes a version, the second one serves it."""

import numpy as np
import serve
from small_data import rec_dataset

from mmrec_helpers.serving import app, versions


def test_a_first_version_is_trained_once(monkeypatch, tmp_path, capsys):
    rng = np.random.default_rng(0)
    rows = [(user, int(item) + 1, time) for user in range(10) for time, item in enumerate(rng.permutation(20)[:5])]
    loaded, served = [], []

    def load(settings):
        loaded.append(settings.data)
        return rec_dataset(rows), None

    monkeypatch.setenv("MMREC_CACHE", str(tmp_path))
    monkeypatch.setattr(serve, "EPOCHS", 1)
    monkeypatch.setattr(serve, "load_data_for_training", load)
    monkeypatch.setattr(app.torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(app.uvicorn, "run", lambda _, **options: served.append(options))
    serve.main(8001)
    serve.main(8002)
    assert loaded == ["pocket"]
    assert [options["port"] for options in served] == [8001, 8002]
    assert "host" not in served[0]  # uvicorn's default is this machine alone
    root = tmp_path / "serving" / "pocket"
    assert versions.active(root) == "first"
    assert len(versions.load(root, "first").catalogue.numbers) == 20
    first, second = [line for line in capsys.readouterr().out.splitlines() if "Bearer" in line]
    assert first != second

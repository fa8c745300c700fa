"""torchvision_patch.py: the one fault of a torchvision built for another torch is repaired, any other is raised."""

import importlib.util
import subprocess
import sys

import pytest

import mmrec_helpers  # noqa: F401, installs the patch


def test_torchvision_imports_in_a_new_process_whoever_asks_first():
    code = "import mmrec_helpers, importlib.util; importlib.util.find_spec('torchvision'); import timm, torchvision"
    subprocess.run([sys.executable, "-c", code + "; torchvision.transforms.ToTensor()"], check=True)


def test_another_fault_of_torchvision_is_raised(monkeypatch, tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('another fault')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    with pytest.raises(RuntimeError, match="another fault"):
        importlib.import_module("torchvision")


def test_other_modules_are_found_as_ever():
    assert type(importlib.util.find_spec("numpy").loader).__module__ != "mmrec_helpers.torchvision_patch"


@pytest.mark.parametrize(("version", "patched"), [("4.57.3", True), ("5.23.0", False)])
def test_transformers_4_knows_the_tokenizers_that_5_has_written(monkeypatch, tmp_path, version, patched):
    fast = "class PreTrainedTokenizerFast:\n    def __init__(self, **options):\n        self.options = options"
    (tmp_path / "transformers.py").write_text(f"__version__ = '{version}'\n{fast}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    module = importlib.import_module("transformers")
    assert hasattr(module, "TokenizersBackend") is patched
    if patched:  # a list, which 4 takes for a mapping, of tokens that are in tokenizer.json, too
        tokenizer = module.TokenizersBackend(extra_special_tokens=["<|user|>"], pad_token="<pad>")
        assert tokenizer.options == {"pad_token": "<pad>"}
        assert isinstance(tokenizer, module.PreTrainedTokenizerFast)
    monkeypatch.delitem(sys.modules, "transformers")

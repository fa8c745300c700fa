"""The house: imports go one way, a name comes from where it is defined, tests and README mirror the package."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mmrec_helpers"
ROOMS = (
    ("settings", "files", "progress", "torchvision_patch", "pretrained"),
    ("data",),
    ("pocket_shop",),
    ("loading",),
    ("encoders",),
    ("llm",),
    ("training",),
    ("lessons",),
    ("evaluation",),
    ("recommenders",),
    ("studies",),
)
"""Rooms of the package, and modules that stand alone, from the ground up; a module imports from its floor or below."""
BESIDE = {"display": ("settings", "progress", "data"), "serving": ("files", "data", "recommenders")}
"""Room -> what it may import; only studies, and what lies outside of the package, may import it."""
OUTSIDE = ("experiments", "pretraining", "tools", "tests", "notebooks")
"""What nothing in the package may import."""
ELSEWHERE = {
    "data.cleaning": "data/readers: each rule by what the readers that share it count and drop",
    "encoders.checkpoints": "encoders/test_features.py: names, folders and the hub's cache, and what lies there",
    "encoders.models": "encoders/test_features.py: each network beside the library's, and what is made with it",
    "evaluation.validation": "recommenders/test_sequential.py: what early stopping asks, beside a loop",
    "pocket_shop.catalogue": "pocket_shop/test_shop.py: what it holds is that of the shop that is made of it",
    "recommenders.matrices": "recommenders/test_factorization.py: shared by the systems there",
    "recommenders.pairwise": "recommenders/test_factorization.py: its systems are factorizations",
    "recommenders.sasrec": "recommenders/test_sequential.py: the three of the family beside each other",
    "recommenders.gru4rec": "recommenders/test_sequential.py",
    "recommenders.bert4rec": "recommenders/test_sequential.py",
}
"""Module without a test of its name -> where its behaviour is tested instead, and why there."""
ACROSS = {
    "data/readers/test_real_files.py": "the readers on the real files",
    "pocket_shop/test_separations.py": "the shop and systems of several rooms",
    "pretrained/test_weights.py": "weights, not a module",
    "recommenders/test_contract.py": "what holds for all recommenders",
    "recommenders/test_mmgpt2rec_options.py": "a second file for mmgpt2rec.py, which has many options",
}
"""Test of a room that is not of one of its modules -> what it is of."""
MOST_LINES = 14_650
"""Of the package, lessons not counted: they are written by `make export`. It grew when recommenders learnt to be saved,
tuning got one rule, real models came in, chapter 5 built I-LLMRec, chapter 6 MLLM-MSR, chapter 7 graphs, the fusion
of words and patches, the shop's event log, Trans2D and MMSR, chapter 8 the audit of tables and the rule of the claims
ledger, chapter 9 the service, its search, its stages in processes, sessions in Redis and a client of it, and when files
were checked as they are read. It may only fall, except for what a new chapter builds."""


@cache
def modules(folder: str) -> dict[str, Path]:
    """Dotted name -> file of each module of a top-level folder; a package has the name of its folder."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@cache
def tree(path: Path) -> ast.Module:
    """A file, parsed."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[tuple[str, str], ...]:
    """Module and name of each import of a file, also inside of functions and under TYPE_CHECKING."""
    found = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}, line {node.lineno}: a relative import"
            found += [(node.module, alias.name) for alias in node.names]
    return tuple(found)


def imported_modules(path: Path) -> set[str]:
    """Dotted names of the package's modules that a file imports."""
    known = modules("mmrec_helpers")
    names = {f"{module}.{name}" if f"{module}.{name}" in known else module for module, name in imports(path)}
    return names & set(known)


def room(module: str) -> str:
    """The room, or the module that stands alone, that a module of the package belongs to; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def test_each_room_has_its_floor():
    rooms = {room(module) for module in modules("mmrec_helpers")} - {""}
    assert rooms <= {name for floor in ROOMS for name in floor} | set(BESIDE)


@pytest.mark.parametrize("module", modules("mmrec_helpers"))
def test_imports_go_one_way(module):
    floors = {"": 0} | {name: number for number, floor in enumerate(ROOMS) for name in floor}
    own, wrong = room(module), []
    for other in imported_modules(modules("mmrec_helpers")[module]):
        theirs = room(other)
        if theirs in (own, ""):
            continue
        allowed = theirs in BESIDE[own] if own in BESIDE else floors.get(theirs, 99) <= floors.get(own, -1)
        if not allowed and not (own == "studies" and theirs in BESIDE):
            wrong.append(other)
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle():
    arrows = {module: imported_modules(path) - {module} for module, path in modules("mmrec_helpers").items()}
    while free := [module for module, others in arrows.items() if not others]:  # take away what imports nothing more
        for module in free:
            del arrows[module]
        arrows = {module: others - set(free) for module, others in arrows.items()}
    assert arrows == {}, "each of these imports another one of them"


@pytest.mark.parametrize("module", modules("mmrec_helpers"))
def test_the_package_imports_nothing_from_outside_of_it(module):
    first = {name.partition(".")[0] for name, _ in imports(modules("mmrec_helpers")[module])}
    tools = {path.stem for path in (ROOT / "tools").glob("*.py")}
    assert not first & ({*OUTSIDE} | tools)


@pytest.mark.parametrize("folder", ["experiments", "pretraining", "tools"])
def test_nothing_imports_a_notebook(folder):
    """The name `notebooks` is a module of tools."""
    for path in modules(folder).values():
        assert not [name for name, _ in imports(path) if name.startswith("notebooks.")], path
        assert "importnb" not in path.read_text()
        assert "nb_import" not in path.read_text()


def defined(path: Path) -> set[str]:
    """Names that a module defines, or imports from outside of the package."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("folder", ["mmrec_helpers", "experiments", "pretraining", "tools", "tests"])
def test_a_name_is_imported_from_where_it_is_defined(folder):
    known = {**modules("mmrec_helpers"), **modules("experiments"), **modules("pretraining")}
    wrong = [
        f"{path.relative_to(ROOT)}: from {module} import {name}"
        for path in modules(folder).values()
        for module, name in imports(path)
        if module in known and name and f"{module}.{name}" not in known and name not in defined(known[module])
    ]
    assert wrong == []


def test_each_module_has_a_test_of_its_name():
    missing = set()
    for module, path in modules("mmrec_helpers").items():
        place = path.relative_to(PACKAGE)
        test = ROOT / "tests" / place.parent / f"test_{place.stem}.py"
        if path.name != "__init__.py" and not test.exists():
            missing.add(module.removeprefix("mmrec_helpers."))
    assert missing == set(ELSEWHERE)
    assert [place for place in ELSEWHERE.values() if not (ROOT / "tests" / place.partition(":")[0]).exists()] == []


def test_each_test_of_a_room_has_its_module():
    lonely = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        place = path.relative_to(ROOT / "tests")
        if (PACKAGE / place.parts[0]).is_dir() and not (PACKAGE / place.parent / f"{path.stem[5:]}.py").exists():
            lonely.add(str(place))
    assert lonely == set(ACROSS)


def test_the_package_is_small():
    files = [path for path in PACKAGE.rglob("*.py") if "lessons" not in path.parts]
    lines = sum(len(path.read_text().splitlines()) for path in files)
    assert lines <= MOST_LINES, f"{lines:,} lines; what can be shorter and clearer?"


def test_the_map_in_the_readme_names_the_rooms():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^```\w*\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    inside = next(block for block in blocks if "mmrec_helpers/" in block).partition("mmrec_helpers/")[2]
    inside = re.split(r"^\S", inside, maxsplit=1, flags=re.MULTILINE)[0]
    named = re.findall(r"^ {2}(\w+)(?:/|\.py)", inside, re.MULTILINE)
    rooms = {room(module) for module in modules("mmrec_helpers")} - {""}
    assert sorted(named) == sorted(rooms)

"""Lock, ranges, conda file, commands and workflows say the same; the code is tidy; no file names a registry's host."""

import itertools
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import tasks
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9a-z.]+)( ; (?P<marker>[^#;]+?))?(  # (?P<reason>\S.*))?")
LOCK = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
PINS = {found["name"]: found for found in map(PIN.fullmatch, LOCK) if found}
CONDA = ROOT / "environment.yml"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
CUDA = re.compile(r"(nvidia|cuda|triton)\b")
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "book/how-to-use.md")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def make_targets(text):
    """The commands for which shell lines ask `make` or tools/tasks.py."""
    text = re.sub(r"(^|\s)#.*", "", text)
    calls = re.findall(r"\bmake((?: [a-z]+\b(?!=))+)", text) + re.findall(r"tools/tasks\.py ([a-z]+)", text)
    return {target for call in calls for target in call.split()}


def test_a_wheel_has_every_data_file_of_the_package():
    globs = PROJECT["tool"]["setuptools"]["package-data"]
    held = {path for name, own in globs.items() for one in own for path in ROOT.joinpath(*name.split(".")).glob(one)}
    files = {path for path in (ROOT / "mmrec_helpers").rglob("*") if path.is_file()}
    assert {path for path in files if path.suffix not in (".py", ".pyc")} - held == set()


# The lock --------------------------------------------------------------------------------------------------------


def test_lock_pins_each_package_once_by_name_and_version():
    assert [line for line in LOCK if not PIN.fullmatch(line)] == []
    assert len(PINS) == len(LOCK)
    assert list(PINS) == sorted(PINS)


def test_lock_has_no_local_version_and_no_cuda():
    assert [name for name, pin in PINS.items() if Version(pin["version"]).local] == []
    assert [name for name in PINS if CUDA.match(name)] == []


EXTRAS = [
    PROJECT["project"]["optional-dependencies"][name] for name in ("book", "serve", "test")
]  # those that are locked
RANGES = [*PROJECT["project"]["dependencies"], *itertools.chain.from_iterable(EXTRAS)]


@pytest.mark.parametrize("text", RANGES)
def test_lock_lies_within_the_ranges_of_pyproject(text):
    wanted = Requirement(text)
    assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]["version"])


def test_installed_versions_are_those_of_the_lock():
    here = [name for name, pin in PINS.items() if not pin["marker"] or Marker(pin["marker"]).evaluate()]
    installed = {name: Version(metadata.version(name)).public for name in here}  # 2.13.0+cpu is 2.13.0
    assert {name: found for name, found in installed.items() if Version(found) != Version(PINS[name]["version"])} == {}


def test_lock_holds_what_its_packages_need():
    missing, seen = [], set()
    waiting = [Requirement(text) for text in RANGES]
    while waiting:
        need = waiting.pop()
        name = canonicalize_name(need.name)
        if (name, *need.extras) in seen or CUDA.match(name):
            continue
        seen.add((name, *need.extras))
        if name not in PINS or not need.specifier.contains(PINS[name]["version"], prereleases=True):
            missing.append(str(need))
            continue
        for further in map(Requirement, metadata.requires(name) or []):
            if not further.marker or any(further.marker.evaluate({"extra": extra}) for extra in ("", *need.extras)):
                waiting.append(further)
    assert missing == []


def test_each_pin_that_is_not_the_newest_has_its_reason():
    reasons = {name: pin["reason"] for name, pin in PINS.items() if pin["reason"]}
    assert reasons == PROJECT["tool"]["book"]["pin-reasons"]


def test_conda_users_get_the_lock():
    needs = yaml.safe_load(CONDA.read_text())["dependencies"]
    pip = [need["pip"] for need in needs if isinstance(need, dict)]
    python = [need.split("=")[1] for need in needs if str(need).startswith("python=")]
    assert pip == [["-r requirements.lock", "-e ."]]
    assert len(python) == 1
    assert f"{python[0]}.0" in Requirement(f"python{PROJECT['project']['requires-python']}").specifier


TEN = ["jupyterlab", "jupyter-book", "torch", "transformers", "datasets", "timm", "matplotlib", "seaborn", "ipywidgets"]
TEN += ["nbval"]


@pytest.mark.parametrize("package", TEN)
def test_the_books_ten_packages_come_with_conda_and_are_used(package):
    (pip,) = [need["pip"] for need in yaml.safe_load(CONDA.read_text())["dependencies"] if isinstance(need, dict)]
    locked = [need.removeprefix("-r ") for need in pip if need.startswith("-r ")]
    pins = [pin["name"] for name in locked for pin in map(PIN.fullmatch, (ROOT / name).read_text().splitlines()) if pin]
    assert package in pins
    # imported; or called: as a module, by its main function, or as a plug-in's option
    name = package.replace("-", "_")
    used = re.compile(rf"\b(import|from) {name}\b|\"-m\", \"{name}\"|\"--{name}\"")
    sources = [*ROOT.glob("mmrec_helpers/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    assert any(used.search(path.read_text()) for path in sources), f"nothing imports or calls {package}"


# The commands ----------------------------------------------------------------------------------------------------


def test_make_has_the_commands_of_the_tasks():
    rules = re.findall(r"^([a-z ]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    phony = re.findall(r"^\.PHONY: (.+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = set(tasks.TASKS)
    assert set(" ".join(rules).split()) == commands
    assert set(" ".join(phony).split()) == commands


def test_make_book_finds_what_it_changes_in_the_configuration():
    text = (ROOT / "_config.yml").read_text()
    assert [text.count(shown) for shown in tasks.EXECUTING] == [1, 1]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_name_commands_that_exist(document):
    text = (ROOT / document).read_text()
    code = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
    named = make_targets("\n".join(code))
    assert named, "a document that names no command: is the pattern of this test out of date?"
    assert named <= set(tasks.TASKS)


def test_how_to_use_lists_each_command_for_readers():
    listed = set(re.findall(r"^\| `make ([a-z]+)`", (ROOT / "book/how-to-use.md").read_text(), re.MULTILINE))
    assert set(tasks.TASKS) - listed <= {"lint", "lock", "release"}  # for contributors


def test_help_needs_the_standard_library_only():
    command = [sys.executable, "-I", "-S", "tools/tasks.py", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make book" in done.stdout


def test_unknown_command_is_named():
    command = [sys.executable, "-I", "-S", "tools/tasks.py", "boook"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "'boook'" in done.stderr
    assert "book, " in done.stderr


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_calls_what_exists(workflow):
    jobs = yaml.safe_load(workflow.read_text())["jobs"]
    shell = "\n".join(step["run"] for job in jobs.values() for step in job["steps"] if "run" in step)
    assert make_targets(shell) <= set(tasks.TASKS)
    assert [script for script in re.findall(r"\bbash (\S+)", shell) if not (ROOT / script).exists()] == []
    uploaded = [step.get("with", {}).get("path") for job in jobs.values() for step in job["steps"]]
    assert set(uploaded) <= {None, "_build/html", "_build/gpu/gpu.json"}


def test_slow_tests_run_every_week():
    weekly = yaml.safe_load((ROOT / ".github" / "workflows" / "weekly.yml").read_text())
    shell = [step["run"] for job in weekly["jobs"].values() for step in job["steps"] if "run" in step]
    assert weekly[True]["schedule"]
    assert [line for line in shell if "test" in make_targets(line) and line.endswith(" SLOW=1")]


def test_a_proposed_change_never_runs_on_our_own_machine():
    for workflow in WORKFLOWS:
        text = yaml.safe_load(workflow.read_text())
        triggers = text[True]  # YAML 1.1 reads the key `on` as true
        own = [job for job in text["jobs"].values() if "self-hosted" in job["runs-on"]]
        assert not (own and {"pull_request", "pull_request_target"} & set(triggers)), workflow.name


# The files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff(command):
    folders = ["mmrec_helpers", "pretraining", "experiments", "tests", "tools", "notebooks"]
    done = subprocess.run([sys.executable, "-m", "ruff", *command, *folders], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_names_the_host_of_a_registry():
    hosts = ["pypi|org", "pypi|python|org", "files|pythonhosted|org", "anaconda|org", "anaconda|com", "anaconda|cloud"]
    hosts += ["registry|npmjs|org", "registry|yarnpkg|com", "download|pytorch|org", "prefix|dev"]
    forbidden = re.compile("|".join(host.replace("|", r"\.") for host in hosts).encode())
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout: which files belong to the repository is not known")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    assert [str(path) for path in files if path.is_file() and forbidden.search(path.read_bytes())] == []

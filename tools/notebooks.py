"""Work on the notebooks: generated cells, execution, storing, linting. Called by tools/tasks.py."""

import json
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from mmrec_helpers.files import atomic
from mmrec_helpers.settings import load_settings

ROOT = Path(__file__).resolve().parent.parent
STATUS = ROOT / "book" / "results" / "notebooks.json"
EXECUTED = ROOT / "_build" / "executed"
CACHE = ROOT / "_build" / ".jupyter_cache"
AT_ONCE = 2
"""Notebooks that `make book` executes at the same time."""
LESSONS = ROOT / "mmrec_helpers" / "lessons"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
MAX_CELLS = 70
MAX_LINES = 25
MAX_WIDTH = 88  # columns of a code cell on the rendered page
MAX_BYTES = 2_000_000
IN_FORM = ("01", "02", "03", "04", "05", "06", "07", "08", "09")
"""Beginnings of the notebooks that are held to ``form_faults``: those of all chapters that are written."""

SETUP_CELL = """\
# Setup: the same cell opens every notebook. Where the helper package is missing, as on
# Colab, it fetches the book and installs it; preinstalled packages keep their versions.
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY, BOOK = "{url}", Path("mmrec-book").resolve()
if importlib.util.find_spec("mmrec_helpers") is None:
    if not REPOSITORY:
        raise SystemExit("mmrec_helpers is missing: run `make setup` in the book")
    if not BOOK.exists():
        subprocess.check_call(["git", "clone", "-q", "--depth", "1", REPOSITORY, BOOK])
    pip, held = [sys.executable, "-m", "pip"], BOOK / "held.txt"
    versions = subprocess.check_output([*pip, "list", "--format=freeze"], text=True)
    held.write_text(versions)
    subprocess.check_call([*pip, "install", "-q", "-c", held, BOOK])
if BOOK.exists():  # recorded runs are read from a folder beside the notebooks'
    os.chdir(BOOK / "notebooks")

from mmrec_helpers.settings import diagnose, load_settings

settings = load_settings()
print(diagnose(settings))"""


def paths(only: str = "") -> list[Path]:
    """The notebooks whose names begin with ``only``, in reading order."""
    return sorted((ROOT / "notebooks").glob(f"{only}*.ipynb"))


def read(path: Path) -> NotebookNode:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


def write(nb: NotebookNode, path: Path) -> None:
    """Write a notebook."""
    nbformat.validate(nb)
    with atomic(path) as part:
        nbformat.write(nb, part)


# Generated cells ------------------------------------------------------------------------------------------------


def setup_source() -> str:
    """The setup cell's text; the repository's address comes from _config.yml."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    return SETUP_CELL.format(url=config["repository"]["url"])


def stub_of(solution: str, check: str, hint: str) -> str:
    """The reader's cell of an exercise: the solution without what lies between its markers, and the call of its check.

    Raises:
        ValueError: the solution has no ``### BEGIN SOLUTION`` ... ``### END SOLUTION``.
    """
    found = re.search(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", solution, re.DOTALL | re.MULTILINE)
    if not found:
        raise ValueError(f"no '### BEGIN SOLUTION' ... '### END SOLUTION' in the exercise of {check}")
    head = solution[: found.start()]  # what follows the markers explains the solution and is not for the stub
    function = re.findall(r"def (\w+)\(", head)[0]
    quoted = repr(hint) if '"' in hint else json.dumps(hint, ensure_ascii=False)  # as ruff writes it
    indent, call = found[1], f"raise NotImplementedError({quoted})"
    if len(indent + call) > MAX_WIDTH:  # as ruff writes it
        call = f"raise NotImplementedError(\n{indent}    {quoted}\n{indent})"
    return f"{head}{indent}{call}\n\n\nattempt({check}, {function})"


def label_of(exercise: dict) -> str:
    """The first line of an exercise: number, title, difficulty, minutes."""
    stars = "★" * exercise["difficulty"] + "☆" * (5 - exercise["difficulty"])
    title = f"### Exercise {exercise['number']}: {exercise['title']}"
    return f"{title}\n\n*Difficulty {stars}, {exercise['minutes']} minutes.*"


def role(cell: NotebookNode) -> str:
    """What a generated or exercise cell is: setup, prompt, check, stub, solution, or nothing."""
    return cell.metadata.get("book", {}).get("role", "")


def fold(cell: NotebookNode, what: str) -> None:
    """Say on the rendered page what a folded cell holds."""
    cell.metadata.mystnb = {"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"}


def generate(nb: NotebookNode) -> None:
    """Write the setup cell, and label and stub of each exercise, in place."""
    exercises = {cell.metadata.book["exercise"]["check"]: cell for cell in nb.cells if role(cell) == "solution"}
    for cell in nb.cells:
        if role(cell) == "setup":
            cell.source = setup_source()
            fold(cell, "the setup")
            cell.metadata.tags = ["hide-input", "nbval-ignore-output"]
        elif role(cell) == "prompt":
            exercise = exercises[cell.metadata.book["check"]].metadata.book["exercise"]
            text = cell.source.split("minutes.*\n\n", 1)[-1]
            cell.source = f"{label_of(exercise)}\n\n{text}"
        elif role(cell) == "stub":
            solution = exercises[cell.metadata.book["check"]]
            cell.source = stub_of(
                solution.source, cell.metadata.book["check"], solution.metadata.book["exercise"]["hint"]
            )
        elif role(cell) in ("check", "solution"):
            fold(cell, "the check" if role(cell) == "check" else "a solution")
            cell.metadata.tags = ["hide-cell"]
            cell.metadata.jupyter = {"source_hidden": True}


def export() -> None:
    """Write all that comes from the notebooks: generated cells, and the lessons of `#| export` cells."""
    for path in paths():
        nb = read(path)
        before = nbformat.writes(nb)
        generate(nb)
        if nbformat.writes(nb) != before:
            write(nb, path)
            print(f"{path.name}: generated cells changed; execute it with `make notebooks ONLY={path.name[:2]}`")
        export_lesson(path, LESSONS)


def export_lesson(path: Path, lessons: Path) -> None:
    """Write what a notebook's `#| export` cells define into the module that its `#| default_exp` cell names.

    `#| export MODULE` adds to a module that an earlier notebook of the chapter has written.
    """
    from nbdev.export import nb_export

    if any(cell.source.startswith(("#| default_exp", "#| export ")) for cell in read(path).cells):
        lessons.mkdir(exist_ok=True)
        nb_export(path, lib_path=lessons)


# Execution ------------------------------------------------------------------------------------------------------


def tidy(nb: NotebookNode) -> None:
    """Take out of a notebook what is true of one run only: widget state, times, warnings' and progress bars' noise."""
    nb.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    for cell in nb.cells:
        if cell.cell_type != "code":
            continue
        cell.metadata.pop("execution", None)
        cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr" and not _is_progress_bar(out)]
        for out in cell.outputs:
            if "data" in out:  # a widget is dead on paper: its static view, the HTML beside it, stays
                out.data.pop(WIDGET_VIEW, None)
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:02d}"


def _is_progress_bar(out: NotebookNode) -> bool:
    """A widget without a static view."""
    return WIDGET_VIEW in out.get("data", {}) and "text/html" not in out.data


def execute(only: str) -> None:
    """Execute notebooks in a fresh kernel each and store them with their outputs.

    Only the laptop profile's outputs on the Pocket Shop belong to the book. Others go to EXECUTED.
    """
    settings = load_settings()
    of_the_book = settings == load_settings({"MMREC_CACHE": str(settings.cache)})  # all other choices are the defaults
    for path in paths(only):
        nb = read(path)
        generate(nb)
        start = time.time()
        run(nb, path)
        seconds = time.time() - start
        tidy(nb)
        if of_the_book:
            write(nb, path)
            record(path.stem, seconds)
        else:
            EXECUTED.mkdir(parents=True, exist_ok=True)
            write(nb, EXECUTED / path.name)
        print(f"{path.name}: {seconds / 60:.1f} min" + ("" if of_the_book else f", in {EXECUTED / path.name}"))


def run(nb: NotebookNode, path: Path, **options: Any) -> None:  # noqa: ANN401
    """Execute a notebook in a fresh kernel; in another one if an answer did not come, as kernels miss one now and then.

    Args:
        nb: gets the outputs.
        path: of the notebook, beside which it runs.
        options: of nbclient.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError

    options["timeout"] = yaml.safe_load((ROOT / "_config.yml").read_text())["execute"]["timeout"]
    options["resources"] = {"metadata": {"path": str(path.parent)}}
    options["extra_arguments"] = ["--log-level=ERROR"]  # a new kernel warns that it is reached by TCP
    try:
        NotebookClient(nb, **options).execute()
    except (CellTimeoutError, AssertionError) as error:  # the latter if a new kernel does not say what it is
        print(f"{path.name}: {str(error).partition(chr(10))[0]}; once more", flush=True)
        NotebookClient(nb, **options).execute()


def record(name: str, seconds: float) -> None:
    """Keep a notebook's time for the status page."""
    known = json.loads(STATUS.read_text()) if STATUS.exists() else {}
    known[name] = {
        "seconds": round(seconds),
        "profile": "laptop",
        "device": f"{os.cpu_count()} CPU cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("mmrec-helpers", "torch", "transformers", "datasets")},
    }
    with atomic(STATUS) as part:
        part.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def fill() -> None:
    """Execute what the cache of `make book` lacks, several notebooks at once, those that take longest first.

    What fails beside others is executed once more at the end, alone: time or memory may have been short.

    Raises:
        SystemExit: notebooks failed. It names each with its cell; all others are in the cache.
    """
    from jupyter_cache import get_cache
    from jupyter_cache.base import CacheBundleIn

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this process at once; kernels end with their parent
    cache, toc = get_cache(CACHE), (ROOT / "_toc.yml").read_text().split()
    cached = {record.hashkey for record in cache.list_cache_records()}
    known = json.loads(STATUS.read_text())
    lacking = [path for path in paths() if f"notebooks/{path.stem}" in toc]
    lacking = [path for path in lacking if cache.create_hashed_notebook(read(path))[1] not in cached]
    lacking.sort(key=lambda path: -known.get(path.stem, {"seconds": inf})["seconds"])

    def run_all(paths: list[Path], at_once: int) -> dict[Path, str]:
        """What stopped the notebooks that failed; the others go into the cache."""
        faults = {}
        with ThreadPoolExecutor(at_once) as pool:
            for run in as_completed([pool.submit(run_for_cache, path) for path in paths]):
                path, nb, seconds, fault = run.result()
                if fault:
                    faults[path] = fault
                    print(f"FAILED: {fault}", flush=True)
                    continue
                print(f"{path.name}: executed in {seconds:.0f} s", flush=True)
                bundle = CacheBundleIn(nb, str(path), data={"execution_seconds": seconds})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        return faults

    faults = run_all(lacking, AT_ONCE)
    if faults and len(lacking) > 1:
        print(f"once more, alone: {', '.join(path.name for path in faults)}", flush=True)
        faults = run_all([*faults], 1)
    if faults:
        end = f"{len(faults)} of {len(lacking)} notebooks failed; `make book` goes on from the others"
        raise SystemExit("\n\n".join([*faults.values(), end]))  # at the end, where one looks


def run_for_cache(path: Path) -> tuple[Path, NotebookNode, float, str]:
    """Execute a notebook in a fresh kernel: with its outputs, its seconds, and what stopped it and in which cell."""
    nb, begun, start = read(path), [-1], time.time()
    try:
        # recorded times would be metadata of cells, by which the cache would not find them again
        run(nb, path, record_timing=False, on_cell_start=lambda cell, cell_index: begun.append(cell_index))
    except Exception as error:  # of a cell, of its time, or of a kernel that died
        return path, nb, time.time() - start, f"{path.name}, cell {begun[-1]}: {type(error).__name__}\n{error}"
    return path, nb, time.time() - start, ""


def minutes() -> None:
    """Print how long each notebook took in the last `make book`."""
    from jupyter_cache import get_cache

    cache = get_cache(CACHE)
    runs = sorted(cache.list_cache_records(), key=lambda run: run.created)
    latest = {Path(run.uri).name: run for run in runs if Path(run.uri).exists()}  # older runs stay in the cache
    for name, run in sorted(latest.items()):
        print(f"{name}: {run.data.get('execution_seconds', 0) / 60:.1f} min")


# Linting --------------------------------------------------------------------------------------------------------


def lint(path: Path) -> list[str]:
    """What is wrong with a notebook, one sentence each."""
    nb = read(path)
    faults = [f"{path.name}: {text}" for text in _lint_notebook(nb, path)]
    for number, cell in enumerate(nb.cells):
        before = nb.cells[number - 1] if number else None
        faults += [f"{path.name}, cell {number}: {text}" for text in _lint_cell(cell, before)]
    return faults


def _lint_notebook(nb: NotebookNode, path: Path) -> list[str]:
    faults = []
    fresh = nbformat.from_dict(json.loads(json.dumps(nb)))
    generate(fresh)
    if [cell.source for cell in fresh.cells] != [cell.source for cell in nb.cells]:
        faults.append("a generated cell differs from its source: run `make export`")
    if sum(role(cell) == "setup" for cell in nb.cells) != 1:
        faults.append("there must be one setup cell")
    if "widgets" in nb.metadata:
        faults.append("widget state is stored: run `make notebooks`")
    if path.stat().st_size > MAX_BYTES:
        faults.append(f"{path.stat().st_size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f}")
    counts = [cell.execution_count for cell in nb.cells if cell.cell_type == "code"]
    if counts != list(range(1, len(counts) + 1)):
        faults.append("stored outputs are missing or were not made in one run from top to bottom: run `make notebooks`")
    if not 20 <= sum(not role(cell) for cell in nb.cells) <= MAX_CELLS:
        faults.append(f"{len(nb.cells)} cells; a chapter has 20 to {MAX_CELLS}, its exercises not counted")
    return faults + (form_faults(nb) if path.name.startswith(IN_FORM) else [])


def form_faults(nb: NotebookNode) -> list[str]:
    """Where a notebook is too long or too dense for one idea, or has no formula or diagram; exercises are not counted.

    Cells with a folded input count as cells; their lines are not counted.
    """
    cells = [cell for cell in nb.cells if not role(cell)]
    code = [cell for cell in cells if cell.cell_type == "code"]
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    open_code = [cell.source for cell in code if not {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", []))]
    lines = [len(source.splitlines()) for source in open_code]
    short = sum(number <= 16 for number in lines) / len(lines)
    words, branches = len(prose.split()) // len(code), sum("if truth" in source for source in open_code)
    rules = {
        f"{len(cells)} cells, not 25 to 45": 25 <= len(cells) <= 45,
        f"code cells of {median(lines):g} lines in the median, more than 8": median(lines) <= 8,
        f"{short:.0%} of the code cells have at most 16 lines, not nine in ten": short >= 0.9,
        f"{words} words of prose a code cell, fewer than 100": words >= 100,
        "no displayed formula": "$$" in prose,
        "no diagram": re.search(r"{figure} \S+\.svg", prose) is not None,
        f"`if truth` {branches} times, more than once": branches <= 1,
    }
    return [fault for fault, holds in rules.items() if not holds]


RANDOM = re.compile(
    r"np\.random\.(?!default_rng\(\w|Generator|SeedSequence)|default_rng\(\)|^(import|from) random\b", re.MULTILINE
)
TORCH_RANDOM = re.compile(r"torch\.(rand|randn|randint|randperm)\(")
TORCH_SEED = re.compile(r"manual_seed\(|generator=")
ABSOLUTE = re.compile(r"(?<![\w.:/<])/(home|root|tmp|work|Users|usr|var|mnt|content)/|\b[A-Z]:\\(\\|(?![nt])\w+[\\.])")


def _lint_cell(cell: NotebookNode, before: NotebookNode | None) -> list[str]:
    faults = []
    text = cell.source + json.dumps(cell.get("outputs", []))
    if path := ABSOLUTE.search(text):
        faults.append(f"an absolute path: {path[0]}")
    if cell.cell_type != "code":
        return faults
    lines = len(cell.source.splitlines())
    if lines > MAX_LINES:
        faults.append(f"{lines} lines, more than {MAX_LINES}")
    widest = max(map(len, cell.source.splitlines()), default=0)
    if widest > MAX_WIDTH and role(cell) in ("", "stub"):  # the others are folded
        faults.append(f"a line of {widest} characters, more than {MAX_WIDTH}")
    if before is not None and before.cell_type == "code" and not role(cell):
        faults.append("no prose before this code cell")
    if RANDOM.search(cell.source) or (TORCH_RANDOM.search(cell.source) and not TORCH_SEED.search(cell.source)):
        faults.append(
            "randomness without a seed: use np.random.default_rng(seed) or, just before it, torch.manual_seed"
        )
    if cell.metadata.get("mystnb", {}).get("figure") and sum("data" in out for out in cell.outputs) > 1:
        faults.append("a named figure beside another output, which would get the same name: print tables")
    for out in cell.outputs:
        data = out.get("data", {})
        if out.output_type == "error":
            faults.append(f"a stored error: {out.ename}")
        if "image/png" in data:
            figure = cell.metadata.get("mystnb", {})
            for field, kind in (("caption", "figure"), ("name", "figure"), ("alt", "image")):
                if not figure.get(kind, {}).get(field):
                    faults.append(f"a figure without {field}")
        if re.search(r"<img (?![^>]*alt=)", "".join(data.get("text/html", ""))):
            faults.append("an <img> without alternative text")
        if WIDGET_VIEW in data:
            faults.append("a stored widget view: run `make notebooks`")
    return faults


def main(command: str, *arguments: str) -> None:
    """Run one command."""
    if command == "lint":
        faults = [fault for path in paths() for fault in lint(path)]
        raise SystemExit("\n".join(faults) or 0)
    commands: dict[str, Callable[..., None]] = {task.__name__: task for task in (execute, export, fill, minutes)}
    commands[command](*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])

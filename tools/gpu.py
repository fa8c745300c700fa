"""The book's evidence from a GPU: ``make gpu`` runs PARTS within minutes, on a machine with its own torch, offline.

What the machine's Python lacks is installed from the wheels in WHEELS into a folder of its own; the machine's packages
stay as they are. Each part is a process with a limit, whose end is recorded at once, so that a second call goes on
where the first stopped. ``DRY=1`` does the same at tiny sizes on a CPU.
"""

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib import invalidate_caches, metadata, util
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tasks import BUILD, CHOICES, EXECUTION, ROOT, SITE, digest

from mmrec_helpers.files import atomic

DRY = os.environ.get("DRY") == "1"
MINUTES = float(os.environ.get("MINUTES") or 9)
WHEELS = Path(os.environ.get("WHEELS") or ROOT / "wheels")
HOME = BUILD / ("gpu-dry" if DRY else "gpu")
RECORDS = [Path(folder) / "gpu.json" for folder in (HOME, os.environ.get("OUT")) if folder]
"""Where the record is written; the first that exists is continued."""
BROUGHT = ("torch", "torchvision", "transformers", "numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "matplotlib")
"""What a machine for deep learning brings, with all that these need: too large to be carried."""
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
PLATFORMS = [f"manylinux{version}_x86_64" for version in ("_2_28", "_2_27", "_2_17", "2014", "1")]
MOST_MIB = 60
TAIL = 60
"""Lines of a part's output that are recorded if it does not succeed."""


@dataclass(frozen=True)
class Part:
    """Something to run on a GPU.

    Attributes:
        name: in the record.
        what: it does, in a few words.
        limit: in seconds, after which it is killed.
        command: arguments of Python; if empty, it is the measurement of its name, see MEASUREMENTS. The last line of
            its output that is a JSON object holds its numbers.
    """

    name: str
    what: str
    limit: float
    command: tuple[str, ...] = ()


def notebook(name: str, limit: float) -> Part:
    """A notebook under nbval, whose outputs are those of another profile and not compared; of a dry run one cell."""
    path = f"notebooks/{name}.ipynb" + ("::Cell 0" if DRY else "")
    options = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env")
    return Part(name, "runs the notebook", limit, (*options, path))


PARTS = [  # in the order of their value; a chapter adds its own
    Part("shop", "generates the Pocket Shop that all others open", 180),
    Part("decoder", "trains and ranks with MM-GPT2Rec at GPT-2 medium's size", 200),
    Part("bench", "times GPT-2 medium in bf16, ours and transformers'", 60),
    notebook("01a_data_exploration", 150),
    notebook("02a_clip_from_pairs", 120),
    notebook("02b_image_text_overlap", 120),
    notebook("02c_what_similarity_misses", 120),
    Part("bench_compiled", "the same, both compiled", 180),
    notebook("04b_gpt2_item_decoder", 240),
    notebook("04c_design_choices", 240),
    notebook("04a_gpt2_from_scratch", 90),
    Part("expressions", "scores with I-LLMRec by image tokens and by descriptions", 120),
    notebook("05a_adaptor_and_alignment", 240),
    notebook("05b_retrieval_with_rec", 240),
    notebook("05c_generated_titles", 240),
    notebook("03a_metrics", 90),
    notebook("03b_classical_baselines", 120),
    notebook("03c_sasrec", 240),
    notebook("01b_splits_and_leakage", 120),
    notebook("01c_token_cost", 90),
]
if DRY:  # one of each kind
    PARTS = [part for part in PARTS if part.name in ("decoder", "bench", "01a_data_exploration")]


# Packages -------------------------------------------------------------------------------------------------------------


def needed() -> list[str]:
    """What the parts import: the package's dependencies, and nbval with its kernel."""
    return [*tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"], "nbval"]


def reachable(requirements: Iterable[str], stop: Collection[str] = ()) -> dict[str, list[Requirement]]:
    """Distribution -> requirements on it, of these and all that the installed ones among them require.

    Args:
        requirements: as in pyproject.toml.
        stop: distributions whose own requirements are not looked at.
    """
    found: dict[str, list[Requirement]] = {}
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name not in found and name not in stop and version_of(name):
            waiting += map(Requirement, metadata.requires(name) or [])
        found.setdefault(name, []).append(requirement)
    return found


def version_of(name: str) -> str:
    """The installed version of a distribution, empty if there is none."""
    with suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return ""


def unmet() -> dict[str, str]:
    """Distribution -> what is needed of it and not installed."""
    wrong = {}
    for name, requirements in reachable(needed(), BROUGHT).items():
        version = version_of(name)
        if asked := [str(one) for one in requirements if not version or not one.specifier.contains(version, True)]:
            wrong[name] = f"{', '.join(asked)} (here: {version or 'none'})"
    return wrong


def install() -> list[str]:
    """Install carried wheels of what is missing into SITE; say and return what is still missing."""
    if not version_of("mmrec-helpers"):  # it is imported from here; without setuptools its version must be said, too
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        with atomic(SITE / f"mmrec_helpers-{project['version']}.dist-info") as part:
            part.mkdir()
            text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            (part / "METADATA").write_text(text)
    wrong = unmet()
    names = {path: canonicalize_name(path.name.split("-")[0]) for path in sorted(WHEELS.glob("*.whl"))}
    chosen = [path for path, name in names.items() if name in wrong or not version_of(name)]
    if wrong and chosen:
        print(f"Installing {len(chosen)} carried wheels ...", flush=True)
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-compile")
        if subprocess.run([*pip, "--no-index", "--no-deps", "--upgrade", "--target", SITE, *chosen]).returncode:
            print("pip refused them, see above")
        invalidate_caches()
        wrong = unmet()
    for asked in wrong.values():
        print(f"missing here and not in {WHEELS}: {asked}")
    if wrong:
        print(
            f"where there is a network, .venv/bin/python tools/gpu.py wheels {VERSION} downloads wheels for this Python"
        )
    return sorted(wrong.values())


def wheels(python: str = VERSION) -> None:
    """Download into WHEELS, in the lock's versions, what a machine for deep learning on Linux may lack.

    Args:
        python: the version of that machine's Python.
    """
    carried = sorted(reachable(needed()).keys() - reachable(BROUGHT).keys())
    pinned = [f"{name}=={version_of(name)}" for name in carried]
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")
    target = ("--only-binary=:all:", "--implementation", "cp", "--python-version", python)
    with atomic(WHEELS) as part:
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        subprocess.run([*pip, *target, *platforms, "--dest", part, *pinned], check=True)
    size = sum(path.stat().st_size for path in WHEELS.iterdir()) / 2**20
    print(f"{len(carried)} wheels for Python {python} in {WHEELS}, {size:.0f} MiB")
    if size > MOST_MIB:
        raise SystemExit(f"more than {MOST_MIB} MiB: name in BROUGHT what is large and every such machine has")


# Runner ---------------------------------------------------------------------------------------------------------------


def gpu_name() -> str:
    """The GPU of torch, empty if it finds none; asked in a process of its own, which leaves the GPU free."""
    probe = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    return subprocess.check_output([sys.executable, "-c", probe], text=True).strip()


def stamp(gpu: str) -> dict[str, str | bool]:
    """From what and where a part is run. ``code`` is a hash of all that it may read."""

    def output(*command: str) -> str:
        with suppress(FileNotFoundError):
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
        return ""

    code = [path for room in ("mmrec_helpers", "notebooks", "tools") for path in (ROOT / room).rglob("*.*")]
    commit = output("git", "rev-parse", "--verify", "--quiet", "HEAD")
    return {
        "commit": commit,
        "clean": bool(commit) and not output("git", "status", "--porcelain"),
        "code": digest([path for path in code if path.is_file() and "__pycache__" not in path.parts])[:16],
        "gpu": gpu,
        "driver": output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": version_of("torch"),
        "transformers": version_of("transformers"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def run_part(part: Part, log: Path) -> dict:
    """Run a part to its end or limit: status, seconds, its numbers, and the end of its output if it did not succeed."""
    start = time.monotonic()
    with log.open("w") as file:
        command = [sys.executable, *(part.command or ("tools/gpu.py", part.name))]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)
        try:
            status = "failed" if process.wait(part.limit) else "ok"
        except subprocess.TimeoutExpired:
            status = "timed out"
        finally:
            if process.poll() is None:
                kill(process)
    lines = log.read_text(errors="replace").splitlines()
    result = {"what": part.what, "status": status, "seconds": round(time.monotonic() - start, 1)}
    return result | {"numbers": numbers_in(lines)} | ({} if status == "ok" else {"output": lines[-TAIL:]})


def kill(process: subprocess.Popen) -> None:
    """End a process with all that it started: a notebook's kernel is not of its process group."""
    with suppress(ImportError):
        import psutil

        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()
    process.wait()


def numbers_in(lines: list[str]) -> dict:
    """The last line that is a JSON object."""
    for line in reversed(lines):
        if line.startswith("{"):
            with suppress(ValueError):
                return json.loads(line)
    return {}


def save(missing: list[str], parts: list[Part], done: dict[str, dict]) -> None:
    """Write all RECORDS: the packages that are missing, the parts that never ran, and the results of the others."""
    record = {"missing": missing, "left": [part.name for part in parts if part.name not in done], "parts": done}
    for path in RECORDS:
        with atomic(path) as part:
            part.write_text(json.dumps(record, indent=1) + "\n")


def run_parts(parts: list[Part], end: float, gpu: str = "") -> dict[str, dict]:
    """Run parts whose limits fit into the time: first those that never ran, then those that did not succeed.

    Args:
        parts: those that succeeded before, with the same code, are not run again.
        end: on the clock ``time.monotonic``.
        gpu: its name.

    Returns:
        Name -> result of each part that ran, now or before, as it is recorded.
    """
    before: dict[str, dict] = next((json.loads(path.read_text())["parts"] for path in RECORDS if path.exists()), {})
    now = stamp(gpu)
    done = {name: result for name, result in before.items() if result["stamp"]["code"] == now["code"]}
    missing = install()
    save(missing, parts, done)
    for part in sorted(parts, key=lambda part: part.name in done):
        if part.name in done and done[part.name]["status"] == "ok":
            print(f"{part.name}: ok before")
        elif time.monotonic() + part.limit > end:
            print(f"{part.name}: left, it may take {part.limit:.0f} s; call again, or with more MINUTES")
        else:
            print(f"{part.name}: {part.what} ...", flush=True)
            done[part.name] = result = run_part(part, HOME / f"{part.name}.log") | {"stamp": now}
            save(missing, parts, done)
            print(f"  {result['status']}, {result['seconds']} s", result["numbers"] or "")
            print(*result.get("output", []), sep="\n  | ", flush=True)
    return done


def main() -> None:
    """Run PARTS.

    Raises:
        SystemExit: there is no GPU, or a part did not succeed.
    """
    end = time.monotonic() + 60 * MINUTES
    if not util.find_spec("torch"):
        raise SystemExit(f"{sys.executable} has no torch: write make gpu PYTHON=..., with a Python that has it")
    gpu = "" if DRY else gpu_name()
    if not DRY and not gpu:
        raise SystemExit("torch finds no GPU here; DRY=1 runs parts at tiny sizes on the CPU")
    for name in CHOICES:  # the parts' settings are their own
        os.environ.pop(name, None)
    os.environ |= EXECUTION | {"MMREC_PROFILE": "gpu", "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    if DRY:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    done = run_parts(PARTS, end, gpu)
    print("recorded in", " and ".join(map(str, RECORDS)))
    if wrong := [name for name, result in done.items() if result["status"] != "ok"]:
        raise SystemExit(f"not ok: {', '.join(wrong)}")


# Measurements ---------------------------------------------------------------------------------------------------------


def shop() -> dict:
    """Generate the shop into the cache."""
    from mmrec_helpers.pocket_shop.shop import load_shop

    dataset, _ = load_shop(0, "gpu")
    return {"users": dataset.num_users, "items": dataset.num_items, "interactions": dataset.num_interactions}


def decoder() -> dict:
    """What training MM-GPT2Rec at GPT-2 medium's size costs, and what it ranks after it."""
    from bench_gpt2 import train_medium

    return train_medium("tiny", (64, 2, 4), 3, 16) if DRY else train_medium()


def bench(compiled: bool = False) -> dict:
    """Tokens a second of GPT-2 medium in bf16, ours and transformers'."""
    from bench_gpt2 import race_on_gpu

    ways = (compiled,)
    return race_on_gpu((64, 2, 4), 16, 2, 40, "cpu", ways) if DRY else race_on_gpu(compiled=ways)


def expressions() -> dict:
    """Tokens and users a second of I-LLMRec with image tokens and with descriptions."""
    from bench_illmrec import race_on_gpu

    return race_on_gpu()


MEASUREMENTS: dict[str, Callable[[], dict]] = {
    "shop": shop,
    "decoder": decoder,
    "bench": bench,
    "bench_compiled": partial(bench, compiled=True),
    "expressions": expressions,
}
"""A part's name -> the function that it runs and whose numbers it prints."""

if __name__ == "__main__":
    command, *arguments = sys.argv[1:] or ["all"]
    if command in MEASUREMENTS:
        print(json.dumps(MEASUREMENTS[command]()))
    elif command == "wheels":
        wheels(*arguments)
    else:
        main()

"""What can be wrong with what a reader opens. Each case is a row of book/faults.md, and is run by test_faults.py."""

import contextlib
import gzip
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from bad_hosts import CONTENT, Host
from download import PublicFile, download, fetch
from PIL import Image
from pytest import MonkeyPatch  # noqa: PT013, the class alone
from small_data import rec_dataset
from torch import nn

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.readers.amazon import read_amazon
from mmrec_helpers.data.readers.folder import read_folder
from mmrec_helpers.data.readers.microlens import read_microlens
from mmrec_helpers.data.report import CleaningReport
from mmrec_helpers.encoders import checkpoints, features
from mmrec_helpers.encoders.checkpoints import WEIGHTS, find_checkpoint
from mmrec_helpers.encoders.models import load_encoder
from mmrec_helpers.evaluation.runs import Run, load_runs, save_runs
from mmrec_helpers.llm.language_models import load_language_model
from mmrec_helpers.llm.multimodal import load_multimodal_model
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.pocket_shop import shop
from mmrec_helpers.recommenders.base import load_recommender
from mmrec_helpers.recommenders.neighbors import ItemKNN
from mmrec_helpers.recommenders.sasrec import SASRec
from mmrec_helpers.serving import versions
from mmrec_helpers.serving.pipeline import Catalogue
from mmrec_helpers.training.loop import TrainingConfig, train

REFUSED, REBUILT, COUNTED, RIGHT = "refused", "rebuilt", "counted", "read right"
OURS_ALONE = (ValueError, OSError, FileNotFoundError, ConnectionError)
"""Types of our own errors; those of libraries are others, or have a number of the operating system's."""


@dataclass(frozen=True)
class Case:
    """A fault.

    Attributes:
        group: what the reader opens.
        fault: what is wrong with it.
        run: opens it, in an empty folder; returns a cleaning report, or True if what it read is right.
    """

    group: str
    fault: str
    run: Callable[[Path, MonkeyPatch], CleaningReport | bool]


def observe(case: Case, folder: Path) -> tuple[str, str]:
    """What happens, and its words."""
    errors = io.StringIO()
    with MonkeyPatch.context() as patch, contextlib.redirect_stderr(errors):
        patch.setenv("MMREC_CACHE", str(folder / "cache"))
        try:
            result = case.run(folder, patch)
        except (ValueError, OSError) as error:
            if type(error) not in OURS_ALONE or getattr(error, "errno", None) is not None:
                raise  # one of a library
            return REFUSED, shown(str(error), folder)
    if notices := [line for line in errors.getvalue().splitlines() if line.endswith("made again")]:
        assert result is True
        return REBUILT, shown(notices[0], folder)
    if isinstance(result, CleaningReport):
        row = result.table().query("action in ('dropped', 'repaired', 'noted')").iloc[0]
        return COUNTED, f"{row['count']} {row['of']} {row['action']}: {row['reason']}"
    assert result is True
    return RIGHT, ""


def shown(words: str, folder: Path) -> str:
    """A message on one line, without the folder's own path and without digests; a long one is cut off."""
    words = re.sub("[0-9a-f]{10,}", "...", " ".join(words.replace(f"{folder}/", "").split()))
    return words if len(words) <= 260 else words[:260].rpartition(" ")[0] + " ..."


# Tables and images ----------------------------------------------------------------------------------------------------

OWN = {
    "interactions.csv": "user,item,time,rating\nann,mug,1700000000,5\nann,lamp,1700000100,4\nann,lamp,1700000200,3\n"
    "ben,mug,1700000300,2\nben,lamp,1700000400,1\nben,mug,1700000500,2\n",
    "items.csv": "item,title,description,category,brand,price\nmug,Mug,holds tea,kitchen,Kim,4.50\n"
    "lamp,Lamp,gives light,light,Oka,12\n",
    "images/mug.png": Image.new("RGB", (4, 4), "red"),
    "images/lamp.png": Image.new("RGB", (4, 4), "blue"),
}
"""A shop of which nothing is noted."""
PUBLISHED = {
    "Tiny_pairs.tsv": "7\t30 10\n8\t10 30\n",
    "Tiny_titles.csv": "item,title\n10,soup\n30,fish\n",
    "Mills.jsonl": '{"user_id": "U", "asin": "P", "rating": 5, "timestamp": 1700000000000}\n'
    '{"user_id": "U", "asin": "Q", "rating": 4, "timestamp": 1700000100000}\n',
    "meta_Mills.jsonl": '{"parent_asin": "P", "title": "Mill"}\n{"parent_asin": "Q", "title": "Pan"}\n',
}
CSV, PICTURES, JSON = "A folder of your own: tables", "A folder of your own: images", "Published data sets"


def write(folder: Path, files: dict[str, str | bytes | Image.Image]) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content.save(file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)


def own(fault: str, name: str, old: str, new: str | bytes | Image.Image | None, right: Callable | None = None) -> Case:
    """A shop in which one text, or with an empty one all of a file, is another, or none; ``right`` checks its data."""

    def run(folder: Path, patch: MonkeyPatch) -> CleaningReport | bool:
        files = {**OWN, name: new if not old else OWN[name].replace(old, new)}
        assert not old or old in OWN[name]
        write(folder / "shop", {name: content for name, content in files.items() if content is not None})
        dataset, report = read_folder(folder / "shop")
        return bool(right(dataset)) if right else report

    return Case(PICTURES if name.startswith("images") else CSV, fault, run)


def published(fault: str, name: str, old: str, new: str | None) -> Case:
    """A published data set, changed likewise."""

    def run(folder: Path, patch: MonkeyPatch) -> CleaningReport:
        assert not old or old in PUBLISHED[name]
        files = {**PUBLISHED, name: new if not old else PUBLISHED[name].replace(old, new)}
        write(folder / "set", {name: content for name, content in files.items() if content is not None})
        return (read_microlens if name.startswith("Tiny") else read_amazon)(folder / "set")[1]

    return Case(JSON, fault, run)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def turned() -> bytes:
    """A JPEG that a camera has marked as lying on its side."""
    image, buffer = Image.new("RGB", (8, 4)), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def titles(dataset: RecDataset) -> list[str]:
    return dataset.items["title"][:]


def link_outside(folder: Path, patch: MonkeyPatch) -> CleaningReport:
    write(folder / "shop", {name: content for name, content in OWN.items() if name != "images/mug.png"})
    write(folder, {"elsewhere.png": OWN["images/mug.png"]})
    (folder / "shop" / "images" / "mug.png").symlink_to(folder / "elsewhere.png")
    return read_folder(folder / "shop")[1]


LOG, GOODS = "interactions.csv", "items.csv"
TABLES = [
    own("a file is not there", GOODS, "", None),
    own("a column is missing", LOG, "time", "date"),
    own("columns are separated by semicolons", LOG, "", "user;item;time\nann;mug;1700000000\n"),
    own("a record lacks a field", GOODS, ",Oka", ""),
    own("a quote never ends", GOODS, "Lamp", '"Lamp'),
    own("a text stands where a number should be", LOG, ",5", ",five"),
    own("`true` or `1_0` as a number", LOG, ",5", ",1_0"),
    own("a date stands where Unix seconds should be", LOG, "1700000000", "2023-11-14"),
    own("the file is empty", LOG, "", ""),
    own("the encoding is not UTF-8", GOODS, "", OWN[GOODS].replace("Kim", "Zoë").encode("latin-1")),
    own("a NUL character", GOODS, "Kim", "K\0m"),
    own("a gzip file is truncated", LOG, "", gzip.compress(OWN[LOG].encode(), mtime=0)[:-12]),
    own("a further column has a name of the data set's own", GOODS, "description", "image"),
    own(
        "one column has two roles in `columns.json`",
        "columns.json",
        "",
        '{"items": {"file": "items.csv", "title": "brand", "category": "brand"}}',
    ),
    own("one key stands twice in `columns.json`", "columns.json", "", '{"images": "a", "images": "b"}'),
    own("no row is left", LOG, "", "user,item,time\nann,mug,-5\n"),
    own("the same user, item and second twice", LOG, "ann,lamp,1700000100", "ann,mug,1700000000"),
    own("a column of interactions is misspelt", LOG, "rating", "Rating"),
    own("an id is missing", LOG, "ben,lamp", ",lamp"),
    own("a rating is negative, infinite or above 3e38", LOG, ",5", ",1e39"),
    own("a rating is missing", LOG, ",5", ","),
    own("a time before 1970 or after 5138", LOG, "1700000000", "-1"),
    own("milliseconds instead of seconds", LOG, "1700000000", "1700000000000"),
    own("a date is written as a number", LOG, "1700000000", "20231114"),
    own("a price is no amount", GOODS, "4.50", "from $9"),
    own("a price may be a thousand", GOODS, "4.50", "1.200"),
    own("an id ends with a space", LOG, "ann", "ann "),
    own("an item has no row", GOODS, "", OWN[GOODS].partition("lamp")[0]),
    own("nobody interacted with an item", GOODS, "", OWN[GOODS] + "bed,Bed,soft,home,Oka,99\n"),
    own("an item has two rows", GOODS, "", OWN[GOODS] + "mug,Cup,holds tea,kitchen,Kim,5\n"),
    own("the last line has no line end", LOG, "", OWN[LOG].rstrip()),
    own(
        "packed by gzip, whatever the name",
        GOODS,
        "",
        gzip.compress(OWN[GOODS].encode(), mtime=0),
        lambda data: titles(data) == ["Mug", "Lamp"],
    ),
    own(
        "a byte order mark, and line ends of CR alone",
        GOODS,
        "",
        ("\ufeff" + OWN[GOODS]).replace("\n", "\r"),
        lambda data: titles(data) == ["Mug", "Lamp"],
    ),
    own(
        "a text of 300,000 characters",
        GOODS,
        "Mug",
        "M" * 300_000,
        lambda data: titles(data) == ["M" * 300_000, "Lamp"],
    ),
    own(
        "markup, formulas or paths in a text",
        GOODS,
        "Mug",
        "<b>$x$</b> ../a",
        lambda data: titles(data)[0] == "<b>$x$</b> ../a",
    ),
]
IMAGES = [
    own("the file is no image", "images/mug.png", "", b"this is a text"),
    own("the file is truncated", "images/mug.png", "", png(Image.effect_noise((64, 64), 50))[:900]),
    own("more than 50 million pixels", "images/mug.png", "", png(Image.new("1", (8_000, 7_000)))),
    own("the file is of another kind", "images/mug.gif", "", b"GIF89a"),
    own("no item has this name", "images/bed.png", "", OWN["images/mug.png"]),
    own("an item has no image", "images/mug.png", "", None),
    Case(PICTURES, "a link leads out of the folder", link_outside),
    own(
        "16 bits of grey",
        "images/mug.png",
        "",
        Image.fromarray(np.full((4, 4), 32_896, np.uint16)),
        lambda data: data.image(1).getpixel((0, 0)) == (128, 128, 128),
    ),
    own(
        "the image has transparent pixels: they become white",
        "images/mug.png",
        "",
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        lambda data: data.image(1).getpixel((0, 0)) == (255, 255, 255),
    ),
    own(
        "the camera was held turned: the image is rotated",
        "images/mug.jpg",
        "",
        turned(),
        lambda data: data.image(1).size == (4, 8),
    ),
]
SETS = [
    published("a JSON line is truncated", "Mills.jsonl", "100000}\n", "1"),
    published("one key stands twice", "Mills.jsonl", '"asin": "Q"', '"asin": "Q", "asin": "P"'),
    published("a number is a text", "Mills.jsonl", "4,", '"four",'),
    published("the metadata are not there", "meta_Mills.jsonl", "", None),
    published("one category twice", "Mills_5.jsonl", "", PUBLISHED["Mills.jsonl"]),
    published("MicroLens: a user has two lines", "Tiny_pairs.tsv", "8\t", "7\t"),
    published("MicroLens: spaces instead of the TAB", "Tiny_pairs.tsv", "8\t", "8 "),
]

# What the book has written itself -------------------------------------------------------------------------------------

WRITTEN = {
    "shop": ("the Pocket Shop", REBUILT, "items.arrow interactions.parquet truth.npz digests.json"),
    "features": ("vectors of an encoder", REBUILT, "*.npz"),
    "replies": ("replies of a language model", REBUILT, "*.json"),
    "checkpoint": ("a checkpoint of a training", REFUSED, "run.pt"),
    "system": ("a saved recommender", REFUSED, "arrays.safetensors recommender.json"),
    "runs": ("recorded runs", REFUSED, "ch00.parquet"),
    "version": ("a version of the service", REFUSED, "catalogue.parquet digests.json activated.json"),
}
"""Kind -> what it is, what becomes of a damaged one, and the names of its files."""
CACHES = "Files that the book writes"


class Stopped(Exception):
    """A killed training."""


class Echo(Replies):
    """Replies without a model."""

    def _generate(self, pairs):
        return [[f"the reply to {message}", True] for message, _ in pairs]


def openers(tmp_path: Path, patch: MonkeyPatch) -> dict[str, Callable[[], object]]:
    """Kind -> function that opens what is there, or makes it, and returns its content in a form to compare."""
    patch.setattr(features, "load_encoder", cache(features.load_encoder))
    patch.setitem(shop.SIZES, "tiny", (24, 30))
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


def damaged(kind: str) -> Case:
    """What the book has written, without its second half."""
    what, _, names = WRITTEN[kind]

    def run(folder: Path, patch: MonkeyPatch) -> bool:
        open_again = openers(folder, patch)[kind]
        wanted = open_again()
        if kind == "checkpoint":
            wanted = open_again()
            (folder / "run.pt").unlink()
            open_again()
        path = min(folder.rglob(names.split()[0]))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return open_again() == wanted

    return Case(CACHES, f"damaged: {what}", run)


def cache_is_a_file(folder: Path, patch: MonkeyPatch) -> bool:
    write(folder, {"cache": ""})
    return bool(openers(folder, patch)["shop"]())


OURS = [*map(damaged, WRITTEN), Case(CACHES, "the cache cannot be written", cache_is_a_file)]

# Models and downloads -------------------------------------------------------------------------------------------------

MODELS, DOWNLOADS = "Folders of models", "Downloads"
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


def model(fault: str, source: str, load: Callable, name: str, content: bytes | str | Callable | None) -> Case:
    """A model that comes with the book, of which one file is another, or none."""

    def run(folder: Path, patch: MonkeyPatch) -> bool:
        shutil.copytree(WEIGHTS / source, folder / "model")
        path = folder / "model" / name
        new = content(path) if callable(content) else content
        path.unlink(missing_ok=True)
        write(folder / "model", {} if new is None else {name: new})
        return bool(load(folder / "model"))

    return Case(MODELS, fault, run)


def not_fetched(folder: Path, patch: MonkeyPatch) -> bool:
    def fail(*args: object, **options: object) -> None:
        raise ConnectionError("no network")

    patch.setattr(huggingface_hub, "snapshot_download", fail)
    return bool(find_checkpoint("openai/clip-vit-large-patch14-336"))


def without_token(name: str) -> Callable[[Path], str]:
    """A tokenizer's configuration without one of its special tokens."""
    return lambda path: json.dumps(json.loads(path.read_text()) | {name: None})


def one_bit_differs(folder: Path, patch: MonkeyPatch) -> bool:
    for path in WEIGHTS.glob("pocket-resnet*"):
        shutil.copytree(path, folder / path.name) if path.is_dir() else shutil.copy(path, folder)
    path = folder / "pocket-resnet" / WEIGHTS_FILE
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    patch.setattr(checkpoints, "WEIGHTS", folder)
    return bool(find_checkpoint("pocket-resnet"))


WEIGHTS_FILE, TOKENIZER = "model.safetensors", "tokenizer_config.json"
FOLDERS = [
    Case(MODELS, "one bit differs in a model that comes with the book", one_bit_differs),
    Case(MODELS, "there is no folder of this name", lambda folder, _: bool(find_checkpoint(folder / "clip"))),
    Case(MODELS, "a model of the hub, without a network", not_fetched),
    model("`config.json` is missing", "pocket-resnet", find_checkpoint, "config.json", None),
    model("weights in another format than safetensors", "pocket-resnet", find_checkpoint, WEIGHTS_FILE, None),
    model("a JSON file is damaged", "pocket-clip", find_checkpoint, "tokenizer.json", "{"),
    model("weights are truncated", "pocket-resnet", load_encoder, WEIGHTS_FILE, lambda path: path.read_bytes()[:9_000]),
    model(
        "weights are those of another model",
        "pocket-clip",
        load_encoder,
        WEIGHTS_FILE,
        lambda path: (WEIGHTS / "pocket-sbert" / path.name).read_bytes(),
    ),
    model(
        "`config.json` names fewer layers than the weights have",
        "pocket-sbert",
        load_encoder,
        "config.json",
        lambda path: json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 2}),
    ),
    model(
        "an encoder's tokenizer has no padding token",
        "pocket-sbert",
        load_encoder,
        TOKENIZER,
        without_token("pad_token"),
    ),
    model(
        "a language model's tokenizer has no EOS token",
        "pocket-lm",
        load_language_model,
        TOKENIZER,
        without_token("eos_token"),
    ),
    model(
        "a multimodal model's chat template is truncated",
        "pocket-vlm",
        load_multimodal_model,
        "chat_template.jinja",
        "{{ bos",
    ),
    model("it is of another kind", "pocket-lm", load_encoder, "none", None),
]


def fetched(fault: str, wrong: str, there: bytes = b"") -> Case:
    """A file of a host with a fault of ``bad_hosts``, in place of which another may be there already."""

    def run(folder: Path, patch: MonkeyPatch) -> bool:
        patch.setenv("no_proxy", "127.0.0.1")
        host = Host(**{"data.bin": CONTENT})
        host.fault = wrong
        write(folder, {"data.bin": there} if there else {})
        try:
            return bool(fetch(PublicFile("data.bin", (f"{host.address}/data.bin",), CHECKSUM), folder))
        except ConnectionError as error:
            raise ConnectionError(str(error).replace(host.address, "http://localhost")) from error
        finally:
            host.close()

    return Case(DOWNLOADS, fault, run)


FETCHED = [
    Case(DOWNLOADS, "the data set is not known", lambda folder, _: bool(download("netflix", folder))),
    fetched("the connection breaks off", "breaks off"),
    fetched("the host sends other bytes", "wrong bytes"),
    fetched("the host encodes the file", "encodes"),
    fetched("another file of this name is there", "", b"another file"),
    fetched("a file of this name is there, and is the published one", "breaks off", CONTENT),
]
CASES = [*TABLES, *IMAGES, *SETS, *OURS, *FOLDERS, *FETCHED]

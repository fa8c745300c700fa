"""Chapter 2's study of image and description, for any data set: what its cells do for one, measured on several."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from IPython.display import HTML
from matplotlib.axes import Axes
from PIL import Image
from torch.nn.functional import normalize

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.display.cards import card, row_of
from mmrec_helpers.encoders.features import Features, embed_pictures, embed_texts, encode_images, encode_texts
from mmrec_helpers.encoders.models import Encoder
from mmrec_helpers.lessons.exploration import bootstrap_interval
from mmrec_helpers.lessons.overlap import SWAPPED, compare_pairs, control_partners, recall_at_k, swap_wins
from mmrec_helpers.pocket_shop.shop import Truth, load_shop
from mmrec_helpers.settings import load_settings

WORD = re.compile(r"[\w-]+")
LIMIT = 2000
"""Items of a data set that are studied at most, drawn from seed 0."""


def groups_of(category: Sequence[str], facts: Sequence[dict[str, str]] = ()) -> dict[str, np.ndarray]:
    """Kind of control -> (N,) labels of the groups within which partners are drawn; colours only with the facts."""
    category = np.array(category, str)
    groups = {"random": np.zeros(len(category)), "same category": category}
    if facts:
        groups["same category and colour"] = np.array([f"{fact['category']} {fact['colour']}" for fact in facts])
    return groups


def at_most(dataset: RecDataset, limit: int = LIMIT) -> RecDataset:
    """The data set, cut to the items that are studied where more than ``limit`` have both a picture and a description.

    So no item is encoded that the study leaves out: the draw is that of ``study_vectors``.
    """
    described = [bool((text or "").strip()) for text in dataset.items["description"][:]]
    both = np.flatnonzero(dataset.has_image[1:] & described)
    if len(both) <= limit:
        return dataset
    chosen = 1 + np.random.default_rng(0).permutation(both)[:limit]
    return dataset.keep(dataset.interactions["item"].isin(chosen).to_numpy())


def study_vectors(pictures: Features, texts: Features, groups: dict[str, np.ndarray]) -> dict:
    """The study of N pictures and their texts.

    Args:
        pictures: of N items.
        texts: of the same items.
        groups: kind of control -> (N,) labels, see ``groups_of``.

    Returns:
        ``pairs`` counted, ``table`` of ``compare_pairs``, ``recall@10`` of the pairs and by chance, share of texts
        ``cut``. At most LIMIT items that have both are studied.
    """
    both = (pictures.present & texts.present).numpy().nonzero()[0]
    rows = np.sort(np.random.default_rng(0).permutation(both)[:LIMIT])
    similarity = (normalize(pictures.vectors[rows]) @ normalize(texts.vectors[rows]).T).numpy()
    partners = {name: control_partners(labels[rows]) for name, labels in groups.items()}
    return {
        "pairs": len(rows),
        "table": compare_pairs(similarity, partners),
        "recall@10": [recall_at_k(similarity, 10), min(1.0, 10 / len(rows))],
        "cut": float(texts.truncated[rows].float().mean()),
    }


def study(dataset: RecDataset, truth: Truth | None, encoder: str | Path) -> dict:
    """The study of a data set's images and descriptions; errors as those of ``encode_images``."""
    facts = [truth.facts(item_id) for item_id in dataset.items["item_id"]] if truth else []
    groups = groups_of(dataset.items["category"], facts)
    return study_vectors(encode_images(dataset, encoder), encode_texts(dataset, encoder, "description"), groups)


def study_swaps(dataset: RecDataset, truth: Truth, encoder: Encoder) -> dict[str, list[float]]:
    """Attribute -> share of captions preferred to the one with that attribute wrong, and its 95 % interval."""
    seen = [row for row in range(dataset.num_items) if dataset.has_image[row + 1]][:LIMIT]
    items = dataset.items.select(seen)
    facts = [truth.facts(item_id) for item_id in items["item_id"]]
    pictures = embed_pictures(items["image"], encoder).vectors
    wins = {name: swap_wins(pictures, facts, name, lambda texts: embed_texts(texts, encoder)) for name in SWAPPED}
    return {name: [won.mean(), *bootstrap_interval(won)] for name, won in wins.items()}


def sweep_parameter(knob: str, values: Sequence[float], encoder: Encoder, seed: int, size: str) -> dict[float, dict]:
    """Value of a knob -> the study of the shop in which only that knob is turned; all items have their picture."""
    pictures, found = None, {}
    for value in values:
        dataset, truth = load_shop(seed, size, missing_images=0.0, **{knob: value})
        if pictures is None:  # no knob but missing_images touches them
            pictures = embed_pictures(dataset.items["image"], encoder)
        facts = [truth.facts(item_id) for item_id in dataset.items["item_id"]]
        texts = embed_texts(dataset.items["description"], encoder)
        found[value] = study_vectors(pictures, texts, groups_of(dataset.items["category"], facts))
    return found


def study_captions(folder: Path, encoder: Encoder) -> dict:
    """The study of a folder of photographs with captions.csv (image, caption); the first caption of each is taken."""
    frame = pd.read_csv(folder / "captions.csv").drop_duplicates("image")
    pictures = embed_pictures([Image.open(folder / "images" / name) for name in frame["image"]], encoder)
    texts = embed_texts(list(frame["caption"]), encoder)
    return study_vectors(pictures, texts, {"random": np.zeros(len(frame))})


def prepare() -> None:
    """Make and keep the shops and vectors of the chapter's first run, whose progress bars would be outputs."""
    settings = load_settings()
    dataset, truth = load_shop(settings.seed, settings.shop_size)
    for encoder in (settings.clip, settings.siglip):
        study(dataset, truth, encoder)
    fresh_pairs(seed=77)
    for knob in [{"overlap": value} for value in (0.0, 0.25, 0.5, 0.75, 1.0)] + [{"noise": 0.0}, {"noise": 1.0}]:
        load_shop(0, "tiny", missing_images=0.0, **knob)


# What the chapter's cells use beside the study ------------------------------------------------------------------------


def bags_of_words(texts: Sequence[str], most: int | None = None) -> tuple[torch.Tensor, list[str]]:
    """(N, V) 1 where a text has a word, and the V words; only the ``most`` frequent ones where a number is given."""
    words_of = [set(WORD.findall(text.lower())) for text in texts]
    counts = Counter(word for words in words_of for word in sorted(words))
    words = [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]
    place = {word: column for column, word in enumerate(words)}
    bags = torch.zeros(len(texts), len(words))
    for row, found in enumerate(words_of):
        bags[row, [place[word] for word in found if word in place]] = 1
    return bags, words


def fresh_pairs(seed: int, edge: int = 32) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """A shop of its own to train on, whose descriptions mention all that the pictures show.

    Returns:
        (N, 3, edge, edge) pictures from -1 to 1; (N, V) words of the descriptions, each row of sum 1; (N,) categories.
    """
    dataset, _ = load_shop(seed, "laptop", overlap=1.0, missing_images=0.0)
    pixels = np.stack([np.asarray(picture.convert("RGB").resize((edge, edge))) for picture in dataset.items["image"]])
    bags, _ = bags_of_words(dataset.items["description"])
    pictures = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    return pictures, bags / bags.sum(1, keepdim=True), np.array(dataset.items["category"])


def what_is_read(texts: Sequence[str], encoder: Encoder) -> tuple[np.ndarray, list[str]]:
    """(N,) lengths in tokens, with the marks of begin and end; and the part of each text that the encoder reads."""
    limit, lengths, kept = encoder.model.config.text_config.max_position_embeddings, [], []
    for text in texts:
        tokens = encoder.tokenizer(text, return_offsets_mapping=True, verbose=False)
        lengths.append(len(tokens["input_ids"]))
        cut = encoder.tokenizer(text, return_offsets_mapping=True, truncation=True, max_length=limit)
        kept.append(text[: max(stop for _, stop in cut["offset_mapping"])])
    return np.array(lengths), kept


def by_length(similarity: np.ndarray, lengths: np.ndarray, category: np.ndarray) -> dict[str, list[float]]:
    """Quarter of the texts by length -> mean own cosine, interval, AUC of own over the same category, interval."""
    quarter, found = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths), {}
    for part in range(4):
        rows = np.flatnonzero(quarter == part)
        if len(rows) > 20:
            table = compare_pairs(similarity[np.ix_(rows, rows)], {"near": control_partners(category[rows])})
            name = f"{lengths[rows].min()} to {lengths[rows].max()} tokens"
            found[name] = table["own"][:3] + table.get("near", [np.nan] * 6)[3:]
    return found


# Figures --------------------------------------------------------------------------------------------------------------


def cosines_of(similarity: np.ndarray, partners: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kind of pair -> its entries of an (N, N) matrix, ``own`` first."""
    found = {"own": similarity.diagonal()}
    for name, partner in partners.items():
        rows = np.flatnonzero(partner >= 0)
        found[name] = similarity[rows, partner[rows]]
    return found


def plot_histograms(panel: Axes, sets: dict[str, np.ndarray]) -> None:
    """Outlined histograms of cosines."""
    edges = np.linspace(-0.6, 1, 50)
    for style, (name, cosines) in zip(plt.rcParams["axes.prop_cycle"], sets.items(), strict=False):
        panel.stairs(np.histogram(cosines, edges, density=True)[0], edges, label=name, linewidth=1.6, **style)
    panel.set(xlabel="cosine similarity", yticks=[])


def plot_parameter_sweep(
    recorded: dict[str, dict], live: dict[float, dict], views: Sequence[tuple[str, int, str]]
) -> None:
    """What was measured against what was planted, a panel for each view (kind of pair, column, label)."""
    figure, axes = plt.subplots(1, len(views), figsize=(7, 2.9))
    for panel, (kind, column, label) in zip(axes, views, strict=True):
        for seed, shop in recorded.items():
            curve = np.array([row["table"][kind] for row in shop.values()], float)
            middle, low, high = curve[:, column : column + 3].T
            steps = [float(step) for step in shop]
            panel.errorbar(steps, middle, [middle - low, high - middle], label=f"seed {seed}")
        if live:
            found = [row["table"][kind][column] for row in live.values()]
            panel.plot(list(live), found, "x", color="black", markersize=6, label="live", linestyle="none")
        if column:
            panel.axhline(0.5, color="0.5", linestyle=":", linewidth=1)
        panel.set(xlabel="planted overlap", ylabel=label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def nearest_texts(place: int, similarity: np.ndarray, items: Dataset, width: int = 330) -> HTML:
    """The card of a picture with the beginnings of the three descriptions nearest to it; its own is marked."""
    said = []
    for other in similarity[place].argsort()[::-1][:3].tolist():
        mark = "its own, " if other == place else ""
        start = " ".join(items[other]["description"].split()[:24])
        said.append(f"{mark}{similarity[place, other]:.2f}: {start} ...")
    return row_of([card(items[place]["image"], f"{items[place]['category']}: nearest texts", said, width)])


def nearest_pictures(text: str, pictures: torch.Tensor, items: Dataset, encoder: Encoder, width: int = 116) -> HTML:
    """The five pictures nearest to a text; ``pictures`` (N, D) are unit vectors of the items'."""
    near = pictures @ normalize(embed_texts([text], encoder).vectors)[0]
    best = near.argsort(descending=True)[:5].tolist()
    return row_of([card(items[i]["image"], f"{near[i]:.2f}", [items[i]["category"]], width) for i in best])

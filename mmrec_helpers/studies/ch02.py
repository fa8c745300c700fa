"""Chapter 2's study of image and description, for any data set, and its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from datasets import Dataset
from IPython.display import HTML
from matplotlib.axes import Axes
from scipy.optimize import brentq
from scipy.special import expit
from torch.nn.functional import normalize

from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.data.images import to_rgb
from mmrec_helpers.display.cards import card, row_of
from mmrec_helpers.encoders.features import Features, embed_images, embed_texts, encode_images, encode_texts
from mmrec_helpers.encoders.models import Encoder
from mmrec_helpers.lessons.exploration import bootstrap_interval, hit_at_k
from mmrec_helpers.lessons.overlap import bags_of_words, compare_with_controls, control_partners, recall_at_k
from mmrec_helpers.pocket_shop.shop import Truth, load_shop

MAX_ITEMS = 2000
"""Items of a data set that are studied at most, sampled with seed 0."""
RECALLS = ((1, 100), (1, 1000), (10, 1000))
"""Cut-off and number of candidates of each recall that is reported."""
VIEWS = (
    ("matched", 0, "mean cosine"),
    ("same category", 3, "AUC, category"),
    ("same category and colour", 3, "AUC, category and colour"),
)
"""Kind of pair, column of ``compare_with_controls``, and label of each panel of the figure of the overlap sweep."""


def control_groups(category: Sequence[str], facts: Sequence[dict[str, str]] = ()) -> dict[str, np.ndarray]:
    """Kind of control -> (N,) labels of the groups within which partners are sampled; colours only with the facts."""
    labels = np.array(category, str)
    groups = {"random": np.zeros(len(labels)), "same category": labels}
    if facts:
        groups["same category and colour"] = np.array([f"{fact['category']} {fact['colour']}" for fact in facts])
    return groups


def subsample_items(dataset: RecDataset, max_items: int = MAX_ITEMS) -> RecDataset:
    """The data set with at most ``max_items`` of the items that have both an image and a description.

    They are those that ``study_features`` samples, so that no other item is encoded. Of items with one description, as
    of a garment in several colours, there is one: its text could not be retrieved for certain, and probes would be
    tested on texts that they were fitted to.
    """
    texts = pd.Series([(text or "").strip() for text in dataset.items["description"][:]])
    both = np.flatnonzero(dataset.has_image[1:] & (texts != ""))
    sampled = texts[np.random.default_rng(0).permutation(both)].drop_duplicates().index[:max_items]
    if len(sampled) == len(both):
        return dataset
    return dataset.select_interactions(dataset.interactions["item"].isin(1 + sampled).to_numpy())


def recalls(similarity: np.ndarray) -> dict[str, list[float]]:
    """``recall@k of C`` -> recall, its 95 % interval over the images, and the recall of a random order.

    The candidates of (N, N) are random blocks of C texts, so data sets of different sizes can be compared; a recall
    that needs more than N candidates is left out.
    """
    order, measured = np.random.default_rng(0).permutation(len(similarity)), {}
    for k, size in RECALLS:
        blocks = order[: len(order) // size * size].reshape(-1, size)
        if len(blocks):
            hits = np.concatenate([hit_at_k(similarity[np.ix_(rows, rows)], np.arange(size), k) for rows in blocks])
            measured[f"recall@{k} of {size}"] = [hits.mean(), *bootstrap_interval(hits), k / size]
    return measured


def compared_pairs(
    images: Features, texts: Features, groups: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """(M,) sampled rows that have both, their (M, M) cosines, and kind of control -> (M,) partners if there are any."""
    both = (images.present & texts.present).numpy().nonzero()[0]
    rows = np.sort(np.random.default_rng(0).permutation(both)[:MAX_ITEMS])
    similarity = (normalize(images.vectors[rows]) @ normalize(texts.vectors[rows]).T).numpy()
    partners = {name: control_partners(labels[rows]) for name, labels in groups.items()}
    return rows, similarity, {name: partner for name, partner in partners.items() if (partner >= 0).any()}


def study_features(images: Features, texts: Features, groups: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The study of N images and their texts, of at most MAX_ITEMS items that have both, with ``control_groups``.

    Returns:
        Number of ``pairs``; ``table`` of ``compare_with_controls``; number of pairs that have each ``control``;
        ``recall@10`` among all pairs, and of random ones; ``recalls`` among fixed numbers of candidates; share of
        ``truncated`` texts.
    """
    rows, similarity, partners = compared_pairs(images, texts, groups)
    return {
        "pairs": len(rows),
        "table": compare_with_controls(similarity, partners),
        "control": {name: int((partner >= 0).sum()) for name, partner in partners.items()},
        "recall@10": [recall_at_k(similarity, 10), min(1.0, 10 / len(rows))],
        "recalls": recalls(similarity),
        "truncated": float(texts.truncated[rows].float().mean()),
    }


def calibrated_bias(matched: np.ndarray, control: np.ndarray, scale: float) -> float:
    """The bias of maximum likelihood for cosines of matched (M,) and control (C,) pairs, both kinds weighing the same.

    Where the gradient by the bias is 0, the mean probability of a match is the share of matched pairs: one half.
    """

    def excess(bias: float) -> float:
        return expit(scale * matched + bias).mean() + expit(scale * control + bias).mean() - 1

    return float(brentq(excess, -scale - 1, scale + 1))  # all cosines are from -1 to 1


def encode_pairs(dataset: RecDataset, encoder: str | Path) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
    """(N,) rows of the items with image and description, (N, D) unit vectors of both; errors of ``encode_images``."""
    images, texts = encode_images(dataset, encoder), encode_texts(dataset, encoder, "description")
    rows = (images.present & texts.present).numpy().nonzero()[0]
    return rows, normalize(images.vectors[rows]), normalize(texts.vectors[rows])


def study_overlap(dataset: RecDataset, truth: Truth | None, encoder: str | Path) -> dict[str, Any]:
    """``study_features`` of a data set's images and descriptions; raises the errors of ``encode_images``."""
    groups = groups_of(dataset.items, truth)
    return study_features(encode_images(dataset, encoder), encode_texts(dataset, encoder, "description"), groups)


def groups_of(items: Dataset, truth: Truth | None) -> dict[str, np.ndarray]:
    """``control_groups`` of a data set's items; colours are known from the truth, or from a column."""
    return control_groups(items["category"], facts_of(items, truth))


def facts_of(items: Dataset, truth: Truth | None) -> list[dict[str, str]]:
    """The facts of each item, as far as they are known; of real items only what ``control_groups`` needs."""
    if truth:
        return [truth.facts(item_id) for item_id in items["item_id"]]
    if "colour" in items.column_names:
        pairs = zip(items["category"], items["colour"], strict=True)
        return [{"category": category, "colour": colour} for category, colour in pairs]
    return []


def sweep_parameter(
    parameter: str, values: Sequence[float], encoder: Encoder, seed: int, size: str
) -> dict[float, dict[str, Any]]:
    """Value -> ``study_features`` of the shop with that value of one parameter; all items have their image."""
    images, studies = None, {}
    for value in values:
        dataset, truth = load_shop(seed, size, None, missing_images=0.0, **{parameter: value})
        if images is None:  # no parameter but missing_images changes them
            images = embed_images(dataset.items["image"], encoder)
        texts = embed_texts(dataset.items["description"], encoder)
        studies[value] = study_features(images, texts, groups_of(dataset.items, truth))
    return studies


# What the chapter's cells use beside the study ------------------------------------------------------------------------


def training_pairs(seed: int, pixels: int = 32) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Images and descriptions of a separate shop, whose descriptions mention all visible attributes.

    Returns:
        (N, 3, pixels, pixels) images from -1 to 1; (N, V) bags of words, each row of sum 1; (N,) categories.
    """
    dataset, _ = load_shop(seed, "laptop", overlap=1.0, missing_images=0.0)
    resized = [np.asarray(to_rgb(image).resize((pixels, pixels))) for image in dataset.items["image"]]
    bags, _ = bags_of_words(dataset.items["description"])
    images = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 127.5 - 1
    return images, bags / bags.sum(1, keepdim=True), np.array(dataset.items["category"])


def tiny_dual_encoders() -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """The library's CLIP and SigLIP, tiny and randomly initialised, and five pairs; SigLIP with the authors' bias."""
    import transformers

    layers = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    tokens = {"bos_token_id": 0, "eos_token_id": 49, "pad_token_id": 1, "vocab_size": 50, "max_position_embeddings": 8}
    configs: Any = {"text_config": layers | tokens, "vision_config": layers | {"image_size": 16, "patch_size": 8}}
    torch.manual_seed(0)
    inputs = {"pixel_values": torch.randn(5, 3, 16, 16), "input_ids": torch.randint(2, 49, (5, 8))}
    clip = transformers.CLIPModel(transformers.CLIPConfig(**configs))
    siglip = transformers.SiglipModel(transformers.SiglipConfig(**configs))
    torch.nn.init.constant_(siglip.logit_scale, float(np.log(10)))
    torch.nn.init.constant_(siglip.logit_bias, -10)
    return clip.eval(), siglip.eval(), inputs


def study_by_length(similarity: np.ndarray, lengths: np.ndarray, category: np.ndarray) -> dict[str, list[float]]:
    """Quartile of the lengths -> mean matched cosine, interval, AUC over the same category, interval."""
    quartile, rows_of_table = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths), {}
    for part in range(4):
        rows = np.flatnonzero(quartile == part)
        if len(rows) > 20:
            partners = {"control": control_partners(category[rows])}
            table = compare_with_controls(similarity[np.ix_(rows, rows)], partners)
            name = f"{lengths[rows].min()} to {lengths[rows].max()} tokens"
            rows_of_table[name] = table["matched"][:3] + table.get("control", [np.nan] * 6)[3:]
    return rows_of_table


# Figures --------------------------------------------------------------------------------------------------------------


def pair_similarities(similarity: np.ndarray, partners: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kind of pair -> its entries of an (N, N) matrix, ``matched`` first."""
    pairs = {"matched": similarity.diagonal()}
    for name, partner in partners.items():
        rows = np.flatnonzero(partner >= 0)
        pairs[name] = similarity[rows, partner[rows]]
    return pairs


def plot_similarities(panel: Axes, pairs: Mapping[str, np.ndarray]) -> None:
    """Plot the density of the cosines of each kind of pair."""
    for style, (name, cosines) in zip(plt.rcParams["axes.prop_cycle"], pairs.items(), strict=False):
        sns.kdeplot(cosines, ax=panel, label=name, linewidth=1.6, **style)
    panel.set(xlabel="cosine similarity", yticks=[])


def plot_gap(images: torch.Tensor, texts: torch.Tensor) -> None:
    """Plot unit vectors (N, D) of pairs along the line between their means, and along a principal direction."""
    gap = images.mean(0) - texts.mean(0)  # (D,) from the texts to the images
    across, vectors = normalize(gap, dim=0), torch.cat([images, texts])
    rest = vectors - (vectors @ across)[:, None] * across  # orthogonal to across
    main = torch.linalg.svd(rest, full_matrices=False)[2][1]
    coordinates = [torch.stack([part @ across, part @ main], 1).numpy() for part in (images, texts)]
    figure, panel = plt.subplots(figsize=(5.2, 4))
    for points, marker, name in zip(coordinates, "ox", ("images", "descriptions"), strict=True):
        panel.scatter(points[:300, 0], points[:300, 1], s=12, marker=marker, linewidths=0.8, label=name)
        panel.plot(*points.mean(0), "P", color="black", markersize=10, mec="white")
    for image, text in zip(*(points[:30] for points in coordinates), strict=True):
        panel.plot(*zip(image, text, strict=True), color="0.6", linestyle="-", linewidth=0.5, zorder=0)
    panel.set(xlabel=f"from texts to images; length of the gap {gap.norm():.2f}", ylabel="a principal direction")
    figure.legend(loc="outside upper center", ncols=2)


def plot_probabilities(pairs: Mapping[str, np.ndarray], scale: float, biases: Mapping[str, float]) -> None:
    """Histograms of SigLIP's probabilities for the cosines of kinds of pairs, a panel for each bias."""
    figure, axes = plt.subplots(1, len(biases), figsize=(7, 3), sharey=True)
    for panel, (name, bias) in zip(axes, biases.items(), strict=True):
        values = [expit(scale * cosines + bias) for cosines in pairs.values()]
        weights = [np.full(len(part), 1 / len(part)) for part in values]
        panel.hist(values, np.linspace(0, 1, 11).tolist(), weights=weights, label=list(pairs))
        panel.set(xlabel=f"probability, {name} bias {bias:.1f}", ylabel="share of the pairs", xlim=(0, 1))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def plot_intervals(
    rows: Mapping[str, Mapping[str, Sequence[float]]], xlabel: str, reference: float | None = None
) -> None:
    """Forest plot of label of a row -> name of a series -> mean and 95 % interval, and a line at a reference."""
    names = list(dict.fromkeys(name for series in rows.values() for name in series))
    _, panel = plt.subplots(figsize=(7, 1 + 0.15 * len(rows) * max(2, len(names))))
    for number, name in enumerate(names):
        marks = {row: series[name] for row, series in enumerate(rows.values()) if name in series}
        middle, low, high = np.array(list(marks.values()), float)[:, :3].T
        height = np.array(list(marks)) + 0.6 * (number / len(names) - 0.5)
        panel.errorbar(middle, height, xerr=[middle - low, high - middle], fmt="os^Dv"[number % 5], label=name, ms=4)
    if reference is not None:
        panel.axvline(reference, color="0.5", linestyle=":", linewidth=1)
    panel.set(xlabel=xlabel, yticks=range(len(rows)), yticklabels=list(rows))
    panel.invert_yaxis()
    panel.figure.legend(loc="outside upper center", ncols=4)


def plot_parameter_sweep(recorded: Mapping[int, dict[float, Any]], live: Mapping[float, dict[str, Any]]) -> None:
    """Plot measured against true overlap, a panel for each of VIEWS."""
    figure, axes = plt.subplots(1, len(VIEWS), figsize=(7, 2.9))
    for panel, (kind, column, label) in zip(axes, VIEWS, strict=True):
        for seed, shop in recorded.items():
            curve = np.array([row["table"][kind] for row in shop.values()], float)
            middle, low, high = curve[:, column : column + 3].T
            values = [float(value) for value in shop]
            panel.errorbar(values, middle, [middle - low, high - middle], label=f"seed {seed}")
        if live:
            points = [row["table"][kind][column] for row in live.values()]
            panel.plot(list(live), points, "x", color="black", markersize=6, label="live", linestyle="none")
        if column:
            panel.axhline(0.5, color="0.5", linestyle=":", linewidth=1)
        panel.set(xlabel="parameter overlap", ylabel=label)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)


def nearest_texts(row: int, similarity: np.ndarray, items: Dataset, width: int = 330) -> HTML:
    """The card of an image with the beginnings of the three most similar descriptions; the matched one is marked."""
    lines = []
    for other in similarity[row].argsort()[::-1][:3].tolist():
        mark = "matched, " if other == row else ""
        start = " ".join(items[other]["description"].split()[:24])
        lines.append(f"{mark}{similarity[row, other]:.2f}: {start} ...")
    return row_of([card(items[row]["image"], f"{items[row]['category']}: nearest texts", lines, width)])


def nearest_images(text: str, images: torch.Tensor, items: Dataset, encoder: Encoder, width: int = 116) -> HTML:
    """The five images most similar to a text; ``images`` (N, D) are the items' unit vectors."""
    similarity = images @ normalize(embed_texts([text], encoder).vectors)[0]
    best = similarity.argsort(descending=True)[:5].tolist()
    return row_of([card(items[i]["image"], f"{similarity[i]:.2f}", [items[i]["category"]], width) for i in best])

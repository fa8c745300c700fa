"""A home-made LLaVA of photographs: Lite0, a projector that is trained, a frozen SmolLM2; what its captions are worth.

It is trained as LLaVA in its first stage {cite}`liu2023llava`: the language model continues the image with its caption.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from experiments.cells import Cell
from experiments.datasets import data_home, require_model
from mmrec_helpers.data.dataset import RecDataset
from mmrec_helpers.encoders.models import Encoder, load_encoder
from mmrec_helpers.evaluation.runs import Run
from mmrec_helpers.files import atomic
from mmrec_helpers.lessons.adaptor import Adaptor, answer_loss, splice
from mmrec_helpers.llm.generation import generate_titles
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.settings import load_settings
from mmrec_helpers.training.loop import TrainingConfig, batch_rows, train
from pretraining.photo import digest

SYSTEM, DATA, FLICKR, PRODUCTS = "photo-llava", "photographs", "captions, flickr8k", "captions, hm-week"
"""Name and data of its cells; their protocols: people's captions, and attributes of a shop's products."""
TABLES = {
    "flickr8k-train": ("captions.csv", "image", 3_584),
    "hm-products": ("items.csv", "item", 2_048),
    "flickr8k-captions": ("captions.csv", "image", 1_000),
    "hm-week": ("items.csv", "item", 500),
}
"""Folder of photographs -> its table, the column that names a photograph, and how many are sampled."""
TRAINED_ON = ("flickr8k-train", "hm-products")
ATTRIBUTES = ("colour", "pattern", "category")
"""Of a product, in the order of its caption. The shop's own descriptions mention neither colour nor pattern."""
GRID = 2
"""Parts of an image's height, and of its width; each part is one vector of the prompt."""
BATCH_SIZE, LR, WARMUP, MAX_TOKENS = 16, 2e-3, 20, 20
TOGETHER, CAPTIONED = 64, 512
"""Photographs whose features are computed together, and whose captions are: as many are lost by an interruption."""
ENCODER, LLM = "lite0", "smollm2"


@dataclass(frozen=True)
class Photographs:
    """Photographs and what is known of them.

    Attributes:
        files: N files.
        captions: the captions of each.
        facts: attribute -> value of each, of products.
    """

    files: list[Path]
    captions: list[list[str]]
    facts: list[dict[str, str]]


@cache
def photographs(source: str) -> Photographs:
    """A random sample of a source's photographs, with captions as one line of lower case without a full stop."""
    table, column, number = TABLES[source]
    with (data_home() / source / table).open(newline="", encoding="utf-8") as file:
        rows: dict[str, list[dict[str, str]]] = {}
        for row in csv.DictReader(file):
            rows.setdefault(row[column], []).append(row)
    names = np.random.default_rng(0).permutation(sorted(rows))[:number].tolist()
    files = [data_home() / source / "images" / f"{Path(name).stem}.jpg" for name in names]
    facts = [{key: plain(rows[name][0].get(key, "")) for key in ATTRIBUTES} for name in names]
    captions = [
        [plain(row["caption"]) for row in rows[name]] if table == "captions.csv" else [" ".join(fact.values())]
        for name, fact in zip(names, facts, strict=True)
    ]
    return Photographs(files, captions, facts)


def plain(text: str) -> str:
    """The words of a text in lower case, without punctuation but for what joins words."""
    return " ".join(re.findall(r"[a-z0-9]+(?:[-/'][a-z0-9]+)*", text.lower()))


# The model ------------------------------------------------------------------------------------------------------------


class Captioner(nn.Module):
    """Features of an image's parts, an adaptor as the projector, and a frozen language model that writes the caption.

    Args:
        encoder: of images; a network of timm.
        llm: frozen.
        centre: (F,) mean of the features of the training.
        spread: (F,) their standard deviation.

    Attributes:
        seconds: of the training.
        identity: what names it in the cache.
    """

    centre: Tensor
    spread: Tensor
    seconds, identity = 0.0, ""

    def __init__(self, encoder: Encoder, llm: LanguageModel, centre: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.encoder, self.llm = encoder, llm
        self.adaptor = Adaptor(len(centre), llm.dim)
        self.register_buffer("centre", centre)
        self.register_buffer("spread", spread)
        tokenizer = llm.tokenizer
        self.eos = tokenizer.eos_token_id
        self.start = [self.eos if tokenizer.bos_token_id is None else tokenizer.bos_token_id]

    def prompt(self, row: int) -> list[int]:
        """A beginning, a negative number for each part of the image, and a line break."""
        first = row * GRID**2
        return [*self.start, *(-1 - part for part in range(first, first + GRID**2)), *self.llm.tokens("\n")]

    def embed(self, features: Tensor, tokens: Tensor) -> Tensor:
        """(B, T) tokens of prompts and captions -> (B, T, D); features (N, P, F) of the images."""
        parts = features.flatten(0, 1)[-1 - tokens[tokens < 0]]
        return splice(tokens, self.llm.words, self.adaptor((parts.float() - self.centre) / self.spread))

    def loss(self, features: Tensor, captions: Sequence[str]) -> Tensor:
        """Mean negative log-likelihood of the tokens of B captions; features (B, P, F)."""
        answers = [[*self.llm.tokens(caption), self.eos] for caption in captions]
        prompts = [self.prompt(row) for row in range(len(captions))]
        return answer_loss(self.llm, prompts, answers, lambda tokens: self.embed(features, tokens))

    @torch.no_grad()
    def captions(self, features: Tensor) -> list[str]:
        """The greedy caption of each image; features (N, P, F)."""
        prompts = [self.prompt(row) for row in range(len(features))]
        texts = generate_titles(self.llm, prompts, lambda tokens: self.embed(features, tokens), 1, MAX_TOKENS)
        return [plain(self.llm.tokenizer.decode(text, skip_special_tokens=True)) for (text,) in texts]


@torch.no_grad()
def part_features(encoder: Any, images: Iterable[Image.Image]) -> Tensor:  # noqa: ANN401, a network of timm
    """(N, P, F) of P parts of each image: activations of every stage, averaged over the part, in 16 bits.

    The first stages keep what the last ones, which classify objects, do not: colours and textures.
    """
    found, left = [], iter(images)
    while batch := [image.convert("RGB") for image in islice(left, TOGETHER)]:
        last, stages = encoder.model.forward_intermediates(encoder.pixels(batch))
        pooled = [adaptive_avg_pool2d(stage, GRID) for stage in (*stages, last)]
        found.append(torch.cat(pooled, dim=1).flatten(2).mT.half().cpu())
    return torch.cat(found)


# Training -------------------------------------------------------------------------------------------------------------


@cache
def photo_llava(seed: int, checkpoint: Path | None = None) -> tuple[Captioner, list[Tensor]]:
    """The captioner, trained where it is not in the cache, and the features of its training photographs, by source.

    Raises:
        Unavailable: photographs, lite0 or smollm2 are not on this machine.
    """
    for name in (ENCODER, LLM):
        require_model(name)
    encoder, llm = load_encoder(ENCODER), load_language_model(LLM)
    sources = [photographs(source) for source in TRAINED_ON]
    texts = [[own[0] for own in source.captions] for source in sources]
    identity = digest(seed, GRID, BATCH_SIZE, LR, WARMUP, ENCODER, LLM, texts)
    path = load_settings().cache / "photo" / f"llava-{identity}.safetensors"
    vectors = path.with_suffix(".features.safetensors")
    if not vectors.exists():
        found = {
            name: part_features(encoder, map(Image.open, own.files))
            for name, own in zip(TRAINED_ON, sources, strict=True)
        }
        with atomic(vectors) as part:
            save_file(found, part)
    features = [load_file(vectors)[name] for name in TRAINED_ON]
    every = torch.cat([own.flatten(0, 1) for own in features]).float()
    torch.manual_seed(seed)
    captioner = Captioner(encoder, llm, every.mean(0), every.std(0) + 1e-3)
    if not path.exists():
        seconds = train_captioner(captioner, features, texts, seed, checkpoint, identity)
        with atomic(path) as part:
            save_file(captioner.adaptor.state_dict() | {"seconds": torch.tensor(seconds)}, part)
    state = load_file(path)
    captioner.seconds, captioner.identity = float(state.pop("seconds")), identity
    captioner.adaptor.load_state_dict(state)
    return captioner.eval(), features


def train_captioner(
    captioner: Captioner,
    features: Sequence[Tensor],
    texts: Sequence[Sequence[str]],
    seed: int,
    checkpoint: Path | None = None,
    identity: str = "",
) -> float:
    """One epoch; a batch has photographs of one source, whose captions are of similar lengths: little padding.

    Returns:
        The seconds that it took.
    """
    counts = [-(-len(own) // BATCH_SIZE) for own in texts]
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))

    def loss_of(step: int) -> Tensor:
        source = order[step]
        rows = batch_rows(len(texts[source]), BATCH_SIZE, int((order[:step] == source).sum()), seed)
        return captioner.loss(features[source][rows], [texts[source][row] for row in rows])

    config = TrainingConfig(len(order), LR, warmup_steps=min(WARMUP, len(order) - 1), save_every=50, seed=seed)
    return train(captioner.adaptor, loss_of, config, checkpoint=checkpoint, name=SYSTEM, identity=identity).seconds


def item_captions(dataset: RecDataset, seed: int = 0) -> list[str]:
    """(I + 1,) captions of the items' images, CAPTIONED at a time, each once; empty where there is none."""
    captioner, _ = photo_llava(seed)
    folder = load_settings().cache / "photo" / f"llava-{captioner.identity}-{dataset.fingerprint}"
    captions, items = [""] * (dataset.num_items + 1), np.flatnonzero(dataset.has_image).tolist()
    for start in range(0, len(items), CAPTIONED):
        some, path = items[start : start + CAPTIONED], folder / f"{start}-{start + CAPTIONED}.json"
        if not path.exists():
            images = [image for item in some if (image := dataset.image(item)) is not None]
            assert len(images) == len(some)  # as has_image says
            written = captioner.captions(part_features(captioner.encoder, images))
            with atomic(path) as part:
                part.write_text(json.dumps(written))
        for item, caption in zip(some, json.loads(path.read_text()), strict=True):
            captions[item] = caption
    return captions


# Measures -------------------------------------------------------------------------------------------------------------


def n_grams(text: str, n: int) -> Counter[tuple[str, ...]]:
    """How often each sequence of n words occurs in a text."""
    words = text.split()
    return Counter(zip(*(words[start:] for start in range(n)), strict=False))


def cider(texts: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(N,) CIDEr-D of N captions, from 0 to 10: similarity to people's captions by words that few images have.

    It is the cosine of TF-IDF vectors of n-grams, n = 1 to 4, in which a caption gains nothing by repeating an n-gram,
    times a penalty for another length, averaged over the references of an image and over n.
    """
    scores = np.zeros(len(texts))
    for n in range(1, 5):
        counts = [[n_grams(text, n) for text in own] for own in references]
        images = Counter(gram for own in counts for gram in set().union(*own))

        def weigh(grams: Counter[tuple[str, ...]], images: Counter = images) -> dict[tuple[str, ...], float]:
            return {gram: own * np.log(len(texts) / max(images[gram], 1)) for gram, own in grams.items()}

        for row, text in enumerate(texts):
            own = weigh(n_grams(text, n))
            length = np.sqrt(sum(value**2 for value in own.values()))
            for grams, other in zip(counts[row], references[row], strict=True):
                theirs = weigh(grams)
                product = sum(min(own.get(gram, 0.0), value) * value for gram, value in theirs.items())
                size = length * np.sqrt(sum(value**2 for value in theirs.values()))
                gap = len(text.split()) - len(other.split())
                similarity = product / size * np.exp(-(gap**2) / (2 * 6**2)) if size else 0.0
                scores[row] += 10 * similarity / len(references[row]) / 4
    return scores


def bleu(texts: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """BLEU-4 of a corpus, from 0 to 100."""
    from nltk.translate.bleu_score import corpus_bleu

    return 100 * corpus_bleu([[one.split() for one in own] for own in references], [text.split() for text in texts])


def mentioned(text: str, values: Sequence[str]) -> str:
    """The longest of some values that a text contains as whole words; empty if it contains none."""
    return max((value for value in values if f" {value} " in f" {text} "), key=len, default="")


# Runs -----------------------------------------------------------------------------------------------------------------


def plan(study: str) -> list[Cell]:
    """The cells of the captions."""
    return [Cell(study=study, data=DATA, protocol=protocol, system=SYSTEM) for protocol in (FLICKR, PRODUCTS)]


def run(cells: Sequence[Cell], checkpoint: Path) -> Iterator[tuple[Cell, Run]]:
    """Captions of photographs that were not trained on, and their controls: numbers of each photograph by name."""
    captioner, features = photo_llava(cells[0].seed, checkpoint)
    for cell in cells:
        held_out = photographs("flickr8k-captions" if cell.protocol == FLICKR else "hm-week")
        vectors = part_features(captioner.encoder, map(Image.open, held_out.files))
        own = captioner.captions(vectors)
        written = {SYSTEM: own, "another photo's": [*own[1:], *own[:1]], "nearest photo's": nearest(vectors, features)}
        compare = against_people if cell.protocol == FLICKR else against_facts
        values, scalars = compare(written, held_out)
        scalars |= {"photos": len(own), "different captions": len(set(own)), "fit seconds": captioner.seconds}
        yield cell, Run.unranked({}, scalars, np.arange(len(own)), values)


def nearest(vectors: Tensor, features: Sequence[Tensor]) -> list[str]:
    """The caption of the most similar photograph of the training, for each of (N, P, F)."""
    every = torch.cat(list(features)).float().flatten(1)
    centre, spread = every.mean(0), every.std(0) + 1e-3
    similarity = normalize((vectors.float().flatten(1) - centre) / spread) @ normalize((every - centre) / spread).T
    captions = [own[0] for source in TRAINED_ON for own in photographs(source).captions]
    return [captions[row] for row in similarity.argmax(1).tolist()]


def against_people(
    written: dict[str, list[str]], held_out: Photographs
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """CIDEr of each photograph and BLEU of all, against people's captions but the first, which is compared, too."""
    written = written | {"one person's": [own[0] for own in held_out.captions]}
    references = [own[1:] for own in held_out.captions]
    values = {f"CIDEr, {name}": cider(texts, references) for name, texts in written.items()}
    return values, {f"BLEU, {name}": bleu(texts, references) for name, texts in written.items()}


def against_facts(
    written: dict[str, list[str]], held_out: Photographs
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Whether each attribute of a product is mentioned correctly, and wrongly; and by its most frequent value."""
    values: dict[str, np.ndarray] = {}
    trained = photographs("hm-products").facts
    for attribute in ATTRIBUTES:
        true = [fact[attribute] for fact in held_out.facts]
        known = Counter(fact[attribute] for fact in trained)
        vocabulary = sorted({*known, *true})
        found = {name: [mentioned(text, vocabulary) for text in texts] for name, texts in written.items()}
        found["most frequent"] = [known.most_common(1)[0][0]] * len(true)
        for name, own in found.items():
            pairs = list(zip(own, true, strict=True))
            values[f"{attribute}, {name}"] = np.array([one == other for one, other in pairs], float)
            values[f"{attribute} wrong, {name}"] = np.array([one not in ("", other) for one, other in pairs], float)
    return values, {}

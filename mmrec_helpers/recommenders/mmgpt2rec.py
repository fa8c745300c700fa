"""MM-GPT2Rec as a system of the league: chapter 4's item decoder, trained and asked as SASRec is, and its ablations."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.encoders.checkpoints import find_checkpoint
from mmrec_helpers.evaluation.protocols import Recommender
from mmrec_helpers.lessons.decoder import (
    GPT2,
    Add,
    Concat,
    CrossAttention,
    ItemDecoder,
    ItemEmbedding,
    Weighted,
    load_gpt2,
)
from mmrec_helpers.recommenders.features import image_features, main_directions, text_features
from mmrec_helpers.recommenders.registry import grid
from mmrec_helpers.recommenders.sequential import (
    PART,
    SPREAD,
    Causal,
    Network,
    SASRec,
    pad_right,
    standardised,
    windows,
)
from mmrec_helpers.settings import Settings
from mmrec_helpers.training.loop import TrainingConfig

FUSIONS = {"concat": Concat, "add": Add, "weighted": Weighted, "attention": CrossAttention}


SETTINGS = {
    name: grid(lr=(2e-3, 4e-3), dropout=(0.1, 0.2, 0.3)) for name in ("MM-GPT2Rec", "SASRec on text and picture")
}
"""Six settings for each of the two that are compared; the ablations have those that are best for MM-GPT2Rec."""


FIRST = ("start", "user", "nothing")


LEARNING = ("all", "lora", "unfreezing")


RANK, THAW = 16, 10
"""Of LoRA, as in the paper's appendix; the share of the training, one THAW-th, after which a block more learns, or less
where there are too many blocks."""


CONTRASTED, TEMPERATURE = 256, 0.1
"""Items of a batch of the contrastive loss, and what their likeness is divided by."""


APPENDIX = {
    "num_restarts": 3,
    "warmup_steps": 200,
    "accumulation_steps": 2,
    "patience": 5,
    "min_delta": 0.001,
    "mixed_precision": True,
}
"""The schedule of the paper's appendix; it does not say how often the cosine begins again."""


PRINTED = {"lr": 1e-5, "dropout": 0.01, "weight_decay": 0.01, "batch_size": 16, "epochs": 20, "max_len": 12}


PRINTED |= {"schedule": APPENDIX}
"""All of the appendix that this model has a place for."""


TEXT = 128
"""Columns of the texts' features."""


PAPER = 64
"""Columns of each modality where, as in the paper, both side by side are as wide as GPT-2."""


class Decoding(Network):
    """An item decoder, asked at some positions of a batch.

    Args:
        decoder: items 1..I and the start token, I + 1.
        num_users: U. User u may begin a history in place of the start token, as I + 2 + u: the start token's vector
            and one of his own. Users who are none are not known.
        stop: score the start token, too, as that which ends a history; GPT-2 has one token for both.
    """

    def __init__(self, decoder: ItemDecoder, num_users: int = 0, stop: bool = False):
        super().__init__(decoder.gpt2, decoder.tokens)
        self.decoder = decoder
        self.users = nn.Parameter(torch.zeros(num_users, decoder.tokens.token.shape[1])) if num_users else None
        self.stop_bias = nn.Parameter(torch.zeros(1)) if stop else None

    @property
    def bias(self) -> Tensor:
        """(I,) of each item's score, or (I + 1,) with the stop token's."""
        return self.items.bias if self.stop_bias is None else torch.cat([self.items.bias, self.stop_bias])

    def forward(self, inputs: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Network``; PART rows of a batch sorted by length are cut to the longest, so that little is padding."""
        vectors, found = self.items(), []
        read = vectors if self.users is None else torch.cat([vectors, vectors[-1] + self.users])
        for rows, some in zip(inputs.split(PART), asked.split(PART), strict=True):
            longest = int((rows > 0).sum(1).max())
            found.append(self.decoder.hidden(rows[:, :longest], read)[some[:, :longest]])
        scored = self.decoder.outputs(vectors)
        return torch.cat(found), scored if self.stop_bias is None else torch.cat([scored, vectors[-1:]])


@dataclass(eq=False, kw_only=True)
class MMGPT2Rec(Causal):
    """GPT-2 over items that are made of their text and picture {cite}`olaniyi_mmgpt2rec`.

    ``features`` are the modalities side by side. Without ``use_ids`` an item has no vector of its own beside what they
    say, so that one without any interaction has one, too. The options below
    ``num_heads`` are those that the paper names without saying what they are worth; where it does not say what they are, what stands here is our reading.

    Args:
        dims: F of each modality in ``features``; by default all columns are one.
        fusion: of the modalities, one of FUSIONS.
        tie_weights: score items by the vectors that are read, not by free ones.
        num_heads: H of self-attention, a divisor of the width.
        table: (I + 1, D) first values of the items' free vectors; by default they are random.
        first: what begins a history, one of FIRST: ``start``, a token; ``user``, a token of each user; or ``nothing``.
        stop: learn also where a history ends, as a token that follows the last item.
        use_bias: give each item a bias of its score, by which it is popular.
        body: a pretrained GPT-2 to begin with, see ``encoders.checkpoints``; its sizes replace layers and heads.
        learning: what of the body learns, one of LEARNING: ``all``; ``lora``, matrices of rank RANK beside its own,
            which stay {cite}`hu2022lora`; or ``unfreezing``, one more block every THAW-th of the training, the last
            block first {cite}`howard2018ulmfit`.
        contrast: weight of a loss that calls for the picture of a text among those of other items (InfoNCE).
        alignment: weight of a loss, 1 - cosine, that holds each item's scored vector at the one that is read.
        schedule: values of the ``TrainingConfig`` that are to be others.
    """

    dims: tuple[int, ...] = ()
    fusion: str = "add"
    tie_weights: bool = True
    num_heads: int = 4
    use_ids: bool = False
    dropout: float = 0.2
    epochs: int = 30
    lr: float = 4e-3
    weight_decay: float = 0.05
    table: np.ndarray | None = field(default=None, repr=False)
    first: str = "start"
    stop: bool = False
    use_bias: bool = True
    body: str = ""
    learning: str = "all"
    contrast: float = 0.0
    alignment: float = 0.0
    schedule: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        self.name = self.name or "MM-GPT2Rec"
        super().__post_init__()
        for what, choices in (("fusion", FUSIONS), ("first", FIRST), ("learning", LEARNING)):
            if getattr(self, what) not in choices:
                raise ValueError(f"{self.name} has no {what} {getattr(self, what)!r}; it has {', '.join(choices)}")
        if self.contrast and (self.features is None or len(self.dims) != 2 or self.fusion == "concat"):
            raise ValueError(f"{self.name}: to contrast takes features of two widths, and a fusion that maps each")
        if self.stop and self.loss in ("bce", "gbce"):
            raise ValueError(f"{self.name}: {self.loss} compares items with items; the end is learnt by ce or ssm")
        if self.table is not None and not self.use_ids:
            raise ValueError(f"{self.name}: a table is where free vectors begin: use ids")
        if self.alignment and self.tie_weights:
            raise ValueError(
                f"{self.name}: tied, the vectors that are scored are those that are read: nothing to align"
            )

    def build(self, split: Split) -> Network:
        features, fusion, free = self._features(split), None, None
        if features is not None:
            dims = self.dims or (features.shape[1],)
            if sum(dims) != features.shape[1]:
                raise ValueError(f"{self.name}: widths {dims} are not those of {features.shape[1]} columns of features")
            fusion = FUSIONS[self.fusion](dims, self.dim)
            features = features.split(dims, dim=1)
        if self.use_ids:
            free = SPREAD * torch.randn(split.dataset.num_items, self.dim)
            if self.table is not None:
                wanted = (split.dataset.num_items + 1, self.dim)
                if self.table.shape != wanted:
                    raise ValueError(f"{self.name}: a table of shape {self.table.shape} is not one of {wanted}")
                free = torch.as_tensor(standardised(self.table[1:]), dtype=torch.float32)
        tokens = ItemEmbedding(self.dim, features, fusion, free)
        tokens.bias.requires_grad_(self.use_bias)
        decoder = ItemDecoder(tokens, self._body(), self.tie_weights)
        network = Decoding(decoder, split.dataset.num_users if self.first == "user" else 0, self.stop)
        if self.stop:
            network.stop_bias.requires_grad_(self.use_bias)
        return network

    def _body(self) -> GPT2:
        # One place more than items: the start token stands before them.
        if self.body:
            body = load_body(self.body, self.dropout)
            if body.places.weight.shape[1] != self.dim or len(body.places.weight) <= self.max_len:
                places, dim = body.places.weight.shape
                raise ValueError(
                    f"{self.name}: {self.body} has width {dim} and {places} places, not width {self.dim} and more "
                    f"than {self.max_len} places"
                )
        else:
            body = GPT2(self.dim, self.num_layers, self.num_heads, self.max_len + 1, self.dropout)
        return with_lora(body) if self.learning == "lora" else body

    def rows(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(W, length + 1) windows, each begun as ``first`` says and a user's last one ended as ``stop`` says."""
        if self.stop:
            ends = np.flatnonzero(np.diff(users, append=-1)) + 1
            users, items = np.insert(users, ends, users[ends - 1]), np.insert(items, ends, self.token)
        owners = windows(users, users + 1, self.max_len, 0).max(1) - 1  # (W,)
        rows = self.begun(super().rows(users, items), owners)
        rows = rows[rows[:, 1] > 0]  # where nothing begins a history, its first item is nothing to ask for
        if not len(rows):
            raise ValueError(f"{self.name}: no user has a second item to learn, and nothing begins a history")
        return rows

    def begun(self, rows: np.ndarray, users: np.ndarray) -> np.ndarray:
        """(N, T) rows of (N,) users whose first column, where it is the start token, is what ``first`` says."""
        if self.first == "start":
            return rows
        start = (rows == self.token) & (np.arange(rows.shape[1]) == 0)
        return pad_right(np.where(start, self.token + 1 + users[:, None] if self.first == "user" else 0, rows))

    def questions(self, queries: Queries) -> np.ndarray:
        rows = self.begun(super().questions(queries), queries.users)
        if not rows.any(1).all():
            raise ValueError(f"{self.name}: a history without items asks nothing where no token begins it")
        return rows

    def plan(self, batches: int, validated: bool) -> TrainingConfig:
        batches = -(-batches // self.schedule.get("accumulation_steps", 1))
        return replace(super().plan(batches, validated), **self.schedule)

    def loss_of(self, rows: Tensor, step: int) -> Tensor:
        if self.learning == "unfreezing":
            self._thaw(step / (self.epochs * -(-len(rows) // self.batch_size)))
        loss, tokens = super().loss_of(rows, step), self.network.items
        if self.contrast:
            loss = loss + self.contrast * contrast(*tokens.fusion.mapped(list(tokens.parts)), self._both_known())
        if self.alignment:
            vectors = tokens()
            scored = self.network.decoder.outputs(vectors)
            loss = loss + self.alignment * (1 - F.cosine_similarity(scored, vectors[:-1])).mean()
        return loss

    def _both_known(self) -> Tensor:
        """(C,) rows of the items of which text and picture are known: not all zeros before they were standardised."""
        parts = np.split(np.asarray(self.features)[1:], [self.dims[0]], axis=1)
        known = np.flatnonzero(parts[0].any(axis=1) & parts[1].any(axis=1))
        if not len(known):
            raise ValueError(f"{self.name}: no item has both, text and picture: there is nothing to contrast")
        return torch.from_numpy(known).to(self.device)

    def _thaw(self, done: float) -> None:
        """Let one more block learn every THAW-th of the training, from the last on; the places are thawed after all."""
        body = self.network.decoder.gpt2
        parts = [*reversed(body.blocks), body.places]
        for turn, part in enumerate(parts, start=1):
            part.requires_grad_(done * max(THAW, len(parts) + 1) >= turn)


def load_body(name: str, dropout: float = 0.1) -> GPT2:
    """A pretrained GPT-2 without its words: a pocket model, a folder, or a hub name, ``openai-community/gpt2-medium``.

    Raises:
        ValueError: the model is no GPT-2, or its file lacks blocks.
    """
    folder, sizes = find_checkpoint(name), sizes_of(name)
    state = {key: weight.float() for key, weight in load_file(folder / "model.safetensors").items()}
    body = load_gpt2(state, sizes["num_heads"], dropout)[0]
    if len(body.blocks) != sizes["num_layers"]:
        raise ValueError(f"{folder} holds {len(body.blocks)} of the {sizes['num_layers']} blocks of its config.json")
    return body


def sizes_of(name: str) -> dict[str, int]:
    """Width, layers and heads of a pretrained GPT-2, named as for ``load_body``.

    Raises:
        ValueError: the model is no GPT-2.
    """
    folder = find_checkpoint(name)
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "gpt2":
        raise ValueError(f"{folder} holds a model of type {config['model_type']}, not gpt2")
    return {"dim": config["n_embd"], "num_layers": config["n_layer"], "num_heads": config["n_head"]}


def with_lora(gpt2: GPT2) -> GPT2:
    """The network, of which nothing learns any more but matrices of rank RANK beside those of its blocks; in place."""
    from peft import LoraConfig, inject_adapter_in_model  # takes seconds: imported only where asked for

    beside = ["attention.inputs", "attention.output", "mlp.0", "mlp.2"]
    return inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=beside), gpt2)


def contrast(texts: Tensor, images: Tensor, known: Tensor) -> Tensor:
    """InfoNCE {cite}`oord2018cpc` between (I, D) texts and pictures of CONTRASTED items at random, in both directions.

    Args:
        known: (C,) rows of the items among which they are drawn.
    """
    drawn = known[torch.randperm(len(known), device=known.device)[:CONTRASTED]]
    like = F.normalize(texts[drawn]) @ F.normalize(images[drawn]).T / TEMPERATURE  # (C, C)
    own = torch.arange(len(drawn), device=like.device)
    return (F.cross_entropy(like, own) + F.cross_entropy(like.T, own)) / 2


def variants(dataset: RecDataset, settings: Settings) -> dict[str, Callable[..., Recommender]]:
    """Chapter 4's systems by name, each made by a call with settings: the decoder, its ablations, and SASRec.

    Args:
        dataset: a data set; without pictures their columns are 0.
        settings: name what reads texts and pictures, and the seed of everything random.
    """
    text, image = text_features(dataset, TEXT, settings.text), image_features(dataset, settings.clip)
    seed = settings.seed
    both, dims = np.concatenate([text, image], axis=1), (text.shape[1], image.shape[1])
    order = np.random.default_rng(seed).permutation(dataset.num_items)
    shuffled = np.concatenate([both[:1], both[1:][order]])
    small = text_features(dataset, PAPER, settings.text), main_directions(image, PAPER)
    narrow = {"features": np.concatenate(small, axis=1), "dim": sum(part.shape[1] for part in small)}
    narrow |= {"dims": tuple(part.shape[1] for part in small)}
    fused = {"features": both, "dims": dims}
    changes = {
        "MM-GPT2Rec": fused,
        "text alone": {"features": text},
        "picture alone": {"features": image},
        "ids alone": {"use_ids": True},
        "both and ids": fused | {"use_ids": True},
        "both, shuffled": fused | {"features": shuffled},
        "weighted": fused | {"fusion": "weighted"},
        "attention": fused | {"fusion": "attention"},
        "64 + 64 columns, add": narrow,
        "64 + 64 columns, identity": narrow | {"fusion": "concat"},
        "not tied": fused | {"tie_weights": False},
    }
    found = {name: partial(MMGPT2Rec, name=name, seed=seed, **change) for name, change in changes.items()}
    name = "SASRec on text and picture"
    return found | {name: partial(SASRec, features=both, use_ids=False, name=name, weight_decay=0.05, seed=seed)}


def options(dataset: RecDataset, settings: Settings) -> dict[str, Callable[..., Recommender]]:
    """The options that MM-GPT2Rec's paper names, and its sizes, each alone; arguments as of ``variants``.

    Without pictures there is no contrastive loss. Where the settings' pretrained body is of another size than the
    decoder, a random one of its size is there, too.
    """
    make = variants(dataset, settings)
    full = make["MM-GPT2Rec"]
    table = main_directions(full.keywords["features"], MMGPT2Rec.dim)
    begun = {"features": None, "dims": (), "use_ids": True, "table": table}
    unread, apart = sizes_of(settings.gpt2), {"tie_weights": False, "alignment": 1.0}
    read = unread | {"body": settings.gpt2}
    changes = {
        "no token at the start": {"first": "nothing"},
        "user's token at the start": {"first": "user"},
        "stop token": {"stop": True},
        "no biases": {"use_bias": False},
        "free table that begins at the features": begun,
        "pretrained body": read,
        "pretrained body, unfreezing": read | {"learning": "unfreezing"},
        "pretrained body, LoRA": read | {"learning": "lora"},
        "random body, LoRA": unread | {"learning": "lora"},
        "contrastive loss": {"contrast": 0.1},
        "not tied, alignment loss": apart,
        "BCE": {"loss": "bce"},
        "gBCE": {"loss": "gbce"},
        "sampled softmax, 3 negatives": {"loss": "ssm", "num_negatives": 3},
        "sampled softmax, 256 negatives": {"loss": "ssm", "num_negatives": 256},
        "1 block": {"num_layers": 1},
        "4 blocks": {"num_layers": 4},
        "width 32": {"dim": 32},
        "width 128": {"dim": 128},
        "last 12 items": {"max_len": 12},
        "appendix's schedule": {"schedule": APPENDIX},
        "appendix as printed": PRINTED,
    }
    if not dataset.has_image.any():
        del changes["contrastive loss"]  # nothing to contrast the texts with
    if any(getattr(MMGPT2Rec, size) != value for size, value in unread.items()):
        changes["random body of its size"] = unread
    found = {name: partial(full, name=name, **change) for name, change in changes.items()}
    return {"MM-GPT2Rec": full, "not tied": make["not tied"]} | found

"""What the page "Try it" computes with: weights, items and pictures for its scripts, and its static views.

The page recommends in the reader's browser, without a kernel, a server or another host. Its models are small (a decoder
of dimension 64, a text tower of dimension 128, a language model of dimension 192), so it runs them by 250 lines of
JavaScript that a reader can read (``book/assets/live``), not by a runtime: onnxruntime-web would add more than 10 MB of
WebAssembly to a page of 10 MB, which browsers do not load from a file, and an exporter that is not in the lock. The
scripts' numbers are compared with Python's in ``tests/book/test_live.py``.
"""

import base64
import io
import json
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from mmrec_helpers.data.dataset import Queries, RecDataset, Split
from mmrec_helpers.data.images import to_rgb
from mmrec_helpers.display.cards import data_uri, item_card, plain, static_view, titled_rows
from mmrec_helpers.display.preferences import Step, step_panel
from mmrec_helpers.encoders.features import embed_texts, encode_images
from mmrec_helpers.encoders.models import Encoder, load_encoder
from mmrec_helpers.evaluation.audit import audit_text
from mmrec_helpers.evaluation.fidelity import users_by_change
from mmrec_helpers.evaluation.protocols import training_counts
from mmrec_helpers.lessons.preferences import FIRST, UPDATE, preference_steps
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.llm.replies import Replies
from mmrec_helpers.llm.summaries import summarise_items
from mmrec_helpers.pocket_shop.shop import PIXELS, Truth, load_shop
from mmrec_helpers.recommenders.base import RECORD, load_recommender
from mmrec_helpers.recommenders.features import image_features, text_features
from mmrec_helpers.recommenders.mmgpt2rec import MMGPT2Rec
from mmrec_helpers.settings import load_settings

ENCODER, WRITER = "pocket-clip", "pocket-instruct"
REPLY_TOKENS = 40
"""Of a preference, at most."""
HISTORY, LISTED = 4, 10
"""Items of the history that the page begins with, and of a list."""
SHEET_COLUMNS = 40
"""Pictures beside each other in the one image that has them all."""
SENTENCES = ("a striped mug", "a red cap with dots", "a blue desk for the office", "a plain green backpack")
FOUND = 8
"""Pictures found by a sentence."""
OVERLAPS = (0.0, 0.25, 0.5, 0.75, 1.0)
MATRIX_CATEGORIES, MATRIX_ITEMS = ("mug", "t-shirt"), 4
"""Categories of the matrix, and items of each."""
PURCHASES, BLOCK, USERS = 15, 3, 6
"""Purchases of a user and of a block, as in chapter 6; users whose taste changes, and as many others."""
FORMATS = {"float32": "<f4", "float16": "<f2", "deflated": "<f2"}
TABLES = {
    "two systems": "system,HR@5,MRR@5\nours,0.780,0.600\nbaseline,0.310,0.330",
    "rounding": "system,HR@5,MAP@5\nours,0.455,0.456\nbaseline,0.455,0.457",
    "two cut-offs": "system,HR@5,NDCG@5,HR@10,NDCG@10\nours,0.412,0.301,0.536,0.341\nbaseline,0.350,0.260,0.420,0.320",
}
"""Small invented tables for the audit."""


# Models ---------------------------------------------------------------------------------------------------------------


def trained_decoder(split: Split) -> MMGPT2Rec:
    """Chapter 4's item decoder with its features, from the settings' cache, or trained (half a minute) and kept."""
    dataset = split.dataset
    parts = [text_features(dataset, 128), image_features(dataset, ENCODER)]
    dims = tuple(part.shape[1] for part in parts)
    system = MMGPT2Rec(features=np.concatenate(parts, axis=1), dims=dims, epochs=12)
    folder = load_settings().cache / "live" / system.identity(split)
    if not (folder / RECORD).exists():
        system.fit(split).save(folder)
    loaded = load_recommender(folder)
    assert isinstance(loaded, MMGPT2Rec)
    return loaded


def next_item_probabilities(system: MMGPT2Rec, history: list[int]) -> np.ndarray:
    """(I,) P(next item) of items 1..I after a history."""
    none = np.zeros(1, int)
    scores = system.score(Queries(none, np.array([history], int), none[:, None], none))[0, 1:]
    return torch.from_numpy(scores).double().softmax(0).numpy()


def recommended(probabilities: np.ndarray, history: list[int]) -> list[int]:
    """The LISTED most probable items that the history does not have: nobody in the Pocket Shop buys an item twice."""
    order = (-probabilities).argsort(kind="stable") + 1
    return [int(item) for item in order if item not in history][:LISTED]


# Data of the scripts --------------------------------------------------------------------------------------------------


def packed(array: Tensor | np.ndarray, kind: str = "float32") -> dict[str, str]:
    """Numbers as transformer.js reads them: ``float32``, or if that loses nothing ``float16``, also ``deflated``."""
    exact = torch.as_tensor(array).detach().cpu().float().numpy()
    stored = exact.astype(FORMATS[kind])
    if not (stored == exact).all():
        raise ValueError(f"an array of shape {exact.shape} has numbers that {kind} does not have")
    content = stored.tobytes()
    if kind == "deflated":  # first all lower bytes, which are noise, then the upper ones, which compress
        content = zlib.compress(content[::2] + content[1::2], 9)
    return {kind: base64.b64encode(content).decode()}


def packed_layers(weights: Mapping[str, Tensor], names: Mapping[str, str], kind: str = "float32") -> dict[str, Any]:
    """Weights, and biases if there are any, of layers: name in the script -> their name in the network."""
    found = {name: {end: weights.get(f"{own}.{end}") for end in ("weight", "bias")} for name, own in names.items()}
    return {
        name: {end: packed(array, kind) for end, array in parts.items() if array is not None}
        for name, parts in found.items()
    }


def decoder_data(system: MMGPT2Rec) -> dict[str, Any]:
    """The item decoder, with its fused item embeddings computed in advance."""
    decoder, names = system.network.decoder, {"beforeAttention": "before_attention", "inputs": "attention.inputs"}
    names |= {"output": "attention.output", "beforeMlp": "before_mlp", "mlpIn": "mlp.0", "mlpOut": "mlp.2"}
    with torch.inference_mode():
        embeddings = decoder.item_embedding()
    return {
        "heads": system.num_heads,
        "activation": "gelu",
        "positions": packed(decoder.gpt2.positions.weight),
        "blocks": [packed_layers(block.state_dict(), names) for block in decoder.gpt2.blocks],
        "embeddings": packed(embeddings),
        "bias": packed(decoder.item_embedding.bias),
        **packed_layers(decoder.gpt2.state_dict(), {"norm": "norm"}),
    }


def tower_data(encoder: Encoder) -> dict[str, Any]:
    """The text tower of CLIP, in the precision of its file, and what its tokenizer has learnt."""
    model, kind = encoder.model, "float16"
    weights, config = dict(model.text_model.state_dict()), model.config.text_config
    blocks, names = [], {"beforeAttention": "layer_norm1", "inputs": "inputs", "output": "self_attn.out_proj"}
    names |= {"beforeMlp": "layer_norm2", "mlpIn": "mlp.fc1", "mlpOut": "mlp.fc2"}
    for number in range(config.num_hidden_layers):
        start = f"encoder.layers.{number}."
        block = {name.removeprefix(start): weight for name, weight in weights.items() if name.startswith(start)}
        for end in ("weight", "bias"):  # chapter 4's block has one matrix for queries, keys and values
            block[f"inputs.{end}"] = torch.cat([block[f"self_attn.{part}_proj.{end}"] for part in "qkv"])
        blocks.append(packed_layers(block, names, kind))
    return {
        "heads": config.num_attention_heads,
        "activation": "quickGelu",
        "eos": config.eos_token_id,
        "positions": packed(weights["embeddings.position_embedding.weight"], kind),
        "blocks": blocks,
        "embeddings": packed(weights["embeddings.token_embedding.weight"], kind),
        "projection": packed(model.text_projection.weight, kind),
        **packed_layers(weights, {"norm": "final_layer_norm"}, kind),
        "tokenizer": learnt(encoder.tokenizer) | {"maxLen": encoder.max_len},
    }


def learnt(tokenizer: Any) -> dict[str, Any]:  # noqa: ANN401
    """What a tokenizer of byte-pair encoding has learnt."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return {"vocab": model["vocab"], "merges": model["merges"]}


def writer_data(llm: LanguageModel) -> dict[str, Any]:
    """A language model of the Llama architecture with tied weights, its tokenizer, and the messages of chapter 6."""
    weights, config = llm.model.model.state_dict(), llm.model.config
    names = {"beforeAttention": "input_layernorm", "inputs": "inputs", "output": "self_attn.o_proj"}
    names |= {"beforeMlp": "post_attention_layernorm"} | {part: f"mlp.{part}_proj" for part in ("gate", "up", "down")}
    blocks = []
    for layer in llm.model.model.layers:
        block = layer.state_dict()
        block["inputs.weight"] = torch.cat([block[f"self_attn.{part}_proj.weight"] for part in "qkv"])
        blocks.append(packed_layers(block, names, "deflated"))
    return {
        "heads": config.num_attention_heads,
        "eos": config.eos_token_id,
        "maxNewTokens": REPLY_TOKENS,
        "blocks": blocks,
        "embeddings": packed(llm.words, "deflated"),
        **packed_layers(weights, {"norm": "norm"}, "deflated"),
        "tokenizer": learnt(llm.tokenizer),
        "prompt": llm.chat("{message}"),
        "first": FIRST,
        "update": UPDATE,
    }


@dataclass(frozen=True)
class User:
    """Of the figure of the preference: a name, the first purchases, and the first of them, from 0, with a new taste."""

    name: str
    purchases: list[int]
    change: int


def users_of(dataset: RecDataset, truth: Truth) -> list[User]:
    """Chapter 6's first users whose taste changes, and as many whose taste does not."""
    changed, stable, change = users_by_change(dataset, truth, PURCHASES, range(4, 10), USERS)
    purchases = dataset.interactions.groupby("user")["item"].apply(list)
    notes = {user: f"taste changes with item {change[user] + 1}" for user in changed}
    return [
        User(f"User {number}, {notes.get(user, 'one taste')}", purchases[user][:PURCHASES], change[user])
        for number, user in enumerate((*changed, *stable), 1)
    ]


def items_data(split: Split) -> dict[str, Any]:
    """Title, category and picture of items 1..I, and the items by popularity."""
    dataset = split.dataset
    titles, categories = dataset.items["title"][:], dataset.items["category"][:]
    return {
        "titles": list(titles),
        "categories": list(categories),
        "hasImage": dataset.has_image[1:].tolist(),
        "byPopularity": ((-training_counts(split)[1:]).argsort(kind="stable") + 1).tolist(),
        "history": first_history(split),
        "columns": SHEET_COLUMNS,
        "tables": TABLES,
        "listed": LISTED,
    }


def first_history(split: Split) -> list[int]:
    """The last training items of the first user."""
    frame = split.interactions("train")
    return frame.loc[frame["user"] == frame["user"].iloc[0], "item"].tolist()[-HISTORY:]


def sheet(dataset: RecDataset) -> Image.Image:
    """All pictures in one image, row by row; white where there is none."""
    rows = -(-dataset.num_items // SHEET_COLUMNS)
    image = Image.new("RGB", (SHEET_COLUMNS * PIXELS, rows * PIXELS), "white")
    for number in range(dataset.num_items):
        if (picture := dataset.item(number + 1, small=True)["image"]) is not None:
            row, column = divmod(number, SHEET_COLUMNS)
            image.paste(to_rgb(picture), (column * PIXELS, row * PIXELS))
    return image


def matrix_data(encoder: Encoder) -> dict[str, Any]:
    """Some items of shops that differ only in their overlap: pictures, their vectors, descriptions at each overlap."""
    shops = [load_shop(0, "tiny", overlap=overlap)[0] for overlap in OVERLAPS]
    categories, has_image = np.array(shops[0].items["category"][:]), shops[0].has_image[1:]
    rows = [
        row for name in MATRIX_CATEGORIES for row in np.flatnonzero((categories == name) & has_image)[:MATRIX_ITEMS]
    ]
    items = [shops[0].item(int(row) + 1, small=True) for row in rows]
    vectors = normalize(encode_images(shops[0], encoder.name).vectors[rows])
    return {
        "overlaps": OVERLAPS,
        "titles": [item["title"] for item in items],
        "pictures": [data_uri(item["image"]) for item in items],
        "images": packed(vectors),
        "descriptions": [[shop.items["description"][row] for row in rows] for shop in shops],
        "temperature": float((-encoder.model.logit_scale.detach()).exp()),
    }


# Static views ---------------------------------------------------------------------------------------------------------


def list_view(dataset: RecDataset, system: MMGPT2Rec, history: list[int]) -> str:
    """The list for a history, and for the history without each of its items."""
    panels = {}
    histories = {"the whole history": history}
    histories |= {f"without item {at + 1}": history[:at] + history[at + 1 :] for at in range(len(history))}
    first: list[int] = []
    for name, own in histories.items():
        probabilities = next_item_probabilities(system, own)
        listed = recommended(probabilities, own)
        first = first or listed
        cards = [
            item_card(dataset, item, [f"P = {probabilities[item - 1]:.3f}", *moved(item, rank, first)], width=110)
            for rank, item in enumerate(listed)
        ]
        rows = {"History, oldest first": [item_card(dataset, item, width=110) for item in own]}
        panels[name] = titled_rows(rows | {"The ten most probable next items": cards})
    return static_view(panels, "ten recommendations after a history").data


def moved(item: int, rank: int, before: list[int]) -> list[str]:
    """What a change of the history did to an item of the list."""
    if item not in before:
        return ["new"]
    return [] if before.index(item) == rank else [f"before: {before.index(item) + 1}"]


def changes(before: str, after: str) -> list[str]:
    """Phrases of a preference that the one before lacks, in their order."""
    old, new = ([part for part in re.split(r"They (?:like|buy) |, |\. ?", text) if part] for text in (before, after))
    return [phrase for phrase in new if phrase not in old]


def preferences_view(dataset: RecDataset, user: User, texts: list[str]) -> str:
    """The blocks of a user, each with the preference before and after it."""
    (steps,) = preference_steps(Replies(WRITER, REPLY_TOKENS), [[texts[item] for item in user.purchases]], BLOCK)
    panels, before = {}, ""
    for number, after in enumerate(steps, 1):
        facts = {"preference before this block": before or "None yet.", "preference after this block": after}
        facts |= {"new": ", ".join(changes(before, after)), "gone": ", ".join(changes(after, before))} if before else {}
        items = user.purchases[(number - 1) * BLOCK : number * BLOCK]
        step = Step(items, user.purchases[user.change :], facts)
        panels[f"block {number}"], before = step_panel(dataset, step, texts), after
    return static_view(panels, "a preference, block by block").data


def search_view(dataset: RecDataset, images: Tensor, encoder: Encoder) -> str:
    """The nearest pictures of some sentences."""
    panels, vectors = {}, normalize(embed_texts(SENTENCES, encoder).vectors)
    for sentence, cosines in zip(SENTENCES, vectors @ images.T, strict=True):
        best = cosines.argsort(descending=True)[:FOUND].tolist()
        cards = [item_card(dataset, row + 1, [f"cosine {cosines[row]:.3f}"], width=110) for row in best]
        panels[sentence] = titled_rows({"Nearest pictures": cards})
    return static_view(panels, "pictures found by a sentence").data


def matrix_view(matrix: Mapping[str, Any], encoder: Encoder) -> str:
    """The matrix of probabilities at three overlaps, at the encoder's own temperature."""
    images = torch.from_numpy(np.frombuffer(base64.b64decode(matrix["images"]["float32"]), "<f4").copy())
    panels = {}
    for overlap, descriptions in list(zip(OVERLAPS, matrix["descriptions"], strict=True))[::2]:
        texts = normalize(embed_texts(descriptions, encoder).vectors)
        rows = (images.reshape(len(texts), -1) @ texts.T / matrix["temperature"]).softmax(1)
        head = "".join(f'<th scope="col">{number + 1}</th>' for number in range(len(texts)))
        body = "".join(
            f'<tr><th scope="row">{plain(title)}</th>{"".join(f"<td>{p:.2f}</td>" for p in row)}</tr>'
            for title, row in zip(matrix["titles"], rows.tolist(), strict=True)
        )
        panels[f"overlap {overlap:.2f}"] = f'<table class="live-matrix"><tr><td></td>{head}</tr>{body}</table>'
    return static_view(panels, "probability of each description, given an image").data


def audit_view() -> str:
    """The audits of the tables."""
    panels = {
        name: f"<pre>{plain(text)}</pre>{audit_text(text)[['verdict', 'distance']].to_html()}"
        for name, text in TABLES.items()
    }
    return static_view(panels, "audits of small tables").data


# All ------------------------------------------------------------------------------------------------------------------


def main(folder: Path) -> None:
    """Write the scripts' data into ``folder / "static"``, and the static views beside it."""
    torch.manual_seed(0)
    dataset, truth = load_shop(0, "laptop")
    split, encoder = dataset.leave_one_out(), load_encoder(ENCODER)
    system, users = trained_decoder(split), users_of(dataset, truth)
    texts = summarise_items(dataset, "pocket-lm", "pocket-vlm").fused
    images = normalize(encode_images(dataset, ENCODER).vectors)
    matrix = matrix_data(encoder)
    data = {
        "LIVE_ITEMS": {"decoder": decoder_data(system), **items_data(split)},
        "LIVE_CLIP": {
            "tower": tower_data(encoder),
            "images": packed(images),
            "matrix": matrix,
            "sentences": SENTENCES,
            "found": FOUND,
        },
        "LIVE_PREFERENCES": {
            "writer": writer_data(load_language_model(WRITER)),
            "texts": texts[1:],
            "users": [(one.name, one.purchases, one.change) for one in users],
            "block": BLOCK,
        },
    }
    views = {
        "recommend": list_view(dataset, system, first_history(split)),
        "search": search_view(dataset, images, encoder),
        "matrix": matrix_view(matrix, encoder),
        "preferences": preferences_view(dataset, users[0], texts),
        "audit": audit_view(),
    }
    (folder / "static" / "live").mkdir(parents=True, exist_ok=True)
    for name, values in data.items():
        path = folder / "static" / "live" / f"{name.lower().replace('_', '-')}.js"
        path.write_text(f"const {name} = {json.dumps(values)};\n")
    buffer = io.BytesIO()
    sheet(dataset).save(buffer, "WEBP", quality=70)
    (folder / "static" / "live" / "pictures.webp").write_bytes(buffer.getvalue())
    for name, html in views.items():
        (folder / f"{name}.html").write_text(f"{html}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

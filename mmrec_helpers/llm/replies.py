"""What a language model, or a multimodal one, replies to messages: generated once, then read from the cache."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from PIL import Image

from mmrec_helpers.encoders.checkpoints import find_checkpoint, read_json, revision
from mmrec_helpers.files import atomic, say_rebuilt
from mmrec_helpers.llm.generation import generate
from mmrec_helpers.llm.language_models import LanguageModel, load_language_model
from mmrec_helpers.llm.multimodal import MultimodalModel, load_multimodal_model
from mmrec_helpers.progress import progress
from mmrec_helpers.settings import load_settings

REPLIES_VERSION = 2
"""Raise it when the same model would reply otherwise."""
CHUNK_SIZE = 100
"""Messages whose replies are written at once: what an interruption loses."""


class Replies:
    """A model as a function from messages to replies. Each is generated once, and stored with the content it is of.

    Attributes:
        truncated: how many replies of the last call reached the limit of tokens before their end.
    """

    def __init__(self, model: str, max_new_tokens: int = 40, temperature: float = 0.0, seed: int = 0) -> None:
        """Nothing is loaded before the first message without a stored reply.

        Args:
            model: a causal or a multimodal language model, see ``find_checkpoint``, whose errors are raised.
            max_new_tokens: of a reply.
            temperature: of sampling; 0 generates greedily.
            seed: of the samples.
        """
        self.name, self.options = model, {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
        self.truncated = 0
        folder = find_checkpoint(model)
        self._is_multimodal = "vision_config" in read_json(folder / "config.json")
        key = _digest(json.dumps([REPLIES_VERSION, revision(folder), self.options], sort_keys=True).encode())
        self._folder = load_settings().cache / "replies" / key

    def __call__(self, messages: Sequence[str], images: Sequence[Image.Image | None] | None = None) -> list[str]:
        """The reply to each message.

        Args:
            messages: of a user.
            images: of the messages, None where a message has none; only for multimodal models.

        Raises:
            ValueError: the model is none, or images are for a model that takes none.
        """
        if images is not None and not self._is_multimodal:
            raise ValueError(f"{self.name} takes no images; name a multimodal model, such as pocket-vlm")
        pairs = list(zip(messages, images or [None] * len(messages), strict=True))
        keys = [_key(message, image) for message, image in pairs]
        missing = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in self._stored}
        order = sorted(missing, key=lambda key: (len(missing[key][0]), key))  # similar lengths: little padding
        starts = range(0, len(order), CHUNK_SIZE)
        for start in progress(starts, desc=f"generating with {self.name}") if starts else ():
            part = order[start : start + CHUNK_SIZE]
            replies = dict(zip(part, self._generate([missing[key] for key in part]), strict=True))
            content = json.dumps(replies).encode()
            with atomic(self._folder / f"{_digest(content)}.json") as path:
                path.write_bytes(content)
            self._stored.update(replies)
        self.truncated = sum(not self._stored[key][1] for key in keys)
        return [self._stored[key][0] for key in keys]

    @cached_property
    def _stored(self) -> dict[str, tuple[str, bool]]:
        """Key -> reply and whether it ended. A file is named by its content, so a damaged one is deleted."""
        stored: dict[str, tuple[str, bool]] = {}
        for path in sorted(self._folder.glob("*.json")):
            content = path.read_bytes()
            with suppress(ValueError, TypeError):
                replies = json.loads(content)
                if path.stem in (_digest(content), _digest("".join(replies).encode())):  # the keys': earlier versions
                    stored |= replies
                    continue
            say_rebuilt(path)
            path.unlink(missing_ok=True)
        return stored

    @cached_property
    def _model(self) -> LanguageModel | MultimodalModel:
        return load_multimodal_model(self.name) if self._is_multimodal else load_language_model(self.name)

    def _generate(self, pairs: list[tuple[str, Image.Image | None]]) -> list[tuple[str, bool]]:
        model, options = self._model, dict[str, Any](self.options)
        if isinstance(model, MultimodalModel):
            messages, images = zip(*pairs, strict=True)
            return model.replies(messages, images, **options)
        prompts = [model.tokens(model.chat(message)) for message, _ in pairs]
        eos = model.tokenizer.eos_token_id
        return [
            (model.tokenizer.decode(tokens, skip_special_tokens=True).strip(), eos in tokens)
            for tokens in generate(model, prompts, **options)
        ]


def _key(message: str, image: Image.Image | None) -> str:
    content = message.encode() + b"\0"
    if image is not None:
        content += f"{image.mode} {image.size}\0".encode() + image.tobytes()
    return _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:20]

"""Multimodal language models of transformers: what they reply to a message with or without an image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mmrec_helpers.data.images import to_rgb
from mmrec_helpers.llm.generation import BATCH_SIZE, decoding
from mmrec_helpers.llm.language_models import load_pretrained


class MultimodalModel:
    """A frozen multimodal language model and its processor.

    Attributes:
        model: the library's module, in evaluation mode; none of its weights requires a gradient.
        processor: the library's processor of texts and images.
        name: by which it was loaded.
    """

    def __init__(self, model: Any, processor: Any, name: str) -> None:  # noqa: ANN401
        self.model, self.processor, self.name = model.eval().requires_grad_(False), processor, name
        processor.tokenizer.padding_side = "left"  # as generation needs it
        processor.tokenizer.pad_token = processor.tokenizer.pad_token or processor.tokenizer.eos_token
        # Templates of the hub take a message as a list of parts; others, as pocket-vlm's, would print the list.
        self._takes_parts = "'type'" not in self._by_template([{"type": "text", "text": "Hello."}])
        self.replies(["?", "?"], [Image.new("RGB", (64, 64)), None], 1)  # some damage shows only in use

    def chat(self, message: str, with_image: bool) -> str:
        """A user's message as a prompt, by the chat template; an image comes before the text."""
        token = self.processor.image_token
        message = message.replace(token, " ")  # a text must not ask for an image that is not there
        if self._takes_parts:
            return self._by_template([{"type": "image"}] * with_image + [{"type": "text", "text": message}])
        return self._by_template(f"{token}\n{message}" if with_image else message)

    def _by_template(self, content: str | list[dict[str, str]]) -> str:
        messages = [{"role": "user", "content": content}]
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    @torch.no_grad()
    def replies(
        self,
        messages: Sequence[str],
        images: Sequence[Image.Image | None],
        max_new_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[tuple[str, bool]]:
        """The reply to each message, and whether it ended before it was truncated.

        Args:
            messages: of a user.
            images: of the messages; None where a message has none.
            max_new_tokens: of a reply.
            temperature: of sampling; 0 generates greedily.
            seed: of the samples, which also depend on what is generated in one call.
        """
        replies: list[tuple[str, bool]] = [("", True)] * len(messages)
        order = sorted(range(len(messages)), key=lambda row: (images[row] is None, len(messages[row])))
        with_image = sum(image is not None for image in images)  # these come first: a batch has all images, or none
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for part in (order[:with_image], order[with_image:]):
                for start in range(0, len(part), BATCH_SIZE):
                    rows = part[start : start + BATCH_SIZE]
                    batch = [(messages[row], images[row]) for row in rows]
                    for row, reply in zip(rows, self._generate(batch, max_new_tokens, temperature), strict=True):
                        replies[row] = reply
        return replies

    def _generate(
        self, batch: list[tuple[str, Image.Image | None]], max_new_tokens: int, temperature: float
    ) -> list[tuple[str, bool]]:
        tokenizer = self.processor.tokenizer
        prompts = [self.chat(message, image is not None) for message, image in batch]
        images = [[to_rgb(image)] for _, image in batch if image is not None] or None
        has_bos = bool(tokenizer.bos_token) and prompts[0].startswith(tokenizer.bos_token)
        options = {"padding": True, "add_special_tokens": not has_bos, "return_tensors": "pt"}
        inputs = self.processor(text=prompts, images=images, **options).to(self.model.device, self.model.dtype)
        ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        output = self.model.generate(**inputs, max_new_tokens=max_new_tokens, **ids, **decoding(temperature))
        rows = output[:, inputs["input_ids"].shape[1] :]
        ended = (rows == tokenizer.eos_token_id).any(1).tolist()
        texts = tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [(text.strip(), end) for text, end in zip(texts, ended, strict=True)]


def load_multimodal_model(name: str | Path, dtype: torch.dtype = torch.float32) -> MultimodalModel:
    """Load a model that generates text from images and texts, frozen, on the device of the settings.

    Args:
        name: a pocket model, a folder or a hub name, see ``find_checkpoint``; such as
            ``HuggingFaceTB/SmolVLM-Instruct`` or ``llava-hf/llava-v1.6-mistral-7b-hf``.
        dtype: of the weights; bfloat16 halves the memory and the time of large models.

    Raises the errors of ``load_pretrained``.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor  # takes seconds: imported only where needed

    autos = AutoModelForImageTextToText, AutoProcessor
    return load_pretrained(MultimodalModel, name, *autos, "multimodal model", "pocket-vlm", dtype)

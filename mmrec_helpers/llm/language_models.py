"""Frozen causal language models of transformers: tokens, input embeddings, hidden states, logits."""

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mmrec_helpers.encoders.checkpoints import check_loaded, find_checkpoint, usable
from mmrec_helpers.progress import quiet_loading
from mmrec_helpers.settings import load_settings

T = TypeVar("T")
MANY = 16
"""Times the tokens of a shared prefix: longer rows are read with it, without the mask that doubles attention's work."""


class _AllRead(Exception):
    """All keys and values of a prefix are computed."""


class LanguageModel:
    """A frozen causal language model and its tokenizer.

    Batches are padded at the right. Under causal attention no position attends to what follows it, so the padding may
    have any embedding, and neither an attention mask nor a pad token is needed.

    Attributes:
        model: the library's module, in evaluation mode; none of its weights requires a gradient.
        tokenizer: the library's tokenizer.
        name: by which it was loaded.
        prefix: keys and values of what the rows of ``hidden_states`` follow; None if there is nothing.
        shared: the model without the last prefix that all rows share, and its (1, P, D) input embeddings.
        attended: (1, P) or (B, P) which positions of the prefix are not padding.
        branched: see ``branches``; None if each row continues a prefix of its own.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:  # noqa: ANN401
        self.model, self.tokenizer, self.name = model.eval().requires_grad_(False), tokenizer, name
        self.prefix: Any = None
        self.shared: tuple[LanguageModel, Tensor] | None = None
        self.attended = torch.ones(1, 0, dtype=torch.bool)
        self.branched: tuple[np.ndarray, np.ndarray, np.ndarray | None] | None = None
        with torch.no_grad():
            self.hidden_states(self.words[self.tokens(self.chat("?"))][None])  # some damage shows only in use

    @property
    def dim(self) -> int:
        """D, of the embeddings and the hidden states."""
        return self.words.shape[1]

    @property
    def max_len(self) -> int:
        """Tokens of the context window."""
        return self.model.config.max_position_embeddings

    @property
    def words(self) -> Tensor:
        """(V, D) token embeddings."""
        return self.model.get_input_embeddings().weight

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without special ones other than those that it spells out."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # of any length

    def chat(self, message: str) -> str:
        """A user's message as a prompt, by the chat template; without one, a BOS token, the message, "Answer:"."""
        if not self.tokenizer.chat_template:
            return f"{self.tokenizer.bos_token or ''}{message}\nAnswer:"
        messages = [{"role": "user", "content": message}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def reply(self, answer: str) -> str:
        """An answer as it continues a prompt of ``chat``, to its EOS token and what the template writes after it."""
        if not self.tokenizer.chat_template:
            return f" {answer}{self.tokenizer.eos_token or ''}"
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        return self.tokenizer.apply_chat_template(messages, tokenize=False).removeprefix(self.chat("?"))

    @torch.no_grad()
    def after(self, tokens: list[int]) -> "LanguageModel":
        """The same model behind a prefix that all its rows share: frozen, it computes its keys and values once."""
        embeddings = self.words[tokens][None]
        continued = self.after_each(embeddings, torch.tensor([len(tokens)]))
        continued.shared = self, embeddings
        return continued

    def after_each(self, embeddings: Tensor, lengths: Tensor) -> "LanguageModel":
        """The same model behind B prefixes, one for each of its rows, which follow the prefix that it has.

        Several continuations then share the keys and values of what they continue; gradients pass through these.

        Args:
            embeddings: (B, T, D) input embeddings.
            lengths: (B,) how many of each row count; the others are padding.
        """
        continued, lengths = copy.copy(self), lengths.to(embeddings.device)
        continued.prefix, continued.shared = self._read(embeddings), None
        counts = torch.arange(embeddings.shape[1], device=lengths.device) < lengths[:, None]
        continued.attended = torch.cat([self.attended.to(lengths.device).expand(len(counts), -1), counts], dim=1)
        return continued

    def branches(self, rows: np.ndarray, lengths: np.ndarray, sizes: np.ndarray | None = None) -> "LanguageModel":
        """The same model with N rows, each of which continues the beginning of one of its prefixes, none copied.

        Args:
            rows: (N,) which prefix, in ascending order.
            lengths: (N,) tokens of it, those that all prefixes share among them.
            sizes: (N,) tokens of each row that are not padding, which is then not computed; all if None.
        """
        branched = copy.copy(self)
        branched.branched = rows, lengths, sizes
        return branched

    def hidden_states(self, embeddings: Tensor) -> Tensor:
        """(B, T, D) input embeddings, which follow the prefix if there is one, -> (B, T, D)."""
        if self.branched:
            rows, lengths, sizes = self.branched
            kept = np.full(len(rows), embeddings.shape[1]) if sizes is None else sizes
            return self._run_branches(embeddings, *map(torch.from_numpy, (rows, lengths, kept)))
        return self._run(embeddings, self.prefix and self._prefix()).last_hidden_state

    def _run_branches(self, embeddings: Tensor, rows: Tensor, lengths: Tensor, sizes: Tensor) -> Tensor:
        """(N, T, D) -> (N, T, D): the branches of a prefix follow one another in one row, and do not see each other."""
        num_prefixes, num_read = self.attended.shape
        branch, token = (torch.arange(embeddings.shape[1]) < sizes[:, None]).nonzero(as_tuple=True)
        counts = rows.bincount(sizes, minlength=num_prefixes).long()  # tokens of each prefix's branches
        at = rows[branch], torch.arange(len(branch)) - (counts.cumsum(0) - counts)[rows[branch]]  # place of each token
        owner, begins, steps = (lengths.new_zeros(num_prefixes, int(counts.max())) for _ in range(3))  # (B, L)
        owner[at], begins[at], steps[at] = branch + 1, lengths[branch], token
        packed = embeddings.new_zeros(*owner.shape, embeddings.shape[2])
        packed[at] = embeddings[branch, token]
        reads = torch.arange(num_read) < begins[:, :, None]  # (B, L, P)
        own = (owner[:, :, None] == owner[:, None]).tril()  # (B, L, L)
        attended = torch.cat([reads, own], dim=2)[:, None]
        mask = torch.zeros(attended.shape).masked_fill(~attended, torch.finfo(embeddings.dtype).min).to(embeddings)
        positions = (begins + steps).to(embeddings.device)
        inputs = {"attention_mask": mask, "position_ids": positions, "past_key_values": self._prefix()}
        hidden = self.model.base_model(inputs_embeds=packed, use_cache=True, **inputs).last_hidden_state
        found = torch.zeros_like(embeddings)
        found[branch, token] = hidden[at]
        return found

    def _read(self, embeddings: Tensor) -> Any:  # noqa: ANN401
        """The prefix with the keys and values of (B, T, D) more; what the last layer does with its own is left out."""
        from transformers import DynamicCache

        if self.shared and MANY * self.shared[1].shape[1] <= embeddings.shape[1]:
            return self.shared[0]._read(torch.cat([self.shared[1].expand(len(embeddings), -1, -1), embeddings], dim=1))
        cache = self._prefix() if self.prefix else DynamicCache(config=self.model.config)
        last: Any = cache.layers[-1]

        def update(*args: Any, **options: Any) -> None:  # noqa: ANN401
            type(last).update(last, *args, **options)
            raise _AllRead

        last.update = update
        with suppress(_AllRead):
            self._run(embeddings, cache)
        del last.update
        return cache

    def _run(self, embeddings: Tensor, cache: Any) -> Any:  # noqa: ANN401
        inputs: dict[str, Any] = {"inputs_embeds": embeddings, "past_key_values": cache, "use_cache": cache is not None}
        if self.prefix is not None:
            num_rows, num_tokens = embeddings.shape[:2]
            attended = pad(self.attended.expand(num_rows, -1).to(embeddings.device).long(), (0, num_tokens), value=1)
            positions = attended.cumsum(1)[:, -num_tokens:] - 1
            if len(self.attended) == 1:
                cache.batch_repeat_interleave(num_rows)
            inputs |= {"attention_mask": attended, "position_ids": positions}
        return self.model.base_model(**inputs)

    def _prefix(self) -> Any:  # noqa: ANN401
        """A copy of the prefix, as the library changes it in place, that shares the keys and values."""
        cache = copy.copy(self.prefix)
        cache.layers = [copy.copy(layer) for layer in cache.layers]
        return cache

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) hidden states -> (..., V) logits of the next token."""
        return self.model.get_output_embeddings()(hidden)


def load_language_model(name: str | Path, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Load a causal language model, frozen, on the device of the settings.

    Args:
        name: a pocket model, a folder or a hub name, see ``find_checkpoint``.
        dtype: of the weights; bfloat16 halves the memory and the time of large models.

    Raises the errors of ``load_pretrained``.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # takes seconds: imported only where it is needed

    autos = AutoModelForCausalLM, AutoTokenizer
    return load_pretrained(LanguageModel, name, *autos, "causal language model", "pocket-lm", dtype)


def load_pretrained(
    make: Callable[[Any, Any, str], T],
    name: str | Path,
    auto_model: Any,  # noqa: ANN401
    auto_processor: Any,  # noqa: ANN401
    kind: str,
    example: str,
    dtype: torch.dtype,
) -> T:
    """What is made of a model of transformers on the device of the settings, its tokenizer or processor, and its name.

    Args:
        make: may try them: what it raises is an error of the folder, too.
        name: see ``find_checkpoint``.
        auto_model: the library's class that loads the kind of model.
        auto_processor: that loads what turns texts, or texts and images, into its inputs.
        kind: of model, for error messages.
        example: a model of this kind, for error messages.
        dtype: of the weights.

    Raises the errors of ``find_checkpoint``, and a ValueError if the folder lacks one of the two or an EOS token, or is
    damaged.
    """
    folder = find_checkpoint(name)
    options = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
    with usable(folder, kind, example), quiet_loading():
        model, info = auto_model.from_pretrained(folder, **options)
        processor = auto_processor.from_pretrained(folder, trust_remote_code=False)
        check_loaded(model, info, tokenizer := getattr(processor, "tokenizer", processor))
        if tokenizer.eos_token is None:
            raise ValueError("the tokenizer has no EOS token, which ends what is generated")
        return make(model.to(load_settings().device, dtype), processor, str(name))


def randomly_initialised(llm: LanguageModel, seed: int = 0) -> LanguageModel:
    """The same architecture with random weights, frozen, too: a control without pretraining."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = type(llm.model)(llm.model.config)
    return LanguageModel(model.to(llm.words.device, llm.words.dtype), llm.tokenizer, f"{llm.name}, random weights")

"""What a language model generates after prompts: greedily, by sampling, or the most probable texts by beam search."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding

from mmrec_helpers.llm.language_models import LanguageModel

BATCH_SIZE, MAX_BATCH = 25, 50
"""Prompts that are continued together, by the library and by ``generate``, whose batches shrink."""


def decoding(temperature: float) -> dict[str, Any]:
    """Options of the library's ``generate``: greedy where the temperature is 0, else sampling from all tokens."""
    sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    return sampling if temperature else {"do_sample": False}


@torch.no_grad()
def generate(
    llm: LanguageModel, prompts: Sequence[list[int]], max_new_tokens: int, temperature: float = 0.0, seed: int = 0
) -> list[tuple[int, ...]]:
    """The tokens that a frozen or fine-tuned model generates after each prompt, up to its EOS token.

    The library's ``generate`` keeps texts that have ended in the batch, and with a small model its own work between
    two tokens takes longer than the model's.

    Args:
        llm: the model.
        prompts: tokens.
        max_new_tokens: after which a text is truncated.
        temperature: of sampling; 0 generates greedily.
        seed: of the samples, which also depend on what is generated in one call.
    """
    texts: list[list[int]] = [[] for _ in prompts]
    rng = torch.Generator(llm.words.device).manual_seed(seed)
    for rows in _batches(prompts, MAX_BATCH):
        tokens, mask = _pad_left([prompts[row] for row in rows], llm.words.device)
        cache: Any = None
        for _ in range(max_new_tokens):
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
            inputs = {"inputs_embeds": embedding(tokens, llm.words), "attention_mask": mask, "position_ids": positions}
            output = llm.model.base_model(**inputs, past_key_values=cache, use_cache=True)
            logits, cache = llm.logits(output.last_hidden_state[:, -1]).float(), output.past_key_values
            if temperature:
                found = (logits / temperature).softmax(1).multinomial(1, generator=rng)[:, 0]
            else:
                found = logits.argmax(1)
            for row, token in zip(rows, found.tolist(), strict=True):
                texts[row].append(token)
            going = (found != llm.tokenizer.eos_token_id).nonzero()[:, 0]
            if not len(going):
                break
            if len(going) < len(rows):  # texts that have ended leave the batch
                rows, found, mask = [rows[k] for k in going.tolist()], found[going], mask[going]
                cache.batch_select_indices(going)
            tokens, mask = found[:, None], torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
    return [tuple(text) for text in texts]


@torch.no_grad()
def generate_titles(
    llm: LanguageModel,
    prompts: Sequence[list[int]],
    embed: Callable[[Tensor], Tensor],
    num_beams: int,
    max_new_tokens: int,
    allowed: Callable[[Sequence[int]], list[int]] | None = None,
) -> list[list[tuple[int, ...]]]:
    """The most probable titles after each prompt, by the beam search of transformers.

    Args:
        llm: a frozen or fine-tuned model.
        prompts: tokens; negative numbers at the positions of spliced vectors.
        embed: (B, T) such tokens -> (B, T, D) input embeddings; it also gets 0, the padding.
        num_beams: also the maximum number of titles. Their order is that of the sums of log-probabilities, not of
            their means, so that it is the order of the titles' probabilities.
        max_new_tokens: after which a title is truncated.
        allowed: the tokens of a title so far -> those that may follow, for constrained decoding.

    Returns:
        A list for each prompt, best first, of titles up to their EOS tokens; a truncated one has none.
    """
    eos = llm.tokenizer.eos_token_id
    options = decoding(0) | {"num_beams": num_beams, "num_return_sequences": num_beams, "length_penalty": 0.0}
    options |= {"max_new_tokens": max_new_tokens, "eos_token_id": eos, "pad_token_id": eos}
    if allowed is not None:  # beams for which nothing is left get the EOS token, and are dropped below
        options["prefix_allowed_tokens_fn"] = lambda _, tokens: allowed(tokens.tolist()) or [eos]
    outputs: list[list[tuple[int, ...]]] = [[] for _ in prompts]
    for rows in _batches(prompts, BATCH_SIZE):
        tokens, mask = _pad_left([prompts[row] for row in rows], llm.words.device)
        found = llm.model.generate(inputs_embeds=embed(tokens), attention_mask=mask, **options)
        for row, sequences in zip(rows, found.view(len(rows), num_beams, -1).tolist(), strict=True):
            titles = dict.fromkeys(tuple(own[: own.index(eos) + 1] if eos in own else own) for own in sequences)
            outputs[row] = [title for title in titles if allowed is None or _is_allowed(title, allowed)]
    return outputs


def _is_allowed(title: Sequence[int], allowed: Callable[[Sequence[int]], list[int]]) -> bool:
    return all(token in allowed(title[:position]) for position, token in enumerate(title))


def _batches(prompts: Sequence[list[int]], size: int) -> list[list[int]]:
    """Rows that are processed together, of similar lengths: little padding."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    return [order[start : start + size] for start in range(0, len(order), size)]


def _pad_left(prompts: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(B, T) tokens, padded with 0 at the left as generation needs it, and (B, T) 1 where a prompt is."""
    longest = max(map(len, prompts))
    tokens = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)

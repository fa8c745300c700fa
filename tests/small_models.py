"""Small randomly initialised language models in hub layout, that several tests load."""

import json
import shutil

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from mmrec_helpers.encoders.checkpoints import find_checkpoint

SIZES = {"vocab_size": 2_048, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SIZES |= {"bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}  # so that positions mix
LLAMA = {**SIZES, "num_key_value_heads": 1, "intermediate_size": 24, "max_position_embeddings": 512}
MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**LLAMA)),
    "llama, tied": (LlamaForCausalLM, LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "gpt2": (GPT2LMHeadModel, GPT2Config(**SIZES, n_positions=512)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**LLAMA)),
}
TOKENIZER = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}


def store(folder, name):
    """A randomly initialised model in hub layout, with pocket-lm's tokenizer but no pad token."""
    kind, config = MODELS[name]
    torch.manual_seed(0)
    kind(config).half().save_pretrained(folder)
    shutil.copy(find_checkpoint("pocket-lm") / "tokenizer.json", folder)
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER))
    return folder

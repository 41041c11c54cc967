"""A small Llama with random weights, and tokenizers of real models."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

HUB = Path(__file__).parents[2] / "models" / "hub"
SMOLLM = "HuggingFaceTB/SmolLM2-135M-Instruct"


def folder(model: str) -> str:
    """The folder of a model's files; the test is skipped where they are not laid out."""
    snapshots = list((HUB / f"models--{model.replace('/', '--')}" / "snapshots").glob("*"))
    if not snapshots:
        pytest.skip("the models are not laid out: make models")
    return str(snapshots[0])


@cache
def tokenizer(model: str = SMOLLM) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder(model))


def llama(context: int = 4096, **options: Any) -> Any:
    """A Llama of two layers, the same in each call."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer()), num_hidden_layers=2, num_key_value_heads=2, max_position_embeddings=context,
        bos_token_id=1, eos_token_id=2, pad_token_id=2, initializer_range=0.5, **sizes, **options,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)

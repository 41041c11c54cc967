"""What nbcompose uses of transformers that differs between its releases, or that it does not document.

Seen with transformers 5.16 to 5.24: the argument of a forward pass that takes the cache is called `past_key_values`,
later `cache`; `Cache.crop` takes how many tokens go, as a negative number. `tests/canaries/test_transformers.py` fails
first where a release changes this.
"""

from __future__ import annotations

import inspect
from typing import Any


def cache_argument(model: Any) -> str:
    """Return the name of the argument of a model, and of its `generate`, that takes the cache."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def new_cache(model: Any) -> Any:
    """Return an empty cache for a model, one that grows."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config.get_text_config(decoder=True))


def can_crop(cache: Any) -> bool:
    """Whether tokens can be taken away from the end of a cache again."""
    return all(getattr(layer, "is_croppable", hasattr(layer, "crop")) for layer in cache.layers)


def crop(cache: Any, count: int) -> bool:
    """Take `count` tokens away from the end of a cache; return whether that was possible."""
    try:
        cache.crop(-count)
    except (RuntimeError, ValueError, NotImplementedError):  # e.g. past a sliding window
        return False
    return True


def forward(model: Any, ids: Any, mask: Any, cache: Any) -> None:
    """Read some tokens into a cache. `ids`: of shape (1, tokens); `mask`: (1, tokens, with those in the cache)."""
    options: dict[str, Any] = {cache_argument(model): cache, "use_cache": True}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        options["logits_to_keep"] = 1  # nobody reads them
    model(input_ids=ids, attention_mask=mask, **options)

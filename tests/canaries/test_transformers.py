"""What nbcompose/_control/engines/zygote.py relies on, and what the zygote imports. One that fails means: look at
that, and at `PRELOAD` in nbcompose/_replica/bootstrap.py, before anything else.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from nbcompose._replica.bootstrap import PRELOAD

transformers = importlib.util.find_spec("transformers")
pytestmark = pytest.mark.skipif(transformers is None, reason="transformers is not installed")


def source_of(module: str) -> Path | None:
    """The file of a module of transformers, without importing any: that takes seconds."""
    assert transformers is not None
    assert transformers.origin is not None
    path = Path(transformers.origin).parent.joinpath(*module.split(".")[1:])
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)


@pytest.mark.parametrize("module", [name for name in PRELOAD if name.startswith("transformers.")])
def test_what_is_preloaded_is_there(module: str) -> None:
    assert source_of(module) is not None, f"{module} is elsewhere: each service imports it itself now"


def test_the_table_of_renamed_checkpoints_is_kept() -> None:
    file = source_of("transformers.conversion_mapping")
    assert file is not None, "transformers has no conversion_mapping any more"
    text = file.read_text(encoding="utf-8")
    assert "def get_checkpoint_conversion_mapping(model_type" in text
    assert "global _checkpoint_conversion_mapping_cache" in text, "the table is not kept any more"


def test_the_cache_has_the_argument_and_the_method_that_prompts_with_streams_use() -> None:
    """See nbcompose/llms/transformers_adapter.py."""
    model, caches = source_of("transformers.models.llama.modeling_llama"), source_of("transformers.cache_utils")
    assert model is not None
    assert caches is not None
    assert re.search(r"    (cache|past_key_values): Cache", model.read_text(encoding="utf-8")), "another name"
    text = caches.read_text(encoding="utf-8")
    assert "class DynamicCache" in text
    assert re.search(r"def crop\(self, \w+: int\)", text), "tokens are taken away in another way"

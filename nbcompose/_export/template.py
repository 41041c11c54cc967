"""The services of NOTEBOOK, without Jupyter (exported by nbcompose)."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

import nbcompose

# /// script
# requires-python = ">=3.11"
# dependencies = ["nbcompose"]
# ///

# A script like those that are exported, and where their fixed parts come from: script.py reads this text. The
# docstring, what loads a value that was frozen (a function each: its result is written where the value was, its own
# docstring above it), and the last statement.


def load_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def load_array(file: Path) -> Any:
    return np.load(file, allow_pickle=False)


def load_frame(file: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(file)


def load_tensor(file: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(file)["value"]


def load_tensors(file: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(file)


def load_pickle(file: Path) -> Any:
    """This is a pickle: loading it runs what is in it, so take it from a source that you trust only."""
    return pickle.loads(file.read_bytes())


@nbcompose.service
class Entry:
    """Stands for the service that a script is about."""

    @nbcompose.api
    def greet(self) -> str:
        return "hello"


if __name__ == "__main__":
    nbcompose.serve(Entry)

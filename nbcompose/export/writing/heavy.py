"""What a script makes when it is imported, in each of its processes: said where that takes long, or much memory."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from nbcompose.export.reading.effects import last
from nbcompose.export.reading.statements import Statement
from nbcompose.export.slicing.refusals import listed, place
from nbcompose.export.slicing.slice import Slice
from nbcompose.export.slicing.values import is_plain
from nbcompose.export.writing.literal import code_of

LONG = 2.0  # seconds
LARGE = 64 * 2**20  # bytes

_LOADERS = ("from_pretrained", "pipeline", "SentenceTransformer", "load_model", "load_learner")


def heavy(found: Slice, values: Mapping[str, Any] | None) -> Iterator[str]:
    """A note for each cell of which that is so. `values` are those of a live notebook."""
    cells: dict[str, list[tuple[Statement, frozenset[str]]]] = {}
    for statement, wanted in zip(found.statements, found.wanted, strict=True):
        if not (is_plain(statement) or statement.options is not None or statement.decorated):
            cells.setdefault(statement.cell.label, []).append((statement, wanted))
    for made in cells.values():
        statements = [statement for statement, _ in made]
        names = sorted({name for _, wanted in made for name in wanted} - set(found.frozen))
        names = [name for name in names if values is None or code_of(values.get(name)) is None]
        sizes = {name: size for name in names if (size := size_of((values or {}).get(name))) >= LARGE}
        seconds = statements[0].cell.seconds or 0.0
        loaded = sorted({n for s in statements if values is None and _loads(s) for n in s.defines & {*names}})
        if not (sizes or loaded or (seconds >= LONG and names)):
            continue
        said = list(sizes) or loaded or names
        memory = f", {sum(sizes.values()) >> 20} MiB in each" if sizes else ""
        time = f", which took {seconds:.0f} s here" if seconds >= LONG else ""
        freeze = f"--freeze {' --freeze '.join(said)}"
        freeze = f"in the running notebook, %export FILE {freeze}" if values is None else freeze
        yield (
            f"{place(statements[0])}: every process of the script makes {listed([f'`{name}`' for name in said])} anew"
            f"{time}{memory}: {freeze} stores what is here; what only one service needs, its __init__ can load"
        )


def size_of(value: Any) -> int:
    """Bytes that an array, a table, a tensor or a model has; 0 for anything else."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.nn.Module):
            return sum(t.nbytes for t in (*value.parameters(), *value.buffers()))
        inner = getattr(value, "model", None)  # of a pipeline
        if torch is not None and isinstance(inner, torch.nn.Module):
            return size_of(inner)
        if hasattr(value, "memory_usage"):
            used = value.memory_usage(index=True)
            return int(used.sum() if hasattr(used, "sum") else used)
        size = getattr(value, "nbytes", 0)
    except Exception:  # whatever a class of the user's raises
        return 0
    return size if isinstance(size, int) else 0


def _loads(statement: Statement) -> bool:
    """Whether its text says that it loads a model."""
    return any(isinstance(n, ast.Call) and last(n.func) in _LOADERS for n in ast.walk(statement.node))

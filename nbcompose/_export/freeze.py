"""Freezing: values of a notebook as literals or as files beside the script, and notes on values that each process
computes.

See `_export/template.py` for the functions that load the files, as copied into the script.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import fractions
import json
import math
import pickle
import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any

import cloudpickle
import numpy as np

from nbcompose._export import template
from nbcompose._export.diagnostics import listed, place
from nbcompose._export.effects import last
from nbcompose._export.naming import ScriptNames
from nbcompose._export.slice import Slice
from nbcompose._export.statements import Statement
from nbcompose._rpc import kind_of_global, untracked
from nbcompose._units import with_article
from nbcompose.errors import ExportRefused

_BY_MODULE = ("datetime", "re", "torch")  # conventionally written with the module, `re.compile` instead of `compile`
LONGEST = 1000  # characters; a longer literal is stored as data

_PLAIN = (type(None), bool, int, str, bytes, type(...))
_BY_REPR = (datetime.date, datetime.time, datetime.datetime, datetime.timedelta, datetime.timezone, decimal.Decimal,
            fractions.Fraction, uuid.UUID)  # fmt: skip


def code_of(value: Any) -> str | None:
    """Return Python code that makes the value, with full names (`datetime.date(2020, 1, 1)`); None for what must be
    stored.
    """
    try:
        code = _code(value, 0)
    except ValueError:  # an int with too many digits
        return None
    return code if code is not None and len(code) <= LONGEST else None


def _code(value: Any, depth: int) -> str | None:
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind is float:
        return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
    if kind is range:
        return repr(value)
    if isinstance(value, enum.Enum):
        return _member(kind, value)
    if kind in _BY_REPR:
        return _by_repr(value)
    if isinstance(value, PurePath) and kind.__module__.partition(".")[0] == "pathlib":
        return f"pathlib.{'Path' if hasattr(value, 'exists') else 'PurePath'}({str(value)!r})"
    if kind is re.Pattern:
        flags = value.flags & ~(re.UNICODE.value if isinstance(value.pattern, str) else 0)
        return f"re.compile({value.pattern!r}, {flags})" if flags else f"re.compile({value.pattern!r})"
    return _of_torch(value) or (_tuple(value, depth) if isinstance(value, tuple) and depth < 8 else None)


def _member(kind: type[enum.Enum], value: enum.Enum) -> str | None:
    if isinstance(value, enum.Flag) and value.name not in kind.__members__:
        return None
    return f"{kind.__module__}.{kind.__qualname__}.{value.name}" if _importable(kind) else None


def _by_repr(value: Any) -> str | None:
    """Return the `repr` as code; it has full names only for types of `datetime`."""
    if getattr(value, "fold", 0) or not (getattr(value, "tzinfo", None) is None or _is_fixed(value.tzinfo)):
        return None
    module = type(value).__module__
    return repr(value) if repr(value).startswith(f"{module}.") else f"{module}.{value!r}"


def _is_fixed(zone: Any) -> bool:
    return type(zone) is datetime.timezone


def _tuple(value: tuple[Any, ...], depth: int) -> str | None:
    kind = type(value)
    parts = [_code(part, depth + 1) for part in value]
    if kind is tuple:
        inner = _joined(parts)
        return None if inner is None else f"({inner}{',' if len(parts) == 1 else ''})"
    fields = getattr(kind, "_fields", None)
    if fields is None or not _importable(kind):
        return None
    inner = _joined(None if part is None else f"{name}={part}" for name, part in zip(fields, parts, strict=True))
    return None if inner is None else f"{kind.__module__}.{kind.__qualname__}({inner})"


def _joined(parts: Iterable[str | None]) -> str | None:
    found = list(parts)
    return None if None in found else ", ".join(part for part in found if part is not None)


def _of_torch(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if type(value) is torch.device:
        return f"torch.device({str(value)!r})"
    if type(value) is torch.Size:
        return f"torch.Size({list(value)!r})"
    return repr(value) if type(value) in (torch.dtype, torch.layout, torch.memory_format) else None


def _importable(kind: type) -> bool:
    """Whether a script finds the class under its module and name; classes of the notebook itself are not importable."""
    found: Any = sys.modules.get(kind.__module__) if kind.__module__ != "__main__" else None
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind


def with_names(code: str, names: ScriptNames) -> str:
    """Return the code with the names that the script imports: `Path("a")` where it imports `Path`."""
    return ast.unparse(_Shorter(names).visit(ast.parse(code, mode="eval")))


class _Shorter(ast.NodeTransformer):
    def __init__(self, names: ScriptNames) -> None:
        self._names = names

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        parts = ast.unparse(node).split(".")
        for length in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:length])
            if module in sys.modules:
                if module in _BY_MODULE:
                    text = ".".join([self._names.module(module), *parts[length:]])
                else:
                    text = ".".join([self._names.member(module, parts[length]), *parts[length + 1 :]])
                return ast.parse(text, mode="eval").body
        return node


LONG = 2.0  # seconds
LARGE = 64 * 2**20  # bytes

_LOADERS = ("from_pretrained", "pipeline", "SentenceTransformer", "load_model", "load_learner")


def heavy(found: Slice, values: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield a note for each cell whose values are slow to make, large, or loaded models. `values`: those of a live
    notebook.
    """
    cells: dict[str, list[tuple[Statement, frozenset[str]]]] = {}
    for statement, wanted in zip(found.statements, found.wanted, strict=True):
        if not (statement.is_plain or statement.options is not None or statement.decorated):
            cells.setdefault(statement.cell.label, []).append((statement, wanted))
    for made in cells.values():
        statements = [statement for statement, _ in made]
        names = sorted({name for _, wanted in made for name in wanted} - set(found.frozen))
        names = [name for name in names if values is None or code_of(values.get(name)) is None]
        sizes = {name: size for name in names if (size := size_of((values or {}).get(name))) >= LARGE}
        seconds = statements[0].cell.seconds or 0.0
        loaded = sorted({n for s in statements if values is None and _loads(s) for n in s.names.defines & {*names}})
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
    """Return the bytes of an array, a table, a tensor or a model; 0 for anything else."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.nn.Module):
            return sum(t.nbytes for t in (*value.parameters(), *value.buffers()))
        inner = getattr(value, "model", None)  # of a transformers pipeline
        if torch is not None and isinstance(inner, torch.nn.Module):
            return size_of(inner)
        if hasattr(value, "memory_usage"):
            used = value.memory_usage(index=True)
            return int(used.sum() if hasattr(used, "sum") else used)
        size = getattr(value, "nbytes", 0)
    except Exception:  # a class of the user may raise anything
        return 0
    return size if isinstance(size, int) else 0


def _loads(statement: Statement) -> bool:
    """Whether a statement loads a model, according to its text."""
    return any(isinstance(n, ast.Call) and last(n.func) in _LOADERS for n in ast.walk(statement.node))


# Supported by every Python that can run a script.
PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Frozen:
    """A stored value. `loader`: its function in `_export/template.py`; `modules`: further modules that loading needs.

    `code`: the expression that makes it, where it is written into the script and there is no file.
    """

    name: str
    file: Path
    loader: str
    modules: tuple[str, ...] = ()
    note: str = ""
    code: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Folder and name of the file, relative to the script."""
        return self.file.parent.name, self.file.name


class _Unfit(Exception):
    """This form does not restore the value exactly."""


def store(name: str, value: Any, folder: Path) -> Frozen:
    """Write `value` to a file in `folder`, which is beside the script.

    What JSON represents exactly becomes .json, other immutable values code (without a file), arrays .npy, tensors
    .safetensors, tables .parquet (with pyarrow), everything else .pickle. Raises `ExportRefused` for what cannot be
    pickled either, such as a lock or an open file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if type(value).__module__ == "IPython.utils.text" and isinstance(value, list | str):
        return _of_shell(name, value, folder)
    for form in (_json, _literal, _array, _tensor, _tensors, _frame):
        try:
            return form(name, value, folder)
        except _Unfit:
            continue
    return _pickle(name, value, folder)


def _write(file: Path, save: Callable[[Path], object], same: Callable[[Path], bool]) -> Path:
    """Write the file, completely or not at all. Raises `_Unfit` where reading it back gives another value."""
    part = file.with_name(f".{file.name}.part")
    try:
        save(part)
        if not same(part):
            raise _Unfit
        part.replace(file)
    except (OSError, _Unfit):
        raise
    except Exception as error:  # a library may raise anything for a value that it does not support
        raise _Unfit from error
    finally:
        part.unlink(missing_ok=True)
    return file


def _of_shell(name: str, value: list[str] | str, folder: Path) -> Frozen:
    """Store the result of `!command` as a plain list or string: a script runs without IPython."""
    plain = list(value) if isinstance(value, list) else str(value)
    kind = type(plain).__name__
    return replace(
        store(name, plain, folder), note=f"{name} is a plain {kind} in the script, without IPython's methods"
    )


# -- forms


def _json(name: str, value: Any, folder: Path) -> Frozen:
    def save(path: Path) -> None:
        if not _is_plain(value, set()):
            raise _Unfit
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
        path.write_text(text + "\n", encoding="utf-8")

    file = _write(folder / f"{name}.json", save, lambda path: bool(template.load_json(path) == value))
    return Frozen(name, file, "load_json")


def _is_plain(value: Any, seen: set[int]) -> bool:
    """Whether a value has only JSON's own types, and every list and dict occurs only once."""
    if type(value) in (list, dict):
        if id(value) in seen:
            return False
        seen.add(id(value))
    if type(value) is list:
        return all(_is_plain(item, seen) for item in value)
    if type(value) is dict:
        return all(type(key) is str and _is_plain(item, seen) for key, item in value.items())
    if type(value) is float:
        return math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _literal(name: str, value: Any, folder: Path) -> Frozen:
    code = code_of(value)
    if code is None:
        raise _Unfit
    return Frozen(name, folder, "", code=code)


def _array(name: str, value: Any, folder: Path) -> Frozen:
    if type(value) is not np.ndarray or value.dtype.hasobject or value.dtype.metadata:
        raise _Unfit

    def save(path: Path) -> None:
        with path.open("wb") as out:
            np.save(out, value, allow_pickle=False)

    def same(path: Path) -> bool:
        back = template.load_array(path)
        alike = back.dtype == value.dtype and back.shape == value.shape
        return bool(alike and back.tobytes() == value.tobytes())

    return Frozen(name, _write(folder / f"{name}.npy", save, same), "load_array")


def _tensor(name: str, value: Any, folder: Path) -> Frozen:
    if not _is_tensor(value):
        raise _Unfit
    file = _write(
        folder / f"{name}.safetensors",
        lambda path: _save_tensors({"value": value}, path),
        lambda path: _same_tensor(template.load_tensor(path), value),
    )
    return Frozen(name, file, "load_tensor", note=_device_note(name, [value]))


def _tensors(name: str, value: Any, folder: Path) -> Frozen:
    if type(value) is not dict or not value or not all(type(k) is str and _is_tensor(t) for k, t in value.items()):
        raise _Unfit
    order: list[str] = []

    def same(path: Path) -> bool:
        back = template.load_tensors(path)
        order.extend(back)
        return back.keys() == value.keys() and all(_same_tensor(back[key], value[key]) for key in value)

    file = _write(folder / f"{name}.safetensors", lambda path: _save_tensors(value, path), same)
    notes = [_device_note(name, list(value.values()))]
    if order != list(value):
        notes.append(f"{name}: its keys come back in another order")
    return Frozen(name, file, "load_tensors", note="; ".join(filter(None, notes)))


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and type(value) is torch.Tensor and not value.requires_grad


def _save_tensors(tensors: dict[str, Any], path: Path) -> None:
    from safetensors.torch import save_file

    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)


def _same_tensor(back: Any, value: Any) -> bool:
    torch = sys.modules["torch"]
    here = value.cpu().contiguous()
    if back.dtype != here.dtype or back.shape != here.shape:
        return False
    return bool(torch.equal(*(t.reshape(-1).view(torch.uint8) for t in (back, here))))


def _device_note(name: str, tensors: list[Any]) -> str:
    devices = {str(t.device) for t in tensors} - {"cpu"}
    return f"{name} is on {', '.join(sorted(devices))} here: the script has it on the CPU" if devices else ""


def _frame(name: str, value: Any, folder: Path) -> Frozen:
    pandas = sys.modules.get("pandas")
    if pandas is None or type(value) is not pandas.DataFrame:
        raise _Unfit

    def same(path: Path) -> bool:
        back = template.load_frame(path)
        pandas.testing.assert_frame_equal(back, value, check_exact=True)
        mixed = [i for i, dtype in enumerate(value.dtypes) if dtype.kind == "O"]
        cells = ((a, b) for i in mixed for a, b in zip(back.iloc[:, i], value.iloc[:, i], strict=True))
        return back.attrs == value.attrs and all(type(a) is type(b) for a, b in cells)

    file = _write(folder / f"{name}.parquet", lambda path: value.to_parquet(path, engine="pyarrow"), same)
    return Frozen(name, file, "load_frame", ("pyarrow",))


def _pickle(name: str, value: Any, folder: Path) -> Frozen:
    try:
        data = cloudpickle.dumps(value, protocol=PROTOCOL)
        reader = _Reader(BytesIO(data))
        reader.load()
    except Exception as error:  # the value's own methods may raise anything
        raise ExportRefused(
            "a value cannot be stored:",
            [f"--freeze {name}: {with_article(type(value).__name__)} cannot be pickled ({error}): make it in __init__"],
        ) from error
    file = folder / f"{name}.pickle"
    _write(file, lambda path: path.write_bytes(data), lambda path: True)
    note = f"{file.parent.name}/{file.name} is a pickle, which runs code when it is loaded: trust it as you trust code"
    if reader.functions:
        note += f"; functions in it run with Python {sys.version_info.major}.{sys.version_info.minor} only"
    if reader.copies:
        note += "; classes of the notebook in it are copies, not those of the script"
    return Frozen(name, file, "load_pickle", tuple(sorted(reader.modules)), note)


class _Reader(pickle.Unpickler):
    """Records what a pickle imports. `functions`, `copies`: it contains functions, or classes by value.

    The classes become new ones here: cloudpickle would otherwise overwrite the notebook's own with functions of other
    globals.
    """

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self.modules: set[str] = set()
        self.copies = False
        self.functions = False

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        match kind_of_global(module, name):
            case None:
                self.modules.add(module)
            case "module":
                return partial(self._import, found)
            case "class":
                self.copies = True
                return partial(_apart, found)
            case "function":
                self.functions = True
        return found

    def _import(self, make: Callable[..., Any], module: str) -> Any:
        self.modules.add(module)
        return make(module)


def _apart(make: Callable[..., Any], *arguments: Any) -> Any:
    return make(*untracked(arguments))

"""Present values of a notebook → files beside its script. What would come back otherwise than it went is not stored so.

What loads each kind of file is in template.py, as the script has it.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np

from nbcompose.errors import ExportRefused
from nbcompose.export.writing import template
from nbcompose.export.writing.literal import code_of
from nbcompose.wire.cloudpickle_adapter import kind_of_global, untracked

# The same for every Python that can run a script.
PROTOCOL = 5


@dataclass(frozen=True, slots=True)
class Frozen:
    """A value in a file. `loader` is what template.py loads it with, `modules` what that needs besides its imports.

    `code`: what makes it, where it is written into the script and there is no file.
    """

    name: str
    file: Path
    loader: str
    modules: tuple[str, ...] = ()
    note: str = ""
    code: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Where it lies, from the script's folder."""
        return self.file.parent.name, self.file.name


class _Unfit(Exception):
    """This form does not bring the value back as it is."""


def store(name: str, value: Any, folder: Path) -> Frozen:
    """Write `value` to a file in `folder`, which lies beside the script.

    What JSON says exactly becomes .json, other values that nobody can alter become code (without a file), arrays .npy,
    tensors .safetensors, tables .parquet (with pyarrow), everything else .pickle. Raises `ExportRefused` for what
    cannot be pickled either, such as a lock or an open file.
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
    """Write the file, whole or not at all. Raises `_Unfit` where what is read back is not the same."""
    part = file.with_name(f".{file.name}.part")
    try:
        save(part)
        if not same(part):
            raise _Unfit
        part.replace(file)
    except (OSError, _Unfit):
        raise
    except Exception as error:  # whatever a library has against the value
        raise _Unfit from error
    finally:
        part.unlink(missing_ok=True)
    return file


def _of_shell(name: str, value: list[str] | str, folder: Path) -> Frozen:
    """What `!command` gave: a script runs where there is no IPython."""
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
    """Whether these are JSON's own types, and every list and dict is in one place only."""
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
    except Exception as error:  # whatever the value's own methods raise
        raise ExportRefused(
            "a value cannot be stored:",
            [f"--freeze {name}: a {type(value).__name__} cannot be pickled ({error}): make it in __init__"],
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
    """Notes what a pickle imports. `functions`, `copies`: it has functions, classes that came by value.

    These become new classes here: cloudpickle would fill in the notebook's own anew, with functions of other globals.
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

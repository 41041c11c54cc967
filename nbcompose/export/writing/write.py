"""A slice of a notebook → the text of a script: metadata, docstring, imports once at the top, the rest as written.

What is needed is slice.py's to say. Here statements get their places, services their options; ruff has the last word.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from nbcompose.export.reading.effects import last
from nbcompose.export.slicing.slice import Slice
from nbcompose.export.writing import lookup, parts
from nbcompose.export.writing.formatting import formatted
from nbcompose.export.writing.freeze import Frozen
from nbcompose.export.writing.head import Head
from nbcompose.export.writing.layout import blocks
from nbcompose.export.writing.literal import with_names
from nbcompose.export.writing.naming import Names
from nbcompose.export.writing.services import decorated
from nbcompose.export.writing.versions import Import, LookUp, Requirements, imports_of, requirements


@dataclass(frozen=True, slots=True)
class Script:
    """`notes`: what the user should know about it."""

    text: str
    requirements: Requirements
    notes: tuple[str, ...] = ()


def write(
    needed: Slice,
    notebook: str,
    *,
    frozen: Sequence[Frozen] = (),
    look_up: LookUp = lookup.look_up,
    folder: Path | None = None,
) -> Script:
    """The script of what is needed. `notebook` is the file's name, `frozen` the values that lie in files beside it.

    `look_up` says what is installed: here, by default. `folder` is the notebook's: the present one, by default.
    Raises `ExportRefused` where a name would mean two things, and `NbcomposeError`.
    """
    head = Head(needed.statements, [f.name for f in frozen])
    code = [
        *(_frozen(f, head.names) for f in frozen),
        *blocks(head.body, [decorated(s, needed.services, head.names) for s in head.body]),
        parts.guard(needed.entries, head.names),
    ]
    text = "\n".join([parts.docstring(notebook), "", head.text(), *code])
    loaded = [Import(module) for f in frozen for module in f.modules]
    found = requirements([*imports_of(ast.parse(text)), *loaded], look_up, folder)
    text = formatted(text, python=found.python, own=[name.removesuffix(".py") for name in found.own])
    own = [*_secrets(needed), *_data(needed, folder or Path())]
    notes = [*needed.notes, *head.notes(), *(f.note for f in frozen if f.note), *own, *found.notes]
    return Script(found.block + text, found, tuple(dict.fromkeys(notes)))


def _frozen(value: Frozen, names: Names) -> str:
    if value.code:
        return f"{value.name} = {with_names(value.code, names)}"
    return parts.loading(value.name, value.loader, value.place, names)


_LONGEST = 200  # characters of a path
_SECRET_NAME = re.compile(r"(?i)(\w+_)?(api_?key|password|secret|credentials?)|((api|auth|access|hf)_)?token")
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY", "CREDENTIAL")


def _secrets(needed: Slice) -> Iterable[str]:
    variables = dict.fromkeys((key, "--env") for s in needed.statements for key in (s.options or {}).get("envs", {}))
    variables |= dict.fromkeys((key, "os.environ") for s in needed.statements for key in _written_out(s.node))
    names = dict.fromkeys(name for s in needed.statements for node in ast.walk(s.node) for name in _named(node))
    for key, where in variables:
        if any(word in key.upper() for word in _SECRET):
            yield f"the value of {key} ({where}) is in the script: set it where the script is started instead"
    for name in names:
        if _SECRET_NAME.fullmatch(name) and (name, "os.environ") not in variables:
            yield f"the value of {name} is in the script: read it from the environment instead, with os.environ"


def _named(node: ast.AST) -> Iterable[str]:
    """The names and arguments that get a text that the code itself says."""
    match node:
        case ast.keyword(arg=str(name), value=ast.Constant(value=str(text))) if text:
            return [name]
        case ast.Assign(targets=targets, value=ast.Constant(value=str(text))) if text:
            return [last(t) for t in targets if isinstance(t, ast.Name | ast.Attribute)]
    return []


def _written_out(node: ast.stmt) -> Iterable[str]:
    """The environment variables that a statement sets to what it says itself."""
    match node:
        case ast.Assign(targets=[ast.Subscript(value=of, slice=ast.Constant(value=str(key)))], value=ast.Constant()):
            keys = [key]
        case ast.Expr(
            value=ast.Call(func=ast.Attribute(value=of, attr="setdefault"), args=[ast.Constant(value=key), _])
        ):
            keys = [str(key)]
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=of, attr="update"), keywords=keywords)):
            keys = [k.arg for k in keywords if k.arg and isinstance(k.value, ast.Constant)]
        case _:
            return []
    return keys if last(of) == "environ" else []


def _data(needed: Slice, folder: Path) -> Iterable[str]:
    """Files that the notebook finds by a relative path."""
    constants = (n for s in needed.statements for n in ast.walk(s.node) if isinstance(n, ast.Constant))
    texts = dict.fromkeys(c.value for c in constants if isinstance(c.value, str) and _may_be_file(c.value))
    for text in texts:
        if (folder / text).is_file():
            yield f"{text} is looked for where the script is started: start it in a folder that has it"


def _may_be_file(text: str) -> bool:
    return 0 < len(text) < _LONGEST and text.isprintable() and not PurePath(text).is_absolute()

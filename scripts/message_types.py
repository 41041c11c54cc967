"""Writes the types of the live graph's messages as TypeScript, from nbcompose/_notebook/graph/messages.py.

    python scripts/message_types.py

A test says when static/src/messages.d.ts is not current.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from nbcompose._notebook.graph import assets, messages

TARGET = assets.STATIC / "src" / "messages.d.ts"
HEAD = "// Made by scripts/message_types.py from ../../messages.py: change that, and run it again.\n"
PLAIN = {str: "string", bool: "boolean", int: "number", float: "number", types.NoneType: "null", Any: "any"}


def typescript() -> str:
    """Return the declarations of all TypedDicts and unions in `messages`."""
    texts = [_declaration(name, value) for name, value in vars(messages).items() if _is_declared(value)]
    return "\n".join([HEAD, *texts])


def _is_declared(value: Any) -> bool:
    return is_typeddict(value) or _is_union(value)


def _is_union(value: Any) -> bool:
    return get_origin(value) in (Union, types.UnionType)


def _declaration(name: str, value: Any) -> str:
    if _is_union(value):
        return f"export type {name} =\n" + "\n".join(f"  | {_type(member)}" for member in get_args(value)) + ";\n"
    hints = get_type_hints(value, include_extras=True)
    lines = [_field(key, hint, key in value.__optional_keys__) for key, hint in hints.items()]
    return "\n".join([f"export interface {name} {{", *lines, "}\n"])


def _field(key: str, hint: Any, optional: bool) -> str:
    if get_origin(hint) is NotRequired:  # where annotations are texts, the class itself does not know
        return _field(key, get_args(hint)[0], optional=True)
    name = key if key.isidentifier() else f'"{key}"'
    return f"  {name}{'?' if optional else ''}: {_type(hint)};"


def _type(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        name: str = hint.__name__
        return name
    if origin is Literal:
        return " | ".join(f'"{value}"' for value in args)
    if origin is list:
        return f"Array<{_type(args[0])}>"
    if origin is dict:
        return f"Record<{_type(args[0])}, {_type(args[1])}>"
    if _is_union(hint):
        return " | ".join(_type(a) for a in args)
    if hint not in PLAIN:
        raise TypeError(f"messages.py: {hint!r} has no counterpart in scripts/message_types.py")
    return PLAIN[hint]


def write(target: Path = TARGET) -> None:
    target.write_text(typescript(), encoding="utf-8")


if __name__ == "__main__":
    write()

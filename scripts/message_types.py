"""Writes the types of the messages between kernel and front end as TypeScript, from nbcompose/_protocol/messages.py.

    python scripts/message_types.py

A test says when static/src/messages.d.ts is not current.
"""

from __future__ import annotations

import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, is_typeddict

from nbcompose._notebook.graph import assets
from nbcompose._protocol import messages
from nbcompose._protocol.wire import fields_of

TARGET = assets.STATIC / "src" / "messages.d.ts"
HEAD = "// Made by scripts/message_types.py from nbcompose/_protocol/messages.py: change that, and run it again.\n"
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
    lines = [_field(key, hint, required) for key, (hint, required) in fields_of(value).items()]
    return "\n".join([f"export interface {name} {{", *lines, "}\n"])


def _field(key: str, hint: Any, required: bool) -> str:
    name = key if key.isidentifier() else f'"{key}"'
    return f"  {name}{'' if required else '?'}: {_type(hint)};"


def _type(hint: Any) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        name: str = hint.__name__
        return name
    if origin is Annotated:
        return _type(args[0])
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

"""Magics of a cell: converts its source to plain Python with the same line numbers.

IPython's own transformer finds the magics. Those that only wrap code (`%%time`, `%%service`) are removed; the others
become the calls of `get_ipython()` that IPython makes of them, which `_export/statements.py` recognizes.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nbcompose._ipython_adapter import Transformer, lines_of
from nbcompose._service import add_service_arguments, service_options
from nbcompose.errors import DeclarationError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They run the rest of the cell as it is.
_WRAPPERS = {"time", "prun", "capture", "services"}

# A script without them does the same.
_SILENT = _words(
    "aimport autocall automagic autoreload colors config debug dhist export graph hist history load_ext lprun "
    "lsmagic magic matplotlib memit mprun notebook page pastebin pdb pdef pdoc pfile pinfo pinfo2 pprint "
    "precision prun psearch psource pwd quickref recall reload_ext rep save services tb time timeit unload_ext "
    "who who_ls whos xmode "
)

_WRAPPED_LINE = re.compile(r"(\s*)get_ipython\(\)\.run_line_magic\('time', (.+)\)\n?$")


@dataclass(frozen=True, slots=True)
class Plain:
    """`text` is Python, with the line numbers of the cell; `options` are those of %%service, None without it.

    `foreign`: the first line of a cell that is not Python (%%bash); `text` is empty then.
    """

    text: str
    options: Mapping[str, Any] | None = None
    foreign: str = ""


def plain(source: str) -> Plain:
    """Return a cell without its magics. Raises `SyntaxError` for some cells that are not Python."""
    lines = lines_of(source)
    options: Mapping[str, Any] | None = None
    for index, line in enumerate(lines):
        if not line.strip() or service_line(lines[index:]):
            continue
        if not line.startswith("%%") or re.match(r"%%\w+\?", line):
            break
        name, _, rest = line[2:].strip().partition(" ")
        if name == "service":
            try:
                options = _options(rest)
            except DeclarationError as error:
                return Plain("", foreign=f"{line.strip()} ({'; '.join(m.message for m in error.mistakes)})")
            except ValueError as error:
                return Plain("", foreign=f"{line.strip()} ({error})")
        elif name not in _WRAPPERS:
            return Plain("", foreign=line.strip())
        lines[index] = _captured(rest) if name == "capture" else "\n"
    return Plain(_Transformer().transform_cell("".join(lines)), options)


def service_line(lines: Sequence[str]) -> int:
    """Return which line of a cell is `%%service`, with only comments and empty lines above it; 0 for none, or the
    first.
    """
    at = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), 0)
    return at if at < len(lines) and re.match(r"%%service(?!\w)", lines[at]) else 0


def _captured(rest: str) -> str:
    """Return the assignment for `%%capture output`, which sets a variable."""
    variables = [word for word in rest.split() if word.isidentifier()]
    return "".join(f"{v} = get_ipython().run_cell_magic('capture', {rest!r}, '')" for v in variables[:1]) + "\n"


class _Transformer(Transformer):
    """Removes `%time` from its line."""

    def transformed(self, line: str) -> str:
        match = _WRAPPED_LINE.match(line)
        if match is None:
            return line
        code = str(ast.literal_eval(match[2])).strip()  # one line, which may be a magic itself
        return match[1] + (_Transformer().transform_cell(code) if code else "pass\n")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def _options(rest: str) -> Mapping[str, Any]:
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_service_arguments(parser)
    return service_options(parser.parse_args(shlex.split(rest)))


def magic_in(node: ast.AST | None) -> str:
    """Return the magic or shell command that an expression stands for, as a user writes it; "" for any other
    expression.
    """
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_shell(node.func.value)):
        return ""
    words = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
    if not words:
        return ""
    match node.func.attr:
        case "run_line_magic":
            return f"%{' '.join(words)}".strip()
        case "run_cell_magic":
            return f"%%{' '.join(words[:2])}".strip()
        case "system" | "getoutput":
            return f"!{words[0]}"
    return ""


def _is_shell(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "get_ipython"


def note(magic: str) -> str:
    """Return what a user should know about a magic that the script lacks; "" where there is nothing to say."""
    said = f"`{shorten(magic)}` is not part of the script"
    if not magic.startswith("%"):
        return said
    name, _, rest = magic.lstrip("%").partition(" ")
    if name in _SILENT:
        return ""
    match name:
        case "cd":
            return f"{said}: start it in that folder, or write paths that do not depend on one"
        case "env" | "set_env":
            variable = re.split(r"[=\s]", rest, maxsplit=1)
            return f"{said}: set {variable[0]} where it is started" if len(variable) == 2 else ""
        case "run" | "pylab" | "store":
            return f"{said}, nor are the names that it sets"
    return said


def shorten(text: str, width: int = 60) -> str:
    first = text.strip().partition("\n")[0]
    return first if len(first) <= width else first[: width - 4].rstrip() + " ..."

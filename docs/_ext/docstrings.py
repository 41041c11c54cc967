"""Lets autodoc read docstrings whose markup is Markdown's: `code` in single backticks, and indented blocks of code."""

from __future__ import annotations

import re
from typing import Any

from nbcompose import errors

# Text in single backticks that is neither a role (:py:func:`x`), nor a link (`x`_), nor in double backticks.
CODE = re.compile(r"(?<![:`\w])`([^`\n]+)`(?![`_\w])")
SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Note|Raises|Returns|Warning|Warns|Yields):$")


def to_rst(lines: list[str]) -> list[str]:
    """The same docstring as reStructuredText."""
    return literal_blocks([CODE.sub(r"``\1``", line) for line in join_code(lines)])


def join_code(lines: list[str]) -> list[str]:
    """Keep code in backticks on one line: reStructuredText takes it over a line's end, the expression here does not."""
    found: list[str] = []
    for line in lines:
        if found and found[-1].strip() and line.strip() and found[-1].replace("``", "").count("`") % 2:
            found[-1] += " " + line.strip()
        else:
            found.append(line)
    return found


def literal_blocks(lines: list[str]) -> list[str]:
    """Mark what is indented after a paragraph as code; what is indented below `Args:` and its like is napoleon's."""
    found: list[str] = []
    in_section = in_block = False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if line.strip() and not indented:
            in_section, in_block = bool(SECTION.match(line)), False
        elif indented and not in_section and not in_block and i and not lines[i - 1].strip():
            found += [".. code-block:: python", ""]
            in_block = True
        found.append(line.replace("``", "`") if in_block else line)
    return found


def meaning(name: str) -> str:
    """What the tree in the docstring of `nbcompose.errors` says of an exception; "" where it says nothing."""
    found = re.search(rf"── {name} +(?:\d+)? *([^\s\d].*)$", errors.__doc__ or "", re.MULTILINE)
    return found[1] if found else ""


def process(app: Any, what: str, name: str, subject: Any, options: Any, lines: list[str]) -> None:
    if what == "module":  # the page says it, and draws the tree of errors from the classes
        lines.clear()
    elif what == "exception" and not any(lines):
        lines[:] = [meaning(name.rpartition(".")[2]), ""]
    lines[:] = to_rst(lines)


def setup(app: Any) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon's, 500
    return {"parallel_read_safe": True}

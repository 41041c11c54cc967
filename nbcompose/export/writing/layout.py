"""How statements of a notebook stand below one another in a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nbcompose.export.reading.statements import Statement


def blocks(statements: Sequence[Statement], texts: Sequence[str]) -> list[str]:
    """Texts in order; those that stood on neighbouring lines, or on one, still do."""
    found: list[str] = []
    above: Statement | None = None
    for statement, text in zip(statements, texts, strict=True):
        if above is None or not _neighbours(above, statement):
            found.append("")
        found.append(text)
        above = statement
    return [*_closed(found), ""]


def _closed(texts: Sequence[str]) -> Iterator[str]:
    """What is not to be formatted ends where it ends in the notebook: the comment that says so may be left out."""
    for index, text in enumerate(texts):
        yield text
        following = next(filter(None, texts[index + 1 :]), "")
        if text.rfind(_OFF) > text.rfind(_ON) and not following.startswith(_ON):
            yield _ON


_OFF, _ON = "# fmt: off", "# fmt: on"


def _neighbours(above: Statement, below: Statement) -> bool:
    return above.cell is below.cell and _first_line(below) <= _first_line(above) + len(above.text.split("\n"))


def _first_line(statement: Statement) -> int:
    """Where its text begins in the cell."""
    nodes = [statement.node, *getattr(statement.node, "decorator_list", ())]
    return min(int(node.lineno) for node in nodes) - comments(statement.text)


def comments(text: str) -> int:
    """How many lines of comments a statement begins with."""
    lines = text.split("\n")
    return next((i for i, line in enumerate(lines) if line and not line.startswith("#")), len(lines))

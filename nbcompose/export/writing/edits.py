"""Changes to the text of some code, at the places of its nodes: what is not changed stays as it was written."""

from __future__ import annotations

import ast


class Edits:
    """Collects replacements of parts of `text`, whose tree has the places; `result` makes them all."""

    def __init__(self, text: str) -> None:
        self._lines = text.encode().splitlines(keepends=True)
        self._made: list[tuple[int, int, bytes]] = []

    def source(self, node: ast.expr | ast.keyword) -> str:
        start, end = self._span(node)
        return b"".join(self._lines)[start:end].decode()

    def replace(self, node: ast.expr | ast.keyword, text: str) -> None:
        self._made.append((*self._span(node), text.encode()))

    def after(self, node: ast.expr | ast.keyword, text: str) -> None:
        end = self._span(node)[1]
        self._made.append((end, end, text.encode()))

    def before_end(self, node: ast.expr, text: str) -> None:
        """In front of the node's last character, a bracket."""
        end = self._span(node)[1] - 1
        self._made.append((end, end, text.encode()))

    def above(self, line: int, text: str) -> None:
        """A new line above this one (counted from 1)."""
        start = self._offset(line, 0)
        self._made.append((start, start, text.encode()))

    def result(self) -> str:
        text = b"".join(self._lines)
        for start, end, new in sorted(self._made, reverse=True):  # from the end: places before a change stay
            text = text[:start] + new + text[end:]
        return text.decode()

    def _span(self, node: ast.expr | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        return sum(len(text) for text in self._lines[: line - 1]) + column

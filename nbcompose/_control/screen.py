"""What a terminal shows of a text: lines that a progress bar writes again, and moves of the cursor.

Only the last rows of a text can be reached, and only those of one call on one descriptor. A row is *passed* when the
cursor has gone to one below it by the end of a line.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field

HEIGHT = 50  # rows that the cursor can come back to
WIDEST = 65536  # characters of a row; a longer one goes on in the next
_FURTHEST = 1000  # columns that the cursor can be moved to

# An order to the terminal with its numbers and letter; other control; text.
_TOKEN = re.compile(
    r"\x1b\[([0-?]*)[ -/]*([@-~])|(\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|[\x00-\x08\x0a-\x1f\x7f])"
    r"|([^\x00-\x08\x0a-\x1f\x7f]+)"
)
_STYLE = re.compile(r"\x1b\[[0-9;:]*m")
_ANY_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_CUT_SHORT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[ -/]*|\][^\x07\x1b]{0,200})?\Z")  # an order whose end is still to come
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\U0001f300-\U0003fffd]"
)
_NARROW = re.compile("[\u0300-\u036f\u200d\ufe0e\ufe0f]")  # stands in the column of the one before

Cell = tuple[str, str]  # style, and what stands in the column; "" in the second column of a wide character


@dataclass(slots=True, eq=False)
class Row:
    """One line of the text. `number`: counted from the first; `drawn`: it may be written again."""

    number: int
    passed: bool = False
    drawn: bool = False
    _text: str | None = ""
    _cells: list[Cell] = field(default_factory=list)

    @property
    def text(self) -> str:
        if self._text is None:
            self._text = _text(self._cells)
        return self._text

    @property
    def plain(self) -> bool:
        """Whether the text is only known as such."""
        return not self._cells

    def add(self, text: str) -> None:
        self._text = self.text + text

    def cells(self) -> list[Cell]:
        """The columns, which are to be changed."""
        if not self._cells and self._text:
            self._cells = _cells_of(self._text)
        self._text = None
        return self._cells

    def set(self, text: str) -> None:
        self._text, self._cells = text, []


class Screen:
    """The last rows of a text. `changed`: rows that are not as they were when it was emptied last."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque([Row(0)])
        self.changed: dict[Row, None] = {}
        self.drawn = False  # orders have come: rows may be written again
        self.hidden = False  # the cursor is: a program draws several rows again and again
        self._row = self.rows[0]
        self._column: int | None = None  # of the cursor; None: at the end of a plain row
        self._again = False  # what comes next is the row's new text
        self._style = ""
        self._rest = ""

    @property
    def number(self) -> int:
        """The number of the row with the cursor."""
        return self._row.number

    def write(self, text: str, *, end: bool = False) -> None:
        """Write a text without ends of lines. `end`: the line ends after it."""
        if self._rest or _ANY_CONTROL.search(text) or self._column is not None or self._style:
            self._interpret(self._rest + text, end)
        elif text:
            self._append(text)
        if end:
            self._next_line()

    def _append(self, text: str) -> None:
        self._row.add(text)
        self.changed[self._row] = None
        if len(self._row.text) > WIDEST:
            self._next_line()

    def _interpret(self, text: str, end: bool) -> None:
        self._rest = ""
        if end:
            text = text.rstrip("\r")
        elif (cut := _CUT_SHORT.search(text)) is not None:
            text, self._rest = text[: cut.start()], cut.group()
        for match in _TOKEN.finditer(text):
            numbers, order, other, words = match.groups()
            if words is not None:
                self._put(words)
            elif other is not None:
                self._control(other)
            elif order == "m":
                self._style = "" if numbers in ("", "0") else f"{self._style[-100:]}{match.group()}"
            else:
                self._order(order, numbers)

    def _control(self, character: str) -> None:
        if character == "\r":
            self._draws()
            self._column, self._again = 0, True
        elif character == "\b":
            self._column = max(self._at() - 1, 0)
            self._draws()

    def _order(self, order: str, numbers: str) -> None:
        if numbers.startswith("?"):
            if numbers == "?25":
                self.hidden = order == "l"
                self._draws()
            return
        number = int(digits.group()) if (digits := re.match(r"\d{1,4}", numbers)) else 0
        steps, at = number or 1, self._at()
        self._draws()
        if order in "AF":
            self._move(-steps)
        elif order in "BE":
            self._move(steps)
        elif order == "C":
            self._column = min(at + steps, _FURTHEST)
        elif order == "D":
            self._column = max(at - steps, 0)
        elif order == "G":
            self._column = min(steps - 1, _FURTHEST)
        elif order == "K":
            self._erase(self._row, number, at)
        elif order == "J":
            self._erase(self._row, number, at)
            below, above = number in (0, 2), number in (1, 2)
            for row in self.rows:
                if (below and row.number > self.number) or (above and row.number < self.number):
                    self._erase(row, 2, 0)
        if order in "EF":
            self._column = 0

    def _draws(self) -> None:
        self.drawn = self._row.drawn = True
        self._column, self._again = self._at(), False

    def _at(self) -> int:
        return len(self._row.cells()) if self._column is None else self._column

    def _move(self, by: int) -> None:
        first = self.rows[0].number
        self._row = self.rows[min(max(self.number + by - first, 0), len(self.rows) - 1)]
        self._row.drawn = True

    def _erase(self, row: Row, what: int, at: int) -> None:
        """`what`: 0 from the column on, 1 up to it, 2 all."""
        cells = row.cells()
        if what == 0:
            del cells[at:]
        elif what == 1:
            cells[: at + 1] = [("", " ")] * min(at + 1, len(cells))
        else:
            cells.clear()
        row.set(row.text) if not cells else None
        self.changed[row] = None

    def _put(self, words: str) -> None:
        """Write over what stands at the cursor; at all of the row where it begins again, as programs mean that which
        write a bar of less columns than before.
        """
        if self._again:
            self._row.set("")
            self._again = False
        row, at = self._row, self._at()
        self.changed[row] = None
        new = _cells_of(words, self._style)
        cells = row.cells()
        if at > len(cells):
            cells.extend([("", " ")] * (at - len(cells)))
        cells[at : at + len(new)] = new
        self._column = at + len(new)
        if self._column > WIDEST:
            self._next_line()

    def _next_line(self) -> None:
        """The cursor goes to the beginning of the next row, which is a new one below the last."""
        row = self._row
        row.passed = True
        self._again = False
        row.drawn = row.drawn or self.drawn
        self.changed[row] = None
        self._column = None
        index = row.number - self.rows[0].number + 1
        if index == len(self.rows):
            self.rows.append(Row(row.number + 1))
        self._row = self.rows[index]
        if self._row.text or self._row.drawn:
            self._column = 0
        if not self.drawn:
            self._style = ""  # as each line stands for itself

    def scrolled(self) -> Row | None:
        """Take out the first row where there are more than can be reached."""
        return self.rows.popleft() if len(self.rows) > HEIGHT and self.rows[0] is not self._row else None


def _cells_of(text: str, style: str = "") -> list[Cell]:
    cells: list[Cell] = []
    for match in _TOKEN.finditer(text):
        numbers, order, _, words = match.groups()
        if order == "m":
            style = "" if numbers in ("", "0") else f"{style[-100:]}{match.group()}"
        elif words is None:
            continue
        elif words.isascii() or not (_WIDE.search(words) or _NARROW.search(words)):
            cells += [(style, c) for c in words]
        else:
            for c in words:
                if _NARROW.match(c) and cells:
                    cells[-1] = (cells[-1][0], cells[-1][1] + c)
                else:
                    cells += [(style, c), (style, "")] if _WIDE.match(c) else [(style, c)]
    return cells


def _text(cells: list[Cell]) -> str:
    """The text of a row that was drawn: without the spaces with which programs wipe out the end of a row."""
    parts: list[str] = []
    last = ""
    for style, c in cells:
        if style != last:
            parts.append(("\x1b[0m" if last else "") + style)
            last = style
        parts.append(c)
    if last:
        parts.append("\x1b[0m")
    return "".join(parts).rstrip(" ")

"""What a terminal shows of a text."""

from __future__ import annotations

import pytest

from nbcompose._control.screen import HEIGHT, WIDEST, Row, Screen


def shown(*texts: str) -> list[str]:
    """The rows of what is written in these pieces."""
    screen = Screen()
    gone: list[Row] = []
    for text in texts:
        *lines, rest = text.split("\n")
        for line in lines:
            screen.write(line, end=True)
        screen.write(rest)
        while (row := screen.scrolled()) is not None:
            gone.append(row)
    return [row.text for row in (*gone, *screen.rows)]


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        pytest.param(["one\ntwo"], ["one", "two"], id="lines"),
        pytest.param(["on", "e\n"], ["one", ""], id="a line in pieces"),
        pytest.param([" 10%", "\r100%"], ["100%"], id="again"),
        pytest.param(["a longer one\rshort"], ["short"], id="again, and shorter"),
        pytest.param(["one\r\ntwo\r\n"], ["one", "two", ""], id="ends of lines of Windows"),
        pytest.param(["abc\b\bX"], ["aXc"], id="back"),
        pytest.param(
            ["\rout 0\n", "\rin 0", "\x1b[A", "\rout 1", "\n", "\rin 1", "\x1b[A"], ["out 1", "in 1"], id="bars"
        ),
        pytest.param(["one\ntwo\n\x1b[2A\x1b[2KONE\n"], ["ONE", "two", ""], id="up"),
        pytest.param(["one\ntwo\x1b[9Aover"], ["oneover", "two"], id="no further than the first"),
        pytest.param(["one\n\x1b[1A\x1b[1Bx\x1b[5Bx"], ["one", "xx"], id="down, and not beyond the last"),
        pytest.param(["one\x1b[2D\x1b[K"], ["o"], id="erase the rest"),
        pytest.param(["one\x1b[2D\x1b[1Kx"], [" xe"], id="erase the beginning"),
        pytest.param(["one\ntwo\nthree\x1b[2F\x1b[J"], ["", "", ""], id="erase what is below"),
        pytest.param(["\x1b[4Gx\x1b[2Cy"], ["   x  y"], id="columns"),
        pytest.param(["\rabc", "\x1b", "[", "2", "K", "\rx"], ["x"], id="an order in pieces"),
        pytest.param(["\x1b[31mred\x1b[0m plain"], ["\x1b[31mred\x1b[0m plain"], id="colors"),
        pytest.param(["\x1b[31mred\x1b[0m\b!"], ["\x1b[31mre\x1b[0m!"], id="a color that is written over"),
        pytest.param(["日本\b\bx"], ["日x"], id="wide characters"),
        pytest.param(["e\u0301x\by"], ["e\u0301y"], id="combined characters"),
        pytest.param(["\x1b]0;title\x07a\x07\x00b"], ["ab"], id="other orders"),
        pytest.param(["\x1b[99999999Cx"], [" " * 1000 + "x"], id="far away"),
        pytest.param(["a\tb"], ["a\tb"], id="a tab"),
    ],
)
def test_rows_are_as_in_a_terminal(texts: list[str], rows: list[str]) -> None:
    assert shown(*texts) == rows


def test_a_row_is_cut() -> None:
    assert max(map(len, shown(*["x" * 1000] * 200))) <= WIDEST + 1000
    assert max(map(len, shown("\r", *["x" * 1000] * 200))) <= WIDEST + 1000


def test_rows_that_cannot_be_reached_are_let_go() -> None:
    screen = Screen()
    for n in range(1000):
        screen.write(f"\r{n}", end=True)
        while screen.scrolled() is not None:
            pass
    assert len(screen.rows) <= HEIGHT

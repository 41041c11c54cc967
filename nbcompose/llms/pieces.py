"""Tokens made into pieces of text: no half characters, nothing of a text at which the answer ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


class Pieces:
    """The text of an answer as far as it is certain.

    A token is decoded together with those before it that were decoded last, since its text may depend on them (a space
    at the beginning of a word); what ends with half a character waits for the rest, and what may be the beginning of a
    stop text waits until it is known not to be.

    Args:
        decode: Returns the text of tokens.
        stop: Texts at which the answer ends; they are not part of it.
    """

    def __init__(self, decode: Callable[[list[int]], str], stop: Sequence[str]) -> None:
        self._decode = decode
        self._stop = stop
        self._ids: list[int] = []
        self._begin = 0  # of the tokens that are decoded again
        self._read = 0  # tokens whose text is known
        self._held = ""  # text that may be the beginning of a stop text
        self.is_stopped = False  # a stop text has come

    def put(self, ids: Sequence[int]) -> str:
        """Take tokens; return the text that they make certain."""
        self._ids += ids
        text = self._text()
        if text.endswith(INCOMPLETE):
            return ""
        return self._after(text)

    def end(self) -> str:
        """Return the rest of the text: no more tokens come."""
        found = self._after(self._text())
        if not self.is_stopped:
            found, self._held = found + self._held, ""
        return found

    def _text(self) -> str:
        """Return the text of the tokens that have no text yet."""
        known = self._decode(self._ids[self._begin : self._read])
        return self._decode(self._ids[self._begin :])[len(known) :]

    def _after(self, text: str) -> str:
        self._begin, self._read = self._read, len(self._ids)
        if self.is_stopped:
            return ""
        text = self._held + text
        ends = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if ends:
            self.is_stopped, self._held = True, ""
            return text[: min(ends)]
        held = max((_beginning(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]


def _beginning(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` are the beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)

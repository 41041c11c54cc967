"""Which cell, and which of its runs, an output of `%graph` belongs to: a re-run cell replaces its earlier outputs."""

from __future__ import annotations

from typing import NamedTuple

from nbcompose._ipython_adapter import cell_id, request_of
from nbcompose._notebook import Session


class OutputAnchor(NamedTuple):
    """`cell`: the front end's id of the cell, "" where it does not say; `run`: which of its runs; `element`: which of
    the graphs that it shows.
    """

    cell: str
    run: str
    element: str

    @classmethod
    def of(cls, session: Session, element: str) -> OutputAnchor:
        """In the cell that runs."""
        run = str(request_of(session.shell).get("header", {}).get("msg_id", ""))
        return cls(cell_id(session.shell), run, element)

    def overtakes(self, other: OutputAnchor) -> bool:
        """Whether that one was of an earlier run of this cell."""
        return bool(self.cell) and self.cell == other.cell and self.run != other.run

"""Where in the notebook a graph is shown, so that a cell that runs again takes the place of its outputs before."""

from __future__ import annotations

from typing import NamedTuple

from nbcompose.ipykernel_adapter import request_of
from nbcompose.notebook.session import Session


class Place(NamedTuple):
    """`cell`: the front end's id of the cell, "" where it does not say; `run`: which of its runs; `element`: which of
    the graphs that it shows.
    """

    cell: str
    run: str
    element: str

    @classmethod
    def of(cls, session: Session, element: str) -> Place:
        """In the cell that runs."""
        request = request_of(session.shell)
        cell = str(request.get("metadata", {}).get("cellId", ""))
        return cls(cell, str(request.get("header", {}).get("msg_id", "")), element)

    def overtakes(self, other: Place) -> bool:
        """Whether that one was of an earlier run of this cell."""
        return bool(self.cell) and self.cell == other.cell and self.run != other.run

"""One display of a cell, which can change after the cell has ended. What it shows is card.py's.

Jupyter files whatever a background thread publishes under the cell that ran last. A display's updates are therefore
sent with the header of the cell that made it, straight to the kernel's output socket, which any thread may use.
"""

from __future__ import annotations

import threading
from uuid import uuid4

from IPython.core.interactiveshell import InteractiveShell

from nbcompose.ipykernel_adapter import Output

Bundle = dict[str, str]


class LiveDisplay:
    """A place in a cell's output. Front ends that cannot update one (a terminal) see only what `finish` shows."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._id = uuid4().hex
        self._lock = threading.Lock()
        self._last: Bundle = {}
        self._open = True
        self._shown = False
        self._output = Output.of(shell)
        self.updatable = self._output is not None

    def show(self, bundle: Bundle) -> None:
        """On the cell's own thread, first of all: make the place."""
        if self.updatable:
            self._publish(bundle)

    def finish(self, bundle: Bundle, *, keep_open: bool = False) -> None:
        """On the cell's own thread: what the cell ends with. `keep_open`: `update` may change it later."""
        with self._lock:
            self._open = keep_open and self.updatable
        if bundle != self._last:
            self._publish(bundle)

    def update(self, bundle: Bundle) -> None:
        """From any thread: returns at once, prints nothing, does nothing once the display is finished."""
        with self._lock:
            if self._output is None or not self._open or not self._shown or bundle == self._last:
                return
            self._last = bundle
            self._output.update(self._id, bundle)

    def revise(self, bundle: Bundle) -> None:
        """As `update`, also after the display is finished."""
        with self._lock:
            was_open, self._open = self._open, self.updatable
        self.update(bundle)
        with self._lock:
            self._open = was_open

    def close(self) -> None:
        """From any thread: leave it as it is."""
        with self._lock:
            self._open = False

    def _publish(self, bundle: Bundle) -> None:
        self._shell.display_pub.publish(
            data=dict(bundle), metadata={}, transient={"display_id": self._id}, update=self._shown
        )
        self._shown = True
        self._last = bundle

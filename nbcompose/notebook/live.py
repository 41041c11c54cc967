"""One display of a cell, which can change after the cell has ended. What it shows is card.py's.

Jupyter files whatever a background thread publishes under the cell that ran last. A display's updates are therefore
sent with the header of the cell that made it, straight to the kernel's output socket, which any thread may use.
"""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

from IPython.core.interactiveshell import InteractiveShell

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
        publisher = shell.display_pub
        self.updatable = hasattr(publisher, "session") and hasattr(publisher, "pub_socket")
        # As it is now: by the time of an update another cell may run.
        self._parent: Any = getattr(publisher, "parent_header", None)

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
            if not self._open or not self._shown or bundle == self._last:
                return
            self._last = bundle
            publisher: Any = self._shell.display_pub
            content = {"data": bundle, "metadata": {}, "transient": {"display_id": self._id}}
            publisher.session.send(
                publisher.pub_socket, "update_display_data", content, parent=self._parent, ident=publisher.topic
            )

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

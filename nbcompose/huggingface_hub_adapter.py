"""huggingface_hub, where more of it is used than its documentation promises: the one module that knows.

Seen to hold from 2.0.0 to 2.4.0; 1.x has the first only, so that a model which is in the cache is asked for once more,
and fewer bytes are counted. tests/canaries/test_huggingface_hub.py fails first where a release changes one of these.

- `snapshot_download` counts with what it is given as `tqdm_class`: it gives `unit`, `name` and `total` to the
  constructor, changes `total`, and calls `update`; what that raises ends the download.
- It makes a bar of files and, from 2.0 on, two of bytes: those received, whose `name` ends with `transfer`, and those
  written.
- From 2.0 on the list of a repository's files is kept in `trees/<commit>.json` beside the folder of its snapshots, once
  it was asked for: a snapshot without one may be a part of what the repository has.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import huggingface_hub.utils as hub_utils

Role = Literal["files", "received", "written"]


class Counts(NamedTuple):
    done: int = 0
    total: int = 0


class Bars:
    """Counts what `snapshot_download(tqdm_class=bars.cls)` does; `check` may raise to end it, in the hub's threads."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._bars: dict[Role, Any] = {}
        self.cls = self._class(check)

    def counts(self, role: Role) -> Counts:
        with self._lock:
            bar = self._bars.get(role)
            return Counts() if bar is None else Counts(int(bar.n), int(bar.total or 0))

    def _class(self, check: Callable[[], None]) -> type[Any]:
        """A progress bar that shows nothing: the hub counts with it."""
        lock, bars = self._lock, self._bars

        class Bar(hub_utils.tqdm):  # type: ignore[misc]  # the hub is not typed here
            monitor_interval = 0  # else tqdm starts a thread

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "disable": True})
                with lock:
                    bars[_role(options)] = self

            def update(self, n: float | None = 1) -> None:
                check()
                with lock:
                    self.n += n or 0

        return Bar


def _role(options: dict[str, Any]) -> Role:
    if options.get("unit") != "B":
        return "files"
    return "received" if str(options.get("name") or "").endswith("transfer") else "written"


def is_whole(snapshot: Path) -> bool:
    """Whether it is known that a snapshot in the cache has all that was asked for, and not only what others fetched."""
    return (snapshot.parents[1] / "trees" / f"{snapshot.name}.json").is_file()

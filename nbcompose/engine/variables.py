"""Whether a replica may be forked although its environment differs from the one that the zygote was started with.

It may where no library has read what differs: the variables are set in the replica before anything of the user's runs
(`host/environment.py`). What Python code read is noted while the zygote imports; what native code may have read is
found by the names that it has (`host/native.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from nbcompose.host import native

# Differ between processes and mean nothing to a library that is imported, whoever reads them.
IGNORED = frozenset({
    "_", "PWD", "OLDPWD", "SHLVL", "COLUMNS", "LINES", "PYTEST_CURRENT_TEST", "JPY_PARENT_PID", "JPY_SESSION_NAME",
    "JPY_INTERRUPT_EVENT", "IPY_INTERRUPT_EVENT", "CLICOLOR", "CLICOLOR_FORCE", "FORCE_COLOR", "PAGER", "GIT_PAGER",
    "MPLBACKEND", "TERM", "PYDEVD_USE_FRAME_EVAL", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER",
    "NBCOMPOSE_DEVICE", "NBCOMPOSE_OWNER_PID", "NBCOMPOSE_TOKEN",
})  # fmt: skip


def differing(began: Mapping[str, str], set_by_imports: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The variables that a replica wants otherwise than the zygote was started with (`began`).

    What a library sets itself when it is imported is no difference: it does so in the kernel as in the zygote.
    """
    names = (began.keys() | wanted.keys()) - IGNORED
    return sorted(n for n in names if wanted.get(n) not in (began.get(n), set_by_imports.get(n, began.get(n))))


class Readers:
    """Who has read a variable when the zygote imported. `seen`: what it noted; `pid`: the zygote, which lives."""

    def __init__(self, seen: Mapping[str, str], pid: int) -> None:
        self._seen = seen
        self._pid = pid
        self._known: dict[str, str] = {}

    def explain(self, names: list[str]) -> str:
        """Those of `names` that were read, each with its reader; "" when none was. Takes a tenth of a second a name."""
        return "; ".join(f"{name}, {reader}" for name in names if (reader := self._reader(name)))

    def _reader(self, name: str) -> str:
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> str:
        modules = [module for seen, module in self._seen.items() if fnmatchcase(name, seen)]
        if modules:
            return f"which {modules[0]} read when it was imported"
        library = native.knows(self._pid, name)
        return f"which {library} may have read when it was loaded" if library else ""

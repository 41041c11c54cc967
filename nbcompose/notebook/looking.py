"""What each run of a cell has done to the notebook's values: their digests before and after, for `%export`.

Bounded in time: what takes too long, or cannot be told, is unknown, and export goes by what the code says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from time import thread_time as clock
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from nbcompose.capture.digests import Budget, Digester
from nbcompose.declaration import Service
from nbcompose.export.reading.cells import Looked
from nbcompose.wire.named import is_notebooks

LEAST = 0.1  # seconds that looking may take after a cell,
SHARE = 0.05  # or this share of what the cell took, where that is more

_HISTORY = re.compile(r"_+|_i+|_i?\d+|_ih|_oh|_dh")


class Looking:
    """Looks at the values of a shell's names after every cell. On the main thread."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._digests: dict[str, str | None] = {}  # None: not known
        self._costs: dict[str, float] = {}  # seconds, of each name, when it was looked at last
        self._failed: dict[str, tuple[int, float]] = {}  # names whose value took too long: which, and how long it had
        self._restless: dict[str, int] = {}  # names whose value never looks the same: which
        self._last = Looked()

    def start(self) -> None:
        """Look for the first time."""
        self._digests = self._look(LEAST)

    def after(self, seconds: float) -> Looked:
        """What has changed since it was looked at last; the cell that has run took `seconds`."""
        before, self._digests = self._digests, self._look(max(LEAST, SHARE * seconds))
        changed, unknown = set[str](), set[str]()
        for name, now in self._digests.items():
            if now is None or before.get(name, "") is None:
                unknown.add(name)
            elif before.get(name) != now:
                changed.add(name)
        for name in sorted(changed & before.keys()):
            again = self._digest(name, self._shell.user_ns[name], self._classes(), Budget(LEAST))
            if again != self._digests[name]:  # a pickle of it is another one each time
                self._restless[name] = id(self._shell.user_ns[name])
                self._digests[name] = None
                changed.discard(name)
                unknown.add(name)
        found = Looked(frozenset(changed), frozenset(unknown))
        self._last = Looked(found.changed, self._last.unknown) if found.unknown == self._last.unknown else found
        return self._last

    def _look(self, seconds: float) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        budget, classes = Budget(seconds), self._classes()
        names = dict(self._names())
        for name in sorted(names, key=lambda n: self._costs.get(n, 0.0)):
            found[name] = None if self._is_hopeless(name, names[name], seconds) else self._timed(
                name, names[name], classes, budget, seconds
            )  # fmt: skip
        for known in (self._costs, self._failed, self._restless):
            for gone in known.keys() - names.keys():
                del known[gone]
        return found

    def _timed(self, name: str, value: Any, classes: Mapping[str, type], budget: Budget, seconds: float) -> str | None:
        begun = clock()
        digest = self._digest(name, value, classes, budget)
        self._costs[name] = clock() - begun
        if digest is None and self._costs[name] > seconds / 2:
            self._failed[name] = id(value), seconds
        return digest

    def _is_hopeless(self, name: str, value: Any, seconds: float) -> bool:
        """Whether it was tried before, with as much time."""
        which, had = self._failed.get(name, (0, 0.0))
        return self._restless.get(name) == id(value) or (which == id(value) and seconds < 2 * had)

    def _digest(self, name: str, value: Any, classes: Mapping[str, type], budget: Budget) -> str | None:
        if _is_from_outside(value):
            return None
        others = tuple(cls for cls in classes.values() if cls is not value)  # these are looked at by themselves
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Digester(itself=others, budget=budget, exact=True).told(value, flat=True)

    def _names(self) -> Iterator[tuple[str, Any]]:
        hidden = self._shell.user_ns_hidden
        for name, value in list(self._shell.user_ns.items()):
            if name not in hidden and not _HISTORY.fullmatch(name):
                yield name, value

    def _classes(self) -> dict[str, type]:
        return {n: v for n, v in self._names() if isinstance(v, type) and is_notebooks(v)}


def _is_from_outside(value: Any) -> bool:
    """Modules, and what is theirs: pickle knows it by name only. A service is what its cell says."""
    if isinstance(value, type | FunctionType):
        return not is_notebooks(value)
    return isinstance(value, ModuleType | BuiltinFunctionType | Service)

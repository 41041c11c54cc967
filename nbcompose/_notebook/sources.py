"""The cells that started services, and hashes of their texts: by these a front end sees whether one has been edited, or
its service stopped.
"""

from __future__ import annotations

from nbcompose._code import Deployment
from nbcompose._protocol import messages

# What JavaScript's `trimEnd` removes.
_BLANK = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
_OFFSET, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1
KEPT = 3  # versions of a service: the one that is wanted, the one that serves, the one before
MOST_STOPPED = 100  # services whose cells are known after they were stopped


def text_hash(text: str) -> str:
    """Return the FNV-1a hash (64 bit, 16 hex digits) of a text in UTF-8, without white space at its end."""
    found = _OFFSET
    # Half a pair of surrogates is U+FFFD, as JavaScript's TextEncoder has it.
    whole = text.rstrip(_BLANK).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    for byte in whole.encode():
        found = ((found ^ byte) * _PRIME) & _MASK
    return f"{found:016x}"


class Sources:
    """The cells that asked for services: the hash of the text, and the front end's id, by the versions of services."""

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[Deployment, str, str]]] = {}
        self._stopped: dict[str, messages.StoppedService] = {}

    def note(self, name: str, deployment: Deployment | None, source: str, cell: str) -> None:
        """Note the cell that has asked for this version; a later text that means the same replaces it."""
        if deployment is not None:
            others = [known for known in self._known.get(name, ()) if known[0] is not deployment]
            self._known[name] = [*others, (deployment, source, cell)][-KEPT:]
            self._stopped.pop(name, None)

    def of(self, name: str, deployment: Deployment | None) -> str:
        """Return the hash; "" where it is not known."""
        return self._of(name, deployment)[0]

    def cell(self, name: str, deployment: Deployment | None) -> str:
        """Return the id of the cell, also of a version that has failed; "" where it is not known."""
        return self._of(name, deployment)[1]

    def stop(self, name: str) -> None:
        """Note that a service was stopped: its versions are forgotten, and the cell that asked for it last is kept."""
        for _, source, cell in self._known.pop(name, [])[-1:]:
            if not cell:
                continue
            self._stopped.pop(name, None)
            self._stopped[name] = {"name": name, "cell": cell, "source": source}
            for oldest in list(self._stopped)[:-MOST_STOPPED]:
                self._stopped.pop(oldest, None)

    def stopped(self) -> list[messages.StoppedService]:
        """Return the services that were stopped and not started again, oldest first."""
        return list(self._stopped.values())

    def _of(self, name: str, deployment: Deployment | None) -> tuple[str, str]:
        found = (known[1:] for known in self._known.get(name, ()) if known[0] is deployment)
        return next(found, ("", ""))

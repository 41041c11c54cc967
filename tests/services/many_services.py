"""Full layers: each service of a layer depends on all of the next."""

from typing import Any

from nbcompose import api, depends, service
from nbcompose._service.handle import Service

WIDTH, DEPTH = 3, 12


def _layer(number: int, below: list[Service]) -> list[Service]:
    found: list[Service] = []
    for i in range(WIDTH):

        class Node:
            @api
            def f(self) -> int:
                return 0

        Node.__name__ = Node.__qualname__ = f"N{number}x{i}"
        for other in below:
            dependency = depends(other)
            setattr(Node, other.name.lower(), dependency)
            dependency.__set_name__(Node, other.name.lower())
        made = service(Node)
        assert isinstance(made, Service)
        found.append(made)
    return found


@service
class Bottom:
    @api
    def f(self) -> int:
        return 0


@service
class Middle:
    bottom = depends(Bottom)

    @api
    def f(self) -> int:
        return self.bottom.f()


@service
class Looks(Bottom):
    middle = depends(Middle)

    @api
    def read(self) -> list[list[str]]:
        """The services of this module whose classes this replica has read, before and after it asks for one."""
        before = _read()
        assert Bottom.spec.apis  # type: ignore[attr-defined]
        return [before, _read()]

    @api
    def bases(self) -> list[str]:
        """The types of what its class extends, as that was written."""
        return [type(base).__name__ for base in type(self).__orig_bases__]  # type: ignore[attr-defined]


def _read() -> list[str]:
    services: tuple[Any, ...] = (Bottom, Middle, Looks)
    return [s.name for s in services if "spec" in vars(s)]


LAYERS: list[list[Service]] = []
for _number in reversed(range(DEPTH)):
    LAYERS.insert(0, _layer(_number, LAYERS[0] if LAYERS else []))
globals().update({s.name: s for layer in LAYERS for s in layer})

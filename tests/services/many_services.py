"""Full layers: each service of a layer depends on all of the next."""

from nbcompose import api, depends, service
from nbcompose.declaration import Service

WIDTH, DEPTH = 3, 12


def _layer(number: int, below: list[Service]) -> list[Service]:
    found = []
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
        found.append(service(Node))
    return found


@service
class Beside:
    """In the same module as `Looks`."""

    @api
    def f(self) -> int:
        return 0


@service
class Looks:
    @api
    def read(self) -> list[object]:
        """What this replica knows of the service beside it, before and after it asks."""
        return ["spec" in vars(Beside), Beside.name, Beside.spec.apis[0].name, "spec" in vars(Beside)]


LAYERS: list[list[Service]] = []
for _number in reversed(range(DEPTH)):
    LAYERS.insert(0, _layer(_number, LAYERS[0] if LAYERS else []))
globals().update({s.name: s for layer in LAYERS for s in layer})

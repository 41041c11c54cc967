"""A service that makes another in its own process."""

from chain_services import Leaf

from nbcompose import api, service


@service
class Whole:
    """Has a leaf of its own, in its process."""

    def __init__(self) -> None:
        self.leaf = Leaf()

    @api
    def add_two(self, a: int) -> int:
        return self.leaf.add(a, 2)

"""What `@service` makes of a class. Type checkers see the class itself: they ignore what a class decorator returns."""

from __future__ import annotations

from nbcompose._service.handle import Service


def handle(service: object) -> Service:
    """A declared service, with its `spec` and the class inside of it."""
    assert isinstance(service, Service)
    return service

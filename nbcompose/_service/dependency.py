"""Dependencies: `depends(...)` makes another service an attribute of a class.

The process that calls it sets the proxy with `Dependency.bind`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbcompose._service.handle import Service
from nbcompose._spec import DependencySpec
from nbcompose.errors import DeclarationError, NbcomposeError


class Dependency:
    """`attribute = depends(...)` of a service class; on an instance it is a proxy of the other service.

    An api is called as it is declared: `await self.other.f(x)` if it is an `async def`, else `self.other.f(x)`. Use
    `.to_async` and `.to_sync` to call it the other way.
    """

    def __init__(self, target: Any, url: str | None, token: str | None) -> None:
        self.target = target
        self.url = url
        self.token = token
        self._attribute = ""
        self._handle: Any = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        if self._handle is None:
            cls = type(instance).__name__
            raise NbcomposeError(
                f"{cls}.{self._attribute} is not connected: this {cls} was made from the bare class. "
                f"Call the service itself, `{cls}()`, for an instance whose dependencies work."
            )
        return self._handle

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} is connected to nothing: it has to be an attribute of the service's class. "
            f"Write `name = {self!r}` in the body of the class, and call `self.name.{name}`"
        )

    def __dir__(self) -> list[str]:
        """Offer what the proxy has that stands in its place on an instance."""
        apis = [a.name for a in self.target.spec.apis] if isinstance(self.target, Service) else []
        return [*apis, "to_async", "to_sync"]

    def bind(self, handle: Any) -> None:
        """Set the proxy of the other service in this process (a replica holds one instance)."""
        self._handle = handle

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle only the other service's name, not its class and what that captures.
        return (_restore, (self.service or None, self.url, self.token, self._attribute))

    def __repr__(self) -> str:
        return f"depends({self.service!r})" if self.url is None else f"depends(url={self.url!r})"

    @property
    def service(self) -> str:
        """The other service's name; "" for one that is given by its url."""
        if self.target is None:
            return ""
        if isinstance(self.target, str):
            return self.target
        return (
            self.target.name if isinstance(self.target, Service) else str(getattr(self.target, "__name__", self.target))
        )

    def spec(self, attribute: str) -> DependencySpec:
        return DependencySpec(attribute, self.service, self.url)


def check_dependencies(instance: Any) -> None:
    """Raise DeclarationError if `__init__` has created a dependency: dependencies must be known before the service
    starts.
    """
    cls = type(instance)
    names = [slot for base in cls.__mro__ for slot in vars(base).get("__slots__", ()) if hasattr(instance, slot)]
    state = {**getattr(instance, "__dict__", {}), **{name: getattr(instance, name) for name in names}}
    for name, value in state.items():
        found = next((part for part in _parts(value) if isinstance(part, Dependency)), None)
        if found is not None:
            raise DeclarationError(
                f"{cls.__name__}.__init__ puts {found!r} into self.{name}, but what a service depends on has to be "
                f"known before it starts: write `{name if found is value else 'name'} = {found!r}` in the body of the "
                "class, above __init__"
            )


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()


def _restore(target: str | None, url: str | None, token: str | None, attribute: str) -> Dependency:
    dependency = Dependency(target, url, token)
    dependency._attribute = attribute
    return dependency


def depends(target: Any = None, /, *, url: str | None = None, token: str | None = None) -> Any:
    """Declare a dependency: another service as an attribute of this one.

    Args:
        target: A service (its class), or the name of one, so that cells may be in any order.
        url: The address of an nbcompose service elsewhere, instead of `target`.
        token: The bearer token of the service at `url`, if it requires one.

    Returns:
        A descriptor. The attribute of an instance is a proxy of the other service.
    """
    return Dependency(target, url, token)

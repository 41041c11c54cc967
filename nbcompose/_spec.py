"""What a service declares, as frozen data: no sockets, processes or loops.

`introspect.py` makes these from classes; everything below and above reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ParamKind = Literal["positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"]


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter of an api, `self` left out."""

    name: str
    kind: ParamKind
    required: bool
    text: str  # as in the signature, e.g. "top_k: int = 3"


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How calls of a batchable api are joined.

    `batch_dim` is the dimension along which inputs are joined and results are split. `max_latency_ms` bounds how
    long the first call of a batch waits for company; None: never wait, join only what has queued up.
    """

    batch_dim: tuple[int, int] = (0, 0)
    max_batch_size: int = 100
    max_latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ApiSpec:
    """One method that others may call.

    `name` is what callers say, `method` the attribute of the class. `stream`: it yields items. `is_async`: it runs
    on the replica's event loop. `idempotent`: a call that its replica did not live to answer may be made once more.
    `interruptible`: where it does not, it may be ended when nobody waits for it any more.
    """

    name: str
    method: str
    route: str
    params: tuple[ParamSpec, ...]
    returns: str = ""
    stream: bool = False
    is_async: bool = False
    batch: BatchPolicy | None = None
    doc: str = ""
    idempotent: bool = False
    interruptible: bool = True

    @property
    def root(self) -> ParamSpec | None:
        """The parameter that the body of an HTTP request stands for as a whole: the only one, and positional-only.

        Nobody calls it by its name, in Python neither. None: the body is an object of the parameters.
        """
        alone = len(self.params) == 1 and self.params[0].kind == "positional_only"
        return self.params[0] if alone else None

    @property
    def signature(self) -> str:
        """The signature as a person would write it, e.g. `embed(texts: list[str]) -> np.ndarray`."""
        parts: list[str] = []
        for i, p in enumerate(self.params):
            if p.kind == "keyword_only" and not any(
                q.kind in ("keyword_only", "var_positional") for q in self.params[:i]
            ):
                parts.append("*")
            parts.append(p.text)
            last = i + 1 == len(self.params)
            if p.kind == "positional_only" and (last or self.params[i + 1].kind != "positional_only"):
                parts.append("/")
        return f"{self.name}({', '.join(parts)})" + (f" -> {self.returns}" if self.returns else "")


@dataclass(frozen=True, slots=True)
class DependencySpec:
    """`attribute = depends(...)`: by the name of a registered service, or by the url of one elsewhere."""

    attribute: str
    service: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """What the service asks for: CPU cores (sets thread counts), GPUs, bytes of memory."""

    cpu: float | None = None
    gpu: int = 0
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Limits on calls: seconds, calls at once in a replica, calls that may wait for a place.

    `interrupt_after`: seconds that sync code may run on after its caller has gone, before it is interrupted; 0: for
    ever, None: as where it is served. `replace_after`: seconds that a replica may be of no use (all its worker threads
    held by such calls, or its process stopped) before another one takes its place; 0: for ever.
    """

    timeout: float = 60.0
    max_concurrency: int | None = None
    max_queue: int | None = None
    interrupt_after: float | None = None
    replace_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Http:
    """Where and to whom the service answers over HTTP, and what it takes. Port 0: any free one.

    `max_body` is in bytes; `max_values` are those of a body of JSON.
    """

    port: int = 0
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()
    max_body: int = 256 * 1024 * 1024
    max_values: int = 500_000


@dataclass(frozen=True, slots=True)
class Location:
    """Where a class was written."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "<unknown>"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A declared service. `cls` is the user's own class, undecorated."""

    name: str
    cls: type[Any] = field(repr=False, compare=False)
    apis: tuple[ApiSpec, ...]
    dependencies: tuple[DependencySpec, ...] = ()
    device: str | None = None
    replicas: int = 1
    threads: int = 1
    resources: Resources = Resources()
    traffic: Traffic = Traffic()
    envs: Mapping[str, str] = field(default_factory=dict, repr=False)
    http: Http = Http()
    on_startup: tuple[str, ...] = ()
    on_shutdown: tuple[str, ...] = ()
    strict: bool = False
    location: Location = Location()

    def api(self, name: str) -> ApiSpec | None:
        """The api that callers know as `name`, or None."""
        return next((a for a in self.apis if a.name == name), None)

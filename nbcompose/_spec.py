"""Declaration of a service as frozen data; created from classes by `_service/introspect.py`, read by all rooms."""

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

    `batch_dim`: dimensions along which inputs are joined and results are split. `max_latency_ms`: how long the first
    call of a batch may wait for others; None: it does not wait, and only calls that are queued are joined.
    """

    batch_dim: tuple[int, int] = (0, 0)
    max_batch_size: int = 100
    max_latency_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ApiSpec:
    """One method that can be called from outside.

    `name`: its name for callers; `method`: the attribute of the class. `stream`: it yields items. `is_async`: it runs
    on the replica's event loop. `idempotent`: a call whose replica died may be retried. `interruptible`: sync code of
    an abandoned call may be interrupted. `record`: its arguments and answers may be recorded. `stream_params`: the
    names of the parameters that take a live stream.
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
    record: bool = True
    stream_params: tuple[str, ...] = ()

    @property
    def root(self) -> ParamSpec | None:
        """The parameter that is the whole body of an HTTP request: the only one, if it is positional-only.

        None: the body is an object of the parameters.
        """
        alone = len(self.params) == 1 and self.params[0].kind == "positional_only"
        return self.params[0] if alone else None

    @property
    def signature(self) -> str:
        """The signature as source text, e.g. `embed(texts: list[str]) -> np.ndarray`."""
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
    """Requested resources: CPU cores (sets thread counts), number of GPUs, memory in bytes."""

    cpu: float | None = None
    gpu: int = 0
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Limits on calls: timeout in seconds, concurrent calls in a replica, calls in its queue.

    `interrupt_after`: seconds after which sync code of an abandoned call is interrupted; 0: never; None: the default
    of the place where it is served. `replace_after`: seconds after which an unusable replica is replaced (all its
    worker threads are held by abandoned calls, or its process is stopped); 0: never.
    """

    timeout: float = 60.0
    max_concurrency: int | None = None
    max_queue: int | None = None
    interrupt_after: float | None = None
    replace_after: float = 30.0


@dataclass(frozen=True, slots=True)
class Http:
    """Address, allowed origins and limits of the service's HTTP server. Port 0: any free one.

    `max_body`: bytes of a request's body. `max_values`: number of values in a JSON body.
    """

    port: int = 0
    host: str = "127.0.0.1"
    cors_origins: tuple[str, ...] = ()
    max_body: int = 256 * 1024 * 1024
    max_values: int = 500_000


@dataclass(frozen=True, slots=True)
class Location:
    """File and line of a class definition."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else "<unknown>"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A declared service. `cls` is the user's own class, undecorated. `openai`: its language models also answer as an
    OpenAI-compatible server.
    """

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
    openai: bool = False
    location: Location = Location()

    def api(self, name: str) -> ApiSpec | None:
        """Return the api of that name, or None."""
        return next((a for a in self.apis if a.name == name), None)

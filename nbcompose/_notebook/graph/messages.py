"""Messages between the kernel and the front end of the live graph: the types of both sides.

`scripts/message_types.py` writes them as TypeScript to static/src/messages.d.ts, and the front end is checked against
that. What comes from a browser is not trusted to be so: see `LiveGraph._answer`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from nbcompose._control import ServiceState
from nbcompose._spec import ParamKind
from nbcompose._tracing import SpanRow, Summary

# -- the state, which the kernel keeps in the widget


class Api(TypedDict):
    name: str
    signature: str
    doc: str
    stream: bool


class Service(TypedDict):
    """One service. `behind` says why the version wanted last does not serve; `serving` is the number of the one that
    does.
    """

    name: str
    id: str
    state: ServiceState
    reason: str
    phase: str
    coming: str
    reversible: bool
    device: str
    up: int
    wanted: int
    in_flight: int
    calls: int
    errors: int
    rate: float
    p50_ms: float | None
    memory: int | None
    error: str
    behind: str
    stale: list[str]
    notes: list[str]
    serving: int
    apis: list[Api]
    dependencies: list[str]


Edge = TypedDict(
    "Edge",
    {
        "from": str,
        "to": str,
        "id": str,
        "calls": int,
        "in_flight": int,
        "streaming": int,
        "sent": int,
        "received": int,
    },
)


class State(TypedDict):
    version: int
    services: list[Service]
    edges: list[Edge]
    svg: str


# -- what the front end asks for


class Look(TypedDict):
    """Whether somebody looks, in the front end `client`."""

    type: Literal["look"]
    client: str
    on: bool


class FormRequest(TypedDict):
    type: Literal["form"]
    service: str
    api: str


class Call(TypedDict):
    """`arguments`: those that were filled in, by name; JSON, and uploads as `forms.read` has them."""

    type: Literal["call"]
    id: str
    service: str
    api: str
    arguments: dict[str, Any]


class Cancel(TypedDict):
    type: Literal["cancel"]
    id: str


class LogsRequest(TypedDict):
    type: Literal["logs"]
    service: str
    lines: NotRequired[int]


class TracesRequest(TypedDict):
    type: Literal["traces"]


class TraceRequest(TypedDict):
    type: Literal["trace"]
    trace: str


class Act(TypedDict):
    type: Literal["restart", "stop", "rollback"]
    service: str


class Scale(TypedDict):
    type: Literal["scale"]
    service: str
    replicas: int


Request = Look | FormRequest | Call | Cancel | LogsRequest | TracesRequest | TraceRequest | Act | Scale


# -- what the kernel says

# A value as a notebook shows it, by media type.
Bundle = TypedDict(
    "Bundle",
    {
        "text/plain": str,
        "text/html": str,
        "text/markdown": str,
        "text/latex": str,
        "image/svg+xml": str,
        "image/png": str,
        "image/jpeg": str,
        "application/json": Any,
    },
    total=False,
)


class Here(TypedDict):
    """The answer to a look."""

    type: Literal["here"]


class Param(TypedDict):
    name: str
    kind: ParamKind
    required: bool
    text: str


class Copies(TypedDict):
    """A call as code, with placeholders for what is filled in."""

    python: str
    httpx: str
    curl: str


class FormContent(TypedDict):
    """`root`: the parameter that is the whole body; `schema`: the JSON schema of the input; `parts`: of the parameters
    that may be files, in a multipart form.
    """

    service: str
    api: str
    schema: dict[str, Any]
    parts: dict[str, Any]
    params: list[Param]
    root: str | None
    stream: bool
    doc: str
    signature: str
    copies: Copies


class Form(FormContent):
    type: Literal["form"]


class Begun(TypedDict):
    """A call is under way that has nothing else to say yet."""

    type: Literal["begun"]
    id: str


class Item(TypedDict):
    type: Literal["item"]
    id: str
    n: int
    bundle: Bundle


class Items(TypedDict):
    type: Literal["items"]
    id: str
    items: list[Item]


class Result(TypedDict):
    type: Literal["result"]
    id: str
    seconds: float
    bundle: Bundle


class End(TypedDict):
    """A stream is over."""

    type: Literal["end"]
    id: str
    seconds: float


class Cancelled(TypedDict):
    type: Literal["cancelled"]
    id: str
    seconds: float


class Problem(TypedDict):
    loc: list[str | int]
    msg: str


class Failure(TypedDict):
    name: str
    message: str
    traceback: str
    problems: list[Problem]


class Failed(Failure):
    type: Literal["failed"]
    id: str
    seconds: float


class Logs(TypedDict):
    type: Literal["logs"]
    service: str
    lines: list[str]


class Traces(TypedDict):
    type: Literal["traces"]
    traces: list[Summary]


class Trace(TypedDict):
    type: Literal["trace"]
    trace: str
    rows: list[SpanRow]


class Done(TypedDict):
    type: Literal["done"]
    action: str
    service: str


class Refused(TypedDict):
    """`action` is the type of the request; what it was about comes back."""

    type: Literal["refused"]
    action: str
    message: str
    service: NotRequired[str]
    api: NotRequired[str]
    trace: NotRequired[str]


CallMessage = Begun | Item | Items | Result | End | Cancelled | Failed
Reply = Here | Form | Logs | Traces | Trace | Done | Refused
Message = CallMessage | Reply

"""Messages of the runtime protocol: what clients ask of a process that runs services, and what it says.

The same definitions hold for other processes of this user (a private socket, see `_protocol/server.py`) and for the
front end of the live graph (a comm of the notebook). Both sides check what comes against them (`_protocol/wire.py`);
`scripts/message_types.py` writes them as TypeScript.

To add a message, define it here, name it in `RuntimeRequest`, and write the function of that name in
`_control/operations.py`. Within one `PROTOCOL`, messages only gain fields that are `NotRequired`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

PROTOCOL = 1
MOST_LINES = 10_000  # of a log in one answer: so many are kept


class Limit(NamedTuple):
    """Bounds of a number, or of the length of a text or a list."""

    most: int
    least: int = 0


Id = Annotated[str, Limit(64, 1)]
Name = Annotated[str, Limit(1000)]
Version = Annotated[str, Limit(100)]
LogCount = Annotated[int, Limit(MOST_LINES, 1)]

CallState = Literal["answered", "failed", "cancelled"]
ServiceState = Literal["starting", "waiting", "ready", "failed", "stopped"]
# What a run of a cell would do with a service: nothing, a first version, new code for the replicas that run, new ones.
Outcome = Literal["nothing", "start", "swap", "replace", "unknown"]
ParamKind = Literal["positional_only", "positional_or_keyword", "var_positional", "keyword_only", "var_keyword"]

# -- the state of the services


class Api(TypedDict):
    name: str
    signature: str
    doc: str
    stream: bool


class ApiNumbers(TypedDict):
    """How the calls of an api have ended, since the service's replicas started, and the durations of its answers in the
    last five minutes, in seconds; None where it has not answered in that time.
    """

    api: str
    answered: int
    failed: int
    refused: int
    cancelled: int
    p50: float | None
    p95: float | None


class Service(TypedDict):
    """One service. `p50_ms` is that of the api that has answered most, of those that have answered in the last five
    minutes. `memory_limit`: what all replicas ask for, and `memory_over`: whether one of them uses more than its share.
    `behind` says why the version wanted last does not serve; `serving` is the number of the one that does. `options`:
    those that are not the default, without variables of the environment. `cell`: the front end's id of the notebook's
    cell that started it, "" where there is none; `source`: the hash of that cell's text, "" where it is not known:
    FNV-1a of 64 bits, in 16 hex digits, of the text in UTF-8 without white space at its end.
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
    options: dict[str, Any]
    cell: str
    source: NotRequired[str]
    numbers: NotRequired[list[ApiNumbers]]
    memory_limit: NotRequired[int | None]
    memory_over: NotRequired[bool]
    gpu_memory: NotRequired[int | None]


class StoppedService(TypedDict):
    """A service that a cell started, and that was stopped since. `cell`, `source`: as of `Service`."""

    name: str
    cell: str
    source: str


class ListedService(Service):
    """`url` is "" where the service does not answer over HTTP."""

    url: str


# `passed`: the first does not depend on the second, and has read streams of it that others have passed to it.
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
        "passed": NotRequired[bool],
    },
)


class State(TypedDict):
    """`svg` is the drawing, "" where none was asked for or none can be made. `stopped`: those that cells started, and
    that do not run any more.
    """

    version: int
    services: list[Service]
    edges: list[Edge]
    svg: str
    stopped: NotRequired[list[StoppedService]]


# -- what is asked: each request goes with an id, unique among those of its client that are under way. Clients give it.


class HelloRequest(TypedDict):
    """The first message of a connection. `protocol`: the newest that the client speaks, `version`: its nbcompose's."""

    id: NotRequired[Id]
    type: Literal["hello"]
    protocol: Annotated[int, Limit(1_000_000, 1)]
    version: Version


class PsRequest(TypedDict):
    id: NotRequired[Id]
    type: Literal["ps"]


class WatchRequest(TypedDict):
    """The state now, and each time that it has changed. `services`: only these and what is below them; `picture`: with
    the drawing. `folded`: services of which it leaves out what is only below them; with it, others can be folded.
    `width`: the pixels that the drawing has room for, without which it is as wide as an output of a notebook. `brief`:
    only when services come or go, change their state, address or version, become stale, or begin or end to be
    replaced, and not at each call.
    """

    id: NotRequired[Id]
    type: Literal["watch"]
    services: NotRequired[Annotated[list[Name], Limit(1000)]]
    picture: NotRequired[bool]
    folded: NotRequired[Annotated[list[Name], Limit(1000)]]
    width: NotRequired[Annotated[int, Limit(10_000, 100)]]
    brief: NotRequired[bool]


class FormRequest(TypedDict):
    id: NotRequired[Id]
    type: Literal["form"]
    service: Name
    api: Name


class Call(TypedDict):
    """`arguments`: those that were filled in, by name; JSON, and uploads as `forms.read` has them. For an api whose
    only parameter is the whole body, the body itself. One that takes a stream may be `{"$typed": {"stream": …,
    "items": […]}}`: further items come by `feed`, under that id, until `end_feed`. Or `{"$stream": {"service": …,
    "api": …, "arguments": {…}}}`: what that api yields, which goes from its service to this one.
    """

    id: NotRequired[Id]
    type: Literal["call"]
    service: Name
    api: Name
    arguments: NotRequired[Any]


class Feed(TypedDict):
    """One more item of a stream in the arguments of a call; `stream`: the id that the call gave it. `done` comes when
    the item has been taken, or there is room for it; where it is wrong, the stream goes on without it.
    """

    id: NotRequired[Id]
    type: Literal["feed"]
    stream: Id
    item: Any


class EndFeed(TypedDict):
    """No more items of that stream come."""

    id: NotRequired[Id]
    type: Literal["end_feed"]
    stream: Id


class Cancel(TypedDict):
    """`id` is that of the request to cancel, which then ends with `cancelled`. It has no answer of its own."""

    id: Id
    type: Literal["cancel"]


class LogsRequest(TypedDict):
    """The last `lines` (200). With `follow` they come as `lines` events, as do later ones until the service stops.

    Only lines of a level, such as "warning", and above; of an api; of the trace whose id begins so.
    """

    id: NotRequired[Id]
    type: Literal["logs"]
    service: Name
    lines: NotRequired[LogCount]
    follow: NotRequired[bool]
    level: NotRequired[Annotated[str, Limit(100)]]
    api: NotRequired[Name]
    trace: NotRequired[Annotated[str, Limit(32)]]


class TracesRequest(TypedDict):
    """The last traces with a call of this service, this api and this state that began at `since` (Unix time) or later,
    and that has `text` in its name, its error, its arguments or its answer.
    """

    id: NotRequired[Id]
    type: Literal["traces"]
    service: NotRequired[Name]
    api: NotRequired[Name]
    state: NotRequired[CallState]
    since: NotRequired[float]
    text: NotRequired[Name]


class TraceRequest(TypedDict):
    id: NotRequired[Id]
    type: Literal["trace"]
    trace: Annotated[str, Limit(32, 1)]


class RecordedRequest(TypedDict):
    """The arguments and answers of a trace's calls, where they are recorded."""

    id: NotRequired[Id]
    type: Literal["recorded"]
    trace: Annotated[str, Limit(32, 1)]


class ForgetRequest(TypedDict):
    """Forget the arguments and answers that were recorded, of a service or of all."""

    id: NotRequired[Id]
    type: Literal["forget"]
    service: NotRequired[Name]


class HistoryRequest(TypedDict):
    """The numbers of a service in the last ten minutes."""

    id: NotRequired[Id]
    type: Literal["history"]
    service: Name


class Act(TypedDict):
    id: NotRequired[Id]
    type: Literal["restart", "stop", "rollback"]
    service: Name


class Scale(TypedDict):
    id: NotRequired[Id]
    type: Literal["scale"]
    service: Name
    replicas: Annotated[int, Limit(10_000)]


class ReachRequest(TypedDict):
    """Where a service answers over HTTP, with its token: over the private socket only."""

    id: NotRequired[Id]
    type: Literal["reach"]
    service: Name


class DebugRequest(TypedDict):
    """Attach a debugger to the replicas of a service, or to one, until the request is cancelled. What it says comes as
    `debugged` events. `post_mortem`: it stops where an api raises, and not at the next call.
    """

    id: NotRequired[Id]
    type: Literal["debug"]
    service: Name
    replica: NotRequired[Annotated[int, Limit(10_000)]]
    post_mortem: NotRequired[bool]


class DebugLine(TypedDict):
    """What was typed at the prompt of a debugger; `debugger`: the name that its events have."""

    id: NotRequired[Id]
    type: Literal["debug_line"]
    debugger: Id
    line: Annotated[str, Limit(100_000)]


class ProfileRequest(TypedDict):
    """What the replicas of a service, or one of them, do in the next seconds; `native`: with frames of C code."""

    id: NotRequired[Id]
    type: Literal["profile"]
    service: Name
    seconds: Annotated[int, Limit(600, 1)]
    replica: NotRequired[Annotated[int, Limit(10_000)]]
    native: NotRequired[bool]


class CellText(TypedDict):
    """A cell of a notebook as it is written now; `cell` is the front end's id."""

    cell: Annotated[str, Limit(1000)]
    text: Annotated[str, Limit(1_000_000)]


class PlanRequest(TypedDict):
    """What a run of each of these cells would do with services, as the notebook is now. Nothing of their text runs."""

    id: NotRequired[Id]
    type: Literal["plan"]
    cells: Annotated[list[CellText], Limit(1000)]


class Look(TypedDict):
    """Whether somebody looks, in the front end `client`. Asked of the live graph only."""

    id: NotRequired[Id]
    type: Literal["look"]
    client: Annotated[str, Limit(64)]
    on: bool


class Fold(TypedDict):
    """Leave out of the picture what is only below a service, or show it again. Asked of the live graph only."""

    id: NotRequired[Id]
    type: Literal["fold"]
    service: Name
    on: bool


class KeptRequest(TypedDict):
    """What the last call of an api has said up to now. Asked of the live graph only."""

    id: NotRequired[Id]
    type: Literal["kept"]
    service: Name
    api: Name


Request = (
    Look
    | Fold
    | KeptRequest
    | FormRequest
    | Call
    | Feed
    | EndFeed
    | Cancel
    | LogsRequest
    | TracesRequest
    | TraceRequest
    | RecordedRequest
    | ForgetRequest
    | HistoryRequest
    | Act
    | Scale
    | PlanRequest
)
RuntimeRequest = (
    HelloRequest
    | PsRequest
    | WatchRequest
    | FormRequest
    | Call
    | Feed
    | EndFeed
    | Cancel
    | LogsRequest
    | TracesRequest
    | TraceRequest
    | RecordedRequest
    | ForgetRequest
    | HistoryRequest
    | Act
    | Scale
    | PlanRequest
    | ReachRequest
    | DebugRequest
    | DebugLine
    | ProfileRequest
)

# -- what is said: any number of events for some requests, and one message that ends it, all with the request's id

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


class Hello(TypedDict):
    """`protocol`: the one that is spoken from here on. `kernel`: the kernel's id, and `session`: the notebook's path
    when the kernel was started, "" elsewhere. `messages`: the types of requests that the process knows.
    """

    id: Id
    type: Literal["hello"]
    protocol: int
    version: Version
    pid: int
    kernel: str
    session: str
    title: str
    messages: list[str]


class Ps(TypedDict):
    id: Id
    type: Literal["ps"]
    services: list[ListedService]
    stopped: NotRequired[list[StoppedService]]


class Here(TypedDict):
    """The answer to a look."""

    id: Id
    type: Literal["here"]


class Changed(State):
    """An event of a watch."""

    id: Id
    type: Literal["state"]


class Param(TypedDict):
    """`stream`: it takes a live stream; its JSON is a list of the items."""

    name: str
    kind: ParamKind
    required: bool
    text: str
    stream: NotRequired[bool]


class Copies(TypedDict):
    """A call as code, with placeholders for what is filled in: for the notebook, and for three places outside."""

    python: str
    script: str
    terminal: str
    javascript: str


class FormContent(TypedDict):
    """`root`: the parameter that is the whole body; `schema`: the JSON schema of the input; `parts`: of the parameters
    that may be files, in a multipart form; `variables`: by parameter, those of the notebook that it takes. `call`:
    `copies.python` as an expression. `lines`: for an api that takes streams, `copies.terminal` with a body of lines,
    which are sent as they come; `events`: for one that takes one stream, with that of another service as the body.
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
    variables: dict[str, list[str]]
    call: NotRequired[str]
    lines: NotRequired[str]
    events: NotRequired[str]


class Form(FormContent):
    id: Id
    type: Literal["form"]


class Begun(TypedDict):
    """A call is under way that has nothing else to say yet."""

    id: Id
    type: Literal["begun"]


class Item(TypedDict):
    id: Id
    type: Literal["item"]
    n: int
    bundle: Bundle


class Items(TypedDict):
    """Several items in one message, for front ends."""

    id: Id
    type: Literal["items"]
    items: list[Item]


class Result(TypedDict):
    id: Id
    type: Literal["result"]
    seconds: float
    bundle: Bundle


class End(TypedDict):
    """A stream is over."""

    id: Id
    type: Literal["end"]
    seconds: float


class Cancelled(TypedDict):
    id: Id
    type: Literal["cancelled"]
    seconds: float


class Problem(TypedDict):
    loc: list[str | int]
    msg: str


class Failure(TypedDict):
    """An exception: the name of its class, its message, the frames of replicas, and what is wrong with arguments."""

    name: str
    message: str
    traceback: str
    problems: list[Problem]


class Failed(Failure):
    """`action` is the type of the request; what it was about comes back. `id` is null, and `action` "", where what came
    was no message.
    """

    id: str | None
    type: Literal["failed"]
    action: str
    seconds: float
    service: NotRequired[str]
    api: NotRequired[str]
    trace: NotRequired[str]


class LogDetails(TypedDict):
    """Of a line of a log: Unix time; level, api and trace are "" where there is none."""

    time: float
    level: str
    replica: int
    api: str
    trace: str


class Logs(TypedDict):
    """`details`: of each line."""

    id: Id
    type: Literal["logs"]
    service: str
    lines: list[str]
    details: NotRequired[list[LogDetails]]


class Lines(TypedDict):
    """An event of logs that are followed. `missed`: how many lines before these are kept no more."""

    id: Id
    type: Literal["lines"]
    service: str
    lines: list[str]
    missed: int
    details: NotRequired[list[LogDetails]]


class Debugged(TypedDict):
    """An event of a debugger: what is shown, and the prompt at which it waits for a line; null: it waits for none."""

    id: Id
    type: Literal["debugged"]
    debugger: Id
    text: str
    prompt: str | None


class SpanRow(TypedDict):
    """One call. `start` is relative to the start of the trace; `queued`, `first_item` and `last_item` to this start.
    Times are seconds.

    `parent` is "" if the call has no caller; the row that it names is missing if the caller is outside nbcompose.
    `input_wait`: the part in which it waited for items of the streams among its arguments, where there were some.
    """

    span: str
    parent: str
    service: str
    api: str
    replica: int
    depth: int
    start: float
    queued: float
    seconds: float
    first_item: float | None
    last_item: float | None
    error: str
    input_wait: NotRequired[float]


class Summary(TypedDict):
    """One trace in one line. `root` is e.g. "Answer.ask", `spans` the number of calls, `error` the root's error."""

    trace: str
    root: str
    start: float
    seconds: float
    spans: int
    error: str


class Traces(TypedDict):
    id: Id
    type: Literal["traces"]
    traces: list[Summary]


class Trace(TypedDict):
    id: Id
    type: Literal["trace"]
    trace: str
    rows: list[SpanRow]


class RecordedArgument(TypedDict):
    name: str
    text: str


class CallValues(TypedDict):
    """Arguments and answer of a call, as texts. `items`: how many a stream has given, of which `first` and `last` are
    some; None where it is no stream. `held`: some are objects as they are now. `why_not`: why nothing is there.
    """

    span: str
    arguments: list[RecordedArgument]
    answer: str | None
    error: str
    items: int | None
    first: list[str]
    last: list[str]
    held: bool
    why_not: str


class Recorded(TypedDict):
    id: Id
    type: Literal["recorded"]
    trace: str
    calls: list[CallValues]


class UsageStep(TypedDict):
    """What happened in a step: calls that ended, how many of them failed, the time in seconds that 95 % of the answers
    took at most, and the most memory in bytes; None where it is not known.
    """

    calls: int
    failed: int
    p95: float | None
    memory: int | None


class History(TypedDict):
    """`step`: seconds; the last of `steps` is the present one."""

    id: Id
    type: Literal["history"]
    service: str
    step: float
    steps: list[UsageStep]


class Profiled(TypedDict):
    """A profile: a table of functions, and a flame graph."""

    id: Id
    type: Literal["profiled"]
    service: str
    text: str
    svg: str


class PlannedService(TypedDict):
    """What a run of its cell would do with one service, and why; for `unknown`, why that cannot be told, and `service`
    is "" where not even the names of services are known.
    """

    service: str
    outcome: Outcome
    why: str


class PlannedCell(TypedDict):
    """`services`: those that the cell would start or change, or that are affected where that cannot be told."""

    cell: str
    services: list[PlannedService]


class Planned(TypedDict):
    id: Id
    type: Literal["planned"]
    cells: list[PlannedCell]


class Done(TypedDict):
    id: Id
    type: Literal["done"]
    action: str
    service: str


class Reach(TypedDict):
    """`token` is null where callers need none. Secret: never in a log or an output."""

    id: Id
    type: Literal["reach"]
    service: str
    host: str
    port: int
    token: str | None


class Kept(TypedDict):
    """`call` is the id of the call, "" where there is none; it began `seconds` ago. `count`: how many items came, of
    which the first ones are here. `end` is null while it runs. `typed`: by parameter, the streams that `feed` goes on
    with.
    """

    id: Id
    type: Literal["kept"]
    service: str
    api: str
    call: str
    seconds: float
    count: int
    items: list[Item]
    end: Result | End | Cancelled | Failed | None
    typed: NotRequired[dict[str, str]]


Event = Changed | Lines | Begun | Item | Items | Debugged
CallMessage = Begun | Item | Items | Result | End | Cancelled | Failed
Reply = Here | Kept | Form | Logs | Traces | Trace | Recorded | History | Planned | Done
Message = CallMessage | Reply
RuntimeReply = (
    Hello
    | Ps
    | Form
    | Logs
    | Traces
    | Trace
    | Recorded
    | History
    | Profiled
    | Planned
    | Done
    | Reach
    | Result
    | End
    | Cancelled
    | Failed
)

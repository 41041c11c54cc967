"""Every exception and warning of nbcompose, each with its HTTP status.

    NbcomposeError
    ├── DeclarationError          mistakes in a class, all of them, with file and line
    │   └── CycleError            `depends` goes round in a circle
    ├── ExportRefused             the notebook does not explain what a script of its services would need
    ├── LaunchError               a service could not be started
    │   ├── CannotSwap            the replicas that run cannot take over the new code
    │   ├── CaptureError          something that the class uses cannot be sent to its replica
    │   ├── DeviceError           the device asked for does not exist
    │   ├── Incompatible          a service that depends on it calls an api that the new class does not have
    │   ├── ModelError            a model could not be loaded from the hub
    │   ├── MemoryShortage        the memory asked for is not there, and `--strict` was given
    │   └── PortInUse             the HTTP port belongs to another process
    ├── Misuse                    a function of nbcompose was given what it does not take
    ├── NoTerminal                `input()` in a replica, at which nobody types
    ├── ProtocolError             what another process of nbcompose says is no message, or of another version
    └── CallError                 one call failed; the service goes on
        ├── BadRequest            400  the bytes are not what the content type says
        ├── Unauthorized          401  no token, or a wrong one
        ├── Forbidden             403  foreign `Host`, `Origin` or `Sec-Fetch-Site`
        ├── UnknownApi            404  the service has no such api
        ├── UnknownService        404  nothing is registered by that name
        ├── MethodNotAllowed      405  an api is called with POST
        ├── NotAcceptable         406  no form of the result fits `Accept`
        ├── SlowRequest           408  the body did not arrive in time
        ├── PayloadTooLarge       413  a body, a form or a value beyond a limit, which the message names
        ├── PromptTooLong         413  a prompt has more tokens than the language model's context
        ├── UnsupportedMediaType  415  the api takes no body of this type
        ├── InvalidArgument       422  an argument is missing, unknown or of the wrong type
        ├── UnsupportedOption     422  the language model cannot do what an option of a generation asks for
        ├── Overloaded            429  `max_concurrency` and `max_queue` are both full
        ├── HeadersTooLarge       431  more header bytes than a request may have
        ├── CallCancelled         499  the caller gave up
        ├── InvalidResult         500  the api returned what its annotation rules out
        ├── RemoteError           500  an exception whose own type cannot be rebuilt here
        ├── BlockingCall          500  a sync call on the event loop that would have to answer it
        ├── NotAwaited            500  what a call of an async api gave is taken for its answer
        ├── ServiceUnavailable    503  not ready, stopped or failed
        │   └── NotBegun          503  the replica has to go, and had not begun with the call
        ├── ReplicaDied           503  the replica went away while it worked on the call
        └── DeadlineExceeded      504  the caller's timeout ran out

    CallInterrupted (a BaseException)     raised inside an api that runs on long after its caller has gone

    NbcomposeWarning
    └── UnknownArgumentWarning, NotAwaitedWarning, IgnoredOptionWarning, LargeCaptureWarning, ResourceShortageWarning

The status is that of an error in the very request: what a service's own calls raise is no mistake of its caller's, see
`NbcomposeError.internal`.

An exception that user code raises in a replica reaches the caller as itself where its type can be rebuilt, and as
`RemoteError` otherwise; either way `__cause__` is a `RemoteTraceback` with the frames of the replica.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self


class NbcomposeError(Exception):
    """Base of everything that nbcompose raises on purpose.

    `internal`: it came out of a call that a service made itself, so that whoever called that service is not to blame,
    whatever `status` says: over HTTP it is a 500. (One that is full below is a 503; 503 and 504 stay.)
    `of_client`: what an HTTP client sends while the call runs is wrong, which is its fault wherever it was noticed.
    """

    status = 500
    internal = False
    of_client = False

    def from_below(self) -> Self:
        """This error, marked as internal."""
        self.internal = True
        return self


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a declaration, and where."""

    message: str
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}" if self.file else self.message


class DeclarationError(NbcomposeError, TypeError):
    """A class cannot be a service; `mistakes` lists every reason."""

    def __init__(self, message: str, mistakes: Sequence[Mistake] = ()) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join([message, *(f"  {m}" for m in self.mistakes)]))


class CycleError(DeclarationError):
    """Services depend on one another in a circle; the message draws it."""


class ExportRefused(NbcomposeError):
    """No script of these services would be right; `reasons` lists why, each with the cell, the line and the way out."""

    def __init__(self, message: str, reasons: Sequence[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join([message, *(f"  {r}" for r in self.reasons)]))


class LaunchError(NbcomposeError):
    """A service could not be started.

    `details` is what the replica had to say: its traceback, or its last output.
    """

    status = 503

    def __init__(self, message: str, details: str = "") -> None:
        self.details = details
        super().__init__(f"{message}\n\n{details.rstrip()}" if details else message)


class CannotSwap(LaunchError):
    """The instance that runs cannot be given the new code: new replicas are needed."""


class Incompatible(LaunchError):
    """A service that depends on this one calls an api that its new version does not have."""


class CaptureError(LaunchError):
    """A name that the class uses holds a value that cannot be sent to a replica."""


class DeviceError(LaunchError):
    """The device asked for does not exist on this machine."""


class ModelError(LaunchError):
    """A model could not be loaded: gated, missing, or no network and not in the cache."""


class MemoryShortage(LaunchError):
    """The service asks for more memory than is free."""


class PortInUse(LaunchError):
    """The HTTP port asked for belongs to another process."""


class Misuse(NbcomposeError, TypeError, ValueError):
    """A function of nbcompose was given what it does not take. Both of what Python's own functions raise for that."""


class NoTerminal(NbcomposeError, EOFError):
    """An api asked for input from a terminal, which a replica has not."""


class ProtocolError(NbcomposeError):
    """What another process of nbcompose says cannot be understood; the message names what is wrong with it."""


class CallError(NbcomposeError):
    """One call failed; the service goes on."""


class BadRequest(CallError):
    status = 400


class Unauthorized(CallError):
    status = 401


class Forbidden(CallError):
    status = 403


class UnknownApi(CallError, AttributeError):
    status = 404


class UnknownService(CallError, LookupError):
    """No service is registered by that name."""

    status = 404

    @classmethod
    def among(cls, name: str, known: Iterable[str]) -> Self:
        """The error of a name that is none of `known`."""
        return cls(f"no service is called {name!r}; there are: {', '.join(known) or 'none runs'}")


class MethodNotAllowed(CallError):
    """The path exists, for another HTTP method: an api is called with POST."""

    status = 405


class NotAcceptable(CallError):
    status = 406


class SlowRequest(CallError):
    status = 408


class PayloadTooLarge(CallError):
    """A body, a form or a value is beyond a limit; the message names the limit and how to change it."""

    status = 413


class PromptTooLong(CallError, ValueError):
    """A prompt does not fit the context of the language model.

    `prompt_tokens`: how many tokens it has, or at least has where it was still coming; `context_tokens`: how many fit.
    """

    status = 413

    def __init__(self, message: str, prompt_tokens: int = 0, context_tokens: int = 0) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens
        super().__init__(message)


class UnsupportedOption(CallError, ValueError):
    """An option of `generate` that the language model, or the server that it runs on, cannot do."""

    status = 422


class UnsupportedMediaType(CallError):
    """The api takes no body of this content type; the message names those it takes."""

    status = 415


class InvalidArgument(CallError, ValueError):
    """Arguments that the api's signature rules out.

    `problems` has one entry for each: {"loc": path in the arguments, "msg": text, "type": pydantic's error type}.
    """

    status = 422

    def __init__(self, message: str, problems: Sequence[dict[str, Any]] = ()) -> None:
        self.problems = list(problems)
        super().__init__(message)


class Overloaded(CallError):
    status = 429


class HeadersTooLarge(CallError):
    """The headers of a request have more bytes than are read."""

    status = 431


class CallCancelled(CallError):
    """The caller gave up: a closed connection, a closed stream, ■ in the notebook."""

    status = 499


class InvalidResult(CallError, TypeError):
    """An api returned, or yielded, what its annotation rules out."""


class BlockingCall(CallError, RuntimeError):
    """A sync call to a dependency was made on the replica's event loop."""


class StreamTaken(CallError, RuntimeError):
    """A stream was to be used twice: it can be read once, or passed on once."""


class StreamLag(CallError, RuntimeError):
    """A branch of a stream (`nbcompose.streams.tee`) was so far behind the others that its items were not kept."""


class NotAwaited(CallError, AttributeError):
    """What a call of an async api gave was taken for its answer: it has to be awaited first.

    An AttributeError, since it has nothing of what an answer has. (Python replaces a TypeError's message in places.)
    """


class RemoteError(CallError):
    """An exception raised in a replica, of a type that does not exist in this process.

    `type_name` is the qualified name of the exception's own type.
    """

    def __init__(self, message: str, type_name: str = "") -> None:
        self.type_name = type_name
        super().__init__(f"{type_name}: {message}" if type_name else message)


class ServiceUnavailable(CallError):
    status = 503


class NotBegun(ServiceUnavailable):
    """The replica had to go while the call waited for its turn: nothing has happened, and it may be made again.

    `here`: the replica that raises it is the one that has to go, not one that an api of it has called.
    """

    here = False


class ReplicaDied(CallError, ConnectionError):
    """The message says how the process ended, where that is known; a note (`__notes__`) has its last lines of output.

    `address`: where the replica answered calls, until that has been found out. `spent`: it had begun to read a stream
    of the caller's own, so that the call cannot be made again.
    """

    status = 503
    address = ""
    spent = False


class DeadlineExceeded(CallError, TimeoutError):
    status = 504


class CallInterrupted(BaseException):
    """Raised in sync code of an api that runs on long after its caller has gone: let it pass, nobody waits for it.

    No Exception, so that code which handles those does not take it for one.
    """


class RemoteTraceback(Exception):
    """Carries, as `__cause__`, the frames of the replicas that a call went through, the innermost first.

    `detail` is the error as data (_rpc/remote_errors.py), so that the next process up can tell the whole story.
    """

    def __init__(self, text: str, detail: object = None) -> None:
        self.text = text
        self.detail = detail
        super().__init__(text, detail)

    def __str__(self) -> str:
        return "\n" + self.text


class NbcomposeWarning(UserWarning):
    """Base of the warnings of nbcompose."""


class UnknownArgumentWarning(NbcomposeWarning):
    """A dependency's api was called with a keyword argument that it does not declare; the argument is ignored."""


class NotAwaitedWarning(NbcomposeWarning):
    """A call of an async api was dropped without being awaited: it was never made."""


class IgnoredOptionWarning(NbcomposeWarning):
    """An option that means something to BentoML's cloud and nothing here."""


class LargeCaptureWarning(NbcomposeWarning):
    """A service captures a large value from the notebook; each of its replicas gets a copy."""


class ResourceShortageWarning(NbcomposeWarning):
    """The machine has less than the service asks for: it runs all the same."""

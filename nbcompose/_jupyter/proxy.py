"""`nbcompose/at/{where}/{service}/…`: a service over HTTP with Jupyter's authentication, wherever Jupyter is reached.

The browser never has the service's token: it is put in here. So nothing is passed on before login, authorizer, XSRF
cookie and origin have been checked, which is when the head of a request has come and its body has not. From then on
both directions are passed on as they come, at once and without a limit in size or time; a client that leaves closes the
connection to the service, which cancels the call there.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import os
import socket
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Any, cast

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import JupyterHandler
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.httputil import HTTPHeaders
from tornado.iostream import StreamClosedError

from nbcompose._jupyter import rewriting
from nbcompose._jupyter.api import RESOURCE
from nbcompose._jupyter.reaching import Services, authority
from nbcompose._jupyter.rewriting import Target
from nbcompose._jupyter.upstream import NO_LIMIT, Gone, Upstream
from nbcompose.errors import CallError, ReplicaDied, ServiceUnavailable

PATHS = rf"/{rewriting.ROOT}(.*)"

JOINED = 64 * 1024  # bytes: an answer of a known length up to that one is sent together with its head
DRAIN = 16 * 1024 * 1024  # bytes that a client may still send after the answer, so that it can read it
DRAIN_WITHIN = 2.0  # seconds
MOST_DRAINED = 64  # clients that get that time at once

_draining: set[asyncio.Task[None]] = set()


class Refused(web.HTTPError):
    """A request that is not passed on, or has no answer. `kind`: the type of error that a program sees."""

    def __init__(self, status: int, message: str, kind: str) -> None:
        super().__init__(status, "%s", message)
        self.kind = kind

    @classmethod
    def of(cls, error: CallError) -> Refused:
        return cls(error.status, str(error), type(error).__name__)


@web.stream_request_body
class ProxyHandler(JupyterHandler):
    """Passes one request on, and its answer back."""

    auth_resource = RESOURCE

    def initialize(self, services: Services, counts: bool) -> None:
        self._services = services
        self._counts = counts  # it is activity of the user
        self._target: Target | None = None
        self._upstream: Upstream | None = None
        self._answering: asyncio.Task[None] | None = None
        self._host = ""  # the service's
        self._received = False  # the whole body of the request has come
        self._coming = -1  # bytes of it that have not, where its length is known
        self._head_sent = False
        self._joined = -1  # the length of an answer that is sent together with its head
        headers = self.request.headers
        self._has_body = headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in headers
        # The service's to answer to: where it stands in the request, tornado compresses each piece of the answer.
        self._accept_encoding = headers.get("Accept-Encoding")
        if self._accept_encoding is not None:
            del headers["Accept-Encoding"]
        self._take_modules_for_scripts()

    def _take_modules_for_scripts(self) -> None:
        """Have the modules of the documentation page loaded as its other files are.

        JupyterHub wants the XSRF token for every read but those of pages and of files of the same origin ("no-cors").
        Browsers load modules in the mode "cors" and can send no token with them; the page reads no more of them.
        """
        if self.request.method == "GET" and self._fetched_as == ("same-origin", "cors", "script"):
            target = rewriting.target(self.request.path, self.base_url)
            if target is not None and target.is_docs:
                self.request.headers["Sec-Fetch-Mode"] = "no-cors"

    @functools.cached_property
    def content_security_policy(self) -> str:  # Jupyter's own, made once for a request
        return super().content_security_policy

    def set_signed_cookie(self, name: str, value: str | bytes, *args: Any, **options: Any) -> None:
        """Pass over the login that Jupyter has kept by whoever sends a token.

        A program sends its token each time, and a login that outlives the token is more than it has asked for. A
        browser that has followed a link with a token in it does keep its login.
        """
        if "Authorization" not in self.request.headers:
            super().set_signed_cookie(name, value, *args, **options)

    set_secure_cookie = set_signed_cookie

    # -- admission, before any of the body is read

    async def prepare(self) -> None:  # type: ignore[override]  # as Jupyter's own
        self._connection.set_max_body_size(NO_LIMIT)  # none of it is collected here
        await super().prepare()  # which checks the host, and the XSRF cookie
        if self._finished or self.request.method == "OPTIONS":
            return
        admitted = self._admit()
        if admitted is not None:
            await admitted

    @web.authenticated
    @authorized("execute", resource=RESOURCE)  # type: ignore[untyped-decorator]
    async def _admit(self) -> None:
        self._check_site()
        headers = self.request.headers
        if "Upgrade" in headers and headers["Upgrade"].lower() != "h2c":  # which clients offer, and may be ignored
            raise Refused(
                501, "services answer requests and no WebSockets: a stream is the answer to a POST", "NotImplemented"
            )
        target = self._target = rewriting.target(self.request.path, self.base_url)
        if target is None:
            raise Refused(
                404,
                f"an address of a service is {self.base_url}{rewriting.ROOT}WHERE/SERVICE/…, where WHERE is a kernel's "
                f"id, serve-PID or a notebook's path; {self.base_url}nbcompose/api/services lists what there is",
                "UnknownService",
            )
        if not target.path and self.request.method in ("GET", "HEAD"):
            self.redirect(target.prefix + target.request_line(self.request.query))
            return
        self._check_length()
        self._count()
        try:
            await self._forward(target)
        except CallError as error:
            raise Refused.of(error) from None

    def _check_site(self) -> None:
        """Refuse what a page of another site asks for with this user's cookie, in ways that XSRF cookies do not see."""
        allowed = self.check_origin()
        if allowed and "Origin" not in self.request.headers and not self.token_authenticated:
            fetch = self._fetched_as
            is_link = self.request.method == "GET" and fetch[1:] == ("navigate", "document")
            allowed = is_link or fetch[0] not in ("cross-site", "same-site")
        if not allowed:
            raise Refused(
                403,
                "a page of another origin may not call services through Jupyter with your cookie: send Jupyter's token "
                "(Authorization: token …), or allow the origin by ServerApp.allow_origin",
                "Forbidden",
            )

    def _check_length(self) -> None:
        headers = self.request.headers
        length = headers.get("Content-Length")
        if length is not None:
            if not (length.isascii() and length.isdecimal()):
                raise Refused(400, f"Content-Length is a number, not {length[:100]!r}", "BadRequest")
            self._coming = int(length)
        if "Transfer-Encoding" in headers and self.request.method not in ("POST", "PUT", "PATCH"):
            raise Refused(411, f"the body of a {self.request.method} needs a Content-Length", "BadRequest")

    async def _forward(self, target: Target) -> None:
        await self._begin(target, fresh=False)
        if self._has_body:  # otherwise tornado would take an answer that is quick for one before the request's end
            self._answering = asyncio.ensure_future(self._answer(target))

    async def _begin(self, target: Target, *, fresh: bool) -> None:
        upstream, reach = await self._services.open(target, fresh=fresh)
        request = self.request
        forwarded = {"Prefix": target.prefix, "Proto": request.protocol, "Host": request.host}
        self._host = authority(reach)
        given = list(request.headers.get_all())
        if self._accept_encoding is not None:
            given.append(("Accept-Encoding", self._accept_encoding))
        named = rewriting.named_by_connection(request.headers)
        headers = rewriting.request_headers(
            given, named, self._host, reach["token"], forwarded, has_body=self._has_body
        )
        upstream.begin(request.method, target.request_line(request.query), headers)
        self._upstream = upstream

    # -- the request

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        sending = None if self._upstream is None else self._upstream.send(chunk)
        self._coming -= len(chunk)
        if sending is not None:
            return self._while_open(sending)
        if self._coming == 0:
            self._received = True  # also where the answer is there before tornado says so
        return None

    async def _while_open(self, sending: Awaitable[None]) -> None:
        """Wait until the service has read on. tornado does not look meanwhile whether the client has gone."""
        stream = self._connection.stream
        stream.set_close_callback(self.on_connection_close)
        try:
            await sending
        finally:
            stream.set_close_callback(None)

    @web.authenticated
    async def _received_all(self, path: str) -> None:
        self._received = True
        if self._upstream is None or self._target is None:  # it was answered without
            return
        self._upstream.end()
        if self._answering is None:
            self._answering = asyncio.ensure_future(self._answer(self._target))
        await asyncio.wait((self._answering,))

    get = head = post = put = patch = delete = _received_all

    @allow_unauthenticated
    def options(self, path: str) -> None:
        """Answer by Jupyter's own rules which pages may call: a browser asks that without cookie and token."""
        self.set_status(204)
        self.set_header("Allow", "GET, HEAD, POST, OPTIONS")
        self.set_header("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
        self.set_header(
            "Access-Control-Allow-Headers",
            "accept, authorization, content-encoding, content-type, traceparent, tracestate, x-request-timeout, "
            "x-xsrftoken",
        )

    # -- the answer

    async def _answer(self, target: Target) -> None:
        """Have the answer sent as it comes, and finish, while the request may still come."""
        assert self._upstream is not None
        try:
            try:
                await self._upstream.receive(self)
            except Gone as gone:
                if (
                    gone.begun
                    or self._upstream.is_fresh
                    or self._has_body
                    or self.request.method not in ("GET", "HEAD")
                ):
                    raise
                # A connection that was kept, and ended before the request came: a new one answers.
                await self._begin(target, fresh=True)
                self._upstream.end()
                await self._upstream.receive(self)
            try:
                self.finish()
            finally:
                self._upstream.release()
        except Gone:
            self._fail(ReplicaDied(f"{target.service} went away while it worked on this request: its logs say why"))
        except CallError as error:
            self._fail(error)
        except StreamClosedError:
            pass  # the client has gone
        except Exception:
            self.log.exception("nbcompose: an answer of %s could not be passed on", target.service)
            self._fail(
                ServiceUnavailable(f"the answer of {target.service} could not be passed on: Jupyter's log says why")
            )

    def take_head(self, status: int, reason: str, headers: HTTPHeaders) -> None:
        assert self._target is not None
        self.set_status(status, reason or None)
        self.clear_header("Content-Type")  # Jupyter's own
        seen = set[str]()
        for name, value in rewriting.response_headers(headers, self._target, self._host, self.content_security_policy):
            (self.add_header if name in seen else self.set_header)(name, value)
            seen.add(name)
        length = headers.get("Content-Length", "")
        if status in (204, 304):
            self._joined = 0
        elif self.request.method != "HEAD" and length.isdecimal() and int(length) <= JOINED:
            self._joined = int(length)
        else:
            self._connection.stream.set_nodelay(True)  # a stream's pieces are not to wait for one another
            _heard(self.flush())

    def take_data(self, chunk: bytes) -> Awaitable[None] | None:
        self._count()
        self.write(chunk)
        if len(chunk) == self._joined:
            return None  # it is complete, and goes with its head when the answer is finished
        self._joined = -1
        written = self.flush()
        if not written.done():
            return _sent(written)
        _heard(written)
        return None

    def flush(self, include_footers: bool = False) -> asyncio.Future[None]:
        self._head_sent = True
        return super().flush(include_footers)

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> asyncio.Future[None]:
        """End the answer. If the request has not come to its end, the connection is closed, though not at once."""
        rest = None
        if self._has_body and not self._received and not self._connection.stream.closed():
            if not self._head_sent:
                self.set_header("Connection", "close")
            if len(_draining) < MOST_DRAINED:
                # Of a duplicate, whose end tornado does not care about. Not `dup`, which sockets with TLS do not have.
                rest = socket.socket(fileno=os.dup(self._connection.stream.socket.fileno()))
        finished = super().finish(chunk)
        if rest is not None:
            task = asyncio.ensure_future(_drain(rest))
            _draining.add(task)
            task.add_done_callback(_draining.discard)
        return finished

    def compute_etag(self) -> None:
        """The service's to say."""

    def _fail(self, error: CallError) -> None:
        if self._finished:
            return
        if self._head_sent:
            self._connection.stream.close()  # an answer that were only ended would look complete
            return
        refused = Refused.of(error)
        self.send_error(refused.status_code, exc_info=(type(refused), refused, None))

    # -- the client, and the user

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._answering is not None:
            self._answering.cancel()
        if self._upstream is not None:
            self._upstream.close()

    def get_login_url(self) -> str:
        if not self._wants_page:  # a program can do nothing with the page
            raise Refused(
                403, "log in to Jupyter, or send its token in the header: Authorization: token …", "Forbidden"
            )
        return super().get_login_url()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong: to a person in Jupyter's own page, to a program in the form of errors of services."""
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        phrase = HTTPStatus(status_code).phrase if status_code in HTTPStatus._value2member_map_ else "Error"
        message = phrase
        if isinstance(error, web.HTTPError) and error.log_message:
            message = error.log_message % error.args if error.args else error.log_message
        if "_xsrf" in message:
            message += ": send the value of the cookie _xsrf in the header X-XSRFToken, or Jupyter's token"
        if self._wants_page:
            self.set_header("Content-Type", "text/html; charset=utf-8")
            about = {"status_code": status_code, "status_message": phrase, "message": message, "exception": error}
            self.finish(self.render_template("error.html", **about))  # type: ignore[no-untyped-call]
            return
        kind = error.kind if isinstance(error, Refused) else phrase.title().replace(" ", "")
        self.finish({"message": message, "error": {"type": kind, "message": message}})

    @property
    def _fetched_as(self) -> tuple[str, ...]:
        """Where a browser says the request comes from, how it was made, and for what."""
        return tuple(self.request.headers.get(f"Sec-Fetch-{name}", "") for name in ("Site", "Mode", "Dest"))

    @property
    def _wants_page(self) -> bool:
        return self.request.method == "GET" and "text/html" in self.request.headers.get("Accept", "")

    @property
    def _connection(self) -> HTTP1Connection:
        return cast(HTTP1Connection, self.request.connection)

    def _count(self) -> None:
        """Say that the user is active, where Jupyter and a hub look for it."""
        if self._counts and not (self.request.query and self.get_query_arguments("no_track_activity")):
            self.settings["api_last_activity"] = datetime.datetime.now(datetime.UTC)


def _heard(future: asyncio.Future[None]) -> None:
    """Take note of the error of a client that has gone, which `on_connection_close` is told of too."""
    future.add_done_callback(lambda written: written.cancelled() or written.exception())


async def _sent(future: asyncio.Future[None]) -> None:
    with contextlib.suppress(StreamClosedError):
        await future


async def _drain(sock: socket.socket) -> None:
    """Read what a client still sends: if its connection were closed meanwhile, it might lose the answer."""
    loop, left = asyncio.get_running_loop(), DRAIN
    with sock, contextlib.suppress(OSError, TimeoutError):
        sock.setblocking(False)
        async with asyncio.timeout(DRAIN_WITHIN):
            while left > 0 and (piece := await loop.sock_recv(sock, 65536)):
                left -= len(piece)

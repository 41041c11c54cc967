"""What the proxy changes in a request and in its answer: the address, the headers, and nothing else.

Of the request, what is known to be harmless is passed on, so that nothing by which Jupyter, a hub or a proxy in front
of it knows its users can reach a service. Of the answer, everything is but what would speak for Jupyter's own origin.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from tornado.httputil import HTTPHeaders

ROOT = "nbcompose/at/"  # below the Jupyter server's base_url
NOTEBOOK = ".ipynb"

# A page that an api makes is not Jupyter's: without an origin of its own it can use neither cookies nor Jupyter's api.
SANDBOX = "sandbox allow-scripts allow-forms"

_ID = re.compile(r"serve-[0-9]+|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)

# Arguments of an address that are Jupyter's: its token may be among them.
_OF_JUPYTER = {"token", "_xsrf", "no_track_activity"}

_PASSED = {
    "accept", "accept-encoding", "accept-language", "baggage", "cache-control", "content-disposition",
    "content-encoding", "content-language", "content-length", "content-type", "if-match", "if-modified-since",
    "if-none-match", "if-range", "if-unmodified-since", "incremental", "pragma", "prefer", "range", "traceparent",
    "tracestate", "user-agent", "x-request-id", "x-request-timeout",
}  # fmt: skip

# Those that are about one connection (RFC 9110, section 7.6.1), those that are written here or by tornado, and those
# with which a service would speak for Jupyter's whole origin: cookies, what other sites may read, what a browser keeps.
_KEPT_BACK = {
    "alt-svc", "clear-site-data", "connection", "content-security-policy", "content-security-policy-report-only",
    "date", "keep-alive", "location", "nel", "proxy-authenticate", "proxy-authentication-info", "proxy-connection",
    "public-key-pins", "refresh", "report-to", "reporting-endpoints", "server", "service-worker-allowed", "set-cookie",
    "set-cookie2", "strict-transport-security", "te", "trailer", "transfer-encoding", "upgrade", "www-authenticate",
    "x-accel-buffering",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """What an address below `ROOT` names. `where`: a kernel's id, `serve-PID` or a notebook's path.

    `prefix` is the address of the service itself, as it was written, without a slash at the end; `path` what is below
    it, as it was written, beginning with a slash; "" where not even that slash is there.
    """

    where: str
    service: str
    prefix: str
    path: str

    @property
    def is_docs(self) -> bool:
        """Whether it is the documentation page, or one of its files: the only page here that is nbcompose's own."""
        return self.path == "/docs" or self.path.startswith("/docs/")

    def request_line(self, query: str) -> str:
        """Return the path for the service, with what of the query is meant for it."""
        given = [part for part in query.split("&") if part and unquote(part.partition("=")[0]) not in _OF_JUPYTER]
        return f"{self.path or '/'}{'?' if given else ''}{'&'.join(given)}"

    def location(self, value: str, host: str) -> str:
        """Return where a redirect of the service leads to, as a browser sees it. `host`: the service's own."""
        try:
            parts = urlsplit(value)
        except ValueError:
            return self.prefix
        if parts.netloc and (parts.netloc != host or parts.scheme not in ("http", "")):
            return value  # to somebody else
        if not parts.netloc and (parts.scheme or not parts.path.startswith("/")):
            return value  # relative, or no address of a server
        return f"{self.prefix}{parts._replace(scheme='', netloc='').geturl()}"


def target(path: str, base_url: str) -> Target | None:
    """Return what the path of a request names, None where it names no service.

    A notebook's path ends at its first segment in `.ipynb`; an id is one segment.
    """
    root = f"{base_url}{ROOT}"
    if not path.startswith(root):
        return None
    segments = path.removeprefix(root).split("/")
    names = [unquote(segment) for segment in segments]
    length = 1
    if not _ID.fullmatch(names[0]):
        length += next((n for n, name in enumerate(names) if name.endswith(NOTEBOOK)), 0)
    if len(segments) <= length or not names[0] or not names[length]:
        return None
    below = segments[length + 1 :]
    return Target(
        where="/".join(names[:length]),
        service=names[length],
        prefix=root + "/".join(segments[: length + 1]),
        path="/" + "/".join(below) if below else "",
    )


def named_by_connection(headers: HTTPHeaders) -> set[str]:
    """Return the names of those headers that are about one connection only, as the header `Connection` says."""
    return {name.strip().lower() for name in headers["Connection"].split(",")} if "Connection" in headers else set()


def request_headers(
    given: Iterable[tuple[str, str]],
    named: set[str],
    host: str,
    token: str | None,
    forwarded: dict[str, str],
    *,
    has_body: bool,
) -> HTTPHeaders:
    """Return the headers of the request to a service at `host`. `forwarded`: the values of X-Forwarded-…, by ending."""
    headers = HTTPHeaders()
    headers["Host"] = host
    for name, value in given:
        low = name.lower()
        if low in _PASSED and low not in named:
            if name in headers:
                headers.add(name, value)
            else:
                headers[name] = value
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    for ending, value in forwarded.items():
        headers[f"X-Forwarded-{ending}"] = value
    if not has_body:
        headers["Content-Length"] = "0"
    return headers


def response_headers(given: HTTPHeaders, where: Target, host: str, policy: str) -> Iterator[tuple[str, str]]:
    """Yield the headers of the answer of the service at `host`. `policy`: Jupyter's own Content-Security-Policy."""
    named = named_by_connection(given)
    for name, value in given.get_all():
        low = name.lower()
        if low not in _KEPT_BACK and low not in named and not low.startswith("access-control-"):
            yield name, value
    if "Location" in given:
        yield "Location", where.location(given["Location"], host)
    policies = [policy] if where.is_docs else [policy, SANDBOX]
    # Several policies hold together: the service's own cannot loosen the others.
    for own in [*policies, *given.get_list("Content-Security-Policy")]:
        yield "Content-Security-Policy", own
    yield "X-Accel-Buffering", "no"  # a proxy in front of Jupyter would collect a stream

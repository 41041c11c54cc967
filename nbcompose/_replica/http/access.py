"""Access control of the HTTP server: the token, and the `Host`, `Origin` and `Sec-Fetch-Site` of a request.

Independent of sockets, routes and replies. Checked before the body of a request is read.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from nbcompose._service import CREDENTIALS
from nbcompose._spec import Http
from nbcompose.errors import BadRequest, Forbidden, Unauthorized

DEFAULT_PORTS = {"http": 80, "https": 443}
WHERE = (
    f"A notebook has it in `SERVICE.token`, and in the file ~/{CREDENTIALS}/SERVICE/token; of a service that "
    "`nbcompose serve` runs it is that of NBCOMPOSE_TOKEN, or of its --token-file"
)
HOSTS = 64  # `Host` headers that are remembered as allowed

# Headers that a page of an allowed origin may send, and response headers that it may read.
CORS_REQUEST_HEADERS = (
    "Authorization, Content-Type, Content-Encoding, Accept, X-Request-Timeout, traceparent, tracestate"
)
CORS_RESPONSE_HEADERS = "traceparent, Retry-After, Allow, Accept-Encoding, Content-Disposition"


@dataclass(frozen=True, slots=True)
class Access:
    """Access rules of one HTTP server.

    `token`: required in `Authorization: Bearer`; None: no token is required. `loopback`: the server is bound to this
    machine only. `allowed_hosts`: names that `Host` may contain besides this machine's own, for a proxy in front; "*":
    any. `cors_origins`: origins whose pages may call, such as "https://app.example.com"; "*" allows all of them.
    `named`: without a token, `Host` is checked beyond loopback too, where no name is this machine's own.
    """

    token: str | None = field(default=None, repr=False)
    loopback: bool = True
    allowed_hosts: frozenset[str] = frozenset()
    cors_origins: frozenset[str] = frozenset()
    named: bool = False
    _known: set[str] = field(default_factory=set, compare=False, repr=False)  # allowed hosts, as they were sent

    @classmethod
    def of(cls, http: Http, token: str | None = None, allowed_hosts: Iterable[str] = ()) -> Access:
        """Return the rules for a server bound to the host of `http`."""
        return cls(
            token=token,
            loopback=is_loopback(http.host),
            allowed_hosts=frozenset(host.lower() for host in allowed_hosts),
            cors_origins=frozenset(origin.lower().rstrip("/") for origin in http.cors_origins),
        )

    @property
    def trusted(self) -> bool:
        """Whether every client is on this machine or has presented the token."""
        return self.loopback or self.token is not None

    def check(self, headers: Mapping[str, str], *, token: bool = True, page: bool = False) -> None:
        """Check a request; raise if it is not allowed.

        `token=False`: the resource needs no token. `page=True`: it is a page without secrets, which a link on another
        site may open. Raises BadRequest (400), Forbidden (403) or Unauthorized (401).
        """
        host = headers.get("Host")
        if host not in self._known:
            self.check_host(host)
        # Without these two headers the client is not a browser, or a browser that loads a page of this server.
        if "Origin" in headers or "Sec-Fetch-Site" in headers:
            self._check_site(headers, host, page)
        if token and self.token is not None:
            self._check_token(headers.get("Authorization"), self.token)

    def cors_headers(self, origin: str | None) -> dict[str, str]:
        """Return the headers with which a page of `origin` may read a reply; empty if there are no CORS rules.

        Only `Vary` if the origin is not allowed.
        """
        if not self.cors_origins:
            return {}
        if origin is None or not self._allows(origin):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": CORS_RESPONSE_HEADERS,
        }

    def preflight_headers(self, headers: Mapping[str, str], methods: str) -> dict[str, str]:
        """Return the headers of the reply to a preflight request (`OPTIONS`).

        Raises Forbidden when the page's origin may not call.
        """
        self.check_host(headers.get("Host"))
        origin = headers.get("Origin")
        if origin is None:
            return {"Allow": methods}
        if not self._allows(origin):
            raise Forbidden(_foreign_origin(origin))
        reply = self.cors_headers(origin) | {
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": CORS_REQUEST_HEADERS,
            "Access-Control-Max-Age": "600",
        }
        if "Access-Control-Request-Private-Network" in headers:
            reply["Access-Control-Allow-Private-Network"] = "true"
        return reply

    def check_host(self, host: str | None) -> None:
        # A page whose own host name has been pointed at 127.0.0.1 (DNS rebinding) is same-origin for the browser; only
        # the name in `Host` reveals it. If a token is required it cannot call anyway.
        if self.token is not None or not (self.loopback or self.named):
            return
        if host is None:
            if self.loopback:
                return
            raise BadRequest("a Host header is wanted")
        name = host_name(host)
        own = self.loopback and is_loopback(name)
        if not (own or "*" in self.allowed_hosts or {name, host.lower()} & self.allowed_hosts):
            where = "this machine" if self.loopback else "one of those under which this may be called"
            raise Forbidden(
                f"the host {name!r} is not {where}: call 127.0.0.1 or localhost, or let that name in with "
                f'--allowed-host {name}, or asgi(allowed_hosts=["{name}"])'
            )
        if len(self._known) < HOSTS:
            self._known.add(host)

    def _check_site(self, headers: Mapping[str, str], host: str | None, page: bool) -> None:
        origin = headers.get("Origin")
        if origin is not None:
            if self._allows(origin) or _same_origin(origin, host):
                return
            raise Forbidden(_foreign_origin(origin))
        if headers.get("Sec-Fetch-Site") != "cross-site" or "*" in self.cors_origins:
            return
        if page and headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document":
            return
        raise Forbidden("a page of another site may not call this service")

    def _allows(self, origin: str) -> bool:
        return "*" in self.cors_origins or origin in self.cors_origins

    def _check_token(self, authorization: str | None, token: str) -> None:
        scheme, _, text = (authorization or "").partition(" ")
        given = text.strip().encode("latin-1", "replace")
        # Compared in constant time.
        if scheme.lower() == "bearer" and hmac.compare_digest(given, token.encode()):
            return
        what = "the token is wrong" if authorization else "this service wants a token"
        raise Unauthorized(f"{what}: send the header 'Authorization: Bearer <token>'. {WHERE}")


def host_name(host: str) -> str:
    """Return the name in a `Host` header in lower case, without port and the brackets of an IPv6 address.

    Raises BadRequest when it is not a host.
    """
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018  raises ValueError if it is not a number
    except ValueError:
        parts = None
    if parts is None or not parts.hostname or parts.netloc != host or "@" in host or "," in host:
        raise BadRequest(f"not a Host header: {host!r}")
    return parts.hostname.rstrip(".")


def is_loopback(name: str) -> bool:
    """Whether a host name or an address always means this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _same_origin(origin: str, host: str | None) -> bool:
    """Whether `origin` is the server named by `host`; a missing port is the default of the origin's scheme."""
    try:
        given, own = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS.get(given.scheme)
        return default is not None and (given.hostname, given.port or default) == (own.hostname, own.port or default)
    except ValueError:
        return False


def _foreign_origin(origin: str) -> str:
    return f'a page of {origin!r} may not call this service: allow it with http={{"cors": [{origin!r}]}}'

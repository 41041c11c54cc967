"""tornado's HTTP/1 connections, where more of them is used than is documented: the one module that knows.

Seen to hold from 6.5 to 6.6.1; tests/canaries/test_tornado.py fails first where a release changes one of these.

- `HTTP1Connection` and `HTTP1ServerConnection` have their socket's `IOStream` as `stream`.
- Closing the stream ends a write that somebody awaits, once the request has been read, and the next write raises
  `StreamClosedError`; the connection's own `close` would forget the write.
- `finish` of a reply before the whole body of its request was read closes the connection.
- `parse_multipart_form_data` says `application/unknown` of a part that does not say what it is.
- `HTTPHeaders.get` raises and catches a KeyError for a header that is not there; `in` is cheap.
"""

from __future__ import annotations

from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection


def hang_up(connection: HTTP1Connection | HTTP1ServerConnection) -> None:
    """Close a connection at once, whatever is under way on it."""
    connection.stream.close()


def send_at_once(connection: HTTP1Connection) -> None:
    """Have what is written go out without waiting for more (TCP_NODELAY)."""
    connection.stream.set_nodelay(True)

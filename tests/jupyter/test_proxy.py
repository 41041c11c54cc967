"""The proxy, in front of services and of scripts that stand in for them, behind a Jupyter server as on a hub."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import httpx
import pytest
from jupyter_server.auth import Authorizer

from nbcompose import api
from nbcompose._replica.http.docs import ASSETS
from nbcompose.errors import ServiceUnavailable
from tests.jupyter.proxied import AT, BASE_URL, SECRET, TOKEN, Jupyter, Stand, jupyter, saying, stand
from tests.replica.http.http_server import Served, read_response, serving, soon

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVENTS = {"Accept": "text/event-stream"}

CLIENTS, REQUESTS = 64, 3  # at once, one after the other
PAUSE = 0.5  # seconds in which nothing more goes on: buffers are full


class Answer:
    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.ended = asyncio.Event()
        self.made = 0

    @api
    async def ask(self, text: str) -> str:
        return f"{text}!"

    @api
    async def write(self) -> AsyncIterator[str]:
        try:
            yield "first"
            await self.release.wait()
            yield "second"
        finally:
            self.ended.set()

    @api
    async def flood(self) -> AsyncIterator[str]:
        try:
            while True:
                self.made += 1
                yield "x" * 100_000
        finally:
            self.ended.set()

    @api
    async def large(self, n: int) -> str:
        return "x" * n


@contextlib.asynccontextmanager
async def proxied(**options: Any) -> AsyncIterator[tuple[Jupyter, Served]]:
    async with serving(Answer, token=SECRET) as served, jupyter({"Answer": served.port}, **options) as server:
        yield server, served


# -- what it is for


async def test_an_api_is_called_with_jupyters_token_only() -> None:
    async with proxied() as (server, served):
        answer = await server.http.post(f"{AT}/Answer/ask", json={"text": "hello"})
        assert (answer.status_code, answer.json()) == (200, "hello!")
        assert served.runtime.answers == {("/ask", 200): 1}


async def test_the_path_of_a_notebook_is_an_address_too() -> None:
    async with proxied() as (server, _):
        for path in ("folder/a%20notebook.ipynb", "folder%2Fa%20notebook.ipynb"):
            answer = await server.http.post(f"{BASE_URL}nbcompose/at/{path}/Answer/ask", json={"text": "hello"})
            assert answer.json() == "hello!"


async def test_the_documentation_page_and_its_files_are_there() -> None:
    async with proxied() as (server, _):
        for path in (*ASSETS, "/openapi.json", "/healthz"):
            assert (await server.http.get(f"{AT}/Answer{path}")).status_code == 200, path


async def test_a_service_without_a_token_is_reached() -> None:
    async with serving(Answer) as served, jupyter({"Answer": served.port}, token=None) as server:
        assert (await server.http.post(f"{AT}/Answer/ask", json={"text": "hello"})).json() == "hello!"


async def test_the_first_item_arrives_before_the_second_is_made() -> None:
    async with proxied() as (server, served), server.http.stream("POST", f"{AT}/Answer/write") as answer:
        lines = answer.aiter_lines()
        assert await soon(anext(lines)) == '"first"'
        served.instance.release.set()
        assert await soon(anext(lines)) == '"second"'


async def test_a_client_that_leaves_cancels_the_call() -> None:
    async with proxied() as (server, served):
        async with server.http.stream("POST", f"{AT}/Answer/write") as answer:
            await anext(answer.aiter_lines())
        await soon(served.instance.ended.wait())
        assert served.runtime.contexts[0].cancelled


async def test_a_client_that_leaves_before_the_answer_cancels_the_call() -> None:
    gone = asyncio.Event()

    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await made.head(reader)
        assert await reader.readexactly(int(made.headers()["Content-Length"])) == b"{}", head
        came.set()
        assert await reader.read() == b""
        gone.set()

    came = asyncio.Event()
    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        _, writer = await server.raw(server.head("POST", "Answer/ask", "Content-Length: 2") + b"{}")
        await soon(came.wait())
        writer.close()
        await soon(gone.wait())


async def test_a_reader_that_takes_nothing_holds_the_producer() -> None:
    async with proxied() as (server, served):
        _, writer = await server.raw(server.head("POST", "Answer/flood", "Content-Length: 0"))
        transport: Any = writer.transport
        transport.pause_reading()
        made = -1
        while made < served.instance.made:  # until a pause in which nothing is made
            made = served.instance.made
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(served.instance.ended.wait(), PAUSE)
        assert served.instance.made < 300  # what the buffers of the sockets hold
        transport.abort()
        await soon(served.instance.ended.wait())


async def test_a_large_answer_comes_whole() -> None:
    async with proxied() as (server, _):
        answer = await server.http.post(f"{AT}/Answer/large", json={"n": 3_000_000})
        assert answer.json() == "x" * 3_000_000


async def echo(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each chunk of a body as it comes."""
    await made.head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        size = int(await reader.readline(), 16)
        chunk = await reader.readexactly(size + 2)
        writer.write(b"%x\r\n%b" % (size, chunk))
        await writer.drain()
        if not size:
            return


async def test_both_directions_at_once() -> None:
    async with stand(echo) as made, jupyter({"Answer": made.port}) as server:
        reader, writer = await server.raw(server.head("POST", "Answer/refine", "Transfer-Encoding: chunked"))
        for n in range(3):
            writer.write(b"5\r\nline%d\r\n" % n)
            if n == 0:
                assert b" 200 " in await soon(reader.readuntil(b"\r\n\r\n"))
            assert await soon(reader.readexactly(10)) == b"5\r\nline%d\r\n" % n
        writer.write(b"0\r\n\r\n")
        assert await soon(reader.readexactly(5)) == b"0\r\n\r\n"
        writer.close()


async def test_many_lines_both_ways_at_once_do_not_lock() -> None:
    count = 2_000
    chunk = b"400\r\n%b\r\n" % (b"x" * 1024)

    async with stand(echo) as made, jupyter({"Answer": made.port}) as server:
        reader, writer = await server.raw(server.head("POST", "Answer/refine", "Transfer-Encoding: chunked"))

        async def send() -> None:
            for _ in range(count):
                writer.write(chunk)
                await writer.drain()
            writer.write(b"0\r\n\r\n")

        async def receive() -> int:
            await reader.readuntil(b"\r\n\r\n")
            received = 0
            while size := int(await reader.readline(), 16):
                received += size
                await reader.readexactly(size + 2)
            return received

        received, _ = await soon(asyncio.gather(receive(), send()))
        assert received == count * 1024
        writer.close()


async def test_an_upload_goes_no_faster_than_the_service_reads() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        transport: Any = writer.transport
        transport.pause_reading()
        await asyncio.Event().wait()

    size = 200_000_000
    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        _, writer = await server.raw(server.head("POST", "Answer/ask", f"Content-Length: {size}"))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < size:
                writer.write(b"x" * 1_000_000)
                await asyncio.wait_for(writer.drain(), PAUSE)
                sent += 1_000_000
        writer.transport.abort()
        assert sent < 60_000_000  # what the buffers of four sockets hold


# -- who may


async def test_a_program_that_is_not_logged_in_is_told_how() -> None:
    async with proxied() as (server, served), server.browser() as stranger:
        for method in ("GET", "POST"):
            answer = await stranger.request(method, f"{AT}/Answer/docs")
            assert answer.status_code == 403
            assert answer.json()["error"]["type"] == "Forbidden"
        assert server.client.asked == 0
        assert not served.runtime.answers


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_person_who_is_not_logged_in_is_led_to_the_login(allowed: bool) -> None:
    async with proxied(allow_unauthenticated_access=allowed) as (server, _), server.browser() as stranger:
        answer = await stranger.get(f"{AT}/Answer/docs", headers={"Accept": "text/html"})
        assert answer.status_code == 302
        assert answer.headers["Location"].startswith(f"{BASE_URL}login?next=")


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("token", ["token wrong", "Bearer wrong", f"Bearer {SECRET}", ""])
async def test_no_other_token_lets_anybody_in(allowed: bool, token: str) -> None:
    async with proxied(allow_unauthenticated_access=allowed) as (server, served):
        async with server.browser(Authorization=token) as stranger:
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
                assert (await stranger.request(method, f"{AT}/Answer/ask")).status_code == 403
        assert server.client.asked == 0
        assert not served.runtime.answers


async def test_a_program_that_sends_a_token_is_given_no_login_and_a_person_who_follows_a_link_is() -> None:
    async with proxied() as (server, _), server.browser() as person:
        answer = await server.http.post(f"{AT}/Answer/ask", json={"text": "hello"})
        assert (answer.status_code, answer.headers.get_list("Set-Cookie")) == (200, [])
        assert (await person.get(f"{AT}/Answer/docs", params={"token": TOKEN})).status_code == 200
        assert (await person.get(f"{AT}/Answer/docs")).status_code == 200, "the page's files and its links"


class Denying(Authorizer):
    asked: ClassVar[list[tuple[str, str]]] = []

    def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
        self.asked.append((action, resource))
        return False


async def test_an_authorizer_that_says_no_is_heard() -> None:
    Denying.asked.clear()
    async with proxied(authorizer=Denying) as (server, served):
        answer = await server.http.post(f"{AT}/Answer/ask", json={"text": "hello"})
        assert answer.status_code == 403
        assert Denying.asked == [("execute", "nbcompose")]
        assert server.client.asked == 0
        assert not served.runtime.answers


async def test_a_browser_needs_the_value_of_the_xsrf_cookie() -> None:
    async with proxied() as (server, served), server.logged_in() as browser:
        refused = await browser.post(f"{AT}/Answer/ask", json={"text": "hello"})
        assert refused.status_code == 403
        assert "X-XSRFToken" in refused.json()["message"]
        assert not served.runtime.answers
        xsrf = {"X-XSRFToken": browser.cookies["_xsrf"]}
        answer = await browser.post(f"{AT}/Answer/ask", json={"text": "hello"}, headers=xsrf)
        assert answer.json() == "hello!"
        assert (await browser.get(f"{AT}/Answer/openapi.json")).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_pages_of_other_origins_may_not_call(origin: str) -> None:
    async with proxied() as (server, served):
        async with server.logged_in() as browser:
            headers = {"Origin": origin, "X-XSRFToken": browser.cookies["_xsrf"]}
            posted = await browser.post(f"{AT}/Answer/ask", json={"text": "hello"}, headers=headers)
            assert posted.status_code in (403, 404)
            got = await browser.get(f"{AT}/Answer/openapi.json", headers={"Origin": origin})
            assert got.status_code == 403
        assert not served.runtime.answers


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_other_sites_may_link_to_a_page_and_not_embed_it(site: str) -> None:
    async with proxied() as (server, _), server.logged_in() as browser:
        script = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}
        link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        own = {**script, "Sec-Fetch-Site": "same-origin"}
        statuses = [(await browser.get(f"{AT}/Answer/docs", headers=h)).status_code for h in (script, link, own)]
        assert statuses == [403, 200, 200]


async def test_a_refused_upload_reaches_no_service_and_its_answer_is_read() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        head = server.head("POST", "Answer/ask", "Content-Length: 200000000").replace(TOKEN.encode(), b"wrong")
        reader, writer = await server.raw(head)
        for _ in range(8):  # before anything of the answer is read
            writer.write(b"x" * 1_000_000)
            await soon(writer.drain())
        status, headers, body = await read_response(reader)
        assert (status, headers["connection"]) == (403, "close")
        assert json.loads(body)["error"]["type"] == "Forbidden"
        writer.close()
        assert made.connections == server.client.asked == 0


async def test_a_refused_client_that_asks_first_is_not_told_to_go_on() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        head = server.head("POST", "Answer/ask", "Content-Length: 200000000", "Expect: 100-continue")
        reader, writer = await server.raw(head.replace(TOKEN.encode(), b"wrong"))
        assert (await soon(reader.readline())).split()[1] == b"403"
        writer.close()
        assert made.connections == 0


async def test_pages_may_ask_whether_they_may_call_and_are_answered_by_jupyters_rules() -> None:
    async with proxied() as (server, served), server.browser() as stranger:
        asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        answer = await stranger.options(f"{AT}/Answer/ask", headers=asks)
        assert answer.status_code == 204
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert server.client.asked == 0
    async with proxied(allow_origin="https://app.example") as (server, served):
        answer = await server.http.options(f"{AT}/Answer/ask", headers=asks)
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        call = await server.http.post(f"{AT}/Answer/ask", json={"text": "hello"}, headers={"Origin": asks["Origin"]})
        assert (call.json(), call.headers["Access-Control-Allow-Origin"]) == ("hello!", asks["Origin"])
        assert served.runtime.answers == {("/ask", 200): 1}


# -- what is passed on


async def test_nothing_of_jupyters_credentials_reaches_a_service() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        async with server.logged_in() as browser:
            xsrf = browser.cookies["_xsrf"]
            headers = {
                "X-XSRFToken": xsrf,
                "X-CSRFToken": xsrf,
                "Authorization": f"token {TOKEN}",
                "Proxy-Authorization": "Basic c2VjcmV0",
                "Origin": server.origin,
                "Referer": f"{server.origin}/?token={TOKEN}",
                "Sec-Fetch-Site": "same-origin",
                "Forwarded": "for=1.2.3.4",
                "X-Forwarded-For": "1.2.3.4",
                "X-Forwarded-Prefix": "/elsewhere",
                "X-Forwarded-Access-Token": "secret",
                "X-Auth-Request-Email": "somebody@example",
                "Remote-User": "somebody",
                "Connection": "keep-alive, X-Request-Id",
                "X-Request-Id": "of this hop",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "X-Request-Timeout": "5",
            }
            query = f"token={TOKEN}&a=1&_xsrf={xsrf}&no_track_activity=1&to%6Ben={TOKEN}&b=2"
            answer = await browser.post(f"{AT}/Answer/ask?{query}", headers=headers)
            assert answer.text == "ok"
            cookies = [value for value in browser.cookies.values() if value]
        head = made.heads[0]
        assert head.startswith("POST /ask?a=1&b=2 HTTP/1.1\r\n")
        assert len(cookies) >= 2
        for secret in (TOKEN, xsrf, "somebody", "1.2.3.4", "elsewhere", "secret\r", "hop", *cookies):
            assert secret not in head, secret
        passed = made.headers()
        assert passed["Authorization"] == f"Bearer {SECRET}"
        assert passed["Host"] == f"127.0.0.1:{made.port}"
        assert passed["Traceparent"].endswith("-01")
        assert passed["X-Request-Timeout"] == "5"
        assert passed["X-Forwarded-Prefix"] == f"{AT}/Answer"
        assert passed["X-Forwarded-Host"] == f"127.0.0.1:{server.port}"
        assert passed["X-Forwarded-Proto"] == "http"
        assert not passed.keys() & {"Cookie", "Origin", "Referer", "Sec-Fetch-Site", "Forwarded", "Connection"}


async def test_what_would_speak_for_jupyters_origin_does_not_come_back() -> None:
    own = {
        "Set-Cookie": "_xsrf=mine; Path=/",
        "Clear-Site-Data": '"*"',
        "Service-Worker-Allowed": "/",
        "Access-Control-Expose-Headers": "*",
        "Strict-Transport-Security": "max-age=1",
        "Refresh": "0; url=https://evil.example",
        "WWW-Authenticate": "Basic",
        "Content-Security-Policy": "img-src *",
        "X-Content-Type-Options": "none",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    page = "<script>parent.location</script>"
    reply = f"HTTP/1.1 200 OK\r\n{lines}Content-Type: text/html\r\nContent-Length: {len(page)}\r\n\r\n{page}"
    async with stand(saying(reply.encode())) as made, jupyter({"Answer": made.port}) as server:
        answer = await server.http.get(f"{AT}/Answer/page")
        assert answer.text == page
        policies = answer.headers.get_list("Content-Security-Policy")
        assert "sandbox allow-scripts allow-forms" in policies
        assert any("frame-ancestors 'self'" in policy for policy in policies)
        assert "img-src *" in policies
        assert "_xsrf" not in answer.cookies
        left = own.keys() - {"Set-Cookie", "Content-Security-Policy", "X-Content-Type-Options"}
        assert not {name.lower() for name in left} & answer.headers.keys()
        assert answer.headers["X-Accel-Buffering"] == "no"
        assert answer.headers["Content-Type"] == "text/html"


async def test_our_own_page_has_its_scripts() -> None:
    async with proxied() as (server, _):
        answer = await server.http.get(f"{AT}/Answer/docs")
        policies = ", ".join(answer.headers.get_list("Content-Security-Policy"))
        assert "sandbox" not in policies
        assert "default-src 'none'" in policies
        assert "frame-ancestors 'self'" in policies


async def test_modules_of_our_page_are_loaded_as_a_hub_admits_files() -> None:
    class Noting(Authorizer):
        modes: ClassVar[list[str]] = []

        def is_authorized(self, handler: Any, user: Any, action: str, resource: str) -> bool:
            self.modes.append(handler.request.headers["Sec-Fetch-Mode"])
            return True

    async with proxied(authorizer=Noting) as (server, _), server.logged_in() as browser:
        for path, site, dest in [
            ("docs/docs.js", "same-origin", "script"),
            ("docs/docs.js", "same-site", "script"),
            ("docs/docs.js", "same-origin", "empty"),
            ("openapi.json", "same-origin", "script"),
        ]:
            fetch = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": dest}
            await browser.get(f"{AT}/Answer/{path}", headers={**fetch, "Origin": server.origin})
    assert Noting.modes == ["no-cors", "cors", "cors", "cors"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/docs", f"{AT}/Answer/docs"),
        ("docs", "docs"),
        ("http://127.0.0.1:{port}/docs?a=1", f"{AT}/Answer/docs?a=1"),
        ("//127.0.0.1:{port}/docs", f"{AT}/Answer/docs"),
        ("https://elsewhere.example/docs", "https://elsewhere.example/docs"),
    ],
)
async def test_redirects_stay_below_the_service(given: str, expected: str) -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        location = given.format(port=made.port)
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        answer = await server.http.get(f"{AT}/Answer/")
        assert (answer.status_code, answer.headers["Location"]) == (302, expected)


async def test_a_service_without_a_slash_leads_to_its_page() -> None:
    async with proxied() as (server, _):
        answer = await server.http.get(f"{AT}/Answer?a=1&token={TOKEN}")
        assert answer.headers["Location"] == f"{AT}/Answer/?a=1"
        answer = await server.http.get(f"{AT}/Answer/", follow_redirects=True)
        assert answer.url.path == f"{AT}/Answer/docs"


async def test_answers_are_not_compressed_on_the_way() -> None:
    packed = gzip.compress(b"x" * 5000)
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b"
    async with proxied() as (server, _):
        answer = await server.http.post(f"{AT}/Answer/large", json={"n": 5000})
        assert "gzip" in answer.request.headers["Accept-Encoding"]
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["Content-Length"] == "5002"
    async with stand(saying(reply % (len(packed), packed))) as made, jupyter({"Answer": made.port}) as server:
        assert (await server.http.get(f"{AT}/Answer/text")).text == "x" * 5000
        assert "gzip" in made.headers()["Accept-Encoding"]


async def test_a_head_has_the_headers_of_its_get() -> None:
    async with proxied() as (server, _):
        got, head = [await server.http.request(method, f"{AT}/Answer/openapi.json") for method in ("GET", "HEAD")]
        assert head.content == b""
        for name in ("Content-Type", "Content-Length"):
            assert head.headers[name] == got.headers[name]
        assert (await server.http.get(f"{AT}/Answer/healthz")).status_code == 200


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body(status: str) -> None:
    reply = f'HTTP/1.1 {status}\r\nETag: "1"\r\n\r\n'.encode()
    async with stand(saying(reply)) as made, jupyter({"Answer": made.port}) as server:
        for _ in range(2):
            answer = await server.http.get(f"{AT}/Answer/x", headers={"If-None-Match": '"1"'})
            assert f"{answer.status_code} {answer.reason_phrase}" == status
            assert answer.headers["ETag"] == '"1"'
            assert made.headers()["If-None-Match"] == '"1"'
        assert made.connections == 1


# Nothing asks our services for them: `Expect` does not go up.
async def test_interim_answers_are_passed_over() -> None:
    reply = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK
    async with stand(saying(reply)) as made, jupyter({"Answer": made.port}) as server:
        answer = await server.http.get(f"{AT}/Answer/x")
        assert (answer.status_code, answer.text) == (200, "ok")
        assert "Link" not in answer.headers


async def test_an_answer_that_ends_with_its_connection_is_complete() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        for _ in range(2):
            assert (await server.http.get(f"{AT}/Answer/x")).text == "x" * 100_000
        assert made.connections == 2


async def test_methods_that_services_refuse_are_theirs_to_refuse() -> None:
    async with proxied() as (server, _):
        for method in ("PUT", "PATCH", "DELETE"):
            answer = await server.http.request(method, f"{AT}/Answer/ask")
            assert (answer.status_code, answer.json()["error"]["type"]) == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("method", "header", "status"),
    [
        ("GET", "Upgrade: websocket", 501),
        ("POST", "Content-Length: two", 400),
        ("POST", "Content-Length: -1", 400),
        ("DELETE", "Transfer-Encoding: chunked", 411),
    ],
)
async def test_requests_that_cannot_be_passed_on_say_why(method: str, header: str, status: int) -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        reader, writer = await server.raw(server.head(method, "Answer/x", "Connection: Upgrade", header))
        assert (await soon(reader.readline())).split()[1] == str(status).encode()
        writer.close()
        assert made.connections == 0


async def test_the_offer_of_another_http_is_passed_over() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        offer = {
            "Connection": "Upgrade, HTTP2-Settings",
            "Upgrade": "h2c",
            "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
        }
        assert (await server.http.get(f"{AT}/Answer/x", headers=offer)).text == "ok"
        assert not made.headers().keys() & {"Upgrade", "Connection", "HTTP2-Settings", "Http2-Settings"}


# -- connections to a service


async def test_connections_are_kept_for_the_next_request() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        for _ in range(3):
            assert (await server.http.get(f"{AT}/Answer/x")).text == "ok"
        assert (made.connections, server.connections.count, server.client.asked) == (1, 1, 1)
        await asyncio.gather(*(server.http.get(f"{AT}/Answer/x") for _ in range(8)))
        assert server.connections.count == made.connections <= 8


async def test_many_clients_at_once_each_have_their_own_answer() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await made.head(reader)).split()[1].encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async def client(server: Jupyter, name: int) -> list[str]:
        async with server.browser(Authorization=f"token {TOKEN}") as http:
            return [(await http.get(f"{AT}/Answer/{name}/{n}")).text for n in range(REQUESTS)]

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        given = await soon(asyncio.gather(*(client(server, name) for name in range(CLIENTS))))
        assert given == [[f"/{name}/{n}" for n in range(REQUESTS)] for name in range(CLIENTS)]
        assert server.connections.count <= made.connections <= 2 * CLIENTS, "connections are used again"


async def test_connections_are_not_kept_for_ever() -> None:
    ended = asyncio.Event()

    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(OK)
        assert await reader.read() == b""
        ended.set()

    async with stand(answers) as made, jupyter({"Answer": made.port}, kept_for=0.01) as server:
        await server.http.get(f"{AT}/Answer/x")
        await soon(ended.wait())
        assert server.connections.count == 0


async def test_a_connection_that_the_service_has_closed_is_not_used_again() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(OK)
        if made.connections == 1:
            return
        await made.head(reader)  # and does not answer
        writer.write(b"")

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        for _ in range(3):  # the last one finds a connection that ends when its request comes
            assert (await server.http.get(f"{AT}/Answer/x")).text == "ok"
        assert made.connections == 3


async def test_a_call_is_not_made_twice() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(OK)
        await made.head(reader)

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        await server.http.get(f"{AT}/Answer/x")
        answer = await server.http.post(f"{AT}/Answer/ask", content=b"{}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ReplicaDied")
        assert made.connections == 1


async def test_a_service_that_breaks_off_is_not_taken_for_complete() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await server.http.get(f"{AT}/Answer/x")


async def test_trailers_which_nobody_has_asked_for_are_no_complete_answer() -> None:
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nfirst\r\n0\r\nX: 1\r\n\r\n"
    async with stand(saying(reply)) as made, jupyter({"Answer": made.port}) as server:
        with pytest.raises(httpx.RemoteProtocolError):
            await server.http.get(f"{AT}/Answer/x", headers={"TE": "trailers", "Connection": "TE"})
        assert not made.headers().keys() & {"Te", "TE", "Trailer"}


async def test_what_is_not_http_is_an_error() -> None:
    async with stand(saying(b"220 smtp.example\r\n\r\n")) as made, jupyter({"Answer": made.port}) as server:
        answer = await server.http.get(f"{AT}/Answer/x")
        assert answer.status_code == 503


async def test_an_upload_that_the_service_refuses_is_told_so() -> None:
    refusal = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        writer.write(refusal)
        while await reader.read(100_000):
            pass

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        reader, writer = await server.raw(server.head("POST", "Answer/ask", "Content-Length: 200000000"))
        for _ in range(8):
            writer.write(b"x" * 1_000_000)
            await soon(writer.drain())
        status, headers, body = await read_response(reader)
        assert (status, headers["connection"], body) == (413, "close", b"{}")
        writer.close()


async def test_a_service_that_dies_in_the_middle_of_an_upload_is_an_error() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await made.head(reader)
        await reader.readexactly(1_000_000)
        writer.transport.abort()

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        reader, writer = await server.raw(server.head("POST", "Answer/ask", "Content-Length: 8000000"))
        for _ in range(8):
            writer.write(b"x" * 1_000_000)
            await soon(writer.drain())
        status, _, body = await read_response(reader)
        assert (status, json.loads(body)["error"]["type"]) == (503, "ReplicaDied")
        writer.close()


async def test_a_connection_to_jupyter_is_kept_after_a_call() -> None:
    async with proxied() as (server, _):
        body = b'{"text":"hello"}'
        request = server.head("POST", "Answer/ask", f"Content-Length: {len(body)}") + body
        reader, writer = await server.raw(request)
        for _ in range(2):
            status, _, answer = await read_response(reader)
            assert (status, answer) == (200, b'"hello!"')
            writer.write(request)
        writer.close()


async def test_an_answer_that_is_there_at_once_leaves_the_connection_to_jupyter_open() -> None:
    async def answers(made: Stand, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)  # before the request has come, and so for each that follows
        while await reader.read(65536):
            writer.write(OK)

    async with stand(answers) as made, jupyter({"Answer": made.port}) as server:
        request = server.head("GET", "Answer/x")
        reader, writer = await server.raw(request)
        for _ in range(3):
            status, _, body = await soon(read_response(reader))
            assert (status, body) == (200, b"ok")
            writer.write(request)
        writer.close()


# -- what is not there


async def test_what_is_not_there_says_what_to_do() -> None:
    async with proxied() as (server, _):
        for path, kind in [
            (f"{BASE_URL}nbcompose/at/serve-1/Answer/docs", "UnknownRuntime"),
            (f"{BASE_URL}nbcompose/at/other.ipynb/Answer/docs", "UnknownRuntime"),
            (f"{AT}/Other/docs", "UnknownService"),
            (AT, "UnknownService"),
            (f"{BASE_URL}nbcompose/at/", "UnknownService"),
        ]:
            answer = await server.http.get(path)
            assert (answer.status_code, answer.json()["error"]["type"]) == (404, kind), path


async def test_a_person_sees_a_page() -> None:
    async with proxied() as (server, _):
        answer = await server.http.get(f"{AT}/<script>/docs", headers={"Accept": "text/html"})
        assert answer.status_code == 404
        assert answer.headers["Content-Type"].startswith("text/html")
        assert "no service is called" in answer.text
        assert "<script>/" not in answer.text
        assert "&lt;script&gt;" in answer.text


async def test_a_service_that_has_stopped_is_unavailable() -> None:
    async with proxied() as (server, _):
        server.client.error = ServiceUnavailable("Answer does not answer over HTTP")
        answer = await server.http.get(f"{AT}/Answer/docs")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ServiceUnavailable")
        server.client.error = ConnectionResetError("process 1 has closed the connection")
        answer = await server.http.get(f"{AT}/Answer/docs")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ServiceUnavailable")
        assert "has ended" in answer.json()["message"]


async def test_a_service_that_has_moved_is_found() -> None:
    async with stand(saying(OK)) as made, jupyter({"Answer": made.port}) as server:
        async with stand(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nold")) as old:
            server.client.ports["Answer"] = old.port
            assert (await server.http.get(f"{AT}/Answer/x")).text == "old"
        server.client.ports["Answer"] = made.port
        assert (await server.http.get(f"{AT}/Answer/x")).text == "ok"
        assert server.client.asked == 2


async def test_nobody_at_the_port_is_an_error() -> None:
    async with stand(saying(OK)) as made:
        port = made.port
    async with jupyter({"Answer": port}) as server:
        answer = await server.http.get(f"{AT}/Answer/x")
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "ServiceUnavailable")


# -- activity


async def test_calls_are_activity() -> None:
    async with proxied() as (server, _), server.browser() as stranger:
        settings = server.app.web_app.settings
        before = settings.get("api_last_activity")
        await stranger.get(f"{AT}/Answer/healthz")
        await server.http.get(f"{AT}/Answer/healthz?no_track_activity=1")
        assert settings.get("api_last_activity") == before
        assert (await server.http.get(f"{AT}/Answer/healthz")).status_code == 200
        assert settings["api_last_activity"] is not before
        assert server.app.web_app.last_activity() == settings["api_last_activity"]


async def test_calls_are_no_activity_where_that_is_set() -> None:
    async with proxied(counts=False) as (server, _):
        before = server.app.web_app.settings.get("api_last_activity")
        assert (await server.http.get(f"{AT}/Answer/healthz")).status_code == 200
        assert server.app.web_app.settings.get("api_last_activity") == before

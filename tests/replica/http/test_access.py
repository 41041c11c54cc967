from __future__ import annotations

import pytest

from nbcompose._replica.http.access import Access, host_name, is_loopback
from nbcompose._spec import Http
from nbcompose.errors import BadRequest, CallError, Forbidden, Unauthorized

LOCAL = {"Host": "127.0.0.1:3000"}


def refusal(access: Access, headers: dict[str, str], **options: bool) -> type[CallError] | None:
    try:
        access.check(headers, **options)
    except CallError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        ("Bearer secret", None),
        ("bearer   secret ", None),
        ("Bearer secre", Unauthorized),
        ("Bearer secret2", Unauthorized),
        ("Bearer ", Unauthorized),
        ("Basic secret", Unauthorized),
        ("secret", Unauthorized),
        ("Bearer secret,Bearer secret", Unauthorized),
        ("Bearer sécret", Unauthorized),
        (None, Unauthorized),
    ],
)
def test_a_token_must_match(authorization: str | None, expected: type[CallError] | None) -> None:
    headers = LOCAL if authorization is None else LOCAL | {"Authorization": authorization}
    assert refusal(Access(token="secret"), headers) is expected


def test_a_message_about_a_token_does_not_repeat_it() -> None:
    with pytest.raises(Unauthorized) as caught:
        Access(token="secret").check(LOCAL | {"Authorization": "Bearer guess"})
    assert "secret" not in str(caught.value)
    assert "guess" not in str(caught.value)


def test_what_is_open_needs_no_token() -> None:
    Access(token="secret").check(LOCAL, token=False)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:3000", None),
        ("127.8.9.10", None),
        ("localhost:3000", None),
        ("LOCALHOST", None),
        ("localhost.:80", None),
        ("answer.localhost:3000", None),
        ("[::1]:3000", None),
        ("[::ffff:127.0.0.1]:3000", None),
        ("evil.example:3000", Forbidden),
        ("127.0.0.1.evil.example", Forbidden),
        ("localhost.evil.example", Forbidden),
        ("evillocalhost", Forbidden),
        ("192.168.0.7:3000", Forbidden),
        ("[2001:db8::1]:3000", Forbidden),
        ("hub.example", None),
        ("HUB.example:8443", None),
        ("", BadRequest),
        ("a@127.0.0.1", BadRequest),
        ("127.0.0.1,evil.example", BadRequest),
        ("127.0.0.1/x", BadRequest),
        ("127.0.0.1:port", BadRequest),
        ("[::1", BadRequest),
    ],
)
def test_hosts_on_loopback_without_a_token(host: str, expected: type[CallError] | None) -> None:
    access = Access(allowed_hosts=frozenset({"hub.example"}))
    assert refusal(access, {"Host": host}) is expected
    # Health checks need no token, but a page that rebinds its name may not read them either.
    assert refusal(access, {"Host": host}, token=False) is expected


def test_foreign_hosts_pass_where_a_token_or_the_network_is_meant() -> None:
    headers = {"Host": "evil.example"}
    Access(token="secret").check(headers | {"Authorization": "Bearer secret"})
    Access(loopback=False).check(headers)


def test_the_message_about_a_host_says_how_to_let_it_in() -> None:
    with pytest.raises(Forbidden, match=r"--allowed-host hub\.example"):
        Access().check({"Host": "hub.example:80"})


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000", None),
        ("127.0.0.1", "http://127.0.0.1", None),
        ("127.0.0.1:80", "http://127.0.0.1", None),
        # Behind a proxy that speaks TLS, the port that Host leaves out is 443.
        ("127.0.0.1", "https://127.0.0.1:443", None),
        ("127.0.0.1", "https://127.0.0.1:80", Forbidden),
        ("[::1]:3000", "http://[::1]:3000", None),
        ("LocalHost:3000", "http://localhost:3000", None),
        ("127.0.0.1:3000", "http://127.0.0.1:8888", Forbidden),
        ("127.0.0.1:3000", "http://localhost:3000", Forbidden),
        ("127.0.0.1:3000", "https://evil.example", Forbidden),
        ("127.0.0.1:3000", "null", Forbidden),
        ("127.0.0.1:3000", "http://[::1", Forbidden),
        ("127.0.0.1:3000", "http://127.0.0.1:port", Forbidden),
        ("127.0.0.1:3000", "file://127.0.0.1:3000", Forbidden),
        ("127.0.0.1:3000", "https://app.example", None),
    ],
)
def test_origins(host: str, origin: str, expected: type[CallError] | None) -> None:
    access = Access(cors_origins=frozenset({"https://app.example"}))
    assert refusal(access, {"Host": host, "Origin": origin}) is expected


def test_a_foreign_origin_is_refused_with_the_right_token_too() -> None:
    headers = LOCAL | {"Authorization": "Bearer secret", "Origin": "https://evil.example"}
    assert refusal(Access(token="secret"), headers) is Forbidden


@pytest.mark.parametrize(
    ("site", "more", "page", "expected"),
    [
        ("same-origin", {}, False, None),
        ("none", {}, False, None),
        ("cross-site", {}, False, Forbidden),
        ("cross-site", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, False, Forbidden),
        ("cross-site", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, True, None),
        ("cross-site", {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, True, Forbidden),
        ("cross-site", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}, True, Forbidden),
        ("cross-site", {"Origin": "https://app.example"}, False, None),
    ],
)
def test_sec_fetch_site(site: str, more: dict[str, str], page: bool, expected: type[CallError] | None) -> None:
    access = Access(cors_origins=frozenset({"https://app.example"}))
    assert refusal(access, LOCAL | {"Sec-Fetch-Site": site} | more, page=page) is expected


def test_a_star_lets_every_origin_in() -> None:
    access = Access(cors_origins=frozenset({"*"}))
    access.check(LOCAL | {"Origin": "null", "Sec-Fetch-Site": "cross-site"})
    access.check(LOCAL | {"Sec-Fetch-Site": "cross-site"})
    assert access.cors_headers("https://any.example")["Access-Control-Allow-Origin"] == "https://any.example"


def test_cors_headers_are_for_allowed_origins_only() -> None:
    assert Access().cors_headers("https://app.example") == {}
    access = Access(cors_origins=frozenset({"https://app.example"}))
    assert access.cors_headers(None) == {"Vary": "Origin"}
    assert access.cors_headers("https://evil.example") == {"Vary": "Origin"}
    assert access.cors_headers("https://app.example")["Access-Control-Allow-Origin"] == "https://app.example"


def test_preflight() -> None:
    access = Access(token="secret", cors_origins=frozenset({"https://app.example"}))
    headers = LOCAL | {"Origin": "https://app.example", "Access-Control-Request-Private-Network": "true"}
    reply = access.preflight_headers(headers, "POST, OPTIONS")
    assert reply["Access-Control-Allow-Methods"] == "POST, OPTIONS"
    assert "Authorization" in reply["Access-Control-Allow-Headers"]
    assert reply["Access-Control-Allow-Private-Network"] == "true"
    assert access.preflight_headers(LOCAL, "POST, OPTIONS") == {"Allow": "POST, OPTIONS"}
    with pytest.raises(Forbidden, match="evil"):
        access.preflight_headers(LOCAL | {"Origin": "https://evil.example"}, "POST, OPTIONS")


def test_rules_of_a_spec() -> None:
    access = Access.of(Http(host="::1", cors_origins=("https://App.example/",)), "secret", ["Hub.example"])
    assert access == Access("secret", True, frozenset({"hub.example"}), frozenset({"https://app.example"}))
    assert not Access.of(Http(host="0.0.0.0")).loopback


@pytest.mark.parametrize(
    ("token", "host", "trusted"),
    [(None, "127.0.0.1", True), ("secret", "0.0.0.0", True), (None, "0.0.0.0", False)],
)
def test_who_is_trusted(token: str | None, host: str, trusted: bool) -> None:
    assert Access.of(Http(host=host), token).trusted is trusted


def test_host_names() -> None:
    assert host_name("[2001:DB8::1]:80") == "2001:db8::1"
    assert not is_loopback("2130706433")
    assert not is_loopback("0.0.0.0")

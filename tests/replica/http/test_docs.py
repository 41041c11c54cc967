from __future__ import annotations

import json
import re
import shlex
from collections.abc import Set
from html.parser import HTMLParser

import pytest

from nbcompose._replica.http.docs import ASSETS, asset, curl_line

TEXTS = {path: asset(path).body.decode() for path in ASSETS}
PAGE = TEXTS["/docs"]
SCRIPTS = [text for path, text in TEXTS.items() if path.endswith(".js")]

# Elements that never have an end tag.
VOID = {"meta", "link", "input", "br", "img"}


class Elements(HTMLParser):
    """The tags of a page with their attributes, and whether each is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


ELEMENTS = Elements(PAGE)


def test_every_element_is_closed() -> None:
    assert ELEMENTS.stack == []


@pytest.mark.parametrize("path", ASSETS)
def test_nothing_comes_from_elsewhere(path: str) -> None:
    assert not re.search(r"(https?:)?//[a-z0-9]", TEXTS[path].replace("/// ", ""), re.IGNORECASE)


def test_the_page_loads_what_is_served() -> None:
    links = {a.get("src") or a.get("href") for tag, a in ELEMENTS.found if tag in ("script", "link")}
    # Relative, so that the page works behind a proxy that puts a path in front.
    assert links == {"docs/docs.js", "docs/docs.css", "docs/form.css", "data:,"}
    imported = {name for script in SCRIPTS for name in re.findall(r'from "\./(.+\.js)"', script)}
    assert {f"/docs/{name}" for name in imported} | {"/docs/docs.js"} == {p for p in ASSETS if p.endswith(".js")}


def test_the_policy_allows_what_the_page_does_and_no_more() -> None:
    policy = asset("/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in ELEMENTS.found if "style" in a or any(name.startswith("on") for name in a)]
    assert not [text for text in SCRIPTS if re.search(r"innerHTML|srcdoc|eval\(|style[:=]", text)]


def test_the_script_finds_its_elements() -> None:
    ids = {a["id"] for _, a in ELEMENTS.found if "id" in a}
    classes = {name for _, a in ELEMENTS.found for name in (a.get("class") or "").split()}
    tags = {tag for tag, _ in ELEMENTS.found}
    for selector in re.findall(r'\$\("([^"]+)"', TEXTS["/docs/docs.js"]):
        for part in selector.split():
            known: Set[str | None] = ids if part[0] == "#" else classes if part[0] == "." else tags
            assert part.lstrip("#.") in known or part == "[type=submit]", selector


def test_fields_have_labels_and_news_is_announced() -> None:
    labelled = {a.get("for") for tag, a in ELEMENTS.found if tag == "label"}
    token = next(a for tag, a in ELEMENTS.found if tag == "input")
    assert token["id"] in labelled
    assert token["type"] == "password"
    assert "status" in {a.get("role") for _, a in ELEMENTS.found}  # and that of each call is in outcome.js
    assert ("html", {"lang": "en"}) in ELEMENTS.found


def test_light_and_dark() -> None:
    assert "prefers-color-scheme: dark" in TEXTS["/docs/docs.css"]


def test_media_types() -> None:
    assert asset("/docs").media_type.startswith("text/html")
    assert asset("/docs/docs.js").media_type.startswith("text/javascript")
    assert asset("/docs/docs.css").media_type.startswith("text/css")


def test_a_curl_line_can_be_read_by_a_shell() -> None:
    schema = {
        "properties": {
            "it's": {"type": "string"},
            "n": {"type": "integer"},
            "many": {"type": "array"},
            "any": {},
            "maybe": {"type": "string"},
        },
        "required": ["it's", "n", "many", "any"],
    }
    words = shlex.split(curl_line("http://127.0.0.1:3000/a b", schema, needs_token=True))
    assert words[:2] == ["curl", "http://127.0.0.1:3000/a b"]
    assert words[3::2] == [
        "Content-Type: application/json",
        "Authorization: Bearer $NBCOMPOSE_TOKEN",
        json.dumps({"it's": "", "n": 0, "many": [], "any": None}),
    ]
    assert shlex.split(curl_line("http://127.0.0.1/a", {}, needs_token=False, saves=True))[4:6] == ["-o", "answer"]
    assert "Authorization" not in curl_line("http://127.0.0.1/ask", {}, needs_token=False)

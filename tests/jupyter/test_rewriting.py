from __future__ import annotations

import pytest

from nbcompose._jupyter.rewriting import target

KERNEL = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.mark.parametrize(
    ("path", "where", "service", "below"),
    [
        (f"{KERNEL}/Answer/docs", KERNEL, "Answer", "/docs"),
        (f"{KERNEL}/Answer/", KERNEL, "Answer", "/"),
        (f"{KERNEL}/Answer", KERNEL, "Answer", ""),
        ("serve-12/Answer/a.ipynb", "serve-12", "Answer", "/a.ipynb"),
        ("a.ipynb/Answer/b.ipynb", "a.ipynb", "Answer", "/b.ipynb"),
        ("x/y%20z/a.ipynb/Answer/docs", "x/y z/a.ipynb", "Answer", "/docs"),
        ("x%2Fa.ipynb/Answer/docs", "x/a.ipynb", "Answer", "/docs"),
        ("other/Answer/docs", "other", "Answer", "/docs"),
        (f"{KERNEL}/An%20swer/a%2Fb//c", KERNEL, "An swer", "/a%2Fb//c"),
    ],
)
def test_what_an_address_names(path: str, where: str, service: str, below: str) -> None:
    found = target(f"/base/nbcompose/at/{path}", "/base/")
    assert found is not None
    assert (found.where, found.service, found.path) == (where, service, below)
    assert found.prefix + found.path == f"/base/nbcompose/at/{path}"


@pytest.mark.parametrize("path", ["", "/", KERNEL, f"{KERNEL}/", "x/a.ipynb", "x/a.ipynb/", "//docs"])
def test_addresses_of_no_service(path: str) -> None:
    assert target(f"/base/nbcompose/at/{path}", "/base/") is None


def test_only_what_is_below_the_servers_own_address_counts() -> None:
    assert target(f"/nbcompose/at/{KERNEL}/Answer/docs", "/base/") is None


@pytest.mark.parametrize(("path", "own"), [("docs", True), ("docs/docs.js", True), ("docsy", False), ("", False)])
def test_the_page_that_is_ours(path: str, own: bool) -> None:
    found = target(f"/nbcompose/at/{KERNEL}/Answer/{path}", "/")
    assert found is not None
    assert found.is_docs is own

"""What calls have said, as a page that comes later is told."""

from __future__ import annotations

from typing import Any

from nbcompose._notebook.graph.kept import MOST_BYTES, MOST_CALLS, MOST_ITEMS, TOO_LARGE, KeptCalls


def item(call: str, n: int, text: str) -> dict[str, Any]:
    return {"id": call, "type": "item", "n": n, "bundle": {"text/plain": text}}


def begun(call: str = "1") -> KeptCalls:
    kept = KeptCalls()
    kept.begin(call, "Writer", "write")
    return kept


def test_an_api_that_was_not_called_has_none() -> None:
    told = KeptCalls().of("Writer", "write")
    assert (told["call"], told["items"], told["count"], told["end"]) == ("", [], 0, None)


def test_items_and_the_end_are_kept_and_what_others_say_is_not() -> None:
    kept = begun()
    kept.put({"id": "1", "type": "begun"})
    kept.put(item("1", 0, "a"))
    kept.put(item("2", 0, "of another"))
    kept.put(item("1", 1, "b"))
    told = kept.of("Writer", "write")
    assert told["call"] == "1"
    assert [i["bundle"]["text/plain"] for i in told["items"]] == ["a", "b"]
    assert told["end"] is None
    kept.put({"id": "1", "type": "end", "seconds": 2.0})
    assert kept.of("Writer", "write")["end"] == {"id": "1", "type": "end", "seconds": 2.0}


def test_a_new_call_takes_the_place_of_the_one_before() -> None:
    kept = begun()
    kept.put(item("1", 0, "old"))
    kept.begin("2", "Writer", "write")
    assert kept.of("Writer", "write")["call"] == "2"
    assert kept.of("Writer", "write")["items"] == []


def test_no_more_than_so_many_calls_items_and_bytes_are_kept() -> None:
    kept = begun()
    for n in range(MOST_CALLS):
        kept.begin(f"other {n}", "Writer", f"api{n}")
    assert kept.of("Writer", "write")["call"] == ""

    kept = begun()
    for n in range(MOST_ITEMS + 5):
        kept.put(item("1", n, "x"))
    told = kept.of("Writer", "write")
    assert (len(told["items"]), told["count"]) == (MOST_ITEMS, MOST_ITEMS + 5)

    kept = begun()
    for n, size in enumerate([MOST_BYTES - 1, 10, 1]):  # what comes after a gap is not kept, though there is room
        kept.put(item("1", n, "x" * size))
    told = kept.of("Writer", "write")
    assert ([i["n"] for i in told["items"]], told["count"]) == ([0], 3)


def test_a_result_that_is_too_large_says_so() -> None:
    kept = begun()
    kept.put({"id": "1", "type": "result", "seconds": 1.0, "bundle": {"image/png": "x" * (MOST_BYTES + 1)}})
    assert kept.of("Writer", "write")["end"] == {"id": "1", "type": "result", "seconds": 1.0, "bundle": TOO_LARGE}


def test_a_page_that_comes_later_can_go_on_typing() -> None:
    kept = KeptCalls()
    kept.begin("1", "Refiner", "refine", {"text": "stream"})
    assert kept.of("Refiner", "refine")["typed"] == {"text": "stream"}
    kept.put({"id": "1", "type": "end", "seconds": 1.0})
    assert kept.of("Refiner", "refine")["typed"] == {}
    assert kept.of("Refiner", "count")["typed"] == {}

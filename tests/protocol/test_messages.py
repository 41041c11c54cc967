"""The messages' types, as Python and as TypeScript; and what the front end's checks are installed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import message_types
import pytest

from nbcompose._protocol import messages

FRONTEND = Path(__file__).parents[2] / "frontend"


def test_the_types_of_the_front_end_are_current() -> None:
    assert message_types.TARGET.read_text(encoding="utf-8") == message_types.typescript(), (
        "messages.py has changed: run python scripts/message_types.py"
    )


def test_what_becomes_of_a_type() -> None:
    text = message_types.typescript()
    assert "export interface Edge {\n  from: string;\n  to: string;\n  id: string;\n  calls: number;\n" in text
    assert 'state: "starting" | "waiting" | "ready" | "failed" | "stopped";' in text
    assert "  p50_ms: number | null;\n" in text
    assert "  lines?: number;\n" in text
    assert '  "text/html"?: string;\n' in text
    assert "  loc: Array<string | number>;\n" in text
    assert "export interface Failed {\n  name: string;\n" in text  # what it inherits is its own
    assert "export type Reply =\n  | Here\n  | Kept\n" in text


class Bad(TypedDict):
    value: bytes


def test_a_type_without_a_counterpart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "Bad", Bad, raising=False)
    with pytest.raises(TypeError, match="bytes'> has no counterpart"):
        message_types.typescript()


def test_the_lock_pins_everything_and_names_no_registry_but_npm_s() -> None:
    lock: dict[str, Any] = json.loads((FRONTEND / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: found for name, found in lock["packages"].items() if name}
    assert packages
    for name, found in packages.items():
        assert found["integrity"].startswith("sha512-"), name
        assert found.get("resolved", "https://registry.npmjs.org/").startswith("https://registry.npmjs.org/"), name

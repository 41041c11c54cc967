"""Forms: the schema that the front end gets, and what it sends back."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import BaseModel

from nbcompose import api, service
from nbcompose._control import forms
from nbcompose._schema.api import ApiSchema
from nbcompose._schema.tempfiles import TempFiles
from nbcompose.errors import BadRequest, InvalidArgument
from tests.handles import handle


class Style(BaseModel):
    tone: Literal["dry", "warm"] = "dry"
    picture: Image.Image | None = None
    model_config = {"arbitrary_types_allowed": True}


@service
class Shown:
    @api
    def ask(self, question: str, top_k: int = 3, exact: bool = False) -> str:
        """Answers."""
        return question

    @api
    def look(self, picture: Image.Image, more: list[Image.Image], notes: Path, data: np.ndarray) -> int:
        return 1

    @api
    def count(self, table: pd.DataFrame, points: np.ndarray | None = None, name: str = "") -> int:
        return len(table)

    @api
    def draw(self, text: str) -> Image.Image:
        return Image.new("RGB", (1, 1))

    @api
    async def refine(self, text: AsyncIterator[str], style: str = "upper") -> AsyncIterator[str]:
        async for piece in text:
            yield piece

    @api
    def styled(self, style: Style, raw: bytes = b"") -> int:
        return 1


def schema(name: str) -> ApiSchema:
    found = handle(Shown).spec.api(name)
    assert found is not None
    return ApiSchema.of(handle(Shown).spec.cls, found)


def form(name: str, variables: dict[str, Any] | None = None) -> Any:
    found = handle(Shown).spec.api(name)
    assert found is not None
    return forms.describe(handle(Shown).spec, found, schema(name), "Mine", variables)


def png() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 2), "red").save(out, "PNG")
    return out.getvalue()


def upload(data: bytes, media_type: str, name: str) -> dict[str, Any]:
    return {forms.UPLOAD: {"name": name, "type": media_type, "data": base64.b64encode(data).decode()}}


def test_a_form_has_the_schema_that_http_has() -> None:
    told = form("ask")
    assert told["schema"] == schema("ask").input_schema
    assert told["schema"]["properties"]["top_k"]["default"] == 3
    assert (told["doc"], told["stream"]) == ("Answers.", False)
    assert told["signature"] == "ask(question: str, top_k: int = 3, exact: bool = False) -> str"


def test_a_form_knows_files_from_text() -> None:
    parts = form("look")["parts"]
    media = {name: part.get("contentMediaType") or part["items"]["contentMediaType"] for name, part in parts.items()}
    assert media == {
        "picture": "image/png",
        "more": "image/png",
        "notes": "application/octet-stream",
        "data": "application/x-npy",
    }
    assert [name for name, part in parts.items() if part["type"] == "array"] == ["more"]
    assert form("ask")["parts"] == {}


def test_files_inside_models_are_known_too() -> None:
    described = form("styled")["schema"]
    options = described["$defs"]["Style"]["properties"]["picture"]["anyOf"]
    assert [o.get("contentEncoding") for o in options] == ["base64", None]
    assert options[0]["contentMediaType"] == "image/png"
    raw = described["properties"]["raw"]
    assert (raw["contentEncoding"], raw.get("contentMediaType")) == ("base64", None)


def test_what_was_filled_in_is_validated_as_over_http() -> None:
    assert forms.read(schema("ask"), {"question": "why", "top_k": "5"}) == {"question": "why", "top_k": 5}
    with pytest.raises(InvalidArgument) as caught:
        forms.read(schema("ask"), {"question": "why", "top_k": "many"})
    assert caught.value.problems[0]["loc"] == ["top_k"]


def test_uploads_become_images_files_and_arrays() -> None:
    saved = io.BytesIO()
    np.save(saved, np.arange(3.0))
    document: dict[str, Any] = {
        "picture": upload(png(), "image/png", "a.png"),
        "more": [upload(png(), "image/png", "a.png"), upload(png(), "image/png", "b.png")],
        "notes": upload(b"hello", "text/x-notes", "notes.txt"),
        "data": upload(saved.getvalue(), "application/x-npy", "a.npy"),
    }
    document["notes"][forms.UPLOAD]["type"] = ""
    with TempFiles():
        values = forms.read(schema("look"), document)
        assert values["notes"].read_bytes() == b"hello"
        assert values["notes"].name == "notes.txt"
    assert values["picture"].size == (4, 2)
    assert [p.size for p in values["more"]] == [(4, 2), (4, 2)]
    assert values["data"].tolist() == [0.0, 1.0, 2.0]


def test_variables_of_the_notebook_are_offered_where_they_fit() -> None:
    variables = {"old": pd.DataFrame(), "x": np.ones(2), "_2": pd.DataFrame(), "new": pd.DataFrame(), "n": 1}
    assert form("count", variables)["variables"] == {"table": ["new", "old"], "points": ["x"]}
    assert form("look", variables)["variables"] == {"picture": [], "data": ["x"]}
    assert form("count")["variables"] == {}


def test_a_variable_of_the_notebook_is_an_argument() -> None:
    table = pd.DataFrame({"a": [1]})
    document: dict[str, Any] = {"table": {forms.VARIABLE: "df"}, "points": {forms.VARIABLE: "x"}}
    values = forms.read(schema("count"), document, {"df": table, "x": np.ones(2)})
    assert values["table"] is table
    with pytest.raises(InvalidArgument, match=r"table: the notebook has no variable 'df': run the cell") as caught:
        forms.read(schema("count"), document, {"x": np.ones(2)})
    assert caught.value.problems[0]["loc"] == ["table"]
    with pytest.raises(InvalidArgument, match=r"table: Input should be a table: .* \(got int\)"):
        forms.read(schema("count"), document, {"df": 1, "x": np.ones(2)})
    with pytest.raises(InvalidArgument):  # no notebook
        forms.read(schema("count"), document)


def test_an_uploaded_table_is_csv() -> None:
    values = forms.read(schema("count"), {"table": upload(b"a;b\n1;2\n", "text/csv", "pasted.csv")})
    assert values["table"].to_dict("list") == {"a": [1], "b": [2]}


def test_an_upload_that_is_broken_is_said_to_be() -> None:
    broken = {forms.UPLOAD: {"name": "a.png", "type": "image/png", "data": "no base64!"}}
    with pytest.raises(BadRequest, match="picture: the file did not arrive whole"):
        forms.read(schema("look"), {"picture": broken})


def test_copies_name_the_variable_and_never_a_token() -> None:
    copies = form("ask")["copies"]
    assert copies["python"] == "Mine.ask(%(arguments)s)"
    assert 'url + "/ask", json=%(dict)s, headers=headers' in copies["script"]
    assert "-d %(shell)s" in copies["terminal"]
    assert "JSON.stringify(%(json)s)" in copies["javascript"]


def test_a_result_that_is_a_file_is_kept_as_one() -> None:
    copies = form("draw")["copies"]
    assert copies["script"].endswith("write_bytes(answer.content)")
    assert copies["terminal"].startswith("curl -s -o answer ")
    assert 'writeFile("answer"' in copies["javascript"]


def test_a_form_knows_what_takes_a_stream() -> None:
    told = form("refine")
    assert [p.get("stream", False) for p in told["params"]] == [True, False]
    assert "-X POST" in told["lines"]
    assert "printf '%s\\n' %(lines)s |\n" in told["lines"]
    assert told["lines"].endswith("-H 'Content-Type: application/x-ndjson' -T .")
    assert "lines" not in form("ask")
    assert told["call"] == "Mine.refine(%(arguments)s)"
    assert 'Shown/url)/refine%(query)s"' in told["events"]
    assert told["events"].endswith("-H 'Content-Type: text/event-stream' -T .")
    assert "events" not in form("ask")

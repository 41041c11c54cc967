"""Bodies, parts and results that are not JSON, and the files that uploads become."""

import asyncio
import io
import json
import pathlib
import stat
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, NewType

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from nbcompose._schema.codecs import array_from_npy, array_to_npy, image_to_bytes
from nbcompose._schema.tempfiles import TempFiles
from nbcompose.errors import InvalidArgument, InvalidResult, NotAcceptable, UnsupportedMediaType
from tests.optional import optional

torch = optional("torch")

JSON = "application/json"
NPY = "application/x-npy"
CSV = "text/csv"
OCTETS = "application/octet-stream"
TABLE = pd.DataFrame({"word": ["a,b", None], "count": [1, 2]}, index=[7, 9])
ARRAY = np.arange(4, dtype=np.int16).reshape(2, 2)
PICTURE = Image.new("RGB", (3, 2), (1, 2, 3))


class Mixed:
    def f(
        self,
        images: list[Image.Image],
        text: str,
        k: int = 1,
        words: list[str] | None = None,
        extra: npt.NDArray[np.float32] | None = None,
        document: pathlib.Path | None = None,
        anything: Any = None,
    ) -> dict: ...


@pytest.mark.parametrize(
    ("annotation", "value", "media_type", "check"),
    [
        (np.ndarray, ARRAY, NPY, lambda data: (array_from_npy(data) == ARRAY).all()),
        (np.ndarray | None, ARRAY, NPY, lambda data: (array_from_npy(data) == ARRAY).all()),
        (torch.Tensor, torch.ones(2, dtype=torch.bfloat16), NPY, lambda data: array_from_npy(data).tolist() == [1, 1]),
        (pd.DataFrame, TABLE, CSV, lambda data: data == b'word,count\n"a,b",1\n,2\n'),
        (Image.Image, PICTURE, "image/jpeg", lambda data: Image.open(io.BytesIO(data)).format == "JPEG"),
        (bytes, b"\xff", OCTETS, lambda data: data == b"\xff"),
        (str, "é", "text/plain", lambda data: data == "é".encode()),
        (str, "é", "application/json", lambda data: json.loads(data) == "é"),
    ],
)
def test_results_in_other_forms(schema_for, annotation, value, media_type, check):
    schema = schema_for(annotation)
    assert media_type in schema.media_types()
    assert media_type in schema.forms(value)
    assert check(schema.encode(value, media_type))


@pytest.mark.parametrize("annotation", [int, dict, Any, list[Image.Image], pd.Series, np.float32, str | bytes])
def test_other_results_have_json_only(schema_for, annotation):
    assert schema_for(annotation).media_types() == ("application/json",)
    with pytest.raises(NotAcceptable, match=r"Svc\.f: this result has no image/png form; there is application/json$"):
        schema_for(annotation).encode(None, "image/png")


@pytest.mark.parametrize(("annotation", "value"), [(np.ndarray | None, None), (np.ndarray, np.array([{}]))])
def test_a_form_that_the_value_lacks_is_refused(schema_for, annotation, value):
    schema = schema_for(annotation)
    assert schema.forms(value) == ("application/json",)
    with pytest.raises(NotAcceptable, match=r"this result has no application/x-npy form; there is application/json$"):
        schema.encode(value, NPY)


@pytest.mark.parametrize(
    ("annotation", "value", "forms"),
    [
        (str, "é", (JSON, "text/plain")),
        (NewType("Name", str), "é", (JSON, "text/plain")),
        (np.ndarray, ARRAY, (JSON, NPY)),
        (torch.Tensor, torch.ones(2), (JSON, NPY)),
        (Image.Image, PICTURE, ("image/png", "image/jpeg", "image/webp", JSON)),
        (Image.Image | None, PICTURE, ("image/png", "image/jpeg", "image/webp", JSON)),
        (Image.Image | None, None, (JSON,)),
        (bytes, b"", (OCTETS, JSON)),
        (pathlib.Path, pathlib.Path("a.pdf"), ("application/pdf", OCTETS, JSON)),
        (pathlib.Path, pathlib.Path("a.unheard-of"), (OCTETS, JSON)),
        (pathlib.Path, pathlib.Path("a.csv.gz"), (OCTETS, JSON)),  # the type would be that of what is packed
        (Annotated[pathlib.Path, "a report"], pathlib.Path("a.html"), ("text/html", OCTETS, JSON)),
        (pathlib.Path, pathlib.Path("a.json"), (OCTETS, JSON)),  # as JSON it is base64, as any file is
        (dict, {}, (JSON,)),
    ],
)
def test_what_is_a_file_at_heart_is_one_by_default(schema_for, annotation, value, forms):
    assert schema_for(annotation).forms(value) == forms


def test_items_of_a_stream_of_texts_may_be_text(schema_of):
    class Svc:
        def f(self) -> Iterator[str]:
            yield ""

        def g(self) -> Iterator[Image.Image]:
            yield PICTURE

    assert schema_of(Svc, stream=True).media_types() == (JSON, "text/plain")
    assert [schema_of(Svc, stream=True).dump_text(item) for item in ("é", None)] == ["é".encode(), b""]
    assert schema_of(Svc, "g", stream=True).media_types() == (JSON,)


def test_a_path_is_sent_as_its_contents(schema_for, tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"\xff\x00")
    schema = schema_for(pathlib.Path)
    assert schema.encode(path, OCTETS) == b"\xff\x00"
    assert schema.dump(path) == "/wA="
    with pytest.raises(InvalidResult, match=r"cannot be sent as application/octet-stream: .* No such file"):
        schema.encode(tmp_path / "missing", OCTETS)
    with pytest.raises(InvalidResult, match="No such file"):
        schema.dump_json(tmp_path / "missing")


@pytest.mark.parametrize(
    ("annotation", "data", "media_type", "check"),
    [
        (npt.NDArray[np.float32], array_to_npy(ARRAY), NPY, lambda x: x.dtype == np.float32 and (x == ARRAY).all()),
        (torch.Tensor, array_to_npy(ARRAY), NPY, lambda x: torch.equal(x, torch.tensor(ARRAY))),
        (pd.DataFrame, "word;ünit\r\na;1,5\r\n".encode("utf-8-sig"), CSV, lambda x: x.ünit.tolist() == ["1,5"]),
        (pd.DataFrame | None, b"a\tb\n1\t\n2\t0.5\n", "text/tab-separated-values", lambda x: x.b.sum() == 0.5),
        (pd.DataFrame, b"a,b\n", "application/vnd.ms-excel", lambda x: list(x) == ["a", "b"] and len(x) == 0),
        (Image.Image, image_to_bytes(PICTURE), "image/png", lambda x: x.getpixel((0, 0)) == (1, 2, 3)),
        (bytes, b"\xff", OCTETS, lambda x: x == b"\xff"),
        (bytes, b"\xff", "audio/wav", lambda x: x == b"\xff"),
        (str, "é".encode(), "text/plain; charset=utf-8", lambda x: x == "é"),
        (str, b"\xe9", 'text/plain; charset="ISO-8859-1"', lambda x: x == "é"),
        (str, b"a,b\n", "text/csv", lambda x: x == "a,b\n"),
        (str | None, b"# a", "text/markdown", lambda x: x == "# a"),
        (pathlib.Path, b"%PDF", "application/pdf", lambda x: x.read_bytes() == b"%PDF"),
        (pathlib.Path, b"a,b\n", "text/csv", lambda x: x.read_bytes() == b"a,b\n"),
        (pathlib.Path | None, b"\xff", "text/plain", lambda x: x.read_bytes() == b"\xff"),
        (bytes, b"x", "x-own/thing", lambda x: x == b"x"),
        (Image.Image, image_to_bytes(PICTURE), OCTETS, lambda x: x.size == (3, 2)),
        (Image.Image, image_to_bytes(PICTURE), "text/html", lambda x: x.size == (3, 2)),
    ],
)
def test_a_raw_body_is_the_one_required_argument(schema_for, annotation, data, media_type, check):
    schema = schema_for(annotation)
    with TempFiles():
        assert check(schema.validate_json(schema.decode_body(data, media_type))["x"])


@pytest.mark.parametrize(
    ("annotation", "data", "media_type", "error", "message"),
    [
        (np.ndarray, b"x", NPY, InvalidArgument, r"^Svc\.f: x: not a valid \.npy file"),
        (pd.DataFrame, b"", CSV, InvalidArgument, r"^Svc\.f: x: not a table in CSV: No columns"),
        (pd.DataFrame, b"a\n1,2\n1,2,3\n", CSV, InvalidArgument, "not a table in CSV: Error tokenizing data"),
        (pd.DataFrame, b"\xff\xfe", CSV, InvalidArgument, "not a CSV file in UTF-8"),
        (Image.Image, b"x", "image/png", InvalidArgument, r"^Svc\.f: x: not an image"),
        (str, b"\xff", "text/plain", InvalidArgument, "not UTF-8"),
        (str, b"\xff", "text/plain; charset=us-ascii", InvalidArgument, "not ASCII"),
        (str, b"x", "text/plain; charset=rot13", UnsupportedMediaType, "charset=rot13 is not read: write .* UTF-8"),
        (str, b"x", "text/plain; charset=none", UnsupportedMediaType, "charset=none is not read"),
        (str, b"x", "text/plain; charset=unicode_escape", UnsupportedMediaType, "is not read"),
        (Image.Image, b"x", "text/html", InvalidArgument, "not an image"),
        (
            np.ndarray,
            b"x",
            "image/png",
            UnsupportedMediaType,
            "does not take image/png; it takes application/json, mul",
        ),
        (int, b"x", OCTETS, UnsupportedMediaType, "takes application/json, multipart/form-data, application/x-www-f"),
    ],
)
def test_a_bad_raw_body_is_refused(schema_for, annotation, data, media_type, error, message):
    with pytest.raises(error, match=message):
        schema_for(annotation).decode_body(data, media_type)


def test_a_raw_body_needs_one_required_parameter(schema_of):
    assert schema_of(Mixed).body_types() == ()
    with pytest.raises(UnsupportedMediaType):
        schema_of(Mixed).decode_body(b"", "image/png")


def test_the_form_schema_shows_files(schema_of, schema_for):
    properties = schema_of(Mixed).multipart_schema["properties"]
    assert properties["images"]["items"]["contentMediaType"] == "image/png"
    assert properties["document"]["contentMediaType"] == OCTETS
    assert properties["text"] == {"type": "string", "title": "Text"}
    assert schema_for(str).multipart_schema is None


class TestTempFiles:
    def test_files_are_private_and_go_with_the_context(self):
        with TempFiles() as files:
            a, b = files.write(b"a", "x.txt"), files.write(b"b", "x.txt")
            assert (a.read_bytes(), b.read_bytes(), a.name, a != b) == (b"a", b"b", "x.txt", True)
            assert stat.S_IMODE(a.parent.parent.stat().st_mode) == 0o700
        assert not a.parent.parent.exists()

    def test_files_go_when_the_call_fails(self):
        with pytest.raises(KeyError), TempFiles() as files:  # noqa: PT012
            path = files.write(b"a")
            raise KeyError
        assert not path.exists()

    @pytest.mark.parametrize(
        "name", ["../../x", "/etc/x", "C:\\dir\\x", "..", "", "\0\n", "a" * 500 + ".txt", "é" * 300]
    )
    def test_a_name_cannot_leave_its_folder(self, name):
        with TempFiles() as files:
            path = files.write(b"a", name)
            assert path.resolve().parent == path.parent
            assert path.read_bytes() == b"a"
            assert files.write(b"b").parent.parent == path.parent.parent

    def test_contexts_nest_and_are_apart_between_tasks(self):
        class Seen(NamedTuple):
            mine: bool
            outer: bool

        async def task(outer: TempFiles) -> Seen:
            with TempFiles() as mine:
                await asyncio.sleep(0)
                return Seen(TempFiles.current() is mine, TempFiles.current() is outer)

        async def both() -> list[Seen]:
            with TempFiles() as outer:
                seen = await asyncio.gather(task(outer), task(outer))
                assert TempFiles.current() is outer
                return list(seen)

        assert asyncio.run(both()) == [Seen(True, False)] * 2

    def test_without_a_context_a_file_is_an_error_of_ours(self, schema_for):
        with pytest.raises(RuntimeError, match="no `with TempFiles"):
            schema_for(pathlib.Path).decode_body(b"a", OCTETS)
        with pytest.raises(RuntimeError, match="no `with TempFiles"):
            schema_for(pathlib.Path).validate_json({"x": "YQ=="})

    def test_a_path_over_json_is_contents_never_a_name_on_our_disk(self, schema_for):
        with pytest.raises(InvalidArgument, match="not valid base64"), TempFiles():
            schema_for(pathlib.Path).validate_json({"x": "/etc/passwd!"})
        with TempFiles():
            path = schema_for(pathlib.Path).validate_json({"x": "YQ=="})["x"]
            assert path.read_bytes() == b"a"

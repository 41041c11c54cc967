"""Values in files beside a script: each comes back as it was, in the plainest form that can hold it."""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import fractions
import http
import math
import re
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from IPython.utils.text import LSString, SList

from nbcompose._export import template
from nbcompose._export.freeze import Frozen, store, with_names
from nbcompose._export.naming import ScriptNames
from nbcompose.errors import ExportRefused

torch = pytest.importorskip("torch")
pandas = pytest.importorskip("pandas")


def stored(value: Any, folder: Path, name: str = "value") -> tuple[Frozen, Any]:
    """What became of a value, and what the script then has."""
    frozen = store(name, value, folder)
    assert [p.name for p in folder.iterdir()] == [frozen.file.name]  # nothing else is left there
    return frozen, getattr(template, frozen.loader)(frozen.file)


# -- which form


class Count(int):
    """Not what JSON brings back."""


TWICE = [1]
LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, -0.5, 10**30, "é\u2028 \"x\" \\", [], {}, [[1, 2.0, "a"], {"b": None}],
        {"z": 1, "a": {"y": [True]}}, {"": ""},
    ],
)  # fmt: skip
def test_json(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen == Frozen("value", tmp_path / "value.json", "load_json")
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)  # 1 is not 1.0, and dicts keep their order


@pytest.mark.parametrize(
    "value",
    [
        {1: "a"}, {1, 2}, [1.0, -math.inf], Count(3), [Count(3)], {"a": (1,)},

        collections.OrderedDict(a=1), collections.defaultdict(int), 1 + 2j, np.float64(1), [np.float64(1)],
        {Count(1): 1}, 10**5000, [TWICE, TWICE],
    ],
    ids=repr if sys.get_int_max_str_digits() == 0 else lambda value: type(value).__name__,
)  # fmt: skip
def test_what_json_would_change_is_pickled(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen.loader == "load_pickle"
    assert back == value
    assert type(back) is type(value)


Named = collections.namedtuple("Named", "path kind")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("half \ud800", "'half \\ud800'"), ((1, 2), "(1, 2)"), ((1,), "(1,)"), ((), "()"),
        (b"bytes", "b'bytes'"), (math.inf, "float('inf')"),
        (range(2, 9, 3), "range(2, 9, 3)"), (re.compile("a+", re.I), "re.compile('a+', 2)"),
        (Path("a/b"), "Path('a/b')"),
        (re.compile(b"a"), "re.compile(b'a')"), (datetime.date(2020, 1, 2), "datetime.date(2020, 1, 2)"),
        (datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
         "datetime.datetime(2020, 1, 2, 0, 0, tzinfo=datetime.timezone.utc)"),
        (datetime.timedelta(seconds=3), "datetime.timedelta(seconds=3)"), (decimal.Decimal("0.10"), "Decimal('0.10')"),
        (fractions.Fraction(1, 3), "Fraction(1, 3)"), (uuid.UUID(int=3), f"UUID('{uuid.UUID(int=3)}')"),
        (torch.device("cuda:1"), "torch.device('cuda:1')"), (torch.bfloat16, "torch.bfloat16"),
        (torch.Size([1, 2]), "torch.Size([1, 2])"), (http.HTTPStatus.OK, "HTTPStatus.OK"),
        ((torch.float32, (Path("a"), None)), "(torch.float32, (Path('a'), None))"),
        (Named("a", torch.device("cpu")), "Named(path='a', kind=torch.device('cpu'))"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_nobody_can_alter_is_code(value: Any, code: str, tmp_path: Path) -> None:
    frozen = store("value", value, tmp_path)
    assert list(tmp_path.iterdir()) == []
    names = ScriptNames([], ())
    assert with_names(frozen.code, names) == code
    space: dict[str, Any] = {}
    exec("\n".join(names.added), space)
    back = eval(code, space)
    assert (back, type(back)) == (value, type(value))


made: Any = [enum.Enum("Elsewhere", "RED")]  # in no module


class Own(enum.Enum):
    """Found where it says that it is."""

    RED = 1


@pytest.mark.parametrize(
    "value",
    [tuple(range(1000)), made[0].RED, ([1],), datetime.datetime(2020, 1, 2, fold=1)],
    ids=["long", "nowhere", "list", "fold"],
)
def test_what_is_no_code_is_pickled(value: Any, tmp_path: Path) -> None:
    assert not store("value", value, tmp_path).code


def test_an_enum_of_a_module(tmp_path: Path) -> None:
    names = ScriptNames([], ())
    assert with_names(store("value", Own.RED, tmp_path).code, names) == "Own.RED"
    assert names.added == [f"from {__name__} import Own"]
    assert eval(store("value", Own.RED, tmp_path).code, {"tests": sys.modules["tests"]}) is Own.RED


@pytest.mark.parametrize("value", [SList(["a", "b"]), LSString("a")], ids=["SList", "LSString"])
def test_what_a_shell_command_gave_needs_no_ipython(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen.loader == "load_json"
    assert back == value
    assert frozen.note == f"value is a plain {type(back).__name__} in the script, without IPython's methods"


def test_not_a_number(tmp_path: Path) -> None:
    frozen, back = stored([math.nan], tmp_path)
    assert frozen.loader == "load_pickle"
    assert math.isnan(back[0])


def test_what_is_in_two_places_stays_one(tmp_path: Path) -> None:
    _, back = stored([TWICE, TWICE], tmp_path)
    assert back[0] is back[1]


def test_a_loop(tmp_path: Path) -> None:
    frozen, back = stored(LOOP, tmp_path)
    assert frozen.loader == "load_pickle"
    assert back[0] is back


def test_very_deep_values(tmp_path: Path) -> None:
    value: list[Any] = []
    for _ in range(400):
        value = [value]
    assert stored(value, tmp_path)[1] == value


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.eye(3, dtype=np.float32)),
        np.array(1.5),
        np.zeros((0, 4), ">i2"),
        np.array(["a", "bc"]),
        np.array([b"a"]),
        np.array([np.nan, -0.0]),
        np.array(["2020-01-01", "NaT"], "datetime64[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.arange(10)[::3],
    ],
    ids=lambda value: str(value.dtype),
)
def test_arrays(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen == Frozen("value", tmp_path / "value.npy", "load_array")
    assert (back.dtype, back.shape, back.tobytes()) == (value.dtype, value.shape, value.tobytes())


@pytest.mark.parametrize(
    "value",
    [
        np.array([None, "a"], object),
        np.ma.masked_array([1, 2], [True, False]),
        np.array([1], np.dtype("i4", metadata={"unit": "s"})),
        np.array(["a", "b"]).view(np.char.chararray),
    ],
    ids=["object", "masked", "metadata", "subclass"],
)
def test_arrays_that_npy_would_change_are_pickled(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen.loader == "load_pickle"
    assert type(back) is type(value)
    assert back.tolist() == value.tolist()


@pytest.mark.parametrize(
    "value",
    [
        torch.arange(6).reshape(2, 3),
        torch.arange(6).reshape(2, 3).T,
        torch.tensor(1.5),
        torch.zeros(0, 3),
        torch.tensor([1.5, float("nan")], dtype=torch.bfloat16),
        torch.tensor([True, False]),
    ],
    ids=lambda value: f"{value.dtype}{tuple(value.shape)}",
)
def test_tensors(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen == Frozen("value", tmp_path / "value.safetensors", "load_tensor")
    assert back.dtype == value.dtype
    assert torch.equal(back.nan_to_num(), value.nan_to_num())


def test_dicts_of_tensors(tmp_path: Path) -> None:
    frozen, back = stored({"a": torch.eye(2), "b": torch.ones(3)}, tmp_path)
    assert frozen == Frozen("value", tmp_path / "value.safetensors", "load_tensors")
    assert list(back) == ["a", "b"]
    assert torch.equal(back["a"], torch.eye(2))


def test_the_order_of_keys_is_mentioned_where_it_changes(tmp_path: Path) -> None:
    frozen, back = stored({"b": torch.ones(3), "a": torch.eye(2)}, tmp_path)
    assert list(back) == ["a", "b"]
    assert frozen.note == "value: its keys come back in another order"


SHARED = torch.arange(4.0)


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(2, requires_grad=True),
        torch.nn.Parameter(torch.ones(2)),
        torch.eye(2).to_sparse(),
        {"a": SHARED, "b": SHARED},
        {1: torch.ones(2)},
        {"a": torch.ones(2), "b": "text"},
        {},
    ],
    ids=["grad", "parameter", "sparse", "shared", "number", "mixed", "empty"],
)
def test_tensors_that_safetensors_would_change_are_not_stored_so(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen.loader == ("load_json" if value == {} else "load_pickle")
    assert type(back) is type(value)


FRAMES = {
    "numbers": {"a": [1, 2], "b": [0.5, float("nan")]},
    "text": {"a": ["x", None], "b": [True, False]},
}


@pytest.mark.parametrize("columns", FRAMES.values(), ids=FRAMES)
def test_tables(columns: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    value = pandas.DataFrame(columns)
    frozen, back = stored(value, tmp_path)
    assert frozen == Frozen("value", tmp_path / "value.parquet", "load_frame", ("pyarrow",))
    pandas.testing.assert_frame_equal(back, value)


@pytest.mark.parametrize(
    "value",
    [
        pandas.DataFrame({"a": [{1}, "text"]}),
        pandas.DataFrame({"a": [1]}, index=pandas.Index([(1, 2)], tupleize_cols=False)),
        pandas.DataFrame([[1, 2]], columns=["a", "a"]),
        pandas.DataFrame({"a": [[1, 2], [3]]}, dtype=object),
        pandas.Series([1, 2]),
    ],
    ids=["objects", "index", "columns", "lists", "series"],
)
def test_tables_that_parquet_would_change_are_pickled(value: Any, tmp_path: Path) -> None:
    frozen, back = stored(value, tmp_path)
    assert frozen.loader == "load_pickle"
    assert "pandas" in {module.partition(".")[0] for module in frozen.modules}
    assert back.equals(value)


def test_without_pyarrow_tables_are_pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_parquet(*_: object, **__: object) -> None:
        raise ImportError("Missing optional dependency 'pyarrow'")

    monkeypatch.setattr(pandas.DataFrame, "to_parquet", to_parquet)
    frozen, back = stored(pandas.DataFrame(FRAMES["numbers"]), tmp_path)
    assert frozen.loader == "load_pickle"
    assert list(back) == ["a", "b"]


# -- pickles


class Point:
    """Of a module that a script can import."""

    def __init__(self, x: int) -> None:
        self.x = x


def test_what_a_pickle_imports_is_known(tmp_path: Path) -> None:
    frozen, back = stored([Point(3), collections.Counter("aab")], tmp_path)
    assert back[0].x == 3
    assert frozen.modules == ("collections", Point.__module__)
    assert frozen.note == (
        f"{tmp_path.name}/value.pickle is a pickle, which runs code when it is loaded: trust it as you trust code"
    )


def test_what_functions_of_the_notebook_use_is_known_too(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "np": np}
    exec("class Own:\n    def f(self):\n        return np.ones(2)", names)
    frozen, back = stored(names["Own"](), tmp_path)
    assert back.f().tolist() == [1, 1]
    assert "numpy" in frozen.modules
    assert "__main__" not in frozen.modules
    assert f"; functions in it run with Python 3.{sys.version_info.minor} only" in frozen.note
    assert frozen.note.endswith("; classes of the notebook in it are copies, not those of the script")


def test_the_notebooks_own_classes_stay_as_they_are(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("import enum\nclass Own:\n    def f(self):\n        return 1\nclass Color(enum.Enum):\n    RED = 1", names)
    own, color = names["Own"], names["Color"]
    for value in (own(), [color.RED]):
        note = store("value", value, tmp_path).note
        assert note.endswith("; classes of the notebook in it are copies, not those of the script")
    assert own.f.__globals__ is names
    assert color.RED is color(1)


def test_what_cannot_be_pickled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused) as refused:
        store("LOCK", threading.Lock(), tmp_path)
    assert str(refused.value) == (
        "a value cannot be stored:\n"
        "  --freeze LOCK: a lock cannot be pickled (cannot pickle '_thread.lock' object): make it in __init__"
    )
    assert list(tmp_path.iterdir()) == []


# -- files


@pytest.mark.parametrize(
    "value",
    [{"b": 1, "a": [2]}, np.eye(3), {"a": torch.eye(2)}, ([1], "a")],
    ids=["json", "npy", "safetensors", "pickle"],
)
def test_the_same_value_gives_the_same_bytes(value: Any, tmp_path: Path) -> None:
    first = store("value", value, tmp_path / "one").file.read_bytes()
    assert store("value", value, tmp_path / "two").file.read_bytes() == first


def test_where_it_lies(tmp_path: Path) -> None:
    assert store("value", 3, tmp_path / "app_data").place == ("app_data", "value.json")
    assert store("value", 4, tmp_path / "app_data").file.read_text() == "4\n"

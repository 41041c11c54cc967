"""Signatures as people read them: types without modules, defaults without addresses."""

from __future__ import annotations

import datetime
import enum
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Dict, List, Literal, Optional, Union  # noqa: UP035

import numpy as np
import pytest
from PIL import Image
from pydantic import BaseModel, Field

from nbcompose._service.signature import annotation_text, default_text


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: float = 0.5
    color: Color = Color.RED


def helper() -> None: ...


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Annotated[int, Field(ge=1, description="how often")], "int"),
        (list[Annotated[int, Field(ge=1)]] | None, "list[int] | None"),
        (Optional[Color], "Color | None"),  # noqa: UP045
        (Union[int, Point], "int | Point"),  # noqa: UP007
        (np.ndarray, "np.ndarray"),
        (list[Image.Image], "list[Image]"),
        (dict[str, datetime.datetime], "dict[str, datetime]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (List[str], "List[str]"),  # noqa: UP006  as it was written
        (Dict[str, Any], "Dict[str, Any]"),  # noqa: UP006
        (List, "List"),  # noqa: UP006
        (Callable[[int], str], "Callable[[int], str]"),
        (AsyncIterator[Point], "AsyncIterator[Point]"),
        (Literal["fast", 2, Color.RED], "Literal['fast', 2, Color.RED]"),
        (Any, "Any"),
        (None, "None"),
        ("Annotated[int, Field(ge=1)] | None", "int | None"),
        ("np.ndarray", "np.ndarray"),
        ("not ! python Annotated[", "not ! python Annotated["),
    ],
)
def test_annotations(annotation: Any, text: str) -> None:
    assert annotation_text(annotation) == text


@pytest.mark.parametrize(
    ("default", "text"),
    [
        ("<b>", "'<b>'"),
        (Color.RED, "Color.RED"),
        (Point(), "Point(x=0.5, color=Color.RED)"),
        ([Color.RED], "[Color.RED]"),
        (datetime.datetime(2024, 1, 2), "datetime(2024, 1, 2, 0, 0)"),
        (pathlib.Path("a/b"), "Path('a/b')"),
        (helper, "helper"),
        (int, "int"),
        (object(), "..."),
        ([object()], "..."),
        (Field(3, ge=1), "3"),
        ("x" * 100, "..."),
    ],
)
def test_defaults(default: Any, text: str) -> None:
    assert default_text(default) == text

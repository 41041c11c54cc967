"""Convert arrays, tensors, tables, images and bytes to and from JSON values, `.npy` files and image files.

Pure functions. Bad data raises ValueError with a message for the caller. torch, pandas and PIL are never imported here:
a value of such a type exists only once its library is loaded. `_schema/adapters.py` selects the type of an annotation.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import sys
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from nbcompose._schema import times

IMAGE_FORMATS = {  # media type -> PIL's name; also the only formats that are opened
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}

TOO_LARGE = "a number is too large"  # for a float: it would become infinity

# The image modes that each encoder can write; others are converted to RGB or RGBA.
_WRITABLE_MODES = {
    "PNG": ("RGB", "RGBA", "1", "L", "LA", "P", "I;16"),
    "JPEG": ("RGB", "L", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
}
_WITH_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def from_base64(text: str) -> bytes:
    """Decode a base64 string (standard or URL-safe alphabet) or a base64 `data:` URL."""
    if text.startswith("data:"):
        header, comma, text = text.partition(",")
        if not comma or not header.endswith(";base64"):
            raise ValueError("a data URL must be base64: data:<media type>;base64,<data>")
    try:
        return base64.b64decode(text.translate({ord("-"): "+", ord("_"): "/"}), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not valid base64: {error}") from None


def to_base64(data: bytes | bytearray | memoryview) -> str:
    return base64.b64encode(data).decode("ascii")


def array_from_json(value: Any, dtype: np.dtype[Any] | None = None, *, finite: bool = False) -> npt.NDArray[Any]:
    """Make an array of (nested lists of) numbers, booleans or strings; null becomes NaN in a float array.

    `finite`: raise ValueError for infinities.
    """
    try:
        array = np.array(value)
        if array.dtype == object:
            # Mixed values are accepted only if they are numbers and nulls, as floats.
            array = np.array(value, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"not a regular array of numbers: {error}") from None
    if finite and array.dtype.kind == "f" and np.isinf(array).any():
        raise ValueError(TOO_LARGE)
    return array if dtype is None else cast(array, dtype)


def cast(array: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return `array` as `dtype`; the same object if it has it already. Raises ValueError if values would be lost."""
    if array.dtype == dtype:
        return array
    integers = array.dtype.kind in "iu" and dtype.kind in "iu"
    if array.size == 0 or dtype.itemsize == 0 or (array.dtype.kind == "U" and dtype.kind in "Mm"):
        allowed = array.size == 0 or array.dtype.kind == dtype.kind or dtype.kind in "Mm"
    else:
        allowed = integers or np.can_cast(array.dtype, dtype, "same_kind")
    if not allowed:
        raise ValueError(f"an array of {array.dtype} cannot be used as {dtype}")
    if integers and array.size:
        limits = np.iinfo(dtype)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise ValueError(f"values beyond the range of {dtype}: {limits.min} to {limits.max}")
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype)
    except FloatingPointError:
        raise ValueError(f"values beyond the range of {dtype}") from None


def array_to_json(array: npt.NDArray[Any]) -> Any:
    """Return nested lists of JSON values: times as ISO 8601 texts, records as objects of their fields."""
    if array.dtype.names is not None:
        flat = array.reshape(-1)
        columns = {name: array_to_json(flat[name]) for name in array.dtype.names}
        rows = np.empty(flat.size, object)
        rows[:] = [{name: column[i] for name, column in columns.items()} for i in range(flat.size)]
        return rows.reshape(array.shape).tolist()
    if array.dtype.kind in "Mm":
        return times.to_texts(array)
    if array.dtype.char in "gG":  # longdouble and clongdouble: written as Python's float and complex
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64).tolist()
    return array.tolist()


def array_to_npy(array: npt.NDArray[Any]) -> bytes:
    """Return the bytes of a `.npy` file. Raises ValueError for an array of Python objects."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from_npy(data: bytes) -> npt.NDArray[Any]:
    """Read a `.npy` file, versions 1 and 2; never an array of objects, which would need pickle.

    The header's shape is compared with the number of bytes present before anything is allocated.
    """
    stream = io.BytesIO(data)
    try:
        version = npy_format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version[0]}.{version[1]} of the format is not supported")
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise ValueError("an array of Python objects is not accepted")
        have = len(data) - stream.tell()
        count = math.prod(shape)
        # With items of size 0 any shape would fit, and copying it could take forever.
        if any(n < 0 for n in shape) or count * dtype.itemsize != have or (count and not dtype.itemsize):
            raise ValueError(f"shape {shape} of {dtype} does not fit the {have} bytes that follow")
        order: Literal["C", "F"] = "F" if fortran else "C"
        flat = np.ndarray(shape, dtype, data, stream.tell(), order=order)
        return flat.copy(order=order)  # a view of `data` would be read-only
    except Exception as error:  # the header is Python text that numpy evaluates: it may raise anything
        raise ValueError(f"not a valid .npy file: {error}") from None


def tensor_to_array(tensor: Any) -> npt.NDArray[Any]:
    """Return a torch tensor's values as an array on the CPU; dtypes that numpy lacks (bfloat16, float8) as float32."""
    torch = sys.modules["torch"]
    values = tensor.detach()
    if values.layout != torch.strided:
        values = values.to_dense()
    values = values.cpu().resolve_conj().resolve_neg()
    if values.dtype.is_floating_point and values.dtype not in (torch.float16, torch.float32, torch.float64):
        values = values.float()
    array: npt.NDArray[Any] = values.numpy()
    return array


def tensor_from_array(array: npt.NDArray[Any], *, default_float: bool = False) -> Any:
    """Return a torch tensor of the same values; with `default_float`, float64 becomes torch's default dtype."""
    torch = sys.modules["torch"]
    if not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.copy()
    try:
        tensor = torch.from_numpy(array)
    except TypeError as error:
        raise ValueError(f"torch has no tensor for an array of {array.dtype}") from error
    return tensor.to(torch.get_default_dtype()) if default_float and array.dtype == np.float64 else tensor


def is_missing(value: Any) -> bool:
    """Whether a value is `pandas.NA` or `pandas.NaT`, which are null in JSON."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def frame_to_records(frame: Any) -> list[dict[Any, Any]]:
    """Return the rows of a DataFrame, missing values as None, with the labels of its index as the first fields.

    Raises ValueError if two columns have the same name.
    """
    if not frame.columns.is_unique:
        raise ValueError("a DataFrame whose column names repeat has no JSON form")
    records: list[dict[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    records = records or [{} for _ in range(len(frame))]  # pandas 2 returns no rows if there are no columns
    labels = _labels(frame.index, frame.columns)
    if not labels:
        return records
    rows = zip(*labels.values(), strict=True)
    return [dict(zip(labels, row, strict=True)) | record for row, record in zip(rows, records, strict=True)]


def _labels(index: Any, taken: Any) -> dict[Any, list[Any]]:
    """Return the labels of an index, by level name.

    An unnamed index of integers counts as no labels: these are row numbers, or what a filter has left of them. A level
    with the name of a column is left out.
    """
    if index.nlevels == 1 and index.name is None and (index.dtype.kind in "iu" or not len(index)):
        return {}
    levels = [index.get_level_values(i) for i in range(index.nlevels)]
    unnamed = ["index"] if len(levels) == 1 else [f"level_{i}" for i in range(len(levels))]
    names = [name if level.name is None else level.name for level, name in zip(levels, unnamed, strict=True)]
    return {name: values_of(level) for name, level in zip(names, levels, strict=True) if name not in taken}


def frame_from_json(value: Any) -> Any:
    """Make a DataFrame of rows (a list of objects) or of columns (an object of lists)."""
    rows = isinstance(value, list) and all(isinstance(row, dict) for row in value)
    columns = isinstance(value, dict) and all(isinstance(column, list) for column in value.values())
    if not rows and not columns:
        raise ValueError("a table is a list of objects (rows) or an object of lists (columns)")
    return sys.modules["pandas"].DataFrame(value)


def frame_to_csv(frame: Any) -> bytes:
    """Return a CSV file of the same rows and labels as `frame_to_records`; missing values are empty.

    Raises ValueError if two columns have the same name.
    """
    if not frame.columns.is_unique:
        raise ValueError("a DataFrame whose column names repeat has no CSV form")
    pandas = sys.modules["pandas"]
    labels = pandas.DataFrame(_labels(frame.index, frame.columns), index=frame.index)
    text: str = pandas.concat([labels, frame], axis=1).to_csv(index=False, lineterminator="\n")
    return text.encode()


def frame_from_csv(data: bytes) -> Any:
    """Read a DataFrame of a CSV file in UTF-8 whose first line has the names of the columns.

    Values are separated by what that line has most of: commas, semicolons or tabs, as spreadsheets copy and save them.
    Empty values, and texts such as `NaN`, are missing; columns of numbers are numbers.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not a CSV file in UTF-8: {error}") from None
    header = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=header.count)  # the first of these where there are equally many
    try:
        return sys.modules["pandas"].read_csv(io.StringIO(text), sep=separator, low_memory=False)
    except (ValueError, OverflowError) as error:  # ParserError and EmptyDataError are ValueErrors
        raise ValueError(f"not a table in CSV: {str(error).strip()}") from None


def series_to_list(series: Any) -> list[Any]:
    """Return the values of a Series, missing ones as None; rows if its index has labels."""
    name = "value" if series.name is None else series.name
    return frame_to_records(series.to_frame(name)) if _labels(series.index, ()) else values_of(series)


def values_of(array: Any) -> list[Any]:
    """Return the values of a one-dimensional pandas object, missing ones as None."""
    found = list(array.astype(object))
    return [None if missing else value for value, missing in zip(found, array.isna(), strict=True)]


def image_to_bytes(image: Any, media_type: str = "image/png") -> bytes:
    """Encode an image file; modes that the format does not support are converted to RGB or RGBA."""
    format_ = IMAGE_FORMATS[media_type]
    modes = _WRITABLE_MODES[format_]
    if image.mode == "I" and "I;16" in modes:
        image = image.convert("I;16")  # grey of more than 8 bits: RGB would clip it at 255
    elif image.mode not in modes:
        has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
        image = image.convert("RGBA" if has_alpha and "RGBA" in modes else "RGB")
    buffer = io.BytesIO()
    image.save(buffer, format_)
    return buffer.getvalue()


def image_from_bytes(data: bytes) -> Any:
    """Decode a PIL image. Only `IMAGE_FORMATS` are tried; more than PIL's `MAX_IMAGE_PIXELS` raises ValueError."""
    module = sys.modules["PIL.Image"]
    try:
        image = module.open(io.BytesIO(data), formats=tuple(IMAGE_FORMATS.values()))
        pixels, limit = image.width * image.height, module.MAX_IMAGE_PIXELS
        if limit is not None and pixels > limit:
            raise ValueError(f"an image of {pixels} pixels is over the limit of {limit}")
        image.load()
    except (module.DecompressionBombError, module.DecompressionBombWarning) as error:
        raise ValueError(str(error)) from None
    except module.UnidentifiedImageError:
        known = ", ".join(IMAGE_FORMATS.values())
        raise ValueError(f"not an image in a format that is accepted: {known}") from None
    except (OSError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise ValueError(f"the image is damaged: {error}") from None
    return image


def image_to_url(image: Any) -> str:
    """Return the image as a `data:image/png;base64,…` URL."""
    return "data:image/png;base64," + to_base64(image_to_bytes(image))

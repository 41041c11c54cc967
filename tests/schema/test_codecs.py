"""Hostile and odd bytes: `.npy` files, images, base64; and what must survive exactly."""

import io
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nbcompose._schema import codecs
from tests.optional import optional

torch = optional("torch")


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array(3.5),
        np.zeros((0, 4), np.int8),
        np.array(["a", "bc"]),
        np.array([True, False]),
        np.array(["2026-01-01"], "M8[D]"),
        np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.arange(3, dtype=">i4"),
    ],
    ids=repr,
)
def test_npy_there_and_back(array):
    back = codecs.array_from_npy(codecs.array_to_npy(array))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert (back == array).all()
    assert back.flags.writeable


PICKLED = io.BytesIO()
np.save(PICKLED, np.array([object], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a valid"),
        (b"PK\x03\x04", "not a valid"),
        (PICKLED.getvalue(), "Python objects"),
        (codecs.array_to_npy(np.ones(3))[:-1], "does not fit the 23 bytes"),
        (codecs.array_to_npy(np.ones(3)) + b"x", "does not fit the 25 bytes"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,)}"), "does not fit the 0 bytes"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", b"x" * 8), "does not fit"),
        (npy("{'descr': '|V0', 'fortran_order': False, 'shape': (99999999999999,)}"), "not a valid"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9999999999999999999999)}"), "not a valid"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x" * 8), "Python objects"),
        (npy("__import__('os').system('true')"), "not a valid"),
        (npy("{'descr': '<f8'}"), "not a valid"),
        (npy("{" * 300), "not a valid"),
        (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", b"x" * 8, b"\x03\x00"), "version 3.0"),
    ],
)
def test_a_bad_npy_file_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        codecs.array_from_npy(data)


def test_an_array_of_objects_has_no_npy_form():
    with pytest.raises(ValueError, match="Object arrays"):
        codecs.array_to_npy(np.array([object()]))


@pytest.mark.parametrize(
    ("array", "dtype", "message"),
    [
        (np.array([300]), "u1", "beyond the range of uint8: 0 to 255"),
        (np.array([-1]), "u8", "beyond the range"),
        (np.array([1.5]), "i4", "an array of float64 cannot be used as int32"),
        (np.array([1e300]), "f4", "beyond the range of float32"),
        (np.array([1j]), "f8", "cannot be used"),
        (np.array(["1"]), "f8", "cannot be used"),
        (np.array([2]), "?", "cannot be used"),
    ],
)
def test_a_cast_loses_no_value(array, dtype, message):
    with pytest.raises(ValueError, match=message):
        codecs.cast(array, np.dtype(dtype))


def test_a_cast_keeps_infinities():
    assert np.isinf(codecs.cast(np.array([np.inf]), np.dtype("f4"))).all()


@pytest.mark.parametrize("value", [[[1], [1, 2]], [1, "a", None], ["a", None], [{}], [[1], 2]])
def test_an_irregular_array_is_refused(value):
    with pytest.raises(ValueError, match="not a regular array"):
        codecs.array_from_json(value)


@pytest.mark.parametrize("text", ["a", "aGk", "aGk=\n!", "é", "data:text/plain,hi", "data:;base64"])
def test_bad_base64_is_refused(text):
    with pytest.raises(ValueError, match="base64"):
        codecs.from_base64(text)


@pytest.mark.parametrize("text", ["+/8=", "-_8=", "data:image/png;base64,+/8=", "data:;base64,-_8="])
def test_both_alphabets_of_base64_are_read(text):
    assert codecs.from_base64(text) == b"\xfb\xff"


def test_a_tensor_never_shares_a_read_only_or_reversed_array():
    pytest.importorskip("torch")
    frozen = np.ones(2)
    frozen.flags.writeable = False
    codecs.tensor_from_array(frozen)[0] = 5
    assert frozen[0] == 1
    assert codecs.tensor_from_array(np.arange(3)[::-1]).tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match="no tensor"):
        codecs.tensor_from_array(np.array(["a"]))


def test_a_tensor_shares_a_writable_array():
    pytest.importorskip("torch")
    array = np.ones(2)
    codecs.tensor_from_array(array)[0] = 5
    assert array[0] == 5


def test_float_tensors_that_numpy_lacks_become_float32():
    assert codecs.tensor_to_array(torch.tensor([1.5], dtype=torch.bfloat16)).dtype == np.float32


def test_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="column names repeat"):
        codecs.frame_to_records(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I", "YCbCr", "HSV", "LAB", "PA"])
@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/webp"])
def test_images_of_any_mode_are_written(mode, media_type):
    back = codecs.image_from_bytes(codecs.image_to_bytes(Image.new(mode, (3, 2)), media_type))
    assert back.size == (3, 2)
    assert back.format == codecs.IMAGE_FORMATS[media_type]


def test_transparency_survives():
    image = Image.new("RGBA", (1, 1), (10, 20, 30, 40))
    assert codecs.image_from_bytes(codecs.image_to_bytes(image)).getpixel((0, 0)) == (10, 20, 30, 40)


def huge_png(width: int, height: int) -> bytes:
    """A header that promises an enormous picture, and next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 9_500)])
def test_a_huge_image_is_refused_before_it_is_decoded(size):
    with pytest.raises(ValueError, match=r"limit|exceeds"):
        codecs.image_from_bytes(huge_png(*size))


def test_the_users_own_pixel_limit_counts(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(ValueError, match=r"6 pixels|exceeds"):
        codecs.image_from_bytes(codecs.image_to_bytes(Image.new("L", (3, 2))))


def eps() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, "EPS")
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"hello", eps(), b"%PDF-1.4"])
def test_other_formats_are_not_opened(data):
    with pytest.raises(ValueError, match="not an image in a format that is accepted: PNG, JPEG"):
        codecs.image_from_bytes(data)


def test_a_truncated_image_is_refused():
    data = codecs.image_to_bytes(Image.effect_noise((64, 64), 50))
    with pytest.raises(ValueError, match="damaged"):
        codecs.image_from_bytes(data[: len(data) // 2])


def test_grey_of_sixteen_bits_survives():
    image = Image.new("I", (1, 1), 40_000)
    assert codecs.image_from_bytes(codecs.image_to_bytes(image)).getpixel((0, 0)) == 40_000

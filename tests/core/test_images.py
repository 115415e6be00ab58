"""Pictures on disk stand upright."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from mien.core.capture.images import read_picture

UPRIGHT = np.zeros((40, 60, 3), np.uint8)
UPRIGHT[:20, :30] = 250, 20, 20
UPRIGHT[20:, 30:] = 20, 20, 250

# What a camera held in that way stores of an upright picture, by the figures in the EXIF standard.
STORED = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: np.rot90(np.flipud(image), -1),
    6: lambda image: np.rot90(image, 1),
    7: lambda image: np.rot90(np.flipud(image), 1),
    8: lambda image: np.rot90(image, -1),
}


def exif_of(orientation: int, order: str = "<") -> bytes:
    """EXIF with another tag before the orientation."""
    software = struct.pack(f"{order}HHI4s", 0x0131, 2, 2, b"x\0\0\0")
    turn = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(f"{order}HIH", 42, 8, 2) + software + turn + bytes(4)


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp(image: np.ndarray, exif: bytes) -> bytes:
    """A WebP file as cameras write it: the extended form, with a chunk of odd length before the EXIF."""
    plain = cv2.imencode(".webp", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    height, width = image.shape[:2]
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = chunk(b"VP8X", struct.pack("<I", 0b1000) + sides)
    body = b"WEBP" + extended + plain[12:] + chunk(b"XTRA", b"odd") + chunk(b"EXIF", exif)
    return chunk(b"RIFF", body)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
@pytest.mark.parametrize("orientation", STORED)
def test_webp_is_turned_as_its_exif_says(tmp_path, orientation, prefix, order):
    path = tmp_path / "a.webp"
    path.write_bytes(webp(np.ascontiguousarray(STORED[orientation](UPRIGHT)), prefix + exif_of(orientation, order)))
    assert np.array_equal(read_picture(path), UPRIGHT)


@pytest.mark.parametrize("orientation", STORED)
def test_jpeg_is_turned_the_same_way(tmp_path, orientation):
    stored = np.ascontiguousarray(STORED[orientation](UPRIGHT))
    plain = cv2.imencode(".jpg", cv2.cvtColor(stored, cv2.COLOR_RGB2BGR))[1].tobytes()
    segment = b"Exif\0\0" + exif_of(orientation)
    path = tmp_path / "a.jpg"
    path.write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + plain[2:])
    image = read_picture(path)
    assert image.shape == UPRIGHT.shape
    assert np.abs(image.astype(int) - UPRIGHT).mean() < 10


@pytest.mark.parametrize("exif", [b"", b"II", exif_of(0), exif_of(9), b"II*\0\xff\xff\xff\xff", b"no EXIF at all"])
def test_damaged_exif_turns_nothing(tmp_path, exif):
    path = tmp_path / "a.webp"
    path.write_bytes(webp(UPRIGHT, exif))
    assert np.array_equal(read_picture(path), UPRIGHT)


def test_exif_cut_anywhere_is_no_error(tmp_path):
    path = tmp_path / "a.webp"
    for length in range(len(exif_of(6))):
        path.write_bytes(webp(UPRIGHT, exif_of(6)[:length]))
        assert read_picture(path).shape in (UPRIGHT.shape, UPRIGHT.swapaxes(0, 1).shape)

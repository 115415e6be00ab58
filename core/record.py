"""The frame record: one `FrameResult` as a fixed number of bytes, in takes and on the wire.

Everything is little-endian and packed; ``docs/take-format.md`` holds the byte table.

Weights and probabilities are stored as whole 65535ths (error below 1e-5). Mesh points are
stored as 16-bit steps around the middle of the face, with the step chosen for each frame
so that the face's longest extent spans the whole range: the error is at most 1/131000 of
that extent (0.03 px for a face as large as a 4K picture, 0.0001 px in a 16x16 one), and a
face that leaves the picture is never clipped.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .types import NO_ROTATION, FrameResult
from .units import ACTION_UNITS, ARKIT, EXPRESSIONS, LANDMARK_COUNT, UNITS

LABELS: tuple[str, ...] = ("", "unsure", *EXPRESSIONS)
"""Expression labels by the number that stands in the record."""

CHANNELS: dict[str, tuple[str, ...]] = {
    "units": UNITS,
    "arkit": ARKIT,
    "action_units": ACTION_UNITS,
    "probabilities": EXPRESSIONS,
}
"""Fields of weights 0..1 and the names of their columns."""

FRAME_DTYPE = np.dtype(
    [
        ("time", "<f8"),
        ("index", "<u4"),
        ("size", "<u2", (2,)),
        ("found", "u1"),
        ("expression", "u1"),
        ("own", "u1"),
        ("confidence", "<u2"),
        ("box", "<f4", (4,)),
        ("head_rotation", "<f4", (4,)),
        ("head_translation", "<f4", (3,)),
        ("eye_rotations", "<f4", (2, 2)),
        *((name, "<u2", (len(names),)) for name, names in CHANNELS.items()),
        ("origin", "<f4", (3,)),
        ("step", "<f4"),
        ("landmarks", "<i2", (LANDMARK_COUNT, 3)),
        ("points68", "<i2", (68, 2)),
    ]
)
"""The record; packed, so that its size and offsets are the same everywhere."""

_POINTS = ("landmarks", "points68")

BARE_DTYPE = np.dtype(
    [(name, FRAME_DTYPE[name]) for name in FRAME_DTYPE.names if name not in ("origin", "step", *_POINTS)]
)
"""The record without the points of the mesh, which are nine tenths of it."""

_FIELDS = (*BARE_DTYPE.names, *_POINTS)

_WHOLE = 65535
_SPAN = 32767
_LARGEST = 1e30
"""No position beyond this is believed: decoding it could leave float32."""

_NORM_TOLERANCE = 1e-3


def pack(result: FrameResult, own: Sequence[str] = ()) -> np.void:
    """Return the record of a result.

    Parameters
    ----------
    result : FrameResult
    own : sequence of str
        Names of the actor's own expressions, which the record counts from 1; one that is
        not among them is left out.

    Returns
    -------
    numpy.void
        A scalar of `FRAME_DTYPE`; ``.tobytes()`` gives its bytes.

    Raises
    ------
    ValueError
        If the frame number or the picture's size does not fit the record.
    """
    if not 0 <= result.index < 2**32:
        raise ValueError(f"frame index {result.index} does not fit the record")
    if not all(0 <= side < 2**16 for side in result.size):
        raise ValueError(f"picture size {result.size} does not fit the record")
    record = np.zeros((), FRAME_DTYPE)
    record["time"] = result.time
    record["index"] = result.index
    record["size"] = result.size
    record["found"] = result.found
    record["expression"] = LABELS.index(result.expression)
    record["own"] = own.index(result.own) + 1 if result.own in own else 0
    record["confidence"] = round(result.confidence * _WHOLE)
    for name in ("box", "head_rotation", "head_translation", "eye_rotations"):
        record[name] = getattr(result, name)
    for name in CHANNELS:
        # Probabilities may pass 1 by a rounding error.
        record[name] = np.rint(np.minimum(getattr(result, name), 1.0) * np.float64(_WHOLE))

    landmarks = result.landmarks.astype(np.float64)
    points68 = result.points68.astype(np.float64)
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    low[:2] = np.minimum(low[:2], points68.min(axis=0))
    high[:2] = np.maximum(high[:2], points68.max(axis=0))
    # Quantise against the float32 values that the reader will see.
    origin = ((low + high) / 2).astype(np.float32)
    step = np.float32((high - low).max() / (2 * _SPAN))
    record["origin"] = origin
    record["step"] = step
    if step > 0:
        for name, points in (("landmarks", landmarks), ("points68", points68)):
            steps = np.rint((points - origin[: points.shape[1]]) / np.float64(step))
            record[name] = np.clip(steps, -_SPAN - 1, _SPAN)
    return record[()]


def unpack(record: np.void, own: Sequence[str] = ()) -> FrameResult:
    """Return the result that `pack` stored.

    Parameters
    ----------
    record : numpy.void
        A scalar of `FRAME_DTYPE`.
    own : sequence of str
        As it was packed with.

    Returns
    -------
    FrameResult

    Raises
    ------
    ValueError
        If the record holds values that no result can have.
    """
    records = np.asarray(record, FRAME_DTYPE).reshape(1)
    if not sane(records, own)[0]:
        raise ValueError("the frame record holds impossible values")
    return next(results(records, own))


def results(records: npt.NDArray[np.void], own: Sequence[str] = ()) -> Iterator[FrameResult]:
    """Yield the results of records that are known to be `sane`.

    Parameters
    ----------
    records : ndarray of FRAME_DTYPE, shape (n,)
    own : sequence of str
        As they were packed with.
    """
    columns = {name: decode(records, name, own) for name in _FIELDS}
    # Plain Python values, as in results that were never packed.
    for name in ("index", "time", "found", "confidence", "expression", "own"):
        columns[name] = columns[name].tolist()
    columns["size"] = [tuple(size) for size in columns["size"].tolist()]
    for values in zip(*columns.values(), strict=True):
        yield FrameResult(**dict(zip(columns, values, strict=True)))


def decode(
    records: npt.NDArray[np.void], name: str, own: Sequence[str] = (), at: npt.ArrayLike | None = None
) -> np.ndarray:
    """Return one field of `FrameResult` for many records at once.

    Parameters
    ----------
    records : ndarray of FRAME_DTYPE or BARE_DTYPE, shape (n,)
    name : str
        A field of `FrameResult`.
    own : sequence of str
        As they were packed with.
    at : array of int, optional
        Only these rows of the field.

    Returns
    -------
    ndarray, shape (n, ...)
        float32 with the field's own shape, except ``time`` (float64), ``index`` and
        ``size`` (int64), ``found`` (bool), ``expression`` and ``own`` (str).
    """
    if name not in _FIELDS:
        raise KeyError(f"no such column: {name!r}")
    stored = records[name] if at is None else records[name][:, np.asarray(at)]
    if name in _POINTS:
        origin = records["origin"][:, None, : stored.shape[2]].astype(np.float64)
        return (origin + stored * records["step"][:, None, None].astype(np.float64)).astype(np.float32)
    if name in CHANNELS or name == "confidence":
        return (stored / np.float64(_WHOLE)).astype(np.float32)
    if name == "found":
        return stored != 0
    if name in ("expression", "own"):
        words = LABELS if name == "expression" else ("", *own)
        return np.array(words)[np.minimum(stored, len(words) - 1)]
    if name in ("index", "size"):
        return stored.astype(np.int64)
    return stored.copy()


def sane(records: npt.NDArray[np.void], own: Sequence[str] = ()) -> npt.NDArray[np.bool_]:
    """Tell which records hold values that a result can have.

    Parameters
    ----------
    records : ndarray of FRAME_DTYPE, shape (n,)
    own : sequence of str
        As they were packed with.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    good = np.isfinite(records["time"]) & (records["found"] <= 1) & (records["expression"] < len(LABELS))
    good &= records["own"] <= len(own)
    for name in ("box", "head_rotation", "head_translation", "eye_rotations", "origin", "step"):
        # False for what is not a number, too.
        good &= (np.abs(records[name]) < _LARGEST).reshape(len(records), -1).all(axis=1)
    good &= records["step"] >= 0
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.linalg.norm(records["head_rotation"].astype(np.float64), axis=1)
        good &= np.abs(norm - 1.0) <= _NORM_TOLERANCE
    return good


_PLAIN = struct.Struct(f"<dI2HBBBH4f4f3f4f{len(UNITS)}H{len(ARKIT)}H{len(ACTION_UNITS)}H{len(EXPRESSIONS)}H3ff")
_AT = (0, len(UNITS), len(ARKIT), len(ACTION_UNITS), len(EXPRESSIONS))
_UNITS, _ARKIT, _ACTION_UNITS, _PROBABILITIES = (
    slice(23 + sum(_AT[: i + 1]), 23 + sum(_AT[: i + 2])) for i in range(len(_AT) - 1)
)


class Plain(NamedTuple):
    """What a live rig needs of one record, as plain numbers.

    Attributes
    ----------
    time : float
    found : bool
    expression : str
        Its label, one of `LABELS`.
    probability : float
        The largest of the expressions' probabilities.
    confidence : float
        0..1; under `types.SURE` the face is hidden.
    head : tuple of float
        Quaternion w, x, y, z.
    eyes : tuple of tuple of float
        Left and right (yaw, pitch), radians.
    units, arkit : list of float
        Weights 0..1.
    """

    time: float
    found: bool
    expression: str
    probability: float
    confidence: float
    head: tuple[float, ...]
    eyes: tuple[tuple[float, float], tuple[float, float]]
    units: list[float]
    arkit: list[float]


def plain(record: npt.NDArray[np.void] | bytes, offset: int = 0) -> Plain:
    """Read one record of the wire without numpy: for a single one that is many times faster than `unpack`.

    Parameters
    ----------
    record : ndarray of FRAME_DTYPE or bytes
    offset : int
        Where in the bytes the record begins.

    Raises
    ------
    ValueError
        Where `sane` says no.
    """
    row = _PLAIN.unpack_from(record, offset)
    time, found, expression, own = row[0], row[4], row[5], row[6]
    head = w, x, y, z = row[12:16]
    # Comparisons are false for what is not a number.
    good = (
        -math.inf < time < math.inf
        and found <= 1
        and expression < len(LABELS)
        and own == 0
        and row[-1] >= 0
        and all(-_LARGEST < value < _LARGEST for value in (*row[8:23], *row[-4:]))
        and abs(math.sqrt(w * w + x * x + y * y + z * z) - 1.0) <= _NORM_TOLERANCE
    )
    if not good:
        raise ValueError("the frame record holds impossible values")
    return Plain(
        time,
        found != 0,
        LABELS[expression],
        max(row[_PROBABILITIES]) / _WHOLE,
        row[7] / _WHOLE,
        head,
        (row[19:21], row[21:23]),
        [weight / _WHOLE for weight in row[_UNITS]],
        [weight / _WHOLE for weight in row[_ARKIT]],
    )


def neutral(count: int) -> npt.NDArray[np.void]:
    """Return records of frames without a face, shape (count,)."""
    records = np.zeros(count, FRAME_DTYPE)
    records["head_rotation"] = NO_ROTATION
    return records

"""Open Sound Control 1.0: the part that face senders use, read strictly and within bounds.

Own code instead of the python-osc wheel: every extension of a Blender shares one
site-packages, where a newer python-osc of another extension would replace ours, and its
parser sets no bound on the depth of bundles. The tests use python-osc as the independent
other side.

Reference
---------
Matt Wright, Open Sound Control 1.0 Specification, https://opensoundcontrol.stanford.edu/spec-1_0.html
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .sample import Refused

MAX_DATAGRAM = 65507  # largest UDP payload over IPv4
MAX_MESSAGES = 512  # per datagram; a VMC performer sends 55 bones and 60 blendshapes at most
MAX_ARGUMENTS = 64
MAX_DEPTH = 4  # bundles in bundles
MAX_ADDRESS = 128

IMMEDIATELY = b"\0\0\0\0\0\0\0\1"
"""Time tag: apply on arrival."""

_INT = struct.Struct(">i")
_FLOAT = struct.Struct(">f")
_DOUBLE = struct.Struct(">d")
_LONG = struct.Struct(">q")
_BUNDLE = b"#bundle\0"


class Message(NamedTuple):
    """One OSC message: where to, and what."""

    address: str
    arguments: tuple


def _string(data: bytes, at: int, end: int) -> tuple[str, int]:
    stop = data.find(b"\0", at, end)
    following = stop + 4 - (stop - at) % 4  # the terminator, then up to the next multiple of four
    if stop < 0 or following > end or any(data[stop:following]):
        raise Refused("osc")
    try:
        return data[at:stop].decode("utf-8"), following
    except UnicodeDecodeError:
        raise Refused("text") from None


def _number(layout: struct.Struct, data: bytes, at: int, end: int):
    if at + layout.size > end:
        raise Refused("osc")
    return layout.unpack_from(data, at)[0], at + layout.size


def _message(data: bytes, at: int, end: int) -> Message:
    address, at = _string(data, at, end)
    if len(address) > MAX_ADDRESS or not address.startswith("/"):
        raise Refused("osc")
    tags, at = _string(data, at, end)
    if not tags.startswith(",") or len(tags) > MAX_ARGUMENTS + 1:
        raise Refused("osc")
    arguments = []
    for tag in tags[1:]:
        match tag:
            case "f":
                value, at = _number(_FLOAT, data, at, end)
            case "i":
                value, at = _number(_INT, data, at, end)
            case "s" | "S":
                value, at = _string(data, at, end)
            case "d":
                value, at = _number(_DOUBLE, data, at, end)
            case "h" | "t":
                value, at = _number(_LONG, data, at, end)
            case "b":
                size, at = _number(_INT, data, at, end)
                if not 0 <= size <= end - at:
                    raise Refused("osc")
                value, at = data[at : at + size], at + size + -size % 4
            case "T" | "F":
                value = tag == "T"
            case "N" | "I":
                value = None
            case _:
                raise Refused("osc")
        arguments.append(value)
    if at != end:
        raise Refused("osc")
    return Message(address, tuple(arguments))


def _element(data: bytes, at: int, end: int, depth: int, messages: list[Message]):
    if not data.startswith(_BUNDLE, at, end):
        if len(messages) >= MAX_MESSAGES:
            raise Refused("count")
        messages.append(_message(data, at, end))
        return
    if depth >= MAX_DEPTH:
        raise Refused("osc")
    at += len(_BUNDLE) + len(IMMEDIATELY)
    if at > end:
        raise Refused("osc")
    while at < end:
        size, at = _number(_INT, data, at, end)
        # Every element is longer than its length field, so that this loop cannot stand still.
        if size < 4 or size % 4 or size > end - at:
            raise Refused("osc")
        _element(data, at, at + size, depth + 1, messages)
        at += size


def decode(data: bytes) -> list[Message]:
    """Read one datagram, message or bundle, into its messages in order.

    Time tags are not kept: face data is applied on arrival.

    Raises
    ------
    Refused
        Where a byte is not what the specification allows or a bound is passed.
    """
    if not 8 <= len(data) <= MAX_DATAGRAM or len(data) % 4:
        raise Refused("size")
    messages: list[Message] = []
    _element(data, 0, len(data), 0, messages)
    return messages


def is_bundle(data: bytes) -> bool:
    """Whether a datagram carries a bundle rather than one message."""
    return data.startswith(_BUNDLE)


def _padded(text: str) -> bytes:
    encoded = text.encode("utf-8")
    if b"\0" in encoded:
        raise ValueError("an OSC string cannot hold a zero byte")
    return encoded + b"\0" * (4 - len(encoded) % 4)


def message(address: str, *arguments: int | float | str) -> bytes:
    """Write one message; Python's int, float and str become ``i``, ``f`` and ``s``."""
    tags, body = ",", b""
    for value in arguments:
        if isinstance(value, str):
            tags, body = tags + "s", body + _padded(value)
        elif isinstance(value, int):
            tags, body = tags + "i", body + _INT.pack(value)
        else:
            tags, body = tags + "f", body + _FLOAT.pack(value)
    return _padded(address) + _padded(tags) + body


def bundle(*elements: bytes) -> bytes:
    """Write messages as one bundle to be applied on arrival."""
    return _BUNDLE + IMMEDIATELY + b"".join(_INT.pack(len(element)) + element for element in elements)

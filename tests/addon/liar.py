"""A worker that sends damaged messages: `python liar.py COUNT`. Header and checksum are true, the content is not."""

from __future__ import annotations

import json
import random
import socket
import struct
import sys
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from core.protocol import (
    HEADER,
    Cameras,
    Hello,
    LiveFrame,
    LivePicture,
    LiveStatus,
    TakeStatus,
    encode,
)
from core.record import neutral


def damaged(rng: random.Random, sound: list[bytes]) -> bytes:
    """Return one of the messages with up to four bytes of its payload changed, sealed again."""
    data = bytearray(rng.choice(sound))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(HEADER.size, len(data))] = rng.choice((0, 34, 127, 128, 255, rng.randrange(256)))
    # A damaged seal ends the connection, as it should.
    head = data[: HEADER.size - 4]
    return bytes(head + struct.pack("<I", zlib.crc32(data[HEADER.size :], zlib.crc32(head))) + data[HEADER.size :])


def main(count: int) -> None:
    order = json.loads(sys.stdin.readline())
    wire = socket.create_connection(("127.0.0.1", order["port"]))
    wire.sendall(encode(Hello(token=order["token"])))
    rng = random.Random(4)
    sound = [
        encode(message)
        for message in (
            LiveFrame(1, 1.0, 1.0, neutral(1)),
            LiveStatus(1, "live", source="Liar", captured=7),
            TakeStatus(1, "a.mien", True, frames=3),
            LivePicture(1, 8, 8, bytes(256)),
            Cameras((("0", "Liar"),)),
        )
    ]
    for i in range(count):
        wire.sendall(damaged(rng, sound))
        if i % 50 == 0:
            time.sleep(0.002)
    wire.sendall(encode(LiveStatus(1, "live", source="done")))
    while wire.recv(1 << 16):
        pass


if __name__ == "__main__":
    main(int(sys.argv[1]))

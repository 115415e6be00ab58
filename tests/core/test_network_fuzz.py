"""Hostile datagrams: 10,000 on every decoder and every port, from a fixed seed."""

from __future__ import annotations

import random
import socket
import struct
import time
import tracemalloc

import pytest

from mien.core.network import FORMATS, NetworkSource
from mien.core.network.sample import REASONS, FaceSample, Refused

from .network_helpers import face, packets

COUNT = 10_000
EXTREMES = [struct.pack(">i", n) for n in (0, 1, -1, 2**31 - 1, -(2**31), 255, 65535)] + [
    struct.pack(">f", x) for x in (float("nan"), float("inf"), -float("inf"), 1e38, -0.0)
]


def mutated(seed: int, format: str, count: int):
    """Yield sound packets broken in one to four ways, and some that never were packets."""
    chance = random.Random(f"{format} {seed}")
    sound = [datagram for i in range(8) for datagram in packets(face(i))[format]]
    for _ in range(count):
        if chance.random() < 0.1:
            yield chance.randbytes(chance.choice((0, 1, 3, 4, 16, 64, 320, 1500)))
            continue
        data = bytearray(chance.choice(sound))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data) or 1)
            match chance.randrange(8):
                case 0 if data:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = chance.randbytes(chance.randint(1, 64))
                case 3:
                    del data[at : at + chance.randint(1, 32)]
                case 4:
                    data[at & ~3 : (at & ~3) + 4] = chance.choice(EXTREMES)
                case 5:
                    other = chance.choice(sound)
                    data[at:] = other[chance.randrange(len(other)) :]
                case 6:
                    data[at : at + 4] = chance.choice(EXTREMES)
                case 7:
                    data += data[: chance.randint(0, 2000)]
        yield bytes(data[:65000])


@pytest.mark.parametrize("format", FORMATS)
def test_decoders_refuse_or_read_and_nothing_else(format):
    decoder = FORMATS[format].Decoder()
    refused = read = 0
    reasons = set()
    slowest = 0.0
    for data in mutated(1, format, COUNT):
        start = time.process_time()  # not the clock: others use this machine too
        try:
            for sample in decoder.feed(data) or ():
                assert isinstance(sample, FaceSample)
                assert 0.0 <= sample.arkit.min() <= sample.arkit.max() <= 1.0
            read += 1
        except Refused as refusal:
            reasons.add(refusal.reason)
            refused += 1
        slowest = max(slowest, time.process_time() - start)
    assert reasons <= set(REASONS)
    assert refused + read == COUNT
    assert refused > COUNT / 4
    assert slowest < 0.1


@pytest.mark.parametrize("format", FORMATS)
def test_ports_outlive_ten_thousand_bad_datagrams(format):
    with (
        NetworkSource(format, 0, stale_after=60.0) as source,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):

        def throw(seed, count):
            for i, data in enumerate(mutated(seed, format, count)):
                sock.sendto(data, source.address)
                if i % 32 == 31:
                    source.poll()
            end = time.monotonic() + 5.0
            while source.wait(0.05) and time.monotonic() < end:
                pass

        throw(2, 1000)  # first use of everything allocates
        tracemalloc.start()
        try:
            throw(3, 2000)
            before = tracemalloc.get_traced_memory()[0]
            throw(4, COUNT - 3000)
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        stats = source.stats
        assert stats.received == COUNT
        assert sum(stats.refused.values()) > COUNT / 4
        assert set(stats.refused) <= set(REASONS)
        assert grown < 200_000
        frames = stats.frames
        for datagram in packets(face(1, time=9e4))[format]:
            sock.sendto(datagram, source.address)
        end = time.monotonic() + 5.0
        while source.stats.frames == frames and time.monotonic() < end:
            source.wait(0.05)
        assert source.stats.frames == frames + 1

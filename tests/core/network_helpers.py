"""What the network tests share: seeded faces, packets of every format, and how near is near enough."""

from __future__ import annotations

import numpy as np

from mien.core.network import facecap, ifacialmocap, livelink, osc, vmc
from mien.core.network.sample import FaceSample, from_angles
from mien.core.network.source import result_from
from mien.core.types import FrameResult
from mien.core.units import ARKIT


def face(seed: int = 0, time: float = 1.0) -> FrameResult:
    """Return a result with every channel in motion, as the worker would give it."""
    random = np.random.default_rng(seed)
    x, y, z = random.uniform(-0.9, 0.9, 3)
    (a, b), (c, d) = random.uniform(-0.5, 0.5, (2, 2))
    sample = FaceSample(
        random.uniform(0.0, 1.0, len(ARKIT)).astype(np.float32),
        head_rotation=from_angles("yxz", x=x, y=y, z=z),
        eye_rotations=((a, b), (c, d)),
    )
    return result_from(sample, seed, time)


def packets(result: FrameResult) -> dict[str, list[bytes]]:
    """Return the result's datagrams in every format."""
    pose = result.arkit, result.head_rotation, result.eye_rotations
    return {
        "livelink": [livelink.encode(*pose, seconds=3600.0 + result.time, device="0" * 36, subject="phone")],
        "facecap": [osc.bundle(*facecap.encode(*pose))],
        "vmc": vmc.encode(*pose, seconds=result.time),
        "ifacialmocap": [ifacialmocap.encode(*pose)],
    }


def assert_same_face(got, wanted, weight=1e-6, angle=1e-5):
    """Check weights and the directions in which head and eyes point."""
    np.testing.assert_allclose(got.arkit, wanted.arkit, atol=weight)
    same = abs(float(np.dot(got.head_rotation, wanted.head_rotation)))
    assert 2.0 * np.arccos(min(1.0, same)) < max(angle, 2e-3), "head"  # float32 quaternions hold no more
    np.testing.assert_allclose(got.eye_rotations, wanted.eye_rotations, atol=angle, err_msg="eyes")

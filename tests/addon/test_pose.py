"""Rotations, against Blender's own mathutils."""

from __future__ import annotations

import numpy as np
import pytest
from mathutils import Euler, Quaternion

from mien.addon.rig import pose


@pytest.fixture
def quaternions():
    return pose.normalised(np.random.default_rng(3).normal(size=(60, 4)))


def same_turn(a, b):
    return np.abs(np.abs((np.asarray(a) * np.asarray(b)).sum(axis=-1)) - 1.0).max() < 1e-6


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_euler_is_blenders(quaternions, order):
    name, angles = pose.to_channels(quaternions, order)
    assert name == "rotation_euler"
    assert same_turn([Euler(row, order).to_quaternion() for row in angles], quaternions)


def test_axis_angle_is_blenders(quaternions):
    _, values = pose.to_channels(quaternions, "AXIS_ANGLE")
    assert same_turn([Quaternion(row[1:], row[0]) for row in values], quaternions)


def test_products_and_inverses_are_blenders(quaternions):
    a, b = quaternions[:30], quaternions[30:]
    products = [Quaternion(x) @ Quaternion(y) for x, y in zip(a, b, strict=True)]
    assert np.allclose(pose.multiply(a, b), products, atol=1e-6)
    assert np.allclose(pose.multiply(a, pose.inverse(a)), pose.IDENTITY)


def test_shares_make_the_whole(quaternions):
    part, rest = pose.share(quaternions, 0.3), pose.share(quaternions, 0.7)
    assert same_turn(pose.multiply(part, rest), quaternions)
    assert np.allclose(pose.share([pose.IDENTITY], 0.4), [pose.IDENTITY])


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ", "YZX"])
def test_steady_motion_makes_no_jumps(mode):
    """A head that shakes through rest, and a full turn: no channel leaps."""
    shake = pose.about(1, 0.4 * np.sin(np.linspace(0, 12, 400)))
    turn = pose.about(2, np.linspace(0, 7, 400))
    turn[200:] *= -1.0  # the same turns with the other sign
    for motion in (shake, turn):
        _, values = pose.to_channels(motion, mode)
        assert np.abs(np.diff(values, axis=0)).max() < 0.1


def test_gaze_looks_where_it_says():
    yaw, pitch = 0.3, 0.2
    x, y, z = pose.matrix_from_quaternion(pose.gaze(yaw, pitch)) @ (0.0, 0.0, 1.0)
    assert np.allclose((x, y, z), (np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)))

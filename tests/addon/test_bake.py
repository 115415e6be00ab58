"""Baking on real Blender data: what Blender evaluates is what was captured."""

from __future__ import annotations

import math

import bpy
import mathutils
import numpy as np
import pytest
from mien.addon import actions, bake
from mien.addon.bake import BakeOptions, bake_performance
from mien.addon.rig.targets import find_target
from mien.core.errors import MienError
from mien.core.units import UNITS

from .conftest import curves_of, make_performance, make_rig, snapshot


def run(head, performance, **options):
    options = {"rotation_tolerance": math.radians(0.1), **options}
    return bake_performance(bpy.context, find_target(head), performance, BakeOptions(**options))


def test_enum_values_are_blenders():
    def values(name):
        return {item.identifier: item.value for item in bpy.types.Keyframe.bl_rna.properties[name].enum_items}

    assert values("interpolation")["BEZIER"] == actions.BEZIER
    assert values("handle_left_type")["FREE"] == actions.FREE
    assert values("handle_left_type")["ALIGNED"] == actions.ALIGNED

"""The sample head is what its script says, and its shapes do what their names say."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from mien.core.units import UNITS
from mien.sample_rigs import build_head, canonical, expressions, performance, shapes, skin
from mien.tests.needs import need

SIZE_LIMIT = 2_000_000
MATERIALS = {
    "MienSkin",
    "MienLips",
    "MienMouth",
    "MienEyeWhite",
    "MienIris",
    "MienPupil",
    "MienTeeth",
    "MienGums",
    "MienTongue",
    "MienBrows",
    "MienLashes",
    "MienHair",
    "MienSweater",
}
SCRIPTS = Path(build_head.__file__).parent
MODEL = SCRIPTS.parent / "models" / "face_landmarker.task"


@pytest.fixture(scope="module")
def face():
    """The skin and its deltas, in centimetres."""
    result = skin.build()
    shapes.detail(result)
    return result, shapes.sculpt(result)


@pytest.fixture(scope="module")
def whole():
    return build_head.geometry()


@pytest.fixture(scope="module")
def shipped():
    """What the shipped file holds, as plain data."""
    with bpy.data.libraries.load(str(build_head.BLEND)) as (source, target):
        target.collections = [name for name in source.collections if name == "Mien Head"]
    collection = target.collections[0]
    body = next(o for o in collection.objects if o.type == "MESH")
    rig = next(o for o in collection.objects if o.type == "ARMATURE")
    count = len(body.data.vertices)

    def points(block):
        out = np.empty(count * 3, np.float32)
        block.data.foreach_get("co", out)
        return out.reshape(-1, 3)

    keys = {block.name: points(block) for block in body.data.shape_keys.key_blocks}
    groups = [group.name for group in body.vertex_groups]
    weights = np.zeros((count, len(groups)))
    for vertex in body.data.vertices:
        for entry in vertex.groups:
            weights[vertex.index, entry.group] = entry.weight
    uv = np.empty(len(body.data.loops) * 2, np.float32)
    body.data.uv_layers[0].uv.foreach_get("vector", uv)
    return {
        "objects": {o.name: o.type for o in collection.objects},
        "keys": keys,
        "ranges": {(b.slider_min, b.slider_max, b.value) for b in body.data.shape_keys.key_blocks[1:]},
        "groups": groups,
        "weights": weights,
        "materials": {slot.material.name for slot in body.material_slots},
        "colours": [attribute.name for attribute in body.data.color_attributes],
        "bones": {b.name: (tuple(b.head_local), tuple(b.tail_local), b.matrix_local.copy()) for b in rig.data.bones},
        "modes": {bone.rotation_mode for bone in rig.pose.bones},
        "jaw": rig["mien_jaw_open_angle"],
        "parent": body.parent == rig,
        "armature": [m.object == rig for m in body.modifiers if m.type == "ARMATURE"],
        "modifiers": [m.type for m in body.modifiers],
        "lights": sum(o.type == "LIGHT" for o in collection.objects),
        "loose": sum(1 for face in body.data.polygons if face.area == 0.0),
        "uv": uv,
    }


def test_the_file_holds_the_named_things(shipped):
    kinds = shipped["objects"]
    assert kinds["MienHead"] == "MESH"
    assert kinds["MienRig"] == "ARMATURE"
    assert kinds["MienCamera"] == "CAMERA"
    assert sum(kind == "MESH" for kind in kinds.values()) == 1
    assert shipped["lights"] == 3
    assert shipped["parent"]
    assert shipped["armature"] == [True]
    assert shipped["modifiers"] == ["ARMATURE"]
    assert shipped["materials"] == MATERIALS
    assert shipped["colours"] == ["MienColor"]


def test_the_file_is_small():
    assert build_head.BLEND.stat().st_size < SIZE_LIMIT
    for name, limit in (("performance.mp4", 1_500_000), ("performance.npz", 100_000)):
        if (SCRIPTS / name).is_file():
            assert (SCRIPTS / name).stat().st_size < limit


def test_the_keys_are_the_units_in_order(shipped):
    assert list(shipped["keys"]) == ["Basis", *UNITS]
    assert shapes.UNITS == tuple(UNITS)
    assert shipped["ranges"] == {(0.0, 1.0, 0.0)}


def test_the_script_builds_what_the_file_holds(shipped, whole):
    rest = (whole.points + np.array([0, 0, build_head.LIFT])) * build_head.SCALE
    assert 8_000 <= len(rest) <= 25_000
    assert len(shipped["keys"]["Basis"]) == len(rest)
    near = 2 * build_head.GRID
    np.testing.assert_allclose(shipped["keys"]["Basis"], rest, atol=near)
    for unit in UNITS:
        moved = shipped["keys"][unit] - shipped["keys"]["Basis"]
        np.testing.assert_allclose(moved, whole.deltas[unit] * build_head.SCALE, atol=near, err_msg=unit)


def test_every_unit_moves_the_face_clearly(shipped):
    rest = shipped["keys"]["Basis"]
    for unit in UNITS:
        far = np.linalg.norm(shipped["keys"][unit] - rest, axis=1).max()
        assert 0.003 < far < 0.06, unit


def test_weights_sum_to_one_and_go_to_bones_that_exist(shipped):
    np.testing.assert_allclose(shipped["weights"].sum(1), 1.0, atol=2e-3)
    assert set(shipped["groups"]) == set(shipped["bones"])


def test_bones_turn_about_the_armatures_x(shipped):
    assert {"neck", "head", "jaw", "eye.L", "eye.R"} <= set(shipped["bones"])
    assert shipped["modes"] == {"XYZ"}
    assert shipped["jaw"] == pytest.approx(shapes.JAW_OPEN_ANGLE)
    for name, (_, _, matrix) in shipped["bones"].items():
        np.testing.assert_allclose(matrix.col[0][:3], (1, 0, 0), atol=1e-4, err_msg=name)


def test_eye_bones_sit_in_their_eyeballs_and_look_ahead(shipped):
    for name, side in (("eye.L", 1), ("eye.R", -1)):
        head, tail, _ = shipped["bones"][name]
        assert np.sign(head[0]) == side
        direction = np.subtract(tail, head) / np.linalg.norm(np.subtract(tail, head))
        np.testing.assert_allclose(direction, (0, -1, 0), atol=1e-5)
        mine = shipped["weights"][:, shipped["groups"].index(name)] > 0.99
        away = np.linalg.norm(shipped["keys"]["Basis"][mine] - head, axis=1)
        np.testing.assert_allclose(away, skin.EYE_RADIUS * 0.01, rtol=0.04)


def test_the_jaw_bone_follows_the_skin(shipped):
    """The lower teeth end where the lower lip went: bone and key turn about one axis by one angle."""
    hinge = np.array(shipped["bones"]["jaw"][0])
    chin = (skin.build().points[152] + [0, 0, build_head.LIFT]) * build_head.SCALE
    index = np.linalg.norm(shipped["keys"]["Basis"] - chin, axis=1).argmin()
    rest, opened = shipped["keys"]["Basis"][index] - hinge, shipped["keys"]["JawOpen"][index] - hinge
    c, s = np.cos(shipped["jaw"]), np.sin(shipped["jaw"])
    turned = np.array([rest[0], rest[1] * c - rest[2] * s, rest[1] * s + rest[2] * c])
    assert np.linalg.norm(turned - opened) < 0.003
    assert opened[2] < rest[2] - 0.015


def test_corners_have_coordinates(shipped):
    assert np.isfinite(shipped["uv"]).all()
    assert np.ptp(shipped["uv"]) > 0.5


def test_skin_and_shapes_are_symmetric(face):
    head, deltas = face
    flip = [-1, 1, 1]
    np.testing.assert_allclose(head.points[head.mirror] * flip, head.points, atol=1e-6)
    for unit, delta in deltas.items():
        if not unit.startswith("Blink"):
            np.testing.assert_allclose(delta[head.mirror] * flip, delta, atol=1e-6, err_msg=unit)
    np.testing.assert_allclose(deltas["BlinkRight"][head.mirror] * flip, deltas["BlinkLeft"], atol=1e-6)


def test_each_blink_moves_its_own_half(shipped):
    rest = shipped["keys"]["Basis"]
    for unit, side in (("BlinkLeft", 1), ("BlinkRight", -1)):
        moved = np.linalg.norm(shipped["keys"][unit] - rest, axis=1) > 1e-5
        assert moved.any()
        assert (rest[moved, 0] * side > 0).all(), unit


@pytest.mark.parametrize("amount", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_lids_never_enter_the_eyeball(face, amount):
    head, deltas = face
    outside = head.masks["socket"] < 0.05
    for side, unit in ((1, "BlinkLeft"), (-1, "BlinkRight")):
        moved = head.points + amount * deltas[unit]
        centre = skin.EYE_CENTRE * [-side, 1, 1]
        radius = np.linalg.norm(moved - centre, axis=1)[outside]
        assert radius.min() > skin.EYE_RADIUS, unit


def test_closed_lids_leave_no_gap(face):
    head, deltas = face
    for side, unit in ((1, "BlinkLeft"), (-1, "BlinkRight")):
        sculptor = shapes.Sculptor(head)
        sculptor.rest = head.points + deltas[unit]
        lower_x, lower, upper_x, upper = sculptor.rims(side)
        x = np.linspace(-1.4, 1.4, 57)
        gap = np.interp(x, upper_x, upper) - np.interp(x, lower_x, lower)
        assert gap.max() * skin.EYE_RADIUS < 0.06, unit  # centimetres; the rims are rounded


def test_the_lips_rest_closed(face):
    head, _ = face
    upper, lower = head.points[13], head.points[14]
    assert abs(upper[2] - lower[2]) < 0.06


@need(MODEL.is_file(), "the landmark model is not here: fetch it with `mien models`")
def test_canonical_face_is_the_models():
    points, triangles = canonical.read_model(MODEL)
    stored, stored_triangles = canonical.load()
    np.testing.assert_allclose(stored, points, atol=1e-5)
    np.testing.assert_array_equal(stored_triangles, triangles)


def test_expressions_use_known_units():
    assert next(iter(expressions.EXPRESSIONS)) == "neutral"
    assert len(expressions.EXPRESSIONS) == 7
    for weights in (*expressions.EXPRESSIONS.values(), expressions.POSTER):
        assert set(weights) <= set(UNITS)
        assert all(0 <= weight <= 1 for weight in weights.values())


def test_performance_shows_every_unit_alone():
    times, units, head, gaze = performance.curves(30.0)
    assert units.shape == (len(times), len(UNITS)) == (240, 11)
    assert head.shape == (240, 3)
    assert gaze.shape == (240, 2)
    assert units.min() >= 0
    assert units.max() <= 1
    for index, unit in enumerate(UNITS):
        others = np.delete(units, index, axis=1).max(1)
        assert (units[:, index] * (others < 0.15)).max() > 0.55, unit
    assert np.degrees(np.abs(head[:, 1]).max()) == pytest.approx(15, abs=2)


def test_performance_truth_is_the_performance():
    times, units, head, gaze = performance.curves(30.0)
    with np.load(SCRIPTS / "performance.npz", allow_pickle=False) as truth:
        assert tuple(truth["names"]) == tuple(UNITS)
        np.testing.assert_allclose(truth["times"], times)
        np.testing.assert_allclose(truth["units"], units, atol=1e-6)
        np.testing.assert_allclose(truth["head"], head, atol=1e-6)
        np.testing.assert_allclose(truth["gaze"], gaze, atol=1e-6)

"""`mien bake` as people and scripts run it: a process of its own, and the files that it leaves."""

from __future__ import annotations

import argparse
import functools
import json
import math
import signal
import subprocess
import sys
import time

import bpy
import numpy as np
import pytest

from mien.addon import cli
from mien.addon.expressions import BASIC
from mien.core.cli import Console
from mien.core.errors import MienError
from mien.core.take import Take, TakeHeader, TakeWriter
from mien.core.types import FrameResult
from mien.core.units import UNITS
from mien.tests.needs import needs_ffmpeg

from .conftest import PERFORMANCE, curves_of, empty_file, make_rig, needs_worker

pytestmark = [needs_worker, needs_ffmpeg]
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")

OUTPUTS = ["look.blend", "look.mien", "look.png"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The second of the sample head's performance in which it begins to smile."""
    path = tmp_path_factory.mktemp("clip") / "kurz ü.mp4"
    cut = ["ffmpeg", "-v", "error", "-ss", "3.2", "-t", "1", "-i", PERFORMANCE, "-vf", "fps=12", path]
    subprocess.run(list(map(str, cut)), check=True)
    return path


@pytest.fixture
def rig_file(tmp_path):
    """Save a rig that renders in no time and glows, so that no light is needed."""

    def save(prepare=None, glowing=True, **parts):
        empty_file()
        head = make_rig(**parts)
        if prepare is not None:
            prepare(head)
        path = tmp_path / "rig.blend"
        if glowing:
            glow_up(head)
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
        empty_file()
        return path

    def glow_up(head):
        material = bpy.data.materials.new("Glow")
        material.use_nodes = True
        nodes = material.node_tree.nodes
        glow = nodes.new("ShaderNodeEmission")
        glow.inputs["Color"].default_value = (1.0, 0.3, 0.1, 1.0)
        output = next(node for node in nodes if node.type == "OUTPUT_MATERIAL")
        material.node_tree.links.new(glow.outputs[0], output.inputs[0])
        head.data.materials.append(material)

    return save


@pytest.fixture
def mien(mien_command, tmp_path):
    def run(*arguments, **options):
        command = [*mien_command, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=300, **options)

    return run


def write_take(path, heads=((1.0, 0.0, 0.0, 0.0),) * 24):
    """Write a second of a face at 24 frames, every unit at 0.8; returns the path."""
    with TakeWriter(path, TakeHeader(source="a.mp4", fps=24.0)) as writer:
        for i, head in enumerate(heads):
            shown = {"units": np.full(len(UNITS), 0.8), "head_rotation": head}
            writer.write(FrameResult(i, i / 24, found=True, confidence=1.0, **shown))
    return path


def failure(done, status=1) -> dict:
    assert done.returncode == status, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert told["error"]["message"].endswith(".")
    assert "Traceback" not in done.stderr
    return told["error"]


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def picture_in(path):
    from mien.core.opencv import cv2

    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)


def test_the_sample_head_moves(mien, clip, tmp_path):
    out = tmp_path / "neuer Ordner" / "größer" / "look.blend"
    done = mien("bake", clip, "--out", out, "--no-sheet", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert (told["blend"], told["take"]) == (str(out), str(out.with_suffix(".mien")))
    assert (told["capture"]["frames"], told["capture"]["found"]) == (12, 12)
    assert names(out.parent) == ["look.blend", "look.mien"]
    with Take(out.with_suffix(".mien")) as take:
        assert len(take) == 12

    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    scene = bpy.context.scene
    assert (scene.frame_start, scene.frame_end) == (told["bake"]["start"], told["bake"]["end"]) == (1, 23)
    mesh = bpy.data.objects["MienHead"]
    assert mesh.data.shape_keys.animation_data.action.name == clip.stem
    assert len(curves_of(mesh.data.shape_keys)) == len(UNITS)
    assert curves_of(mesh.parent)
    smiles, heads = [], []
    for frame in range(1, 24):
        scene.frame_set(frame)
        smiles.append(mesh.data.shape_keys.key_blocks["Smile"].value)
        heads.append(tuple(mesh.parent.pose.bones["head"].matrix.to_quaternion()))
    assert max(smiles) - min(smiles) > 0.3
    assert np.ptp(heads, axis=0).max() > 0.002


def test_a_contact_sheet_and_what_a_person_reads(mien, clip, rig_file, tmp_path):
    out = tmp_path / "look.blend"
    for name in OUTPUTS:
        (tmp_path / name).write_bytes(b"from before")
    done = mien("bake", clip, "--rig", rig_file(), "--out", out, "--scene-fps", "12", "--start", "101")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2  # nothing of Blender's
    assert lines[0].startswith(f"{out}: ")
    assert lines[0].endswith("frames 101-112")
    assert lines[1] == f"{out.with_suffix('.png')}: contact sheet"
    assert names(tmp_path) == [*OUTPUTS, "rig.blend"]  # no backup, no part

    sheet = picture_in(tmp_path / "look.png")
    rows = sheet.shape[0] // 288
    assert sheet.shape == (rows * 288, 4 * 288, 3)
    tiles = sheet.reshape(rows, 288, 4, 288, 3).swapaxes(1, 2).reshape(-1, 288 * 288, 3)
    for actor, rig in (tiles[0:2], tiles[2:4]):
        assert actor.std() > 20
        assert 0.02 < (rig.max(axis=1) > 150).mean() < 0.98  # the glowing head, before a dark world
    assert (tiles[1] != tiles[3]).any()


def test_a_rig_that_nothing_lights_is_seen_on_the_sheet(mien, clip, rig_file, tmp_path):
    out = tmp_path / "look.blend"
    done = mien("bake", clip, "--rig", rig_file(glowing=False), "--out", out, "--scene-fps", "4")
    assert done.returncode == 0, done.stderr
    sheet = picture_in(tmp_path / "look.png")
    for rig in sheet[:288, 288:576], sheet[:288, 864:]:
        assert rig[60:].max() > 40  # below the caption
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    assert not bpy.data.lights


def test_the_largest_of_meshes_with_the_same_keys_is_the_head_that_others_follow(mien, rig_file, tmp_path):
    path, out = write_take(tmp_path / "a.mien"), tmp_path / "look.blend"

    def add_eye(head):
        head.name, head.data.name = "Wolf3D_Head", "Wolf3D_Head"
        head.data.clear_geometry()
        head.data.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1), (0, 1, 0)], [], [(0, 1, 2), (1, 2, 3)])
        for name in ("Basis", "mouthOpen", "mouthSmile"):
            head.shape_key_add(name=name)
        make_rig(keys=("mouthOpen", "mouthSmile"), bones=()).name = "Alone"
        eye = make_rig(keys=("mouthSmile",), bones=())
        eye.name, eye.parent = "EyeLeft", head.parent

    done = mien("bake", path, "--rig", rig_file(add_eye, keys=()), "--out", out, "--rest", "none")
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    assert bpy.data.objects["Alone"].data.shape_keys.animation_data is None
    assert set(curves_of(bpy.data.objects["EyeLeft"].data.shape_keys)) == {('key_blocks["mouthSmile"].value', 0)}
    curves = curves_of(bpy.data.objects["Wolf3D_Head"].data.shape_keys)
    assert curves['key_blocks["mouthOpen"].value', 0].evaluate(12) == pytest.approx(0.8, abs=0.01)


def test_what_is_hidden_on_the_heads_armature_is_left_as_it_is(mien, rig_file, tmp_path):
    path, out = write_take(tmp_path / "a.mien"), tmp_path / "look.blend"

    def add_hidden(head):
        for name in ("Teeth", "Brows"):
            part = make_rig(keys=("JawOpen",), bones=())
            part.name, part.parent = name, head.parent
        part.hide_viewport = True

    done = mien("bake", path, "--rig", rig_file(add_hidden), "--out", out)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    assert curves_of(bpy.data.objects["Teeth"].data.shape_keys)
    assert bpy.data.objects["Brows"].data.shape_keys.animation_data is None


def test_markers_name_the_actors_own_expressions(mien, clip, rig_file, teach, tmp_path):
    actor, out = teach(tmp_path / "Zoë.npz", clip), tmp_path / "look.blend"
    chosen = ("--out", out, "--no-sheet", "--scene-fps", "12", "--markers", "--actor", actor)
    done = mien("bake", clip, "--rig", rig_file(), *chosen)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    found = sorted((marker.frame, marker.name) for marker in bpy.context.scene.timeline_markers)
    assert found[-1] == (9, "grin")


def test_a_take_is_baked_with_what_its_labels_set_off(mien, rig_file, tmp_path):
    path, out = tmp_path / "a.mien", tmp_path / "look.blend"
    with TakeWriter(path, TakeHeader(source="a.mp4", fps=24.0, own=("smirk",))) as writer:
        for i in range(48):
            writer.write(FrameResult(i, i / 24, found=True, confidence=1.0, own="smirk" if i >= 12 else ""))
    chosen = ("--out", out, "--scene-fps", "24", "--rest", "none", "--trigger", "smirk=Anger:0.5")
    unknown = ("--trigger", "smrik=fear", "--actor", tmp_path / "Zoë.npz")
    done = mien("bake", path, "--rig", rig_file(), *chosen, *unknown)
    assert done.returncode == 0, done.stderr
    assert 'A trigger was left out: "smrik" is neither' in done.stdout + done.stderr
    assert "--actor was not used" in done.stdout + done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    mesh = next(o for o in bpy.data.objects if o.type == "MESH" and o.data.shape_keys)
    curve = curves_of(mesh.data.shape_keys)['key_blocks["BrowFurrow"].value', 0]
    assert [curve.evaluate(1), curve.evaluate(48)] == pytest.approx([0.0, 0.5 * BASIC["anger"]["BrowFurrow"]], abs=0.01)


def test_a_rig_brings_its_own_mapping(mien, rig_file, tmp_path):
    def choose(head):
        row = head.mien_shapes.add()
        row.name, row.channel, row.strength = "grin", "Smile", 0.5

    path, out = write_take(tmp_path / "a.mien"), tmp_path / "look.blend"
    done = mien("bake", path, "--rig", rig_file(choose, keys=("grin",)), "--out", out, "--rest", "none")
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    mesh = next(o for o in bpy.data.objects if o.type == "MESH" and o.data.shape_keys)
    assert curves_of(mesh.data.shape_keys)['key_blocks["grin"].value', 0].evaluate(12) == pytest.approx(0.4, abs=0.01)


def test_further_objects_take_the_same_performance(mien, rig_file, tmp_path):
    path, out = write_take(tmp_path / "a.mien"), tmp_path / "look.blend"

    def add_teeth(_head):
        make_rig(keys=("JawOpen",), bones=()).name = "Teeth"

    chosen = ("--object", "Head", "--object", "Teeth", "--out", out, "--rest", "none")
    done = mien("bake", path, "--rig", rig_file(add_teeth), *chosen)
    assert done.returncode == 0, done.stderr
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    for name in ("Head", "Teeth"):
        curves = curves_of(bpy.data.objects[name].data.shape_keys)
        assert curves['key_blocks["JawOpen"].value', 0].evaluate(12) == pytest.approx(0.8, abs=0.01)


def test_a_head_without_an_armature_is_given_bones(mien, rig_file, tmp_path):
    heads = [(math.cos(i / 50), 0.0, math.sin(i / 50), 0.0) for i in range(24)]
    path, out = write_take(tmp_path / "a.mien", heads), tmp_path / "look.blend"
    rig = rig_file(bones=())
    done = mien("bake", path, "--rig", rig, "--out", out, "--rest", "none")
    assert "No armature, so the head does not turn" in done.stdout
    done = mien("bake", path, "--rig", rig, "--out", out, "--rest", "none", "--head-bones")
    assert done.returncode == 0, done.stderr
    assert "No armature" not in done.stdout
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    bpy.context.scene.frame_set(24)
    assert bpy.data.objects["Head"].matrix_world.to_quaternion().angle == pytest.approx(2 * 23 / 50, abs=0.02)


def test_wrong_rigs_are_refused_before_the_capture(clip, rig_file, tmp_path):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)

    def refused(*arguments):
        out = tmp_path / "new" / "x.blend"
        with pytest.raises(MienError) as caught:
            cli.run(parser.parse_args([str(clip), "--out", str(out), *map(str, arguments)]), Console(quiet=True))
        assert not out.parent.exists()
        assert caught.value.hint
        return caught.value

    rig = rig_file(keys=("Key 1", "Key 2"))
    assert refused("--rig", rig).code == "target-no-known-keys"
    error = refused("--rig", rig, "--object", "Haupt")
    assert error.code == "object-not-found"
    assert "Haupt" in error.message
    assert error.hint == "Its meshes are: Head."
    assert refused("--rig", rig, "--object", "Rig").code == "target-not-mesh"
    assert refused("--rig", rig, "--object", "Head", "--object", "Teeth").code == "object-not-found"
    assert refused("--rig", clip).code == "rig-damaged"
    assert refused("--rig", tmp_path / "gone.blend").code == "rig-not-found"
    assert refused("--out", "x.png").code == "bad-output"


def test_what_is_read_is_never_written_over(rig_file, tmp_path):
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    rig = rig_file()
    for name in ("a.mp4", "face_1.png", "face_2.png", "linked.mp4"):
        (tmp_path / name).write_text("not looked at")
    (tmp_path / "linked.mien").hardlink_to(tmp_path / "linked.mp4")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    # The file itself, and what is written beside it: the contact sheet and the take.
    for source, out in (("a.mp4", rig.name), ("face_1.png", "face_2.blend"), ("linked.mp4", "linked.blend")):
        arguments = [str(tmp_path / source), "--out", str(tmp_path / out), "--rig", str(rig)]
        with pytest.raises(MienError, match="would be overwritten") as caught:
            cli.run(parser.parse_args(arguments), Console(quiet=True))
        assert caught.value.code == "usage"
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_a_place_that_cannot_be_written(mien, clip, tmp_path):
    (tmp_path / "x.blend").mkdir()
    assert failure(mien("bake", clip, "--out", "x.blend", "--no-sheet", "--json"))["code"] == "blend-not-written"


@posix
def test_a_full_disk_keeps_the_file_from_before(mien, clip, tmp_path):
    import resource

    (tmp_path / "look.blend").write_bytes(b"from before")
    # Room for the take, but not for the .blend.
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))  # noqa: E731
    done = mien("bake", clip, "--out", "look.blend", "--no-sheet", "--json", preexec_fn=limit)
    assert failure(done)["code"] == "blend-not-written"
    assert (tmp_path / "look.blend").read_bytes() == b"from before"
    assert names(tmp_path) == ["look.blend", "look.mien"]


@posix
def test_ctrl_c_while_rendering(mien_command, clip, rig_file, tmp_path):
    """What is written by then is whole; the sheet is still the one from before."""
    rig, out = rig_file(), tmp_path / "look.blend"
    out.with_suffix(".png").write_bytes(b"from before")
    command = [*mien_command, "bake", str(clip), "--rig", str(rig), "--out", str(out), "--json"]
    # Children of a shell's background job ignore Ctrl-C from birth.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", preexec_fn=heed
    )
    deadline = time.monotonic() + 120
    while not out.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert json.loads(printed)["error"]["code"] == "cancelled"
    assert out.with_suffix(".png").read_bytes() == b"from before"
    assert names(tmp_path) == [*OUTPUTS, "rig.blend"]
    bpy.ops.wm.open_mainfile(filepath=str(out), load_ui=False)
    assert curves_of(bpy.data.objects["Head"].data.shape_keys)

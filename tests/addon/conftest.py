"""Blender for the add-on's tests: a clean file each, Mien registered as Blender would do it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest

from mien.tests.needs import need

bpy = pytest.importorskip("bpy")
np = pytest.importorskip("numpy")

from mien.core.units import ACTION_UNITS, ARKIT, UNITS  # noqa: E402

BONES = ("neck", "head", "jaw", "eye.L", "eye.R")

PERFORMANCE = Path(__file__).resolve().parents[2] / "sample_rigs" / "performance.mp4"
"""The sample head's own performance: a face that every checkout has."""

needs_worker = need(
    importlib.util.find_spec("mediapipe") and importlib.util.find_spec("cv2"),
    "the worker's libraries (mediapipe, opencv) are not installed beside this bpy",
)


@pytest.fixture(scope="session")
def user_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mien")


@pytest.fixture(autouse=True)
def addon(user_folder):
    """Mien, enabled in a clean file; afterwards nothing of it is left."""
    import mien

    empty_file()
    entry = bpy.context.preferences.addons.new()
    entry.module = "mien"  # without an entry an add-on has no preferences
    mien.register()
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(user_folder / "takes")
    yield mien
    mien.unregister()
    bpy.context.preferences.addons.remove(bpy.context.preferences.addons["mien"])
    empty_file()


_ALONE = """
import os, sys
import tests.conftest  # makes `mien` importable
import bpy, mien
from tests.addon import conftest
conftest.empty_file()
bpy.context.preferences.addons.new().module = "mien"
mien.register()
{}
sys.stdout.flush()
os._exit(0)  # some Blenders print or wait for ever when Python ends them in the usual way
"""


def run_alone(code):
    """Run code in a Blender of its own, with Mien; its exit status is 0 where nothing was raised."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _ALONE.format(code)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=root)


def empty_file():
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    bpy.context.scene.render.fps = 24
    bpy.context.scene.render.fps_base = 1.0


def make_rig(keys=UNITS, bones=BONES, mode="QUATERNION"):
    """A triangle with shape keys, on an armature laid out like the sample head's."""
    mesh = bpy.data.meshes.new("Head")
    mesh.from_pydata([(0, 0, 0), (1, 0, 0), (0, 0, 1)], [], [(0, 1, 2)])
    head = bpy.data.objects.new("Head", mesh)
    bpy.context.collection.objects.link(head)
    if keys:
        head.shape_key_add(name="Basis")
        for i, name in enumerate(keys):
            head.shape_key_add(name=name).data[0].co = (0.01 * i, 1.0, 0.0)
    if bones:
        data = bpy.data.armatures.new("Rig")
        rig = bpy.data.objects.new("Rig", data)
        bpy.context.collection.objects.link(rig)
        bpy.context.view_layer.objects.active = rig
        bpy.ops.object.mode_set(mode="EDIT")
        ends = {
            "neck": ((0, 0.05, 0.1), (0, 0.04, 0.2)),
            "head": ((0, 0.04, 0.25), (0, 0.04, 0.45)),
            "jaw": ((0, 0.02, 0.3), (0, -0.05, 0.2)),
            "eye.L": ((0.03, -0.02, 0.33), (0.03, -0.05, 0.33)),
            "eye.R": ((-0.03, -0.02, 0.33), (-0.03, -0.05, 0.33)),
        }
        for name in bones:
            bone = data.edit_bones.new(name)
            bone.head, bone.tail = ends[name]
            parent = "neck" if name == "head" else "head"
            if name != "neck" and parent in data.edit_bones:
                bone.parent = data.edit_bones[parent]
        bpy.ops.object.mode_set(mode="OBJECT")
        for bone in rig.pose.bones:
            bone.rotation_mode = mode
        head.parent = rig
        head.modifiers.new("Armature", "ARMATURE").object = rig
    return head


def make_performance(count=120, fps=30.0, times=None, **fixed):
    """Smooth motion on every channel, different on each; the shape of `core.solve.Performance`."""
    t = np.arange(count) / fps if times is None else np.asarray(times, float)
    count = len(t)

    def waves(n, low, high):
        phase = np.arange(n) * 0.7
        return low + (high - low) * (0.5 - 0.5 * np.cos(t[:, None] * (1.0 + 0.2 * np.arange(n)) * 2.0 + phase))

    axis = np.array((0.3, 0.8, -0.2))
    axis /= np.linalg.norm(axis)
    half = 0.3 * np.sin(t * 2.0)
    values = {
        "times": t,
        "found": np.ones(count, bool),
        "units": waves(len(UNITS), 0.0, 1.0),
        "arkit": waves(len(ARKIT), 0.0, 1.0),
        "action_units": waves(len(ACTION_UNITS), 0.0, 1.0),
        "head": np.concatenate((np.cos(half)[:, None], np.sin(half)[:, None] * axis), axis=1),
        "translation": np.zeros((count, 3)),
        "eyes": np.stack((waves(2, -0.4, 0.4), waves(2, -0.2, 0.3)), axis=1),
    }
    values.update(fixed)
    return types.SimpleNamespace(**values)


def link_action(action, folder):
    """Return an action as another file in the folder has it, linked."""
    path = folder / "library.blend"
    bpy.data.libraries.write(str(path), {action})
    with bpy.data.libraries.load(str(path), link=True) as (there, here):
        here.actions = there.actions
    return here.actions[0]


def curves_of(owner):
    """F-curves by (data path, index) of a data-block's action, on every Blender version."""
    data = owner.animation_data
    if data is None or data.action is None:
        return {}
    if bpy.app.version >= (4, 4, 0):
        if not data.action.layers or data.action_slot is None:
            return {}
        bag = data.action.layers[0].strips[0].channelbag(data.action_slot)
        found = bag.fcurves if bag else ()
    else:
        found = data.action.fcurves
    return {(curve.data_path, curve.array_index): curve for curve in found}


def snapshot():
    """Everything that a bake could change, as comparable data."""
    state = {name: sorted(block.name for block in getattr(bpy.data, name)) for name in _collections()}
    scene = bpy.context.scene
    state["scene"] = (scene.frame_start, scene.frame_end, scene.frame_current)
    for action in bpy.data.actions:
        state[f"action {action.name}"] = (action.use_fake_user, action.users)
    for block in (*bpy.data.objects, *bpy.data.shape_keys):
        data = block.animation_data
        state[f"animation {block.name}"] = data is not None and (data.action.name if data.action else None)
        for path, curve in curves_of(block).items():
            points = curve.keyframe_points
            state[f"curve {block.name} {path}"] = [
                (*p.co, *p.handle_left, *p.handle_right, p.interpolation, p.handle_left_type) for p in points
            ]
    for key in bpy.data.shape_keys:
        state[f"values {key.name}"] = [(block.name, block.value) for block in key.key_blocks]
    for obj in bpy.data.objects:
        if obj.type == "ARMATURE":
            state[f"pose {obj.name}"] = [
                (*b.rotation_quaternion, *b.rotation_euler, *b.rotation_axis_angle) for b in obj.pose.bones
            ]
    return state


def _collections():
    return [
        name
        for name in dir(bpy.data)
        if isinstance(getattr(bpy.data, name), bpy.types.bpy_prop_collection)
        # The window system's own; they come and go with files.
        and name not in ("window_managers", "workspaces", "screens", "brushes", "palettes", "libraries", "linestyles")
    ]


@pytest.fixture
def rig():
    return make_rig()


@pytest.fixture
def unchanged(request):
    """Check after the test that the scene is as it was when `unchanged()` was called."""
    taken = []
    yield lambda: taken.append(snapshot())
    assert taken, "the test never called unchanged()"
    assert snapshot() == taken[0]


@pytest.fixture
def fake_worker(tmp_path):
    """A real worker process whose capture is the given Python code: no video, no model.

    The code is the body of ``capture(source, take, on_progress, is_cancelled, **more)``.
    """
    from mien.addon import session

    root = Path(__file__).resolve().parents[2]

    def use(body):
        script = tmp_path / "worker.py"
        lines = "\n".join("    " + line for line in body.strip("\n").splitlines())
        script.write_text(
            f"import sys\nsys.path.insert(0, {str(root)!r})\n"
            "import os, signal, time\nimport numpy as np\n"
            "from core import files, jobs, worker\nfrom core.errors import MienError\n"
            "from core.take import TakeHeader, TakeWriter\nfrom core.types import FrameResult\n"
            "def capture(source, take, *, on_progress=None, is_cancelled=None, **more):\n"
            f"{lines}\n"
            "sys.exit(worker.main(capture))\n"
        )
        session.worker_command = [sys.executable, str(script)]

    yield use
    session.worker_command = None

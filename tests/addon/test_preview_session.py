"""What the preview leaves behind (nothing), what it notices, and what it does without a GPU."""

from __future__ import annotations

import gc
import os
from types import SimpleNamespace

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from mien.addon import preview  # noqa: E402
from mien.addon.preview import engine, overlay, playback, properties  # noqa: E402
from mien.addon.preview.heads import Head  # noqa: E402
from mien.addon.rig.targets import find_target  # noqa: E402
from mien.addon.sample_head import append_sample_head  # noqa: E402
from mien.core.units import ARKIT, UNITS  # noqa: E402

from . import conftest  # noqa: E402
from .conftest import empty_file  # noqa: E402
from .preview_helpers import with_gpu  # noqa: E402

HANDLERS = [name for name in dir(bpy.app.handlers) if isinstance(getattr(bpy.app.handlers, name), list)]


def make_rig():
    """The tests' small head, at rest: a new key's value is 1 from Blender 5.2 on."""
    head = conftest.make_rig()
    for key in head.data.shape_keys.key_blocks:
        key.value = 0.0
    return head


def handlers() -> dict[str, int]:
    return {name: len(getattr(bpy.app.handlers, name)) for name in HANDLERS}


def memory() -> float:
    """Megabytes that this process holds; in software the GPU's are among them."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def draw_in_place(obj):
    """Do what the draw handler does, apart from the viewport."""
    return overlay.pose_heads([obj], bpy.context.scene)


def test_on_and_off_200_times(addon):
    make_rig()
    before = handlers()
    for _ in range(200):
        preview.start()
        assert len(overlay._state.handles) == 2
        preview.stop()
        assert overlay._state.handles == []
    assert handlers() == before
    for _ in range(200):
        addon.unregister()
        addon.register()
    assert handlers() == before
    addon.unregister()
    names = {getattr(f, "__module__", "") for name in HANDLERS for f in getattr(bpy.app.handlers, name)}
    assert not any(".preview" in name for name in names)
    addon.register()


def test_loads_leave_nothing(addon):
    before = handlers()
    for _ in range(20):
        make_rig()
        preview.start()
        preview.set_sample("Head", [0.5] * 11)
        assert overlay.samples
        empty_file()
        assert not preview.running()
        assert not overlay.samples
    assert handlers() == before


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory as Linux tells it")
def test_nothing_is_left_on_the_gpu():
    head = make_rig()

    def cycle(times):
        for _ in range(times):
            preview.start()
            draw_in_place(head)
            preview.stop()

    def job(_depsgraph):
        cycle(20)
        before = memory()
        cycle(200)
        return memory() - before

    grown = with_gpu(job)
    assert overlay._state.heads == {}
    # Each upload of even this small head is some 0.5 MB of textures: 200 that were kept would be 100 MB.
    assert grown < 20.0, f"{grown:.0f} MB more after 200 times on and off"


def test_a_deleted_head_is_let_go():
    head = make_rig()

    def job(_depsgraph):
        draw_in_place(head)
        return len(overlay._state.heads)

    preview.start()
    assert with_gpu(job) == 1
    bpy.data.objects.remove(head)
    space = SimpleNamespace(local_view=None)
    context = SimpleNamespace(scene=bpy.context.scene, view_layer=bpy.context.view_layer, space_data=space)
    assert with_gpu(lambda _: overlay._posed_for(context)) == []
    assert overlay._state.heads == {}


def change_vertex(head):
    head.data.vertices[0].co.x += 0.1
    head.data.shape_keys.key_blocks[0].points[0].co.x += 0.1


def change_key(head):
    head.data.shape_keys.key_blocks[3].points[1].co.z += 0.2


def add_key(head):
    head.shape_key_add(name="More")


def remove_key(head):
    head.shape_key_remove(head.data.shape_keys.key_blocks[-1])


def change_group(head):
    head.vertex_groups.new(name="head").add([0, 1], 1.0, "REPLACE")


@pytest.mark.parametrize("change", [change_vertex, change_key, add_key, remove_key, change_group])
def test_a_change_is_noticed_and_uploaded(change):
    head = make_rig()
    preview.start()

    def uploads(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).uploads

    assert with_gpu(uploads) == 1
    assert with_gpu(uploads) == 1
    change(head)
    head.data.update_tag()
    bpy.context.view_layer.update()
    assert with_gpu(uploads) == 2
    assert with_gpu(uploads) == 2


def test_values_alone_upload_nothing():
    head = make_rig()
    preview.start()

    def uploads(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).uploads

    for value in np.linspace(0, 1, 20):
        head.data.shape_keys.key_blocks["Smile"].value = value
        bpy.context.view_layer.update()
        assert with_gpu(uploads) == 1
    assert overlay.head(head).values["Smile"] == 1.0


def test_undo_keeps_the_head():
    head = make_rig()
    name = head.name
    bpy.ops.ed.undo_push(message="before")
    preview.start()
    assert with_gpu(lambda _: draw_in_place(bpy.data.objects[name]))
    bpy.data.objects[name].data.shape_keys.key_blocks["Smile"].value = 0.7
    bpy.ops.ed.undo_push(message="after")
    bpy.ops.ed.undo()
    assert preview.running()
    assert with_gpu(lambda _: draw_in_place(bpy.data.objects[name]))
    assert bpy.data.objects[name].session_uid in overlay._state.hidden


def test_the_real_head_hides_and_comes_back(tmp_path):
    head = make_rig()
    preview.start()
    assert head.hide_get()
    chosen = properties.settings(bpy.context.scene)
    chosen.placement = "WINDOW"
    assert not head.hide_get()
    chosen.placement = "IN_PLACE"
    assert head.hide_get()
    # A file saved meanwhile opens with its head in sight.
    path = tmp_path / "saved.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path), copy=True)
    assert head.hide_get()
    properties.head_settings(head).show = False
    assert not head.hide_get()
    preview.stop()
    bpy.ops.wm.open_mainfile(filepath=str(path))
    assert not bpy.data.objects["Head"].hide_get()
    assert not preview.running()


def test_a_head_that_the_user_hid_stays_hidden():
    head = make_rig()
    head.hide_set(True)
    preview.start()
    preview.stop()
    assert head.hide_get()


def test_samples():
    preview.set_sample("Head", np.linspace(0, 1, 11), {"head": (1, 0, 0, 0)}, "sadness")
    assert overlay.samples["Head"].weights[UNITS[-1]] == 1.0
    preview.set_sample("Head", np.zeros(52))
    assert set(overlay.samples["Head"].weights) == set(ARKIT)
    with pytest.raises(ValueError, match="11 or 52"):
        preview.set_sample("Head", np.zeros(3))
    preview.clear_sample("Head")
    assert overlay.samples == {}


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3))])
def test_bad_pictures_are_refused(bad):
    with pytest.raises(ValueError, match="uint8"):
        preview.set_picture(bad)


def test_a_sample_does_not_touch_the_keys():
    head = make_rig()
    preview.start()
    preview.set_sample("Head", {"Smile": 0.8})

    def job(_depsgraph):
        draw_in_place(head)
        return overlay.head(head).values["Smile"]

    assert with_gpu(job) == pytest.approx(0.8)
    assert head.data.shape_keys.key_blocks["Smile"].value == 0.0


def test_a_bone_of_a_sample_moves_as_the_pose_would():
    from mien.addon.preview import reading

    head, rig = append_sample_head(bpy.context)
    for bone in rig.pose.bones:
        bone.rotation_mode = "QUATERNION"
    turns = {"neck": (0.98, 0.1, 0.05, 0.0), "head": (0.95, 0.0, 0.3, 0.1), "jaw": (0.99, 0.1, 0.0, 0.0)}
    turns = {name: tuple(np.array(q) / np.linalg.norm(q)) for name, q in turns.items()}
    names = tuple(bone.name for bone in rig.pose.bones)
    ours = reading.read_bones(head, names, turns)
    for name, q in turns.items():
        rig.pose.bones[name].rotation_quaternion = q
    bpy.context.view_layer.update()
    assert np.allclose(ours, reading.read_bones(head, names), atol=1e-5)


def test_without_a_gpu_there_is_one_clear_line(monkeypatch):
    make_rig()
    preview.start()

    def fails():
        raise SystemError("GPU functions for drawing are not available in background mode")

    calls = []
    overlay.guarded(lambda: (calls.append(1), fails()))
    overlay.guarded(lambda: (calls.append(1), fails()))
    assert calls == [1]  # it does not try again at every redraw
    assert "cannot draw on this machine" in overlay.problem
    preview.stop()
    preview.start()
    assert overlay.problem is None


def test_expressions_are_kept_with_the_file():
    make_rig()
    preview.start()
    bpy.context.scene.mien_preview.strength = 0.0
    preview.set_sample("Head", {"Smile": 0.5})
    assert bpy.ops.mien.preview_expression_save(name="Smirk") == {"FINISHED"}
    preview.clear_sample()
    chosen = bpy.context.scene.mien_preview
    assert overlay.expression(chosen) == {"Smile": pytest.approx(0.5)}
    assert bpy.ops.mien.preview_expression(name="Smirk", strength=0.8) == {"FINISHED"}
    assert chosen.strength == pytest.approx(0.8)
    bpy.ops.mien.preview_expression(name="Smirk")
    assert chosen.strength == 0.0
    assert bpy.ops.mien.preview_expression_remove(name="Smirk") == {"FINISHED"}
    assert len(chosen.expressions) == 0


def test_particles_are_off_until_asked_for():
    head = make_rig()
    bpy.ops.mien.preview()
    chosen = bpy.context.scene.mien_preview
    assert not chosen.use_particles
    kept = Head(head.session_uid)
    kept.face, kept.values = True, {"Smile": 0.9}
    item = SimpleNamespace(head=kept, obj=head)
    rule = chosen.effects["hearts"]
    rule.use, rule.trigger, rule.unit, rule.threshold = True, "UNIT", "Smile", 0.6
    assert overlay.effects_of(chosen, item) == {}
    chosen.use_particles = True
    assert overlay.effects_of(chosen, item) == {"hearts": 1.0}
    kept.values["Smile"] = 0.5
    assert overlay.effects_of(chosen, item) == {}
    rule.trigger = "LABEL"
    preview.set_sample("Head", {}, label="happiness")
    assert overlay.effects_of(chosen, item) == {"hearts": 1.0}


def performance(count=12, fps=24.0):
    from mien.core.solve import Performance

    units = np.zeros((count, 11), np.float32)
    units[:, UNITS.index("JawOpen")] = np.linspace(0, 1, count)
    head = np.tile(np.float32((1, 0, 0, 0)), (count, 1))
    return Performance(
        times=np.arange(count) / fps,
        found=np.ones(count, bool),
        units=units,
        arkit=np.zeros((count, 52), np.float32),
        action_units=np.zeros((count, 44), np.float32),
        head=head,
        translation=np.zeros((count, 3), np.float32),
        eyes=np.zeros((count, 2, 2), np.float32),
    )


def test_a_take_plays_as_it_bakes():
    rig = find_target(make_rig()).rig
    samples = playback.samples_of(performance(), rig, 24.0)
    assert len(samples) == 12
    assert samples[-1].weights["JawOpen"] == pytest.approx(1.0, abs=1e-3)
    assert samples[0].bones["jaw"] == pytest.approx((1, 0, 0, 0), abs=1e-3)
    assert samples[-1].bones["jaw"][0] < 0.999


@pytest.mark.parametrize("film", [False, True])
def test_a_take_renders_to_files(tmp_path, film):
    head = append_sample_head(bpy.context)[0]
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 32, 40
    before = len(bpy.data.scenes)
    name = playback.begin(bpy.context, head, performance(3), tmp_path / ("a.mp4" if film else "a_##"), film=film)
    bpy.ops.render.render(animation=True, scene=name)
    playback.finish()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == (["a.mp4"] if film else ["a_01.png", "a_02.png", "a_03.png"])
    assert all(path.stat().st_size > 200 for path in tmp_path.iterdir())
    assert len(bpy.data.scenes) == before
    assert engine._kept == {}
    assert head.data.shape_keys.key_blocks["JawOpen"].value == 0.0

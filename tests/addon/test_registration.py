"""Mien comes and goes without a trace."""

from __future__ import annotations

import bpy
import pytest

from mien import addon


def trace():
    """Everything in Blender that could have been left behind."""
    handlers = {
        name: len(getattr(bpy.app.handlers, name))
        for name in dir(bpy.app.handlers)
        if isinstance(getattr(bpy.app.handlers, name), list)
    }
    classes = sorted(name for name in dir(bpy.types) if name.lower().startswith("mien"))
    return handlers, classes, hasattr(bpy.types.Scene, "mien"), "mien" in dir(bpy.ops) and bool(dir(bpy.ops.mien))


def test_twice_and_nothing_is_left():
    registered = trace()
    assert registered[1]
    addon.unregister()
    clean = trace()
    assert clean[1] == []
    assert not clean[2]
    assert not clean[3]
    addon.register()
    assert trace() == registered
    addon.unregister()
    assert trace() == clean
    addon.register()


@pytest.mark.parametrize("module", addon.MODULES)
def test_a_failure_takes_back_what_was_registered(module, monkeypatch):
    import importlib

    addon.unregister()
    clean = trace()

    def fail():
        raise RuntimeError("cannot register")

    broken = importlib.import_module(f"mien.addon.{module}")
    with monkeypatch.context() as patch:
        patch.setattr(broken, "register", fail)
        with pytest.raises(RuntimeError, match="cannot register"):
            addon.register()
    assert trace() == clean
    addon.register()


def test_a_class_that_fails_takes_back_its_module(monkeypatch):
    from mien.addon import operators

    class MIEN_OT_broken(bpy.types.Operator):
        bl_idname = "NO"  # no dot: Blender refuses it
        bl_label = "Broken"

    addon.unregister()
    clean = trace()
    with monkeypatch.context() as patch:
        patch.setattr(operators, "CLASSES", (*operators.CLASSES, MIEN_OT_broken))
        with pytest.raises((ValueError, RuntimeError)):
            addon.register()
    assert trace() == clean
    addon.register()


def test_settings_have_names_and_descriptions():
    from mien.addon import preferences, properties

    for group in (properties.MienSettings, preferences.MienPreferences):
        for name in group.__annotations__:
            prop = group.bl_rna.properties[name]
            assert prop.name, name
            assert len(prop.description) > 15, name
            assert not prop.description.endswith("."), name


def test_operators_and_panels_have_descriptions():
    from mien.addon import operators, panels

    for cls in operators.CLASSES:
        assert cls.bl_idname.startswith("mien."), cls
        # A description is the class's docstring; Blender ends it with a full stop by itself.
        assert len(cls.__doc__) > 20, cls
        assert not cls.__doc__.endswith("."), cls
    for cls in panels.CLASSES:
        assert cls.bl_category == "Mien"


def test_nothing_transient_is_saved(tmp_path):
    from mien.addon import properties

    assert not {"running", "progress", "active", "state"} & set(properties.MienSettings.__annotations__)


def test_opening_a_file_stops_the_capture(tmp_path, fake_worker):
    from mien.addon import session
    from mien.addon.capturing import CaptureJob

    fake_worker("time.sleep(60)")
    session.job = CaptureJob(tmp_path / "a.mp4", tmp_path / "a.mien", command=session.worker_command)
    session.job.start()
    job = session.job
    assert session.running()
    bpy.ops.wm.read_homefile(use_factory_startup=True, use_empty=True)
    assert not session.running()
    assert not job._client.alive
    assert job.error.code == "cancelled"

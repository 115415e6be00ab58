"""Mien: facial performance capture for Blender."""


def register():
    from . import addon

    addon.register()


def unregister():
    from . import addon

    addon.unregister()

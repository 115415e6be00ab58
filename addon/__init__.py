"""The Blender side of Mien: panels, operators, baking.

Nothing happens at import; `register` brings everything in, in one order, or nothing.
"""

from __future__ import annotations

import importlib

MODULES = (
    "preferences",
    "properties",
    "head_properties",
    "live_properties",
    "operators",
    "panels",
    "preview",
    "handlers",
)
"""Modules with their own ``register`` and ``unregister``, in order of registration."""


def register():
    """Register every module; if one fails, take back those before it and let the error rise."""
    done = []
    try:
        for name in MODULES:
            module = importlib.import_module(f".{name}", __package__)
            module.register()
            done.append(module)
    except BaseException:
        for module in reversed(done):
            module.unregister()
        raise


def unregister():
    """Unregister every module, last first."""
    for name in reversed(MODULES):
        importlib.import_module(f".{name}", __package__).unregister()

"""Mien's Blender-agnostic core: from pictures of a face to expression channels.

Nothing here imports bpy, the add-on or torch, and importing this package is cheap:
heavy libraries are imported by the modules that use them.
"""

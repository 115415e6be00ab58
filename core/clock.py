"""The one clock of live capture.

A live sample carries the moment of its capture, and Blender's process tells its age. Both
read `now`: Python's ``perf_counter``, which every process of a machine reads alike and
which no change of the time of day touches. It is CLOCK_MONOTONIC on Linux,
mach_absolute_time on macOS and the performance counter on Windows, where
``time.monotonic`` has steps of 16 ms before Python 3.13. On Linux and macOS it stands still
while the machine sleeps, and it starts anew with the machine, so its stamps never leave a session.
"""

from __future__ import annotations

import time

now = time.perf_counter
"""Seconds, monotonic, shared by all processes of this machine."""

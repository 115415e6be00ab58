"""Text in panels is broken to the sidebar's width."""

from __future__ import annotations

from types import SimpleNamespace

import blf
import pytest

from mien.addon.panels.text import lines_of, paragraph

from .panel_text import Layout

TEXTS = (
    "Sound on channel 1 of the sequencer",
    "244 captured frames are kept. They are in /home/somebody/.config/blender/5.2/performance-a9e14f715666.mien.part.",
    "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW",
)


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("room", [100, 190, 10_000])
def test_lines_fit_and_lose_nothing(text, room):
    blf.size(0, 11)

    def width_of(part):
        return blf.dimensions(0, part)[0]

    lines = lines_of(text, room, width_of)
    assert all(width_of(line) <= room for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert len(lines) <= 2 * width_of(text) / room + 1


def test_a_path_is_broken_after_its_parts():
    assert lines_of("in /takes/performance-a9.mien now", 14, len) == ["in /takes/", "performance-", "a9.mien now"]


def test_what_the_usual_sidebar_cuts_off_is_broken():
    drawn: list = []
    system = SimpleNamespace(ui_scale=1.0)
    context = SimpleNamespace(preferences=SimpleNamespace(system=system), region=SimpleNamespace(width=286))
    paragraph(context, Layout(drawn), TEXTS[0], icon="CHECKMARK")
    assert [text for text, _ in drawn] == ["Sound on channel 1 of the", "sequencer"]

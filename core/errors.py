"""The one error type that users meet."""

from __future__ import annotations

import sys


class MienError(Exception):
    """An error a person can act on.

    Parameters
    ----------
    code : str
        Stable word for programs, e.g. ``"source-not-found"``. It travels on the wire
        and in the CLI's JSON.
    message : str
        What went wrong, one sentence.
    hint : str
        What to do next, one sentence; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = ""):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    @property
    def lines(self) -> list[str]:
        """Message and, if there is one, hint."""
        return [self.message, *filter(None, [self.hint])]

    def to_dict(self) -> dict[str, str]:
        """Return the error as the JSON object used on the wire and by ``--json``."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    @classmethod
    def from_dict(cls, data: dict[str, str]) -> MienError:
        """Rebuild an error from `to_dict`."""
        return cls(data.get("code", "unknown"), data.get("message", "Unknown error."), data.get("hint", ""))


def library_missing(error: ImportError) -> MienError:
    """Return what to tell where a library that comes with Mien does not load."""
    hint = "Reinstall the Mien extension for this Blender version."
    if sys.platform == "win32":
        hint += " On Windows N and KN, install Microsoft's Media Feature Pack."
    return MienError("library-missing", f"A library that Mien needs cannot be loaded: {error}.", hint)

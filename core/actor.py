"""An actor's own expressions, kept in a file of theirs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .action_unit_model import load_arrays
from .errors import MienError
from .expression import PersonalClasses
from .files import places, replacing
from .models import catalogue

MAX_OWN = 12
"""Expressions of one's own per actor. Each lesson keeps every one apart from all others anew."""

SHOWN = 60
"""Frames kept of each, so that a lesson is learnt within two seconds however many there are."""

_MODELS = ("expression", "expression_net")
_MARK = "models"


def fingerprint() -> str:
    """Return what identifies the models whose features an actor's file holds."""
    known = catalogue()
    return " ".join(known[name].sha256 for name in _MODELS)


class Actor:
    """One actor's own expressions.

    Parameters
    ----------
    path : path
        The actor's file; one that is not there yet is made when something is learnt.
    afresh : bool
        Do not read the file, if there is one; it is put aside when something is learnt.

    Attributes
    ----------
    names : tuple of str
        Names of the expressions, without rest.
    knows_rest : bool
        Whether the resting face was learnt.

    Raises
    ------
    MienError
        ``model-damaged`` or ``actor-outdated``: the file cannot be used.
    """

    REST = PersonalClasses.REST

    def __init__(self, path: str | os.PathLike[str], afresh: bool = False):
        self.path = Path(path)
        self._classes = PersonalClasses()
        self.names: tuple[str, ...] = ()
        self.knows_rest = False
        self._afresh = afresh
        if self.path.is_file() and not afresh:
            self._read()

    def _read(self) -> None:
        try:
            arrays = load_arrays(self.path)
        except MienError as error:
            # Not one of Mien's models: to install Mien again would not help.
            message = f"The actor's file {self.path.name} cannot be read."
            raise MienError("model-damaged", message, "Record the expressions again.") from error
        # Features of one model mean nothing to another.
        if str(arrays.get(_MARK, "")) != fingerprint():
            known = [name for name in map(str, np.ravel(arrays.get("names", ()))) if name != self.REST]
            raise MienError(
                "actor-outdated",
                f"The expressions of {self.path.stem} were learnt by another version of Mien's expression model.",
                f"Record them again: {', '.join(known)}." if known else "Record them again.",
            )
        self._classes = PersonalClasses.load(self.path)
        self._note_names()
        if len(self.names) > MAX_OWN:
            raise MienError(
                "model-damaged", f"{self.path.name} holds more than {MAX_OWN} expressions.", "Record them again."
            )
        self.knows_rest = self.REST in arrays["names"].tolist()

    def _note_names(self) -> None:
        # Asked for on one thread while another one learns: exchanged whole.
        self.names = tuple(self._classes.names)

    def label(self, features: npt.NDArray) -> str:
        """Return the expression that a frame's features show, or ``""``."""
        return self._classes.label(features) or ""

    def learn(self, name: str, features: Sequence[npt.NDArray], before: Sequence[npt.NDArray] = ()) -> None:
        """Learn an expression and save the file.

        Parameters
        ----------
        name : str
            Replaced where it is known; `REST` for the resting face.
        features : sequence of ndarray
            `ExpressionClassifier.features` of the frames that show it.
        before : sequence of ndarray
            Of frames that do not show it: taken for rest where that is not known.

        Raises
        ------
        MienError
            ``class-too-short``, ``class-name-empty``, ``rest-unknown``, ``actor-full`` or ``actor-not-saved``.
        """
        name = name.strip()
        if name not in (*self.names, self.REST) and len(self.names) >= MAX_OWN:
            raise MienError(
                "actor-full", f"{self.path.stem} has {MAX_OWN} expressions already.", "Delete one that is not used."
            )
        rest = None if name == self.REST or self.knows_rest else np.array(before)
        if rest is not None and len(rest) < PersonalClasses.LEAST:
            raise MienError(
                "rest-unknown",
                "Mien has not seen the actor's resting face yet.",
                "Look relaxed for a second, then record the expression again.",
            )
        self._classes.learn(name, np.array(features), SHOWN, rest)
        self.knows_rest = True
        self._note_names()
        self._save()

    def forget(self, name: str) -> None:
        """Remove an expression and save the file; one that is not there is fine."""
        if name in self.names:
            self._classes.forget(name)
            self._note_names()
            self._save()

    def _save(self) -> None:
        _, place = places(self.path)  # of a link, what it leads to
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with replacing(place) as part:
                self._classes.save(part, **{_MARK: np.array(fingerprint())})
                if self._afresh and place.exists():
                    os.replace(place, _aside(place))
            self._afresh = False
        except OSError as error:
            raise MienError(
                "actor-not-saved",
                f"The expressions of {self.path.stem} cannot be saved: {error.strerror or error}.",
                f"Check that {place.parent} can be written.",
            ) from error


def _aside(path: Path) -> Path:
    """Return a name beside a file that is free."""
    names = (path.with_suffix(f".old{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())

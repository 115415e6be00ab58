"""The jobs that the worker and the command line share: a source becomes a take."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MienError, library_missing
from .files import from_home, places
from .pictures import is_recording
from .take import TakeHeader, TakeWriter
from .types import FrameResult
from .units import ESTIMATORS

if TYPE_CHECKING:
    from .capture import Source
    from .pipeline import Pipeline

PROGRESS_INTERVAL = 0.1
"""Seconds between two reports, at the least."""

# The first frames find the face anew and warm the caches: no basis for an estimate.
_SETTLED = 5


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureSummary:
    """What a capture gave.

    Attributes
    ----------
    frames : int
        Frames in the take.
    found : int
        Frames with a face.
    duration : float
        Seconds of the source, from its first frame to its last.
    seconds : float
        Seconds that the capture took, loading included.
    take : str
        The take's path.
    incomplete : bool
        Whether the source is cut or damaged, so that frames are missing.
    notices : tuple of str
        What the capture had to do without.
    """

    frames: int
    found: int
    duration: float
    seconds: float
    take: str
    incomplete: bool = False
    notices: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as the JSON object used on the wire and by ``--json``."""
        return dataclasses.asdict(self) | {"notices": list(self.notices)}


@dataclasses.dataclass(frozen=True, slots=True)
class CaptureProgress:
    """How far a capture is.

    Attributes
    ----------
    stage : str
        ``"loading"`` or ``"capturing"``.
    frame : int
        Frames done.
    total : int or None
        Frames in all, as the source estimates it.
    found : int
        Frames with a face so far.
    seconds_left : float or None
        Estimate; None until there is one.
    """

    stage: str = "capturing"
    frame: int = 0
    total: int | None = None
    found: int = 0
    seconds_left: float | None = None


def capture(
    source_path: str | os.PathLike[str],
    take_path: str | os.PathLike[str],
    *,
    on_progress: Callable[[CaptureProgress], None] | None = None,
    on_result: Callable[[FrameResult], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    fps: float | None = None,
    loop: float = 0.0,
    estimator: str = ESTIMATORS[0],
    actor: str | os.PathLike[str] | None = None,
) -> CaptureSummary:
    """Capture the face of a video, an image sequence or a Live Link Face CSV into a take.

    Parameters
    ----------
    source_path : path-like
        What `capture.open_source` opens, or a CSV, whose rows are taken as they are: no model
        is needed, and `loop` and `estimator` do not apply.
    take_path : path-like
        The take to write; one that exists is replaced, but only by a whole one.
    on_progress : callable, optional
        Called with a `CaptureProgress`, at most ten times a second.
    on_result : callable, optional
        Called with every `FrameResult`, after the take has it.
    is_cancelled : callable, optional
        Asked between frames.
    fps : float, optional
        Rate of a sequence of pictures, or of a CSV's timecode if that is not to be read off it; a
        video keeps its own timing.
    loop : float
        Play the source again and again until so many seconds of it were captured; 0 plays it once.
    estimator : str
        What gives the action units, one of `units.ESTIMATORS`.
    actor : path-like, optional
        File with the actor's own expressions, which are labelled too. One that cannot be
        used is told in the summary's notices, and so is one for a CSV, as labels need pictures.

    Returns
    -------
    CaptureSummary

    Raises
    ------
    MienError
        ``"cancelled"``, ``"no-face"``, ``"no-pictures"``, ``"disk-full"``, ``"take-not-written"``,
        ``"library-missing"``, ``"actor-not-found"`` and what the source, `livelink_csv.load` and the model
        raise.
    """
    started = time.monotonic()
    _stop_if(is_cancelled)
    if actor is not None and not os.path.isfile(actor):
        raise MienError("actor-not-found", f"There is no actor's file {actor}.", "Check the path.")
    if on_progress:
        on_progress(CaptureProgress("loading"))
    following = {
        "on_progress": on_progress,
        "on_result": on_result,
        "is_cancelled": is_cancelled,
        "started": started,
    }
    recorded = from_home(source_path)
    if is_recording(recorded):
        return _record_table(recorded, take_path, fps, actor is not None, **following)
    # Seconds of imports, which neither Blender's side nor a worker without a job should pay.
    try:
        from .capture import open_source
        from .pipeline import open_pipeline
    except ImportError as error:
        raise library_missing(error) from error

    if loop:
        from .capture.loop import LoopSource

        source = LoopSource(lambda: open_source(source_path, fps), loop)
    else:
        source = open_source(source_path, fps)
    with source, open_pipeline(estimator, actor=actor) as pipeline:
        return record(source, pipeline, take_path, **following)


def _record_table(
    path: Path, take_path: str | os.PathLike[str], fps: float | None, has_actor: bool, **following: Any
) -> CaptureSummary:
    from .livelink_csv import load

    table = load(path, fps)
    header = TakeHeader(source=table.name, fps=table.fps)
    summary = write_take(table, header, take_path, lambda: len(table), **following)
    unlabelled = ("The actor's own expressions are not labelled: a CSV has no pictures.",) if has_actor else ()
    return dataclasses.replace(summary, incomplete=table.incomplete, notices=(*table.notices, *unlabelled))


def record(source: Source, pipeline: Pipeline, take_path: str | os.PathLike[str], **following: Any) -> CaptureSummary:
    """Run a source through a pipeline into a take; other parameters as in `write_take`."""
    from .capture import read_ahead

    own = pipeline.labeller.names if pipeline.labeller is not None else ()
    header = TakeHeader(source=source.name, fps=source.fps, size=source.size, own=own, extra=pipeline.settings)
    with (
        contextlib.closing(read_ahead(source)) as pictures,
        contextlib.closing(pipeline.run(pictures)) as results,
    ):
        summary = write_take(results, header, take_path, lambda: source.frame_count, **following)
    notices = (*source.notices, *map(str, pipeline.notices))
    return dataclasses.replace(summary, incomplete=source.incomplete, notices=notices)


def write_take(
    results: Iterable[FrameResult],
    header: TakeHeader,
    take_path: str | os.PathLike[str],
    count: Callable[[], int | None],
    *,
    on_progress: Callable[[CaptureProgress], None] | None = None,
    on_result: Callable[[FrameResult], None] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
    started: float | None = None,
) -> CaptureSummary:
    """Write results to a take, and tell how far it is; parameters as in `capture`.

    `count` tells how many results are thought to come in all. The take is written beside its
    place under a name ending in `PART_SUFFIX`, and takes its place when whole, so that a take
    of that name from before survives everything else. What stays of the part: nothing after a
    cancel or when no face was seen; every frame so far, readable as a take, after an error or
    a crash. Pipes, devices and links: see `files.places`.
    """
    started = time.monotonic() if started is None else started
    take_path = Path(take_path)
    if take_path.is_dir():
        raise MienError("take-not-written", f"{take_path} is a folder.", "Give the name of a take in it.")
    part, place = places(take_path)
    is_beside = part != place
    frames = found = 0
    first = last = 0.0
    begun = reported = time.monotonic()
    try:
        with TakeWriter(part, header) as writer:
            for result in results:
                _stop_if(is_cancelled)
                writer.write(result)
                first, last = (first if frames else result.time), result.time
                frames += 1
                found += bool(result.found)
                if on_result:
                    on_result(result)
                now = time.monotonic()
                if on_progress and now - reported >= PROGRESS_INTERVAL:
                    reported = now
                    total = count()  # a film of varying rate may think better of it
                    left = _seconds_left(frames, total, now - begun)
                    on_progress(CaptureProgress("capturing", frames, total, found, left))
        if not frames:
            raise MienError("no-pictures", f"{header.source} holds no pictures.", "Choose another video or folder.")
        if not found:
            raise MienError(
                "no-face",
                f"No face was found in any of the {frames} pictures of {header.source}.",
                "Use a picture where the face looks towards the camera, is well lit and not too small.",
            )
        if is_beside:
            _put_in_place(part, place)
        if on_progress:
            on_progress(CaptureProgress("capturing", frames, frames, found, 0.0))
    except MienError as error:
        if not is_beside or str(part) in error.hint:
            raise
        if error.code in ("cancelled", "no-face", "no-pictures") or not frames:
            _discard(part)
            raise
        kept = f"The {frames} frames captured so far are kept in {part}."
        raise MienError(error.code, error.message, f"{error.hint} {kept}".strip()) from error
    except KeyboardInterrupt:
        if is_beside:
            _discard(part)
        raise
    return CaptureSummary(frames, found, float(last - first), time.monotonic() - started, str(take_path))


def _stop_if(is_cancelled: Callable[[], bool] | None) -> None:
    if is_cancelled and is_cancelled():
        raise MienError("cancelled", "The capture was cancelled.")


def _seconds_left(frames: int, total: int | None, elapsed: float) -> float | None:
    if total is None or frames < _SETTLED:
        return None
    return max(total - frames, 0) * elapsed / frames


def _discard(part: Path) -> None:
    # It may never have been made, and its folder may be what is wrong: the first error is the one to tell.
    with contextlib.suppress(OSError):
        part.unlink()


def _put_in_place(part: Path, place: Path) -> None:
    try:
        os.replace(part, place)
    except OSError as error:
        raise MienError(
            "take-not-written",
            f"The take {place} cannot be replaced: {error.strerror or error}.",
            f"Close what has it open. The whole take is in {part}.",
        ) from error

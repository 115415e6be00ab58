"""The command line: `mien capture`, `mien export`, and whatever commands the caller adds.

A command is a module (or any object) with ``NAME``, ``HELP``, ``add_arguments(parser)`` and
``run(args, console) -> dict``; the dict is what ``--json`` prints.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import itertools
import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn, TextIO

from .errors import MienError
from .pictures import is_sequence
from .threads import SINGLE_THREADED
from .units import ESTIMATORS, POINT_BACKENDS


class Console:
    """Where a command tells a person what happens; silent when ``--json`` is asked for."""

    def __init__(self, quiet: bool, out: TextIO | None = None):
        self.quiet = quiet
        self._out = out
        self._bars = []

    def say(self, text: str):
        if not self.quiet:
            _print(text, self._out)

    def progress(self, title: str, unit: str = "frame"):
        """Return a callable ``(done, total)`` that draws a progress bar on stderr."""
        from tqdm import tqdm

        bar = tqdm(desc=title, unit=unit, disable=self.quiet, dynamic_ncols=True, mininterval=0.2)
        self._bars.append(bar)

        def update(done: int, total: int | None):
            bar.total = total
            bar.update(done - bar.n)
            if total is not None and done >= total:
                bar.close()

        return update

    def close(self):
        """End bars that stand half-way, so that what is said next has a line of its own."""
        for bar in self._bars:
            bar.close()


def _print(text: str, out: TextIO | None):
    """Print a line; where nobody listens any more, as behind ``| head``, this and all that follows come to nothing."""
    try:
        print(text, file=out, flush=True)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):  # the latter on Windows
            raise
        # The descriptor itself: what the stream still holds is written once more when it is closed.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, out.fileno())
        os.close(nothing)


def number(low: float, high: float) -> Callable[[str], float]:
    """Return what reads an argument that must lie in [low, high]."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not a number from {low:g} to {high:g}")
        return value

    return read


def _make_folder(path: Path):
    """Make the folder that a file is to be written in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MienError(
            "folder-not-made",
            f"The folder {path.parent} cannot be made: {error.strerror or error}.",
            "Give a place where you may write.",
        ) from error


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def spare(source: Path, read: Iterable[Path | None], written: Iterable[Path | None]):
    """Refuse to write over what is read, or into what Mien prints; to be called before anything is done.

    Parameters
    ----------
    source : Path
        As `capture.open_source` takes it.
    read : iterable of Path
        Other files; None stands for none.
    written : iterable of Path

    Raises
    ------
    MienError
        ``usage``, or what is wrong with a sequence of pictures.
    """
    from .files import from_home

    written = [path for path in written if path is not None]
    for path in written:
        if str(path) in _STDOUT:  # see `_keep_stdout`
            raise MienError(
                "usage", f"{path} is where Mien prints, and no file.", "Give the name of a file or of a pipe."
            )
    spared = [*_files(from_home(source)), *map(from_home, filter(None, read))]
    for file, path in itertools.product(spared, written):
        with contextlib.suppress(OSError):  # most are not there yet
            if path.samefile(file):
                raise MienError("usage", f"{path} is read, and would be overwritten.", "Give another name to write to.")


def _files(source: Path) -> list[Path]:
    if not is_sequence(source):
        return [source]
    from .capture.images import find_pictures

    return [file for _number, file in find_pictures(source)[0]]


def capture_take(args: argparse.Namespace, take: Path, console: Console):
    """Capture ``args.source`` into `take` with a progress bar; returns the job's summary."""
    from . import jobs

    _make_folder(take)
    source, bar = args.source, console.progress("capture")
    summary = jobs.capture(
        source,
        take,
        fps=args.fps,
        estimator=args.estimator,
        actor=args.actor,
        on_progress=lambda progress: bar(progress.frame, progress.total),
    )
    if summary.incomplete:
        _tell_incomplete(console, source)
    _tell(console, summary.notices)
    return summary


def _add_source(parser: argparse.ArgumentParser, or_csv: str = ""):
    parser.add_argument("source", type=Path, help=f"video file, picture folder or first picture of a sequence{or_csv}")


def _add_rate(parser: argparse.ArgumentParser, or_csv: str = ""):
    text = f"frames a second of a picture sequence (default 24){or_csv}"
    parser.add_argument("--fps", type=number(0.01, 1000), help=text)


def _tell_incomplete(console: Console, source: Path):
    console.say(f"Note: {source} is cut or damaged, so frames are missing.")


def _tell(console: Console, notices: Iterable[str]):
    for notice in notices:
        console.say(f"Note: {notice}")


def add_capture_arguments(parser: argparse.ArgumentParser):
    """Add how a source is captured; shared by every command that opens one."""
    _add_rate(parser, ", or of a CSV's timecode (default: read off it)")
    parser.add_argument(
        "--estimator",
        choices=ESTIMATORS,
        default=ESTIMATORS[0],
        help="what reads the face: Mien's own network, the landmark model, or both combined; not for a take "
        f"(default {ESTIMATORS[0]})",
    )
    parser.add_argument(
        "--actor", type=Path, metavar="FILE", help="actor's file: expressions of the actor's own are labelled, too"
    )


def add_solve_arguments(parser: argparse.ArgumentParser):
    """Add the options that turn raw capture into a performance; shared by every command that needs one."""
    parser.add_argument(
        "--smoothing", type=number(0, 1), default=0.5, metavar="0..1", help="0 none, 1 strongest (default 0.5)"
    )
    parser.add_argument(
        "--rest",
        choices=("none", "auto"),
        default="auto",
        help="auto takes out the actor's resting face: the calibrated one, else as found in the clip (default)",
    )


def _capture_arguments(parser):
    _add_source(parser, ", or a CSV of Live Link Face")
    parser.add_argument("--out", type=Path, required=True, metavar="TAKE", help="take file to write, NAME.mien")
    add_capture_arguments(parser)


def _capture(args, console):
    spare(args.source, [args.actor], [args.out])
    summary = capture_take(args, args.out, console)
    console.say(
        f"{args.out}: {summary.frames} frames, face in {summary.found}, "
        f"{summary.duration:.1f} s captured in {summary.seconds:.1f} s"
    )
    return summary.to_dict()


def _export_arguments(parser):
    parser.add_argument("take", type=Path)
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="Live Link Face CSV to write")
    parser.add_argument("--fps", type=number(1, 1000), default=60.0, help="rows a second (default 60)")
    add_solve_arguments(parser)


def _export(args, console):
    from . import livelink_csv
    from .solve import SolveOptions, solve_take
    from .take import Take

    spare(args.take, [], [args.csv])
    with Take(args.take) as take:
        _make_folder(args.csv)
        performance = solve_take(take, SolveOptions(args.smoothing, args.rest))
        rows = livelink_csv.export(performance, args.csv, fps=args.fps)
        for loss in take.losses:
            console.say(f"Note: {loss}.")
    console.say(f"{args.csv}: {rows} rows")
    return {"csv": str(args.csv), "rows": rows, "fps": args.fps}


def _landmarks_arguments(parser):
    _add_source(parser)
    parser.add_argument(
        "--csv",
        type=Path,
        required=True,
        metavar="FILE",
        help="table to write: frame, time (s), x0, y0 to x67, y67 (px, empty where there is no face)",
    )
    parser.add_argument(
        "--by",
        choices=POINT_BACKENDS,
        default=POINT_BACKENDS[0],
        help=f"the landmark model's mesh, or histograms without a neural network (default {POINT_BACKENDS[0]})",
    )
    _add_rate(parser)


def _landmarks(args, console):
    from .points68 import read_points

    spare(args.source, [], [args.csv])
    if args.csv.is_dir():
        raise MienError("csv-not-written", f"{args.csv} is a folder.", "Give the name of a file in it.")
    found = read_points(args.source, args.by, args.fps, console.progress("landmarks"))
    _make_folder(args.csv)
    found.write(args.csv)
    console.close()
    if found.incomplete:
        _tell_incomplete(console, args.source)
    _tell(console, found.notices)
    if not found.found:
        console.say("Note: no face was found. Light it from the front and let it fill a third of the picture.")
    console.say(f"{args.csv}: {len(found.times)} frames, face in {found.found}")
    return {
        "csv": str(args.csv),
        "frames": len(found.times),
        "found": found.found,
        "incomplete": found.incomplete,
        "notices": list(found.notices),
    }


def _models_arguments(parser):
    pass


def _models(args, console):
    from .fetch import fetch
    from .models import catalogue

    paths = {}
    for name in catalogue():
        paths[name] = fetch(progress=console.progress(name, unit="B"), name=name)
        console.close()
        console.say(f"{paths[name]}: verified")
    return {"models": {name: str(path) for name, path in paths.items()}}


def _evaluate_arguments(parser):
    parser.add_argument(
        "what",
        choices=("expression", "landmarks", "units"),
        help="expression: an .npz of images, labels, classes or a .tar with labels.csv; "
        "landmarks: a folder of pictures with iBUG .xml or .pts; units: an .npz of identities",
    )
    parser.add_argument("set", type=Path, help="the set, in one of these formats")
    parser.add_argument("--base", type=Path, help="units: ict_facekit.npz, which the identities are rendered from")
    parser.add_argument(
        "--take",
        type=Path,
        metavar="CSV",
        help="units: a real performance's ARKit weights, from which a sixth of the pictures take theirs",
    )
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        choices=range(20),
        metavar="N",
        help="expression: only these of the set's twenty blocks, 0 to 19",
    )
    parser.add_argument(
        "--without",
        type=Path,
        metavar="SET",
        help="expression: leave out the pictures that this set has, too, as one that a model was trained on",
    )


def _evaluate(args, console):
    from . import evaluate

    if (args.what == "units") != (args.base is not None):
        raise MienError("usage", "`units` takes --base, and nothing else does.", "See `mien evaluate --help`.")
    if args.take is not None and args.what != "units":
        raise MienError("usage", "Only `units` takes --take.", "See `mien evaluate --help`.")
    if (args.blocks or args.without) and args.what != "expression":
        raise MienError("usage", "Only `expression` takes --blocks and --without.", "See `mien evaluate --help`.")
    bar = console.progress(args.what, unit="picture")
    if args.what == "units":
        take = None if args.take is None else evaluate.load_weights(args.take)
        report = evaluate.units(args.set, args.base, take, progress=bar)
    elif args.what == "expression":
        report = evaluate.expression(args.set, progress=bar, blocks=args.blocks, without=args.without)
    else:
        report = evaluate.landmarks(args.set, progress=bar)
    console.close()
    console.say(str(report))
    return report.figures


COMMANDS = (
    SimpleNamespace(
        NAME="capture",
        HELP="capture a face from a video, pictures or a Live Link Face CSV into a take",
        add_arguments=_capture_arguments,
        run=_capture,
    ),
    SimpleNamespace(
        NAME="export", HELP="write a take as Live Link Face CSV", add_arguments=_export_arguments, run=_export
    ),
    SimpleNamespace(
        NAME="landmarks",
        HELP="write the 68 points of every frame as a table",
        add_arguments=_landmarks_arguments,
        run=_landmarks,
    ),
    SimpleNamespace(
        NAME="models", HELP="get the landmark model and verify all models", add_arguments=_models_arguments, run=_models
    ),
    SimpleNamespace(
        NAME="evaluate",
        HELP="score Mien on a labelled set of yours",
        add_arguments=_evaluate_arguments,
        run=_evaluate,
    ),
)


class _Parser(argparse.ArgumentParser):
    """Tells a wrong argument as every other error is told."""

    def error(self, message: str) -> NoReturn:
        raise MienError("usage", f"{message[:1].upper()}{message[1:]}.", f"See `{self.prog} --help`.")


def _parser(commands: Sequence) -> argparse.ArgumentParser:
    parser = _Parser(prog="mien", description="Facial performance capture for Blender.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in commands:
        sub = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print what happened as one JSON object")
        sub.set_defaults(run=command.run)
    return parser


def _keep_stdout(chatter: int) -> TextIO | None:
    """Return standard output as a stream of Mien's own; what others print there goes to `chatter` instead.

    Blender prints from C ("Read blend", "Fra:1 Mem:..."), also when the process ends: so the
    descriptor itself is turned away, and for good.
    """
    if sys.stdout is None:
        return None
    sys.stdout.flush()
    own = open(os.dup(1), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    os.dup2(chatter, 1)
    return own


def _run(command: str, action: Callable[[], dict]) -> dict:
    """Return the outcome of a command, whatever happens."""
    try:
        return {"ok": True, **action()}
    except MienError as error:
        failure = error
    except KeyboardInterrupt:
        failure = MienError("cancelled", "Interrupted; no file was left half-written.")
    except Exception as error:
        traceback.print_exc()
        what = f"Mien met an error that it did not expect ({type(error).__name__}: {error})."
        failure = MienError("internal", what, f"Report it with the lines above and the command: {command}.")
    return {"ok": False, "error": failure.to_dict()}


def _plain(value):
    """Return a value as JSON can say it: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_STATUS = {"usage": 2, "cancelled": 130}


def main(argv: Sequence[str] | None = None, commands: Sequence = ()) -> int:
    """Run one command. The process is the command's: its standard output is redirected.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.
    commands : sequence
        Commands beside the core's own.

    Returns
    -------
    int
        Exit status: 0 done, 1 an error told in words, 2 a wrong argument, 130 interrupted.
    """
    for variable, value in SINGLE_THREADED.items():
        os.environ.setdefault(variable, value)
    argv = sys.argv[1:] if argv is None else list(argv)
    name, as_json = "mien", "--json" in argv
    try:
        args = _parser((*commands, *COMMANDS)).parse_args(argv)
    except MienError as error:
        out, outcome = sys.stdout, {"ok": False, "error": error.to_dict()}
    else:
        name = f"mien {args.command}"
        # For scripts the chatter is a log; for people it is noise.
        chatter = os.dup(2) if as_json and sys.stderr is not None else os.open(os.devnull, os.O_WRONLY)
        out = _keep_stdout(chatter)
        os.close(chatter)
        console = Console(as_json, out)
        outcome = _run(name, lambda: args.run(args, console))
        console.close()
    if as_json:
        _print(json.dumps(_plain(outcome), allow_nan=False), out)
    elif not outcome["ok"]:
        error = MienError.from_dict(outcome["error"])
        print(f"{name}: {error}", file=sys.stderr)
    return 0 if outcome["ok"] else _STATUS.get(outcome["error"]["code"], 1)

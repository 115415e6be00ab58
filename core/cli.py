"""The command line: `mien capture`, `mien export`, and whatever commands the caller adds.

A command is a module (or any object) with ``NAME``, ``HELP``, ``add_arguments(parser)`` and
``run(args, console) -> dict``; the dict is what ``--json`` prints.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from .errors import MienError


class Console:
    """Where a command tells a person what happens; silent on stdout when ``--json`` is asked for."""

    def __init__(self, quiet: bool):
        self.quiet = quiet

    def say(self, text: str):
        if not self.quiet:
            print(text, flush=True)

    def progress(self, title: str, unit: str = "frame"):
        """Return a callable ``(done, total)`` that draws a progress bar on stderr."""
        from tqdm import tqdm

        bar = tqdm(desc=title, unit=unit, disable=self.quiet, dynamic_ncols=True, mininterval=0.2)

        def update(done: int, total: int | None):
            bar.total = total
            bar.update(done - bar.n)
            if total is not None and done >= total:
                bar.close()

        return update


def capture_take(source: Path, take: Path, console: Console, fps: float | None = None):
    """Capture `source` into `take` with a progress bar; returns the job's summary."""
    from . import jobs

    bar = console.progress("capture")
    take.parent.mkdir(parents=True, exist_ok=True)
    return jobs.capture(source, take, fps=fps, on_progress=lambda progress: bar(progress.frame, progress.total))


def add_solve_arguments(parser: argparse.ArgumentParser):
    """Add the options that turn raw capture into a performance; shared by every command that needs one."""
    parser.add_argument(
        "--smoothing", type=float, default=0.5, metavar="0..1", help="0 none, 1 strongest (default 0.5)"
    )
    parser.add_argument(
        "--rest",
        choices=("none", "auto"),
        default="auto",
        help="auto takes the actor's resting face in the clip as the rig's neutral (default)",
    )


def solve(take, args: argparse.Namespace):
    """Return the take's `Performance` with the options of `add_solve_arguments`."""
    from .solve import SolveOptions, solve_take

    return solve_take(take, SolveOptions(smoothing=args.smoothing, neutral=args.rest))


def _capture_arguments(parser):
    parser.add_argument("source", type=Path, help="video file, picture folder or first picture of a sequence")
    parser.add_argument("--out", type=Path, required=True, metavar="TAKE", help="take file to write")
    parser.add_argument("--fps", type=float, help="frames a second of a picture sequence (default 24)")


def _capture(args, console):
    summary = capture_take(args.source, args.out, console, args.fps)
    console.say(
        f"{args.out}: {summary.frames} frames, face in {summary.found}, "
        f"{summary.duration:.1f} s captured in {summary.seconds:.1f} s"
    )
    return summary.to_dict()


def _export_arguments(parser):
    parser.add_argument("take", type=Path)
    parser.add_argument("--csv", type=Path, required=True, metavar="FILE", help="Live Link Face CSV to write")
    parser.add_argument("--fps", type=float, default=60.0, help="rows a second (default 60)")
    add_solve_arguments(parser)


def _export(args, console):
    from . import livelink_csv
    from .take import Take

    with Take(args.take) as take:
        rows = livelink_csv.export(solve(take, args), args.csv, fps=args.fps)
    console.say(f"{args.csv}: {rows} rows")
    return {"csv": str(args.csv), "rows": rows, "fps": args.fps}


def _models_arguments(parser):
    pass


def _models(args, console):
    from .fetch import fetch

    path = fetch(progress=console.progress("landmark model", unit="B"))
    console.say(f"{path}: verified")
    return {"model": str(path)}


COMMANDS = (
    SimpleNamespace(
        NAME="capture",
        HELP="capture a face from a video or pictures into a take",
        add_arguments=_capture_arguments,
        run=_capture,
    ),
    SimpleNamespace(
        NAME="export", HELP="write a take as Live Link Face CSV", add_arguments=_export_arguments, run=_export
    ),
    SimpleNamespace(
        NAME="models", HELP="get and verify the landmark model", add_arguments=_models_arguments, run=_models
    ),
)


def main(argv: Sequence[str] | None = None, commands: Sequence = ()) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; ``sys.argv[1:]`` by default.
    commands : sequence
        Commands beside the core's own.

    Returns
    -------
    int
        Exit status: 0 done, 1 an error told in words, 130 interrupted.
    """
    parser = argparse.ArgumentParser(prog="mien", description="Facial performance capture for Blender.")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (*commands, *COMMANDS):
        sub = subparsers.add_parser(command.NAME, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        sub.add_argument("--json", action="store_true", help="print what happened as one JSON object")
        sub.set_defaults(run=command.run)
    args = parser.parse_args(argv)
    console = Console(quiet=args.json)
    try:
        outcome = {"ok": True, **args.run(args, console)}
    except MienError as error:
        if not args.json:
            print(f"mien {args.command}: {error}", file=sys.stderr)
        outcome = {"ok": False, "error": error.to_dict()}
    except KeyboardInterrupt:
        if not args.json:
            print(f"mien {args.command}: interrupted, nothing written", file=sys.stderr)
        outcome = {"ok": False, "error": {"code": "cancelled", "message": "Interrupted.", "hint": ""}}
    if args.json:
        print(json.dumps(outcome))
    if outcome["ok"]:
        return 0
    return 130 if outcome["error"]["code"] == "cancelled" else 1

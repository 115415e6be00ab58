"""The `mien` command as people and scripts run it: a process of its own, with what it prints and leaves."""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mien.core import cli
from mien.core.errors import MienError
from mien.core.livelink_csv import HEADER
from mien.core.models import catalogue
from mien.core.take import Take, TakeHeader, TakeWriter
from mien.core.types import FrameResult
from mien.tests.needs import needs_ffmpeg

from .face_helpers import needs_model

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and limits")


@pytest.fixture
def mien(mien_command, tmp_path):
    """Run `mien` in a folder of its own."""

    def run(*arguments, **options):
        command = [*mien_command, *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120, **options)

    return run


def outcome(done) -> dict:
    """What `--json` printed: one object on one line, and nothing else."""
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    return json.loads(done.stdout, parse_constant=pytest.fail)  # NaN is none of JSON's


def failure(done, status=1) -> dict:
    assert done.returncode == status, done.stdout + done.stderr
    told = outcome(done)
    assert told["ok"] is False
    error = told["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["message"].endswith(".")
    assert "Traceback" not in done.stderr
    return error


@pytest.fixture
def take(tmp_path):
    path = tmp_path / "some.mien"
    with TakeWriter(path, TakeHeader(source="some.mp4", fps=25.0)) as writer:
        for i in range(26):
            writer.write(FrameResult(index=i, time=i / 25.0, found=True, confidence=1.0))
    return path


@pytest.fixture(scope="module")
def clip(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "kurz ü.mp4"
    cut = ["ffmpeg", "-v", "error", "-t", "1", "-i", str(data / "video" / "single_face.mp4"), "-vf", "fps=12", "-an"]
    subprocess.run([*cut, str(path)], check=True)
    return path


@needs_ffmpeg
@needs_model
@pytest.mark.data
def test_capture_and_export(mien, clip, tmp_path):
    path = tmp_path / "not there yet" / "täke 1.mien"
    done = mien("capture", clip, "--out", path, "--json")
    assert done.returncode == 0, done.stderr
    told = outcome(done)
    assert (told["ok"], told["frames"], told["found"], told["take"]) == (True, 12, 12, str(path))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    with Take(path) as take:
        assert len(take) == 12

    csv = tmp_path / "also new" / "out put.csv"
    told = outcome(mien("export", path, "--csv", csv, "--fps", 30, "--smoothing", 0, "--json"))
    assert told == {"ok": True, "csv": str(csv), "rows": 28, "fps": 30.0}
    lines = csv.read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join(HEADER)
    assert len(lines) == 29


def test_a_csv_is_captured_without_a_model_and_exported_again(mien, take, tmp_path):
    table, again, path = tmp_path / "phöne 1.csv", tmp_path / "again.csv", tmp_path / "new" / "phöne.mien"
    assert outcome(mien("export", take, "--csv", table, "--fps", 12, "--json"))["rows"] == 13
    nothing = {**os.environ, "MIEN_MODELS": str(tmp_path)}
    told = outcome(mien("capture", table, "--out", path, "--json", env=nothing))
    assert (told["ok"], told["frames"], told["found"], told["notices"]) == (True, 13, 13, [])
    assert told["duration"] == pytest.approx(1.0)
    told = outcome(mien("export", path, "--csv", again, "--fps", 12, "--smoothing", 0, "--rest", "none", "--json"))
    assert told["rows"] == 13
    assert again.read_text(encoding="utf-8") == table.read_text(encoding="utf-8")

    assert outcome(mien("capture", table, "--out", path, "--fps", 11.5, "--json"))["duration"] == pytest.approx(
        12 / 11.5
    )
    assert failure(mien("capture", table, "--out", path, "--fps", 6, "--json"))["code"] == "bad-fps"
    error = failure(mien("landmarks", table, "--csv", tmp_path / "points.csv", "--json"))
    assert (error["code"], "no pictures" in error["message"]) == ("no-pictures", True)
    assert failure(mien("capture", table, "--out", table, "--json"), 2)["code"] == "usage"
    table.write_text("V,0,1\n", encoding="utf-8")
    error = failure(mien("capture", table, "--out", tmp_path / "b.mien", "--json"))
    assert (error["code"], "named after the take" in error["hint"]) == ("csv-not-livelink", True)
    assert not (tmp_path / "b.mien").exists()


@needs_ffmpeg
@needs_model
@pytest.mark.data
def test_an_actors_own_expressions_are_in_the_take_of_a_video(mien, clip, teach, tmp_path, monkeypatch):
    """The actor begins to smile half-way; two judgements in a row are needed to say so."""
    actor, path = teach(tmp_path / "Zoë.npz", clip), tmp_path / "a.mien"
    told = outcome(mien("capture", clip, "--out", path, "--actor", actor, "--json"))
    assert (told["ok"], told["notices"]) == (True, [])
    with Take(path) as take:
        assert take.header.own == ("grin",)
        assert take.column("own").tolist() == [""] * 8 + ["grin"] * 4

    # What another version learnt is told, and done without.
    with monkeypatch.context() as patch:
        patch.setattr("mien.core.actor.fingerprint", lambda: "another")
        old = teach(tmp_path / "old.npz", clip)
    done = mien("capture", clip, "--out", path, "--actor", old)
    assert done.returncode == 0
    assert "Note: The expressions of old were learnt by another version" in done.stdout
    with Take(path) as take:
        assert (len(take), take.header.own) == (12, ())
    assert failure(mien("capture", clip, "--out", path, "--actor", "gone.npz", "--json"))["code"] == "actor-not-found"


@needs_ffmpeg
@needs_model
@pytest.mark.data
def test_a_folder_is_no_place_for_a_take(mien, clip, tmp_path):
    told = failure(mien("capture", clip, "--out", tmp_path, "--json"))
    assert (told["code"], told["hint"]) == ("take-not-written", "Give the name of a take in it.")
    assert not list(tmp_path.parent.glob("*.part"))


@needs_model
def test_models(mien):
    told = outcome(mien("models", "--json"))
    assert told["ok"]
    assert told["models"]["face_landmarker"].endswith("face_landmarker.task")
    assert set(told["models"]) == set(catalogue())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "COMMAND"),
        (("dance",), "dance"),
        (("capture",), "source"),
        (("capture", "x.mp4", "--out", "x.mien", "--fps", "0"), "--fps"),
        (("export", "x.mien", "--csv", "x.csv", "--smoothing", "2"), "0 to 1"),
        (("export", "x.mien", "--csv", "x.csv", "--smoothing", "nan"), "--smoothing"),
        (("export", "x.mien", "--csv", "x.csv", "--smoothing", "much"), "much"),
        (("export", "x.mien", "--csv", "x.csv", "--rest", "perhaps"), "perhaps"),
        (("bake", "--tolerance", "-1"), "--tolerance"),
        (("bake", "--scene-fps", "inf"), "--scene-fps"),
    ],
)
def test_wrong_arguments(capsys, arguments, told):
    assert cli.main([*arguments, "--json"], commands=(_bake(),)) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "usage"
    assert told in error["message"]
    assert "--help" in error["hint"]
    assert cli.main(list(arguments), commands=(_bake(),)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err


def _bake():
    from mien.addon import cli as bake

    return bake


def test_errors_without_json_are_two_sentences_on_stderr(mien):
    done = mien("export", "gone.mien", "--csv", "x.csv")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "mien export: There is no take at gone.mien. Check the path, or record the take again.\n"


def test_missing_source(mien, tmp_path):
    assert failure(mien("capture", "gone.mp4", "--out", "x.mien", "--json"))["code"] == "source-not-found"
    assert list(tmp_path.iterdir()) == []


def test_a_files_name_may_begin_with_a_tilde(mien, take, tmp_path):
    outcome(mien("export", take, "--csv", "~clip.csv", "--json"))
    assert outcome(mien("capture", "~clip.csv", "--out", "x.mien", "--json"))["ok"]
    error = failure(mien("capture", "~gone.mp4", "--out", "y.mien", "--json"))
    assert error["code"] == "source-not-found"
    assert "~gone.mp4" in error["message"]


def test_what_is_read_is_never_written_over(take, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("face.mp4", "face_1.png", "face_2.png", "Zoë.npz"):
        (tmp_path / name).write_text("not looked at")
    (tmp_path / "link.csv").hardlink_to(tmp_path / "face.mp4")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    for arguments in (
        ("capture", "face.mp4", "--out", "./face.mp4"),
        ("capture", "face.mp4", "--actor", "Zoë.npz", "--out", "Zoë.npz"),
        ("export", take.name, "--csv", take),
        ("landmarks", "face.mp4", "--csv", "link.csv"),
        # Also what the source does not name: another picture of its sequence.
        ("landmarks", "face_1.png", "--csv", "face_2.png"),
    ):
        parsed = cli._parser(cli.COMMANDS).parse_args([str(argument) for argument in arguments])
        with pytest.raises(MienError, match="would be overwritten") as caught:
            parsed.run(parsed, cli.Console(quiet=True))
        assert caught.value.code == "usage"
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_places_that_cannot_be_written(mien, take, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for csv, code in (("file/x.csv", "folder-not-made"), ("folder", "csv-not-written")):
        error = failure(mien("export", take, "--csv", csv, "--json"))
        assert error["code"] == code
        assert error["hint"]


@posix
def test_a_file_is_replaced_only_by_a_whole_one(mien, take, tmp_path):
    import resource

    csv = tmp_path / "x.csv"
    csv.write_text("from before")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
    assert failure(mien("export", take, "--csv", csv, "--json", preexec_fn=limit))["code"] == "csv-not-written"
    assert csv.read_text() == "from before"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["some.mien", "x.csv"]


@posix
def test_export_into_a_pipe(mien, take):
    done = mien("export", take, "--csv", "/dev/stderr", "--json")
    assert outcome(done)["ok"]
    assert done.stderr.startswith("Timecode,")
    error = failure(mien("export", take, "--csv", "/dev/stdout", "--json"), 2)  # which is the report's
    assert "/dev/stdout" in error["message"]


@posix
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_command_goes_on_where_nobody_listens(mien_command, take, tmp_path, flags):
    read, write = os.pipe()
    os.close(read)
    command = [*mien_command, "export", str(take), "--csv", "x.csv", *flags]
    done = subprocess.run(command, cwd=tmp_path, stdout=write, stderr=subprocess.PIPE, timeout=120)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "x.csv").read_text().startswith("Timecode,")


def test_windows_says_otherwise_that_nobody_listens(tmp_path):
    class Closed:
        def __init__(self, number, descriptor):
            self.number, self.fileno = number, lambda: descriptor

        def write(self, _text):
            raise OSError(self.number, "no")

    with open(tmp_path / "out", "w") as file:
        cli.Console(False, Closed(errno.EINVAL, file.fileno())).say("done")
        with pytest.raises(OSError, match="no"):
            cli.Console(False, Closed(errno.ENOSPC, file.fileno())).say("done")


@posix
@needs_model
@pytest.mark.data
def test_ctrl_c_leaves_what_was_there(mien_command, data, tmp_path):
    path = tmp_path / "x.mien"
    path.write_text("from before")
    command = [*mien_command, "capture", str(data / "video" / "d9.mp4"), "--out", str(path), "--json"]
    # Children of a shell's background job ignore Ctrl-C from birth.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", preexec_fn=heed
    )
    part = tmp_path / "x.mien.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 20_000) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert json.loads(out)["error"]["code"] == "cancelled"
    assert path.read_text() == "from before"
    assert not part.exists()


def test_what_others_print_stays_off_stdout(mien_command):
    """Blender prints from C, into the descriptor itself, and once more when the process ends."""
    checkout = mien_command[2].partition("from mien")[0]
    program = (
        checkout
        + """
import atexit, os
from types import SimpleNamespace
from mien.core import cli

def run(args, console):
    os.write(1, b"from C\\n")
    print("from Python")
    console.say("from Mien")
    atexit.register(os.write, 1, b"at the end\\n")
    return {"answer": 42}

sys.exit(cli.main(FLAGS, [SimpleNamespace(NAME="chat", HELP="", add_arguments=lambda parser: None, run=run)]))
"""
    )
    start = [sys.executable, "-c"]
    done = subprocess.run([*start, program.replace("FLAGS", '["chat", "--json"]')], capture_output=True, text=True)
    assert done.stdout == '{"ok": true, "answer": 42}\n'
    assert sorted(done.stderr.splitlines()) == ["at the end", "from C", "from Python"]
    done = subprocess.run([*start, program.replace("FLAGS", '["chat"]')], capture_output=True, text=True)
    assert done.stdout == "from Mien\n"
    assert done.stderr == ""


def test_a_bug_is_one_json_object_too(capfd):
    def broken():
        raise ZeroDivisionError("by nothing")

    told = cli._run("mien capture", broken)
    assert (told["ok"], told["error"]["code"]) == (False, "internal")
    assert "ZeroDivisionError" in told["error"]["message"]
    assert "Traceback" in capfd.readouterr().err
    assert cli._run("mien", lambda: {"a": 1}) == {"ok": True, "a": 1}

    def refused():
        raise MienError("x", "No.", "Go.")

    assert cli._run("mien", refused) == {"ok": False, "error": {"code": "x", "message": "No.", "hint": "Go."}}


@pytest.mark.data
@needs_model
def test_a_labelled_set_is_scored(mien, data):
    told = outcome(mien("evaluate", "landmarks", data / "landmarks68", "--json"))
    assert told["ok"]
    assert told["faces"] == 20
    assert told["mesh_nme"] < 0.08
    assert "mesh_nme" in mien("evaluate", "landmarks", data / "landmarks68").stdout


@pytest.mark.data
@needs_model
def test_sets_of_expressions_and_of_people_are_scored(mien, data, tmp_path):
    with np.load(data / "expression" / "fer2013_publictest.npz", allow_pickle=False) as archive:
        happy = np.flatnonzero(archive["labels"] == archive["classes"].tolist().index("happy"))[:20]
        np.savez(
            tmp_path / "few.npz", **{k: archive[k][happy] for k in ("images", "labels")}, classes=archive["classes"]
        )
    told = outcome(mien("evaluate", "expression", tmp_path / "few.npz", "--json"))
    assert told["pictures"] == told["classes"]["happiness"]["pictures"] == 20
    assert told["accuracy"] >= 0.7
    assert told["classes"]["fear"]["f1"] is None  # none is there
    table = mien("evaluate", "expression", tmp_path / "few.npz").stdout
    assert f"accuracy: {told['accuracy']:.3f}" in table
    assert re.search(r"^happiness +20 ", table, re.MULTILINE)

    np.savez(tmp_path / "one.npz", identity=np.random.default_rng(5).normal(0, 0.7, 80))
    command = ["evaluate", "units", tmp_path / "one.npz", "--base", data / "face3d" / "ict_facekit.npz"]
    told = outcome(mien(*command, "--json"))
    assert (told["identities"], told["pictures"], told["rest_found"]) == (1, 12, 1)
    assert told["mien_units_pcc"] > 0.6
    assert f"mien_units_pcc: {told['mien_units_pcc']:.3f}" in mien(*command).stdout


@pytest.mark.data
def test_points_are_written_as_a_table(mien, data, tmp_path):
    command = ["landmarks", data / "landmarks68" / "takeo.ppm", "--by", "histograms", "--csv"]
    assert outcome(mien(*command, "new/points.csv", "--json"))["found"] == 1
    assert (tmp_path / "new" / "points.csv").read_text().count("\n") == 2
    assert "1 frames, face in 1" in mien(*command, "points.csv").stdout
    assert failure(mien("landmarks", "gone.mp4", "--csv", "x/points.csv", "--json"))["code"] == "source-not-found"
    assert not (tmp_path / "x").exists()
    assert failure(mien("landmarks", "gone.mp4", "--csv", tmp_path, "--json"))["message"].endswith("is a folder.")


def test_what_is_no_number_is_null():
    told = cli._plain({"a": [float("nan"), float("inf"), 1.5], "b": ("x", None, True)})
    assert told == {"a": [None, None, 1.5], "b": ["x", None, True]}


def test_a_set_that_cannot_be_scored_is_refused(mien, tmp_path):
    assert failure(mien("evaluate", "expression", tmp_path / "gone.npz", "--json"))["code"] == "set-not-found"
    assert failure(mien("evaluate", "units", tmp_path / "gone.npz", "--json"), 2)["code"] == "usage"
    blocks = failure(mien("evaluate", "expression", tmp_path / "gone.npz", "--json", "--blocks", "19", "20"), 2)
    assert blocks["code"] == "usage"
    assert "20" in blocks["message"]
    take = ["--take", tmp_path / "gone.csv", "--json"]
    assert failure(mien("evaluate", "expression", tmp_path / "gone.npz", *take), 2)["code"] == "usage"
    assert failure(mien("evaluate", "units", "a.npz", "--base", "b.npz", *take))["code"] == "csv-not-found"

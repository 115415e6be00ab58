"""The worker and its client, as two real processes that meet all the ends two processes can meet."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from mien.core import client as client_module
from mien.core.client import WorkerClient, WorkerDied, default_command, default_env, find_python
from mien.core.errors import MienError
from mien.core.jobs import CaptureSummary
from mien.core.protocol import (
    VERSION,
    Cancel,
    Decoder,
    Failed,
    Finished,
    FrameMessage,
    Hello,
    Progress,
    Refused,
    Shutdown,
    StartCapture,
    encode,
)
from mien.core.take import Take

ROOT = Path(__file__).parents[2]

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")

# A worker whose capture needs neither a model nor pictures; all else is the real one. The job's source names
# what it does.
WORKER = """
import sys, time
from core import worker
from core.errors import MienError
from core.jobs import CaptureProgress, CaptureSummary
from core.take import TakeHeader, TakeWriter
from core.types import FrameResult

def capture(source, take, on_progress, on_result, is_cancelled, fps, loop, estimator, actor):
    if source == "error":
        raise MienError("no-face", "No face.", "Look here.")
    if source == "verbose":
        raise MienError("long", "\U0001f3ad" * 100_000, "\U0001f3ad" * 100_000)
    if source == "bug":
        raise ZeroDivisionError("by zero \\ud800")
    if source == "crash":
        import os
        sys.stderr.write("something native went wrong\\n")
        os.abort()
    if source == "stuck":
        on_progress(CaptureProgress("loading"))
        time.sleep(1000)
    frames = int(loop)
    with TakeWriter(take, TakeHeader(source=source)) as writer:
        for i in range(frames):
            if is_cancelled():
                raise MienError("cancelled", "The capture was cancelled.")
            result = FrameResult(i, i / 30, found=True)
            writer.write(result)
            on_result(result)
            on_progress(CaptureProgress("capturing", i + 1, frames, i + 1))
            if source == "slow":
                time.sleep(0.02)
    return CaptureSummary(frames, frames, frames / 30, 1.0, take)

sys.exit(worker.main(capture))
"""


def command(script=WORKER):
    return [find_python(), "-P", "-c", script]


@pytest.fixture
def make():
    """Make clients that are stopped at the end of the test."""
    clients = []

    def make(*args, **kwargs):
        clients.append(WorkerClient(*args, **kwargs))
        clients[-1].start()
        return clients[-1]

    yield make
    for client in clients:
        client.stop()


def until(client, *classes, seconds=30.0):
    """Poll until an event of these classes comes; return all events."""
    events, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        events += client.poll()
        if any(isinstance(event, classes) for event in events):
            return events
        time.sleep(0.005)
    raise AssertionError(f"none of {classes} within {seconds} s, only {events[-5:]}")


def gone(pid):
    """Whether a process has ended; one that its parent has not yet buried has."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_gone(pid, seconds=15.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if gone(pid):
            return True
        time.sleep(0.01)
    return False


def test_a_job_runs_to_its_end(make, tmp_path):
    client = make(command())
    client.send(StartCapture(5, "fast", str(tmp_path / "a.mien"), loop=50))
    events = until(client, Finished)
    assert isinstance(events[0], Hello)
    assert events[0].token == ""
    assert isinstance(events[-1], Finished)
    assert (events[-1].job, events[-1].summary.frames) == (5, 50)
    assert [e.frame for e in events if isinstance(e, Progress)] == list(range(1, 51))
    assert [e.result.index for e in events if isinstance(e, FrameMessage)] == list(range(50))
    assert client.alive
    client.stop()
    assert not client.alive
    assert client.poll() == []


def test_jobs_wait_for_each_other(make, tmp_path):
    client = make(command())
    for job in (1, 2, 3):
        client.send(StartCapture(job, "fast", str(tmp_path / f"{job}.mien"), loop=3))
    client.send(StartCapture(4, "error", "x"))
    events = until(client, Failed)
    assert [e.job for e in events if isinstance(e, Finished)] == [1, 2, 3]


def test_cancel_ends_the_job_and_the_next_one_runs(make, tmp_path):
    client = make(command())
    client.send(StartCapture(1, "slow", str(tmp_path / "a.mien"), loop=5000))
    until(client, FrameMessage)
    client.send(Cancel(1))
    begin = time.monotonic()
    (failed,) = [e for e in until(client, Failed) if isinstance(e, Failed)]
    assert (failed.job, failed.error.code) == (1, "cancelled")
    assert time.monotonic() - begin < 10.0
    client.send(StartCapture(2, "fast", str(tmp_path / "b.mien"), loop=3))
    until(client, Finished)


def test_errors_come_back_typed(make):
    client = make(command())
    client.send(StartCapture(1, "error", "x"))
    failed = until(client, Failed)[-1]
    assert failed.error.to_dict() == {"code": "no-face", "message": "No face.", "hint": "Look here."}


def test_very_long_errors_are_cut(make):
    client = make(command())
    client.send(StartCapture(1, "verbose", "x"))
    assert until(client, Failed, WorkerDied)[-1].error.code == "long"


def test_an_unexpected_error_is_internal_and_its_traceback_in_the_log(make, tmp_path):
    log = tmp_path / "worker.log"
    client = make(command(), log_path=log)
    client.send(StartCapture(1, "bug", "x"))
    failed = until(client, Failed)[-1]
    assert failed.error.code == "internal"
    assert re.search(r"in \S+, line \d+ \(ZeroDivisionError", failed.error.message)
    assert "Traceback" in log.read_text(errors="replace")
    client.send(StartCapture(2, "error", "x"))
    assert until(client, Failed)[-1].job == 2


def test_a_crash_of_the_worker_is_told_with_its_log(make):
    client = make(command())
    client.send(StartCapture(1, "crash", "x"))
    died = until(client, WorkerDied)[-1]
    assert died.returncode != 0
    assert "something native went wrong" in died.log_tail
    assert died.error.code == "worker-died"
    assert not client.alive
    assert client.poll() == []


@posix
def test_kill_of_the_worker(make, tmp_path):
    client = make(command())
    client.send(StartCapture(1, "slow", str(tmp_path / "a.mien"), loop=5000))
    until(client, FrameMessage)
    os.kill(client.pid, signal.SIGKILL)
    events = until(client, WorkerDied)
    assert events[-1].returncode == -signal.SIGKILL
    assert "SIGKILL" in events[-1].error.message
    newest = [e.result.index for e in events if isinstance(e, FrameMessage)][-1:]
    with Take(tmp_path / "a.mien") as take:
        assert len(take) > (newest[0] if newest else 0)
    client.start()
    client.send(StartCapture(2, "fast", str(tmp_path / "b.mien"), loop=3))
    until(client, Finished)


PARENT = """
import os, sys, time
from core.client import WorkerClient
from core.protocol import StartCapture
client = WorkerClient([sys.executable, "-P", "-c", sys.argv[1]])
client.start()
client.send(StartCapture(1, sys.argv[2], sys.argv[3], loop=100000))
seen = 0
while seen < 3:
    seen += len(client.poll())
    if sys.argv[2] == "stuck":
        seen += client.connected
    time.sleep(0.01)
print(client.pid, flush=True)
time.sleep(1000)
"""


@posix
@pytest.mark.parametrize("work", ["slow", "fast", "stuck"])
def test_kill_of_the_parent_ends_the_worker(tmp_path, work):
    """Also with the main thread in the middle of something long, and nobody reading what it sends."""
    take = tmp_path / "a.mien"
    arguments = [find_python(), "-P", "-c", PARENT, WORKER, work, str(take)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=default_env()) as parent:
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        assert not gone(pid)
        parent.kill()
        parent.wait()
        assert wait_gone(pid)
    if work != "stuck":
        with Take(take) as reader:
            assert len(reader) > 2
            assert [result.index for result in reader] == list(range(len(reader)))


def test_stop_is_quick_and_escalates(make):
    client = make(command())
    client.send(StartCapture(1, "stuck", "x"))
    until(client, Progress)
    pid = client.pid
    begin = time.monotonic()
    client.stop(timeout=0.2)
    assert time.monotonic() - begin < 10.0
    assert wait_gone(pid, 0.1)


@posix
def test_stop_kills_a_worker_that_ignores_everything(make):
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(99)"
    client = make(command(script))
    pid = client.pid
    time.sleep(0.5)
    begin = time.monotonic()
    client.stop(timeout=0.2)
    assert time.monotonic() - begin < 10.0
    assert gone(pid)


def test_stop_before_the_worker_is_up(make):
    client = make(command())
    pid = client.pid
    client.stop()
    assert wait_gone(pid, 0.1)


def test_nothing_is_left_open(make, tmp_path):
    fds = Path("/proc/self/fd")
    if not fds.exists():
        pytest.skip("needs /proc")
    before = len(list(fds.iterdir()))
    for _ in range(3):
        client = make(command(), log_path=tmp_path / "log")
        until(client, Hello)
        client.stop()
        client.start()
        os.kill(client.pid, signal.SIGKILL)
        until(client, WorkerDied)
    assert len(list(fds.iterdir())) == before


@posix
def test_the_worker_inherits_no_open_file(make, tmp_path):
    script = "import os; print('FDS', sorted(os.listdir('/proc/self/fd')), flush=True)"
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    with open(tmp_path / "secret", "w") as held:
        os.set_inheritable(held.fileno(), True)
        died = until(make(command(script)), WorkerDied)[-1]
    # Its three standard ones, and the listing's own.
    assert "FDS ['0', '1', '2', '3']" in died.log_tail


def test_a_worker_that_cannot_start(make):
    with pytest.raises(MienError) as caught:
        make(["/nonexistent/python"])
    assert caught.value.code == "worker-not-started"


def test_a_worker_that_ends_at_once_is_told_with_its_log(make):
    died = until(make(command("import nothing_of_this_name")), WorkerDied)[-1]
    assert died.returncode == 1
    assert "nothing_of_this_name" in died.log_tail


def test_a_worker_that_never_answers_times_out(make):
    client = make(command("import time; time.sleep(1000)"), start_timeout=0.3)
    pid = client.pid
    died = until(client, WorkerDied)[-1]
    assert died.error.code == "worker-timeout"
    assert wait_gone(pid, 0.1)


PEER = """
import json, socket, sys, time
order = json.loads(sys.stdin.readline())
peer = socket.create_connection(("127.0.0.1", order["port"]))
from core.protocol import Cancel, Finished, Hello, Progress, encode
"""


def peer(script):
    """A worker that is not Mien's."""
    return command(PEER + textwrap.dedent(script))


def test_another_protocol_version_is_a_clear_message(make):
    client = make(
        peer(
            """
            hello = bytearray(encode(Hello(token=order["token"])))
            hello[4] += 1
            peer.sendall(hello)
            sys.exit(bool(peer.recv(1)))
            """
        )
    )
    died = until(client, WorkerDied)[-1]
    assert died.error.code == "wire-version"
    assert str(VERSION) in died.error.message
    assert str(VERSION + 1) in died.error.message


def test_another_frame_record_is_a_clear_message(make):
    client = make(peer("peer.sendall(encode(Hello(token=order['token'], record_size=99))); peer.recv(1 << 16)"))
    assert until(client, WorkerDied)[-1].error.code == "wire-version"


def test_garbage_from_the_worker(make):
    client = make(peer("peer.sendall(encode(Hello(token=order['token'])) + b'garbage' * 1000); time.sleep(1000)"))
    pid = client.pid
    died = until(client, WorkerDied, seconds=10)[-1]
    assert died.error.code == "wire-magic"
    assert wait_gone(pid, 0.1)


def test_a_message_for_the_other_side_is_refused_and_the_rest_goes_on(make):
    client = make(
        peer(
            """
            peer.sendall(encode(Hello(token=order["token"])) + encode(Cancel(1)) + encode(Progress(1)))
            time.sleep(1000)
            """
        )
    )
    events = until(client, Progress)
    assert [type(event) for event in events] == [Hello, Failed, Progress]
    assert events[1].error.code == "wire-kind"


def test_a_worker_that_hangs_up_but_stays_is_ended(make):
    client = make(peer("peer.sendall(encode(Hello(token=order['token']))); peer.close(); time.sleep(1000)"))
    pid = client.pid
    assert until(client, WorkerDied, seconds=10)[-1].error.code == "worker-died"
    assert wait_gone(pid, 0.1)


def port_of(client):
    return client._listener.getsockname()[1]


@pytest.mark.parametrize(
    "said",
    [
        encode(Hello(token="0" * 64)),
        encode(Hello(token="")),
        encode(Hello(token="\udcff")),
        encode(Cancel(1)),
        b"GET /",
        b"",
    ],
)
def test_strangers_are_sent_away_and_the_worker_still_gets_in(make, tmp_path, said):
    client = make(command("import time; time.sleep(0.7)\n" + WORKER))
    with socket.create_connection(("127.0.0.1", port_of(client))) as stranger:
        stranger.sendall(said)
        if not said:
            stranger.shutdown(socket.SHUT_WR)
        end = time.monotonic() + 5
        stranger.setblocking(False)
        while time.monotonic() < end:
            assert not client.poll()
            try:
                assert stranger.recv(100) == b""
            except BlockingIOError:
                time.sleep(0.01)
            except ConnectionResetError:
                break
            else:
                break
        else:
            raise AssertionError("the stranger was not sent away")
    client.send(StartCapture(1, "fast", str(tmp_path / "a.mien"), loop=3))
    until(client, Finished)


def test_silent_strangers_do_not_keep_the_worker_out(make, monkeypatch):
    monkeypatch.setattr(client_module, "_STRANGER_PATIENCE", 0.3)
    client = make(command("import time; time.sleep(0.5)\n" + WORKER))
    strangers = [socket.create_connection(("127.0.0.1", port_of(client))) for _ in range(6)]
    until(client, Hello)
    for stranger in strangers:
        stranger.close()


def test_nobody_gets_in_after_the_worker(make):
    client = make(command())
    port = port_of(client)
    until(client, Hello)
    with pytest.raises(OSError, match=r".*"):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()


class Parent:
    """The test as the parent of a real worker, speaking raw bytes."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.process = subprocess.Popen(command(), stdin=subprocess.PIPE, env=default_env())
            with self.process.stdin as pipe:
                pipe.write(b'{"port": %d, "token": "abc"}\n' % listener.getsockname()[1])
            listener.settimeout(30)
            self.connection, _ = listener.accept()
        self.connection.settimeout(10)
        self.decoder = Decoder((Hello, Progress, FrameMessage, Finished, Failed))
        self.heard = []

    def say(self, *messages):
        self.connection.sendall(b"".join(m if isinstance(m, bytes) else encode(m) for m in messages))

    def hear(self, *classes):
        """Wait for a message of these classes; return it."""
        while True:
            while self.heard:
                item = self.heard.pop(0)
                assert not isinstance(item, Refused)
                if isinstance(item, classes):
                    return item
            data = self.connection.recv(1 << 16)
            assert data, "the worker hung up"
            self.heard += self.decoder.feed(data)


@pytest.fixture
def parent():
    parent = Parent()
    yield parent
    parent.connection.close()
    parent.process.kill()
    parent.process.wait()


def test_the_worker_proves_its_token(parent):
    assert parent.hear(Hello).token == "abc"


def test_the_worker_refuses_garbage_with_a_reason_and_ends(parent):
    parent.say(StartCapture(1, "slow", os.devnull, loop=100000))
    parent.hear(Progress)
    parent.say(b"garbage" * 10)
    assert parent.hear(Failed).error.code == "cancelled"
    assert parent.hear(Failed).error.code == "wire-magic"
    assert parent.process.wait(5) == 0


def test_the_worker_refuses_another_version_with_a_reason(parent):
    data = bytearray(encode(Hello()))
    data[4] += 1
    parent.say(bytes(data))
    assert parent.hear(Failed).error.code == "wire-version"
    assert parent.process.wait(5) == 0


def test_the_worker_tells_of_another_frame_record(parent):
    parent.say(Hello(record_size=99))
    assert parent.hear(Failed).error.code == "wire-version"


def test_the_worker_passes_over_a_bad_message(parent, tmp_path):
    parent.say(Finished(1, CaptureSummary(0, 0, 0.0, 0.0, "")))
    assert parent.hear(Failed).error.code == "wire-kind"
    parent.say(StartCapture(1, "fast", str(tmp_path / "a.mien"), loop=3))
    assert parent.hear(Finished).job == 1


def test_a_slow_reader_does_not_hold_up_the_worker(parent, tmp_path):
    """It captures 8000 frames, 28 MB of messages, while nobody reads; the answer still comes."""
    take = tmp_path / "a.mien"
    parent.say(StartCapture(1, "fast", str(take), loop=8000))
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(0.1)
        if take.exists() and take.stat().st_size > 8000 * 3469:
            break
    with Take(take) as reader:
        assert len(reader) == 8000
    assert parent.hear(Finished).summary.frames == 8000


def test_shutdown_ends_the_worker_and_cancels(parent):
    parent.say(StartCapture(1, "slow", os.devnull, loop=100000))
    parent.hear(Progress)
    parent.say(Shutdown())
    assert parent.hear(Failed).error.code == "cancelled"
    assert parent.process.wait(5) == 0


@pytest.mark.parametrize("line", ["", "nonsense\n", "[]\n", '{"port": "x", "token": ""}\n'])
def test_a_worker_started_by_hand_says_so(line):
    done = subprocess.run(default_command(), input=line, env=default_env(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "started by Mien itself" in done.stderr


def test_a_parent_that_is_gone_already():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = f'{{"port": {listener.getsockname()[1]}, "token": "x"}}\n'
    done = subprocess.run(default_command(), input=line, env=default_env(), capture_output=True, text=True, timeout=30)
    assert done.returncode == 3


def test_starting_is_cheap():
    """The libraries of a job are not imported before it."""
    script = "import sys, core.worker; print(sorted({'cv2', 'mediapipe', 'bpy', 'torch'} & set(sys.modules)))"
    done = subprocess.run(command(script), env=default_env(), capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_current_folder_is_not_searched(tmp_path, monkeypatch, make):
    (tmp_path / "core.py").write_text("raise SystemExit('the wrong core')")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.chdir(tmp_path)
    until(make(), Hello)


def test_python_is_found_where_it_is_embedded(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/blender")
    assert Path(find_python()).name.startswith("python")
    monkeypatch.setattr(sys, "executable", "")
    assert Path(find_python()).name.startswith("python")


@pytest.mark.parametrize("background", [False, True])
def test_on_windows_no_window_opens_and_a_job_in_the_background_gives_way(monkeypatch, background):
    flags = {"CREATE_NO_WINDOW": 0x08000000, "BELOW_NORMAL_PRIORITY_CLASS": 0x4000}
    for name, value in flags.items():
        monkeypatch.setattr(subprocess, name, value, raising=False)
    asked = {}

    def refuse(_command, **how):
        asked.update(how)
        raise OSError("no")

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(MienError, match="cannot be started"):
        WorkerClient(["python"], {}, background=background).start()
    assert asked["creationflags"] == 0x08000000 | (0x4000 if background else 0)


def test_the_client_uses_no_thread(make, tmp_path):
    before = threading.active_count()
    client = make(command())
    client.send(StartCapture(1, "fast", str(tmp_path / "a.mien"), loop=50))
    until(client, Finished)
    assert threading.active_count() == before


def test_poll_is_short_whatever_comes(make, tmp_path):
    """Even after a long pause of the owner, as when Blender renders."""
    client = make(command())
    until(client, Hello)
    client.send(StartCapture(1, "fast", str(tmp_path / "a.mien"), loop=3000))
    time.sleep(1.5)
    # Its own time on the processor: the machine may be busy with the worker.
    longest, events = 0.0, []
    end = time.monotonic() + 30
    while time.monotonic() < end and not any(isinstance(event, Finished) for event in events):
        begin = time.thread_time()
        events = client.poll()
        longest = max(longest, time.thread_time() - begin)
        time.sleep(0.005)
    assert isinstance(events[-1], Finished)
    assert longest < 0.1


@pytest.mark.data
class TestRealClips:
    """The default worker, a real clip, the real pipeline."""

    @pytest.fixture
    def clip(self, data):
        return str(data / "video" / "single_face.mp4")

    def test_finish(self, make, clip, tmp_path):
        client = make()
        take = tmp_path / "a.mien"
        client.send(StartCapture(1, clip, str(take)))
        events = until(client, Finished, Failed, WorkerDied, seconds=240)
        finished = events[-1]
        assert isinstance(finished, Finished), finished
        progress = [event for event in events if isinstance(event, Progress)]
        assert progress[0].stage == "loading"
        assert progress[-1].frame == progress[-1].total == finished.summary.frames
        assert any(event.seconds_left for event in progress)
        # Ten a second, and the first and the last.
        assert len(progress) <= 10 * finished.summary.seconds + 2
        with Take(take) as reader:
            assert len(reader) == finished.summary.frames
            assert reader.column("found").sum() == finished.summary.found > 0
        assert [path.name for path in tmp_path.iterdir()] == ["a.mien"]

    def test_cancel(self, make, clip, tmp_path):
        client = make()
        client.send(StartCapture(1, clip, str(tmp_path / "a.mien"), loop=3600))
        until(client, FrameMessage, seconds=60)
        client.send(Cancel(1))
        assert until(client, Failed)[-1].error.code == "cancelled"
        assert list(tmp_path.iterdir()) == []

    @posix
    def test_kill_of_the_parent(self, clip, tmp_path):
        take = tmp_path / "a.mien"
        parent = PARENT.replace('[sys.executable, "-P", "-c", sys.argv[1]]', "")
        arguments = [find_python(), "-P", "-c", parent, "", clip, str(take)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=default_env()) as process:
            pid = int(process.stdout.readline())
            process.kill()
            process.wait()
            assert wait_gone(pid)
        with Take(f"{take}.part") as reader:
            assert len(reader) > 0
            assert all(result.index == i for i, result in enumerate(reader))

    @posix
    def test_kill_of_the_worker(self, make, clip, tmp_path):
        client = make()
        client.send(StartCapture(1, clip, str(tmp_path / "a.mien"), loop=3600))
        newest = [e for e in until(client, FrameMessage, seconds=60) if isinstance(e, FrameMessage)][-1]
        os.kill(client.pid, signal.SIGKILL)
        until(client, WorkerDied)
        with Take(tmp_path / "a.mien.part") as reader:
            assert len(reader) > newest.result.index

    def test_a_missing_source(self, make, tmp_path):
        client = make()
        client.send(StartCapture(1, str(tmp_path / "none.mp4"), str(tmp_path / "a.mien")))
        error = until(client, Failed, seconds=60)[-1].error
        assert error.code not in ("internal", "library-missing")
        assert error.hint

"""Live capture measured: latency, cost of a frame in Blender, start/stop cycles, kills, memory.

    python tests/benchmarks/bench_live.py latency CLIP [--seconds 30]   real worker, the clip as camera
    python tests/benchmarks/bench_live.py cost                          Python part per applied frame
    python tests/benchmarks/bench_live.py cycles [--count 500]          start and stop: what is left
    python tests/benchmarks/bench_live.py kills [--count 50]            worker killed while recording
    python tests/benchmarks/bench_live.py fuzz [--count 10000]           damaged messages on the wire and on each port
    python tests/benchmarks/bench_live.py memory CLIP [--minutes 60]    both processes over a long session

Needs bpy; `cycles` and `kills` use a stand-in for camera and model, all else is the real thing. Each prints one
JSON object and returns 1 where a limit of the design is broken. Linux.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]


def load(name: str, path: Path, package: bool = False):
    folders = [str(path.parent)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=folders)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def set_up(folder: Path):
    """Return an empty Blender with Mien enabled and a rig of 11 keys and 5 bones as its target."""
    load("mien", ROOT / "__init__.py", package=True)
    fixtures = load("mien_bench_fixtures", ROOT / "tests" / "addon" / "conftest.py")
    import bpy

    fixtures.empty_file()
    entry = bpy.context.preferences.addons.new()
    entry.module = "mien"
    sys.modules["mien"].register()
    bpy.context.preferences.addons["mien"].preferences.takes_folder = str(folder / "takes")
    mesh = fixtures.make_rig(bones=("neck", "head", "jaw", "eye.L"))
    bpy.context.scene.mien.target = mesh
    bpy.context.scene.mien_live.countdown = 0
    return bpy, fixtures, mesh


def use_clip(bpy, clip: Path) -> None:
    bpy.context.scene.mien_live.source = "video"
    bpy.context.scene.mien_live.video = str(clip.resolve())


def use_stand_in(folder: Path) -> None:
    from mien.addon import session

    stand_in = load("mien_bench_stand_in", ROOT / "tests" / "addon" / "stand_in.py")
    session.worker_command, _gone = stand_in.make_worker(folder)


def until(condition, seconds=60.0, on_tick=None):
    from mien.addon import live

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("it never came")
        begin = time.perf_counter()
        live.tick()
        if on_tick is not None:
            on_tick(time.perf_counter() - begin)
        time.sleep(live.INTERVAL)


def percentiles(values, scale=1000.0) -> dict:
    p50, p95 = np.percentile(np.asarray(values) * scale, [50, 95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def resident_mb(pid: int | str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def children() -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue
        if text.rpartition(")")[2].split()[1] == Path("/proc/self").resolve().name:
            found.append(int(stat.parent.name))
    return found


def latency(args, folder: Path) -> tuple[dict, bool]:
    """From the capture stamp to the values on the rig, beside the time that the worker spends on the picture."""
    bpy, _fixtures, _mesh = set_up(folder)
    from mien.addon import live, session
    from mien.core.clock import now

    use_clip(bpy, args.clip)
    rows = []
    apply = live.Live._apply

    def measured(self, frame):
        apply(self, frame)
        rows.append((frame.captured, frame.began, frame.solved, now()))

    live.Live._apply = measured
    begin = time.monotonic()
    bpy.ops.mien.live_start()
    until(lambda: session.live.status.state == "live")
    opened = time.monotonic() - begin
    until(lambda: session.live.counts.applied > 0)
    first = time.monotonic() - begin
    until(lambda: session.live.counts.applied > 60)
    rows.clear()
    end = time.monotonic() + args.seconds
    until(lambda: time.monotonic() > end, args.seconds + 60)
    status, counts = session.live.status, session.live.counts
    captured, began, solved, applied = np.array(rows).T
    interval = 1.0 / (status.camera_fps or 30.0)
    overhead = (applied - captured) - (solved - began)
    result = {
        "seconds": args.seconds,
        "frames": len(rows),
        "camera_fps": round(status.camera_fps, 1),
        "worker_fps": round(status.worker_fps, 1),
        "dropped_by_worker": status.dropped,
        "superseded_in_blender": counts.superseded,
        "start_to_source_s": round(opened, 2),
        "start_to_first_motion_s": round(first, 2),
        "capture_to_rig_ms": percentiles(applied - captured),
        "inference_ms": percentiles(solved - began),
        "wait_for_worker_ms": percentiles(began - captured),
        "wire_and_apply_ms": percentiles(applied - solved),
        "overhead_ms": percentiles(overhead),
        "frame_interval_ms": round(1000 * interval, 1),
    }
    bpy.ops.mien.live_stop()
    return result, np.percentile(overhead, 95) <= interval


def cost(_args, folder: Path) -> tuple[dict, bool]:
    """The Python part of one applied frame: reading the message, 11 keys, 4 bones.

    Once with nothing between two frames, once with the processor's caches swept, as drawing does.
    """
    bpy, fixtures, mesh = set_up(folder)
    from mien.addon import live
    from mien.addon.rig.puppet import Channels
    from mien.core.protocol import Decoder, LiveFrame, StartLive, TuneLive, encode
    from mien.core.record import pack
    from mien.core.types import FrameResult

    cast = live.make_cast([mesh], Channels())
    session_live = live.Live(StartLive(1, "camera"), TuneLive(1), cast)
    performance = fixtures.make_performance(600)
    data = []
    for i in range(600):
        units = np.clip(performance.units[i], 0, 1)
        result = FrameResult(i, i / 30, found=True, units=units, head_rotation=performance.head[i])
        data.append(encode(LiveFrame(1, 0.0, 0.0, pack(result).reshape(1))))
    result = {"keys": 11, "bones": 4}
    litter = np.ones(1 << 23)
    for name, sweep in (("warm", lambda: None), ("swept", lambda: litter.__iadd__(1.0))):
        spent = {"decode": [], "apply": [], "both": [], "evaluate": []}
        for item in data:
            sweep()
            begin = time.perf_counter()
            frame = Decoder([LiveFrame]).feed(item)[0]
            decoded = time.perf_counter()
            session_live._apply(frame)
            applied = time.perf_counter()
            bpy.context.view_layer.update()
            spent["decode"].append(decoded - begin)
            spent["apply"].append(applied - decoded)
            spent["both"].append(applied - begin)
            spent["evaluate"].append(time.perf_counter() - applied)
        result[name] = {f"{part}_ms": percentiles(values) for part, values in spent.items()}
    return result, result["warm"]["both_ms"]["p50"] <= 0.3


def cycles(args, folder: Path) -> tuple[dict, bool]:
    """Start and stop again and again: processes, handles, handlers, timers and memory that are left."""
    bpy, _fixtures, _mesh = set_up(folder)
    use_stand_in(folder)
    from mien.addon import live, session

    def state():
        gc.collect()
        handlers = sum(
            len(value) for name in dir(bpy.app.handlers) if isinstance(value := getattr(bpy.app.handlers, name), list)
        )
        handles = len(list(Path("/proc/self/fd").iterdir()))
        return {"handles": handles, "handlers": handlers, "children": len(children()), "objects": len(bpy.data.objects)}

    rng = random.Random(1)
    before, memory, longest = None, [], 0.0
    begin = time.monotonic()
    for i in range(args.count):
        bpy.ops.mien.live_start()
        if i % 5 == 0:
            until(lambda: session.live.counts.applied > 0)
        else:  # stopped at any moment of its start
            rest = time.monotonic() + rng.random() * 0.3
            until(lambda rest=rest: time.monotonic() > rest)
        started = time.perf_counter()
        bpy.ops.mien.live_stop()
        longest = max(longest, time.perf_counter() - started)
        until(lambda: not live.busy())
        if i == 9:
            before = state()
        memory.append(resident_mb())
    after = state()
    timer = bpy.app.timers.is_registered(live._on_timer)
    if timer and bpy.app.background:
        # Without a window nobody calls the timer, so nobody lets it end: its body says that it would.
        timer = live._on_timer() is not None
    result = {
        "cycles": args.count,
        "minutes": round((time.monotonic() - begin) / 60, 1),
        "before": before,
        "after": after,
        "timer_left": timer,
        "longest_stop_ms": round(1000 * longest, 1),
        "memory_mb": [round(memory[9], 1), round(memory[-1], 1)],
    }
    return result, before == after and not timer


def kills(args, folder: Path) -> tuple[dict, bool]:
    """Kill the worker at random moments of a recording: frames lost, and how long Blender was held up."""
    bpy, _fixtures, _mesh = set_up(folder)
    use_stand_in(folder)
    from mien.addon import live, session
    from mien.core.protocol import LiveFrame
    from mien.core.take import Take

    rng = random.Random(2)
    ticks, missing, kept = [], [], 0
    seen = {"frames": 0}
    messages = live.Live._messages

    def counting(self):
        for message in messages(self):
            if isinstance(message, LiveFrame) and self.take is not None and self.take.recording:
                seen["frames"] += 1
            yield message

    live.Live._messages = counting
    bpy.ops.mien.live_start()
    until(lambda: session.live.counts.applied > 3)

    def one() -> None:
        nonlocal kept
        running = session.live
        running._deaths.clear()  # fifty deaths are the test, not a worker to give up
        running.take = None
        seen["frames"] = 0
        bpy.ops.mien.live_record()
        until(lambda: running.take is not None and running.take.recording, on_tick=ticks.append)
        first = running.take.take
        end = time.monotonic() + rng.random() * 1.5
        until(lambda: time.monotonic() > end, on_tick=ticks.append)
        reported, restarts = running.take.frames, running.counts.restarts
        running._client._process.kill()
        until(lambda: running.counts.restarts > restarts, on_tick=ticks.append)
        sent = seen["frames"]
        until(lambda: running.take.take != first and running.take.frames > 0, on_tick=ticks.append)
        with Take(first) as take:
            kept += len(take)
            # Every frame that Blender was told of, or was sent, is in the file: it was written before.
            missing.append(max(reported - len(take), sent - len(take), 0))
        bpy.ops.mien.live_record()
        until(lambda: not running.take.recording, on_tick=ticks.append)

    for _ in range(args.count):
        one()
    bpy.ops.mien.live_stop()
    until(lambda: not live.busy())
    result = {
        "recordings": args.count,
        "frames_kept_before_the_kills": kept,
        "frames_lost": int(sum(missing)),
        "tick_ms": percentiles(ticks),
        "longest_tick_ms": round(1000 * max(ticks), 1),
        "ticks_over_50_ms": int(sum(tick > 0.05 for tick in ticks)),
    }
    return result, not sum(missing) and max(ticks) <= 0.05


def fuzz(args, folder: Path) -> tuple[dict, bool]:
    """Damaged datagrams on each network port of a live session, and damaged messages on the wire, both ways."""
    bpy, _fixtures, mesh = set_up(folder)
    import socket

    from mien.addon import live, session
    from mien.core.network import FORMATS
    from mien.core.protocol import EndTake, ListCameras, PictureTaken, TuneLive, encode

    load("mien_bench_core", ROOT / "tests" / "conftest.py", package=True)
    helpers = load("mien_bench_core.network_helpers", ROOT / "tests" / "core" / "network_helpers.py")
    fuzzing = load("mien_bench_core.test_network_fuzz", ROOT / "tests" / "core" / "test_network_fuzz.py")
    liar = load("mien_bench_liar", ROOT / "tests" / "addon" / "liar.py")
    result, good = {}, True

    def attacked(name: str, throw, refused) -> None:
        """Attack twice: the first time allocates what every later one uses again."""
        nonlocal good
        ticks = []
        throw(args.count // 2, ticks)
        running = session.live
        pid = running._client.pid
        was, at = refused(), (resident_mb(), resident_mb(pid))
        throw(args.count, ticks)
        grown = [round(now - then, 2) for now, then in zip((resident_mb(), resident_mb(pid)), at, strict=True)]
        result[name] = {
            "sent": args.count,
            "refused": refused() - was,
            "blender_and_worker_grew_mb": grown,
            "longest_tick_ms": round(1000 * max(ticks), 1),
            "live": running.running and running.counts.restarts == 0,
        }
        good &= result[name]["live"] and result[name]["refused"] > args.count / 10 and max(grown) < 4.0
        live.stop()
        until(lambda: not live.busy())

    chosen = bpy.context.scene.mien_live
    chosen.source = "network"
    for number, name in enumerate(FORMATS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            chosen.port = sock.getsockname()[1]
        chosen.format = name
        bpy.ops.mien.live_start()
        until(lambda: session.live.status.state == "opening")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            there = ("127.0.0.1", chosen.port)

            def throw(count, ticks, name=name, sock=sock, there=there, number=number):
                for i, data in enumerate(fuzzing.mutated(count + number, name, count)):
                    sock.sendto(data, there)
                    if i % 16 == 0:
                        rest = time.monotonic() + 0.002
                        until(lambda rest=rest: time.monotonic() > rest, on_tick=ticks.append)
                # It still hears a sound sender.
                time.sleep(1.2)
                applied = session.live.counts.applied
                clock = iter(range(10**6))

                def heard():
                    for datagram in helpers.packets(helpers.face(1, time=9e4 + next(clock)))[name]:
                        sock.sendto(datagram, there)
                    return session.live.counts.applied > applied

                until(heard, on_tick=ticks.append)

            attacked(name, throw, lambda: session.live.status.refused)

    use_stand_in(folder)
    chosen.source = "camera"
    bpy.ops.mien.live_start()
    until(lambda: session.live.counts.applied > 3)
    rng = random.Random(3)
    sound = [encode(message) for message in (TuneLive(2), EndTake(2), ListCameras(), PictureTaken(2))]

    def to_worker(count, ticks):
        client, applied = session.live._client, session.live.counts.applied
        for i in range(count):
            client._outgoing += liar.damaged(rng, sound)
            if i % 16 == 0:
                until(lambda: True)
                live.tick()
        until(lambda: not client._outgoing and session.live.counts.applied > applied + 30, on_tick=ticks.append)

    attacked("wire_to_worker", to_worker, lambda: session.live.counts.refused)

    session.worker_command = [sys.executable, str(ROOT / "tests" / "addon" / "liar.py"), str(args.count)]
    ticks, sizes = [], []
    for _ in range(2):
        bpy.ops.mien.live_start()
        until(lambda: session.live.status.source == "done", on_tick=ticks.append)
        sizes.append(resident_mb())
        refused = session.live.counts.refused
        live.stop()
        until(lambda: not live.busy())
    result["wire_to_blender"] = {
        "sent": args.count,
        "refused": refused,
        "blender_grew_mb": round(sizes[1] - sizes[0], 2),
        "longest_tick_ms": round(1000 * max(ticks), 1),
    }
    good &= refused > args.count / 10 and sizes[1] - sizes[0] < 4.0
    result["values_finite"] = all(np.isfinite(key.value) for key in mesh.data.shape_keys.key_blocks)
    return result, good and result["values_finite"]


class Ledger:
    """Follows every picture of a session, at each report: all that was sent before it has arrived then."""

    def __init__(self):
        from mien.addon import live

        # Nothing here may grow: Blender's memory is what is measured.
        self.reports = self.unaccounted = self.unapplied = 0
        self.first = self.last = None
        self.takes = []
        note, note_take, tick = live.Live._note, live.Live._note_take, live.Live.tick

        def noted(running, status):
            note(running, status)
            if status.captured:
                fates = status.dropped + status.lost + status.unsent + status.waiting + running.counts.received
                self.reports += 1
                self.unaccounted = max(self.unaccounted, abs(status.captured - fates))
                self.last = time.perf_counter(), status.captured + status.missed
                self.first = self.first or self.last

        def noted_take(running, status):
            note_take(running, status)
            if not status.recording:
                self.takes.append(status)

        def ticked(running):
            tick(running)
            counts = running.counts
            fates = counts.applied + counts.superseded + counts.held
            self.unapplied = max(self.unapplied, abs(counts.received - fates))

        live.Live._note, live.Live._note_take, live.Live.tick = noted, noted_take, ticked


def memory(args, folder: Path) -> tuple[dict, bool]:
    """A long session, recording every other minute: memory of both processes, drift, the fate of every picture."""
    bpy, _fixtures, _mesh = set_up(folder)
    use_clip(bpy, args.clip)
    from mien.addon import session
    from mien.core.capture import open_source
    from mien.core.take import Take

    with open_source(args.clip) as source:
        rate = source.fps
    ledger = Ledger()
    bpy.ops.mien.live_start()
    until(lambda: session.live.counts.applied > 60)
    rows, count, due, told = np.zeros((int(args.minutes * 30) + 100, 4)), 0, 0.0, 0.0
    begin = time.monotonic()

    def sample(_spent):
        nonlocal count, due, told
        if time.monotonic() < due or count == len(rows):
            return
        due = time.monotonic() + 2.0
        minute = (time.monotonic() - begin) / 60
        if int(minute) % 2 != session.live.recording:
            bpy.ops.mien.live_record()
        worker = resident_mb(session.live._client.pid)
        rows[count] = minute, resident_mb(), worker, 1000 * session.live.latency
        count += 1
        if minute >= told:
            told += 5.0
            print(
                rows[count - 1].round(2).tolist(), session.live.counts, session.live.status, file=sys.stderr, flush=True
            )

    until(lambda: time.monotonic() - begin > args.minutes * 60, args.minutes * 60 + 60, on_tick=sample)
    if session.live.recording:
        bpy.ops.mien.live_record()
        until(lambda: not session.live.take.recording)
    reports = ledger.reports
    until(lambda: ledger.reports > reports)
    status, counts = session.live.status, session.live.counts
    frames = gaps = 0
    for told_take in ledger.takes:
        with Take(told_take.take) as take:
            frames += len(take)
            gaps += int(np.sum(np.diff(take.column("index")) != 1)) + (len(take) != told_take.frames)
    minutes, blender, worker, ages = rows[:count].T
    settled = minutes > minutes[-1] * 0.25
    (first, first_pictures), (last, last_pictures) = ledger.first, ledger.last

    def per_hour(values):
        return round(float(np.polyfit(minutes[settled] / 60, values[settled], 1)[0]), 2)

    def quarters(values):
        return [round(float(np.median(part)), 1) for part in np.array_split(values, 4)]

    result = {
        "minutes": round(float(minutes[-1]), 1),
        "captured": status.captured,
        "applied": counts.applied,
        "dropped_by_worker": status.dropped,
        "lost_by_recordings": status.lost,
        "unsent": status.unsent,
        "waiting": status.waiting,
        "superseded_in_blender": counts.superseded,
        "held": counts.held,
        "unaccounted": [ledger.unaccounted, ledger.unapplied],
        "reports": ledger.reports,
        "missed_by_the_clip": status.missed,
        "pictures_due_in_the_time": round((last - first) * rate, 1),
        "pictures_come_in_the_time": last_pictures - first_pictures,
        "takes": len(ledger.takes),
        "frames_in_takes": frames,
        "gaps_in_takes": gaps,
        "restarts": counts.restarts,
        "blender_mb_by_quarter": quarters(blender),
        "worker_mb_by_quarter": quarters(worker),
        "slope_mb_per_hour": {"blender": per_hour(blender), "worker": per_hour(worker)},
        "latency_ms_by_quarter": quarters(ages),
    }
    bpy.ops.mien.live_stop()
    return result, counts.restarts == 0 and ledger.unaccounted == ledger.unapplied == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("latency")
    one.add_argument("clip", type=Path)
    one.add_argument("--seconds", type=float, default=30.0)
    verbs.add_parser("cost")
    verbs.add_parser("cycles").add_argument("--count", type=int, default=500)
    verbs.add_parser("kills").add_argument("--count", type=int, default=50)
    verbs.add_parser("fuzz").add_argument("--count", type=int, default=10_000)
    one = verbs.add_parser("memory")
    one.add_argument("clip", type=Path)
    one.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result, good = globals()[args.verb](args, Path(folder))
    import bpy

    print(
        json.dumps({"benchmark": args.verb, "blender": bpy.app.version_string, **result, "good": bool(good)}),
        flush=True,
    )
    sys.modules["mien"].unregister()
    return 0 if good else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # bpy 4.5 as a module can hang when its interpreter ends.
    os._exit(code)

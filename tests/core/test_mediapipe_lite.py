"""The direct call into MediaPipe's library: same structs, same results, no network, no noise."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mien.core import mediapipe_lite as lite
from mien.core.capture import open_source
from mien.core.errors import MienError
from mien.core.landmarks import MODEL_BLENDSHAPES, Landmarker
from mien.core.models import landmark_model

from .face_helpers import needs_model

ROOT = Path(__file__).resolve().parents[2]


def run_in_child(code: str, before: tuple[str, ...] = (), **env) -> subprocess.CompletedProcess:
    """Run code with `mien` importable and pytest's own imports absent."""
    start = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('mien', {str(ROOT / '__init__.py')!r},"
        f" submodule_search_locations=[{str(ROOT)!r}]);"
        "sys.modules['mien'] = importlib.util.module_from_spec(spec)\n"
    )
    return subprocess.run(
        [*before, sys.executable, "-c", start + code], capture_output=True, text=True, env=os.environ | env, check=False
    )


DETECT = """
import numpy as np
from mien.core.landmarks import Landmarker
from mien.core.models import landmark_model
with Landmarker(landmark_model()) as landmarker:
    for i in range(3):
        landmarker.detect(np.zeros((90, 120, 3), np.uint8), i / 30)
print(sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def model():
    return landmark_model()


def test_structs_match_the_package():
    pytest.importorskip("matplotlib", reason="the mediapipe package imports only with its dependencies")
    containers = "mediapipe.tasks.python.components.containers."
    pairs = {
        lite.BaseOptions: ("mediapipe.tasks.python.core.base_options_c", "MpBaseOptionsC"),
        lite.LandmarkerOptions: ("mediapipe.tasks.python.vision.face_landmarker", "MpFaceLandmarkerOptionsC"),
        lite.LandmarkerResult: ("mediapipe.tasks.python.vision.face_landmarker", "MpFaceLandmarkerResultC"),
        lite.Landmark: (containers + "landmark_c", "MpNormalizedLandmarkC"),
        lite.Landmarks: (containers + "landmark_c", "MpNormalizedLandmarksC"),
        lite.Category: (containers + "category_c", "MpCategoryC"),
        lite.Categories: (containers + "category_c", "MpCategoriesC"),
        lite.Matrix: (containers + "matrix_c", "MpMatrixC"),
    }
    for ours, (module, name) in pairs.items():
        theirs = getattr(importlib.import_module(module), name)
        assert ctypes.sizeof(ours) == ctypes.sizeof(theirs), name
        for (our_field, *_), (their_field, *_) in zip(ours._fields_, theirs._fields_, strict=True):
            assert our_field == their_field
            assert getattr(ours, our_field).offset == getattr(theirs, their_field).offset


@pytest.mark.data
@needs_model
def test_results_equal_the_packages(data, model):
    pytest.importorskip("matplotlib", reason="the mediapipe package imports only with its dependencies")
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    with open_source(data / "video" / "single_face.mp4") as source:
        frames = [frame for frame, _ in zip(source, range(12), strict=False)]
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(model)),
        running_mode=vision.RunningMode.VIDEO,
        output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )
    call = lite.LandmarkerCall(model)
    with vision.FaceLandmarker.create_from_options(options) as landmarker:
        for frame in frames:
            milliseconds = round(frame.time * 1000)
            image = mediapipe.Image(mediapipe.ImageFormat.SRGB, frame.image)
            expected = landmarker.detect_for_video(image, milliseconds)
            points, scores, matrix = call(frame.image, milliseconds)
            np.testing.assert_array_equal(points, [(p.x, p.y, p.z) for p in expected.face_landmarks[0]])
            np.testing.assert_array_equal(scores, [c.score for c in expected.face_blendshapes[0]])
            assert [c.category_name for c in expected.face_blendshapes[0]] == list(MODEL_BLENDSHAPES)
            np.testing.assert_array_equal(matrix, expected.facial_transformation_matrixes[0])
    call.close()


@needs_model
def test_neither_the_package_nor_its_dependencies_are_imported(model):
    done = run_in_child(DETECT)
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout.replace("'", '"')))
    assert not {"mediapipe", "matplotlib", "sounddevice", "absl", "certifi", "tensorflow", "bpy", "torch"} & modules


@needs_model
def test_nothing_is_logged(model):
    assert run_in_child(DETECT).stderr == ""


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@needs_model
def test_no_connection_is_tried(model, tmp_path):
    trace = tmp_path / "trace"
    calls = ("strace", "-f", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace))
    done = run_in_child(DETECT, before=calls, no_proxy="*", https_proxy="")
    if not trace.is_file() or "ptrace" in done.stderr:
        pytest.skip("strace may not run here")
    assert done.returncode == 0, done.stderr
    tried = [line for line in trace.read_text().splitlines() if "connect(" in line or "send" in line]
    assert tried == []


@needs_model
def test_usage_reports_have_nowhere_to_go(model):
    done = run_in_child(
        "import os\nfrom mien.core.mediapipe_lite import load\nload()\n"
        "print(os.environ['https_proxy'], os.environ.get('no_proxy'), os.environ.get('NO_PROXY'))",
        NO_PROXY="*",
    )
    assert done.stdout.split() == ["none://usage-reports-are-off.invalid", "None", "None"]


@pytest.mark.parametrize("system", ["win32", "darwin"])
@pytest.mark.parametrize("works", [True, False, None])
def test_usage_reports_are_blocked_on_other_systems(monkeypatch, system, works):
    """Neither can run here: what is called, and that a failure is told."""
    calls = []

    class Library:
        def __init__(self, name):
            self.name = name

        def __getattr__(self, function):
            if works is None:
                raise AttributeError(function)

            def call(*arguments):
                calls.append((self.name, function, *arguments))
                return works if system == "win32" else works - 1

            return call

    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "WinDLL", Library, raising=False)
    monkeypatch.setattr(ctypes, "CDLL", Library)
    with contextlib.nullcontext() if works else pytest.warns(UserWarning, match="reporting its use"):
        lite._block_reports()
    if works is None:  # no such function there
        return
    ((library, function, *arguments),) = calls
    if system == "win32":
        handle, option, info, size = arguments
        assert (library, function, handle, option) == ("wininet", "InternetSetOptionA", None, 38)
        assert size == ctypes.sizeof(lite.ProxyInfo) == 3 * ctypes.sizeof(ctypes.c_void_p)
        assert (info._obj.access, info._obj.proxy, info._obj.bypass) == (3, b"127.0.0.1:1", None)
    else:
        assert (library, function, arguments[1]) == (None, "sandbox_init", 0)
        assert b'(deny network-outbound (remote ip "*:443")' in arguments[0]


def test_library_that_is_not_there(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MienError) as caught:
        lite.library_path()
    assert caught.value.code == "mediapipe-missing"


@pytest.mark.skipif(sys.platform != "linux", reason="the loader's words of Linux")
@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("libGLESv2.so.9", "apt-get install libegl1 libgles2"), ("libm.so.9", "Mien needs mediapipe")],
)
def test_a_system_library_that_is_missing_is_named_with_its_package(tmp_path, monkeypatch, missing, remedy):
    """A library linked against one that is not there, as the loader sees it on a bare Linux."""
    source = tmp_path / "other.c"
    source.write_text("int other(void) { return 1; }")
    gone, library = tmp_path / missing, tmp_path / "libmediapipe.so"
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", f"-Wl,-soname,{missing}", "-o", gone, source], check=True)
    link = [compiler, "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", library, source, gone]
    subprocess.run(link, check=True)
    gone.unlink()
    monkeypatch.setattr(lite, "library_path", lambda: library)
    with pytest.raises(MienError) as told:
        lite.load.__wrapped__()
    assert missing in str(told.value)
    assert remedy in str(told.value)


@needs_model
def test_what_is_no_picture_is_refused_and_ends_nothing(model):
    picture = np.zeros((90, 120, 3), np.uint8)
    with Landmarker(model) as landmarker:
        for wrong in (picture[..., 0], picture[..., :1], picture.repeat(2, 2), picture[:0], picture / 255):
            with pytest.raises(ValueError, match="image must be"):
                landmarker.detect(wrong, 0.0)
        assert landmarker.detect(picture, 0.1) is None
    with pytest.raises(ValueError, match="closed"):
        landmarker.detect(picture, 0.2)


@needs_model
def test_model_that_is_damaged(tmp_path, model):
    path = tmp_path / "damaged.task"
    path.write_bytes(model.read_bytes()[:10000])
    with pytest.raises(MienError) as caught:
        Landmarker(path)
    assert caught.value.code == "model-damaged"

"""MediaPipe's face landmarker called straight in its C library, without its Python package.

``import mediapipe`` runs package files that import matplotlib, sounddevice, absl,
flatbuffers and certifi, none of which the extension ships, and TensorFlow where it finds
one. Only the shared library is needed to find a face, so this module finds the wheel's
folder without running any of its code and calls the C functions itself. Two more things
follow:

* Results are read as numpy views on the C structs: one copy per frame in place of some
  530 Python objects.
* Calls run on the caller's thread, not on a dispatcher thread.

The library reports its use to Google (play.googleapis.com, on threads of its own;
google-ai-edge/mediapipe issue 6291) and has no switch for it. Mien promises to work
offline, so `load` takes the way out from the whole process (`_block_reports`). That is
the reason why this may only be loaded in Mien's own processes (worker, command line),
never in Blender's.

The structs mirror ``mediapipe/tasks/python`` of the release in `MEDIAPIPE_VERSION`
(Apache-2.0, The MediaPipe Authors). A test compares sizes, offsets and results with that
package where it is installed whole.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import MienError
from .types import check_picture

MEDIAPIPE_VERSION = "1.2.2"
"""The release whose C structs are mirrored here."""

_VIDEO_MODE = 2
_DELEGATE_CPU = 1
_IMAGE_SRGB = 1
_UNKNOWN_HOST = 0
_NO_FILE_DESCRIPTOR = -1
_LIBRARY = {"Darwin": "libmediapipe.dylib", "Windows": "libmediapipe.dll"}.get(platform.system(), "libmediapipe.so")

_NO_SUCH_PROXY = "none://usage-reports-are-off.invalid"
"""A proxy of a kind that libcurl refuses before it opens a connection or looks up a name."""

_NOBODY = b"127.0.0.1:1"
"""A proxy for WinINet, on this machine, where nothing listens."""

_INTERNET_OPTION_PROXY = 38
_INTERNET_OPEN_TYPE_PROXY = 3

_NO_WEB = b"""(version 1) (allow default)
(deny network-outbound (remote ip "*:443") (literal "/private/var/run/mDNSResponder"))"""
"""A sandbox for macOS in which no web page can be asked for, nor its address; Mien itself needs neither."""


class ProxyInfo(ctypes.Structure):
    """``INTERNET_PROXY_INFO`` of WinINet."""

    _fields_ = [("access", ctypes.c_uint32), ("proxy", ctypes.c_char_p), ("bypass", ctypes.c_char_p)]


class BaseOptions(ctypes.Structure):
    _fields_ = [
        ("model_asset_buffer", ctypes.c_char_p),
        ("model_asset_buffer_count", ctypes.c_uint),
        ("model_asset_path", ctypes.c_char_p),
        ("file_descriptor", ctypes.c_int),
        ("delegate", ctypes.c_int),
        ("host_environment", ctypes.c_int),
        ("host_system", ctypes.c_int),
        ("host_version", ctypes.c_char_p),
        ("ca_bundle_path", ctypes.c_char_p),
        ("app_id", ctypes.c_char_p),
        ("app_version", ctypes.c_char_p),
    ]


class LandmarkerOptions(ctypes.Structure):
    _fields_ = [
        ("base_options", BaseOptions),
        ("running_mode", ctypes.c_int),
        ("num_faces", ctypes.c_int),
        ("min_face_detection_confidence", ctypes.c_float),
        ("min_face_presence_confidence", ctypes.c_float),
        ("min_tracking_confidence", ctypes.c_float),
        ("output_face_blendshapes", ctypes.c_bool),
        ("output_facial_transformation_matrixes", ctypes.c_bool),
        ("result_callback", ctypes.c_void_p),
    ]


class Landmark(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_float),
        ("y", ctypes.c_float),
        ("z", ctypes.c_float),
        ("has_visibility", ctypes.c_bool),
        ("visibility", ctypes.c_float),
        ("has_presence", ctypes.c_bool),
        ("presence", ctypes.c_float),
        ("name", ctypes.c_char_p),
    ]


class Landmarks(ctypes.Structure):
    _fields_ = [("landmarks", ctypes.POINTER(Landmark)), ("landmarks_count", ctypes.c_uint32)]


class Category(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_int),
        ("score", ctypes.c_float),
        ("category_name", ctypes.c_char_p),
        ("display_name", ctypes.c_char_p),
    ]


class Categories(ctypes.Structure):
    _fields_ = [("categories", ctypes.POINTER(Category)), ("categories_count", ctypes.c_uint32)]


class Matrix(ctypes.Structure):
    _fields_ = [("rows", ctypes.c_uint32), ("cols", ctypes.c_uint32), ("data", ctypes.POINTER(ctypes.c_float))]


class LandmarkerResult(ctypes.Structure):
    _fields_ = [
        ("face_landmarks", ctypes.POINTER(Landmarks)),
        ("face_landmarks_count", ctypes.c_uint32),
        ("face_blendshapes", ctypes.POINTER(Categories)),
        ("face_blendshapes_count", ctypes.c_uint32),
        ("facial_transformation_matrixes", ctypes.POINTER(Matrix)),
        ("facial_transformation_matrixes_count", ctypes.c_uint32),
    ]


_ERROR = ctypes.POINTER(ctypes.c_char_p)
_HANDLE = ctypes.c_void_p
_SIGNATURES = {
    "MpFaceLandmarkerCreate": [ctypes.POINTER(LandmarkerOptions), ctypes.POINTER(_HANDLE), _ERROR],
    "MpFaceLandmarkerDetectForVideo": [
        _HANDLE,
        _HANDLE,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.POINTER(LandmarkerResult),
        _ERROR,
    ],
    "MpFaceLandmarkerClose": [_HANDLE, _ERROR],
    "MpImageCreateFromUint8Data": [
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.POINTER(_HANDLE),
        _ERROR,
    ],
}


_VOID_SIGNATURES = {
    "MpFaceLandmarkerCloseResult": [ctypes.POINTER(LandmarkerResult)],
    "MpImageFree": [_HANDLE],
    "MpErrorFree": [ctypes.c_void_p],
}


def library_path() -> Path:
    """Return where the installed wheel's shared library is, without running the wheel's code.

    Raises
    ------
    MienError
        ``mediapipe-missing``.
    """
    spec = importlib.util.find_spec("mediapipe")  # finds a top-level package without running it
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        path = Path(folder) / "tasks" / "c" / _LIBRARY
        if path.is_file():
            return path
    raise MienError(
        "mediapipe-missing",
        "The face tracking library (MediaPipe) was not found.",
        "Reinstall the extension, or run: pip install mediapipe==" + MEDIAPIPE_VERSION,
    )


@functools.cache
def load() -> ctypes.CDLL:
    """Load the C library once and declare the functions that Mien calls.

    Raises
    ------
    MienError
        ``mediapipe-missing`` or ``mediapipe-unusable``.
    """
    path = library_path()
    _block_reports()
    try:
        library = ctypes.CDLL(str(path))
        for name, arguments in _SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
        for name, arguments in _VOID_SIGNATURES.items():
            function = getattr(library, name)
            function.argtypes, function.restype = arguments, None
    except (OSError, AttributeError) as error:
        raise MienError(
            "mediapipe-unusable", f"The face tracking library could not be loaded: {error}", _remedy(str(error))
        ) from error
    return library


def _block_for_system() -> bool:
    """Block what the environment does not; whether it worked."""
    if sys.platform == "win32":
        proxy = ProxyInfo(_INTERNET_OPEN_TYPE_PROXY, _NOBODY, None)
        set_option = ctypes.WinDLL("wininet").InternetSetOptionA
        set_option.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32]
        return bool(set_option(None, _INTERNET_OPTION_PROXY, ctypes.byref(proxy), ctypes.sizeof(proxy)))
    if sys.platform == "darwin":
        enter = ctypes.CDLL(None).sandbox_init
        enter.argtypes = [ctypes.c_char_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_char_p)]
        return enter(_NO_WEB, 0, ctypes.byref(ctypes.c_char_p())) == 0
    return True


def _block_reports() -> None:
    """Take the way out from what reports the library's use: libcurl on Linux, the system's own parts elsewhere.

    Traced on Linux; on Windows and macOS by what documents say, not tried yet.

    References
    ----------
    Microsoft, How to programmatically query and set proxy settings (Q226473): without a handle, the proxy is set
    for this process alone. Apple, sandbox_init(3).
    """
    # Before loading: a statically linked C runtime copies the environment when the library loads.
    for name in ("https_proxy", "HTTPS_PROXY"):
        os.environ[name] = _NO_SUCH_PROXY
    for name in ("no_proxy", "NO_PROXY"):  # or a user's "*" would go round the proxy
        os.environ.pop(name, None)
    try:
        blocked = _block_for_system()
    except (OSError, AttributeError):  # the system has no such library or function
        blocked = False
    if not blocked:
        warnings.warn("the landmark model's library could not be kept from reporting its use", stacklevel=1)


def _remedy(error: str) -> str:
    """Return what to do about a library that does not load, given the loader's words."""
    if "libEGL.so" in error or "libGLESv2.so" in error:
        return "Install the system's OpenGL ES libraries: on Debian and Ubuntu, apt-get install libegl1 libgles2."
    return f"Mien needs mediapipe {MEDIAPIPE_VERSION} for this system."


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send what C code writes to the process's stderr to nowhere.

    The library logs several lines when it starts and has no setting against it.
    """
    try:
        descriptor = sys.__stderr__.fileno()
    except (AttributeError, OSError, ValueError):  # no stderr, as in a windowed program
        yield
        return
    sys.__stderr__.flush()
    saved = os.dup(descriptor)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    try:
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(nowhere)


class LandmarkerCall:
    """One face landmarker of the C library in VIDEO mode, following one face.

    Parameters
    ----------
    model_path : path
        ``face_landmarker.task``.

    Raises
    ------
    MienError
        ``mediapipe-missing``, ``mediapipe-unusable``, ``model-missing`` or ``model-damaged``.
    """

    def __init__(self, model_path: str | os.PathLike):
        self._library = load()
        self._handle = _HANDLE()
        # The bytes, not the path: the library opens paths in the system's code page on Windows.
        try:
            self._model = Path(model_path).read_bytes()
        except OSError as error:
            raise MienError(
                "model-missing",
                f"The face landmark model {model_path} cannot be read: {error.strerror or error}.",
                "Get it with the models command, or reinstall the extension.",
            ) from error
        options = LandmarkerOptions()
        options.base_options.model_asset_buffer = self._model
        options.base_options.model_asset_buffer_count = len(self._model)
        options.base_options.file_descriptor = _NO_FILE_DESCRIPTOR
        options.base_options.delegate = _DELEGATE_CPU
        options.base_options.host_environment = _UNKNOWN_HOST
        options.base_options.host_system = _UNKNOWN_HOST
        options.running_mode = _VIDEO_MODE
        options.num_faces = 1
        options.min_face_detection_confidence = 0.5
        options.min_face_presence_confidence = 0.5
        options.min_tracking_confidence = 0.5
        options.output_face_blendshapes = True
        options.output_facial_transformation_matrixes = True
        with quiet_stderr():
            try:
                self._check("MpFaceLandmarkerCreate", ctypes.byref(options), ctypes.byref(self._handle))
            except RuntimeError as error:
                raise MienError(
                    "model-damaged",
                    f"The face landmark model could not be read: {error}",
                    "Get it again with the models command, or reinstall the extension.",
                ) from error
        self._started = False

    def _check(self, name: str, *arguments) -> None:
        message = ctypes.c_char_p()
        status = getattr(self._library, name)(*arguments, ctypes.byref(message))
        if status:
            text = (message.value or b"no reason given").decode("utf-8", "replace")
            self._library.MpErrorFree(message)
            raise RuntimeError(f"{name} answered {status}: {text.splitlines()[0]}")

    def __call__(
        self, image: npt.NDArray[np.uint8], milliseconds: int
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
        """Find the face.

        Parameters
        ----------
        image : ndarray of uint8, shape (H, W, 3)
            RGB, C-contiguous.
        milliseconds : int
            Time stamp; greater than at the call before.

        Returns
        -------
        tuple or None
            landmarks (478, 3) as parts of the picture (z on the scale of x), blendshape
            scores (52,) in the model's order, beginning with ``_neutral``, and the head
            matrix (4, 4); None without a face.

        Raises
        ------
        ValueError
            For any other array, and after `close`.
        """
        # The library would read other bytes as a picture, ends for good at an empty one, and the process with it
        # where there is no landmarker.
        check_picture(image)
        if not self._handle:
            raise ValueError("the landmarker is closed")
        height, width = image.shape[:2]
        picture = _HANDLE()
        result = LandmarkerResult()
        self._check(
            "MpImageCreateFromUint8Data",
            _IMAGE_SRGB,
            width,
            height,
            image.ctypes.data,
            image.size,
            ctypes.byref(picture),
        )
        try:
            # Networks announce themselves once, at their first run.
            with contextlib.nullcontext() if self._started else quiet_stderr():
                self._check(
                    "MpFaceLandmarkerDetectForVideo",
                    self._handle,
                    picture,
                    None,
                    milliseconds,
                    ctypes.byref(result),
                )
            self._started = True
            try:
                return _read(result)
            finally:
                self._library.MpFaceLandmarkerCloseResult(ctypes.byref(result))
        finally:
            self._library.MpImageFree(picture)

    def close(self) -> None:
        """Free the landmarker; closing twice is fine."""
        if self._handle:
            handle, self._handle = self._handle, _HANDLE()
            self._check("MpFaceLandmarkerClose", handle)


def _read(result: LandmarkerResult):
    if not (
        result.face_landmarks_count and result.face_blendshapes_count and result.facial_transformation_matrixes_count
    ):
        return None
    points = result.face_landmarks[0]
    scores = result.face_blendshapes[0]
    matrix = result.facial_transformation_matrixes[0]
    # A struct array seen as floats: x, y, z lead each landmark, score is second in each category.
    landmarks = np.ctypeslib.as_array(
        ctypes.cast(points.landmarks, ctypes.POINTER(ctypes.c_float)),
        shape=(points.landmarks_count, ctypes.sizeof(Landmark) // 4),
    )[:, :3].copy()
    blendshapes = np.ctypeslib.as_array(
        ctypes.cast(scores.categories, ctypes.POINTER(ctypes.c_float)),
        shape=(scores.categories_count, ctypes.sizeof(Category) // 4),
    )[:, 1].copy()
    # Column-major in the library.
    head = np.ctypeslib.as_array(matrix.data, shape=(matrix.cols, matrix.rows)).T.copy()
    return landmarks, blendshapes, head

"""The sound of a take: a WAV file beside it, whole at every moment of its making.

Sample 0 is the moment of the take's first frame, so that nothing else has to be known to
play both together.
"""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import MienError

SUFFIX = ".wav"

_HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
_WIDTH = 2
_LIMIT = 2**32 - 1 - _HEADER.size
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def sound_path(take: str | os.PathLike[str]) -> Path:
    """Return where the sound of a take is, if it has any."""
    return Path(take).with_suffix(SUFFIX)


class WavWriter:
    """Writes mono 16-bit PCM; the header is true after every write.

    So a process that is killed leaves a file that every player opens, with all that was
    written but perhaps the last block.

    Parameters
    ----------
    path : path-like
        The file; one that exists is written over.
    rate : int
        Samples per second.

    Attributes
    ----------
    samples : int
        Samples in the file.
    rate : int
        Can be changed at any time before `close`.

    Raises
    ------
    MienError
        ``"disk-full"`` or ``"sound-not-written"``, here and from every method. The file
        then holds every sample written before.
    """

    def __init__(self, path: str | os.PathLike[str], rate: int):
        self.path = Path(path)
        self.rate = rate
        self.samples = 0
        try:
            self._file = open(self.path, "wb", buffering=0)
        except OSError as error:
            raise self._error(error) from error
        try:
            self._put(0, self._header(0))
        except MienError:
            self._file.close()
            raise

    def write(self, samples: npt.NDArray[np.int16]) -> None:
        """Append samples."""
        self.rewrite(self.samples, samples)

    def rewrite(self, first: int, samples: npt.NDArray[np.int16]) -> None:
        """Put samples in place of everything from sample `first` on."""
        data = samples.astype("<i2", copy=False).tobytes()
        if first * _WIDTH + len(data) > _LIMIT:
            raise MienError(
                "sound-too-long",
                f"{self.path.name} has reached the 4 GB that a WAV file can hold.",
                "The take goes on without sound: end it, and record another one.",
            )
        self._put(_HEADER.size + first * _WIDTH, data)
        self.cut(first + len(samples))

    def cut(self, samples: int) -> None:
        """Have the file end after so many samples."""
        shorter = samples < self.samples
        self.samples = samples
        self._put(0, self._header(samples))
        if shorter:
            try:
                self._file.truncate(_HEADER.size + samples * _WIDTH)
            except OSError as error:
                raise self._error(error) from error

    def close(self) -> None:
        """Flush to the disk itself and close; safe to call twice."""
        if self._file.closed:
            return
        try:
            self._put(0, self._header(self.samples))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._error(error) from error
        finally:
            self._file.close()

    def _put(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        try:
            self._file.seek(offset)
            while view:
                # An unbuffered write may take only a part when the disk is nearly full.
                view = view[self._file.write(view) :]
        except OSError as error:
            raise self._error(error) from error

    def _header(self, samples: int) -> bytes:
        size = samples * _WIDTH
        form = (b"fmt ", 16, 1, 1, self.rate, self.rate * _WIDTH, _WIDTH, 8 * _WIDTH)
        return _HEADER.pack(b"RIFF", _HEADER.size - 8 + size, b"WAVE", *form, b"data", size)

    def _error(self, error: OSError) -> MienError:
        if error.errno in _FULL:
            return MienError(
                "disk-full",
                f"There is no room left to write the sound {self.path.name}.",
                "Free some space or choose another folder. The sound so far is kept.",
            )
        return MienError(
            "sound-not-written",
            f"The sound {self.path} cannot be written: {error.strerror or error}.",
            "Check that you may write in its folder. The sound so far is kept.",
        )

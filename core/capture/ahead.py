"""Decoding ahead of use."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

from ..types import Frame

_END = object()


def read_ahead(source: Iterable[Frame], depth: int = 3) -> Iterator[Frame]:
    """Yield the frames of `source`, decoded on a thread while the caller works on earlier ones.

    Decoding and the landmark model both release the interpreter, so they run side by side.
    For Mien's own processes; Blender's never decodes a picture. Close the generator to stop early.

    Parameters
    ----------
    source : iterable of Frame
        Used by the thread alone until the generator ends or is closed.
    depth : int
        How many frames wait decoded at most.

    Raises
    ------
    Exception
        Whatever `source` raised, after the frames before it.
    """
    frames: queue.Queue = queue.Queue(depth)
    stopping = threading.Event()

    def put(item) -> bool:
        while not stopping.is_set():
            try:
                frames.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def decode():
        try:
            for frame in source:
                if not put(frame):
                    return
            put(_END)
        except Exception as error:
            put(error)

    thread = threading.Thread(target=decode, name="mien-decode", daemon=True)
    thread.start()
    try:
        while (item := frames.get()) is not _END:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stopping.set()
        thread.join()

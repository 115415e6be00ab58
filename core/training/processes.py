"""Work spread over processes, each with a worker of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

_opened = contextlib.ExitStack()
"""What a process of `each` opened: kept as long as the process lives, or it would be closed at once."""
_work: Callable[[Any], Any]
"""In a process of `each`: what is called with a job."""


def each(
    make: Callable[[], AbstractContextManager[Callable[[Any], Any]]], jobs: Iterable[Any], processes: int
) -> Iterator[Any]:
    """Yield what a worker makes of each job, in the order of the jobs.

    Parameters
    ----------
    make : callable
        Opens a worker: called once here, or once in each process, for which it has to stand in a module.
    jobs : iterable
    processes : int
        How many; with 1 the work is done here.
    """
    if processes == 1:
        with make() as work:
            yield from map(work, jobs)
        return
    spawn = multiprocessing.get_context("spawn")
    # Not a Pool, which for a worker that fails to open tries another one for ever.
    with ProcessPoolExecutor(processes, spawn, _open, (make,)) as pool:
        yield from pool.map(_call, jobs)


def _open(make):
    global _work
    _work = _opened.enter_context(make())


def _call(job):
    return _work(job)

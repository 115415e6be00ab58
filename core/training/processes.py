"""Work spread over processes, each with a worker of its own."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

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
    with multiprocessing.get_context("spawn").Pool(processes, _open, (make,)) as pool:
        yield from pool.imap(_call, jobs)


def _open(make):
    global _work
    # Open as long as the process lives.
    _work = contextlib.ExitStack().enter_context(make())


def _call(job):
    return _work(job)

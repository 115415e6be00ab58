"""Work spread over processes."""

import contextlib
import os
from concurrent.futures.process import BrokenProcessPool

import pytest

from mien.core.training.processes import each


@contextlib.contextmanager
def counting():
    """Open a worker that tells its process, the job, and how many jobs it had."""
    done = []

    def work(job):
        if job is None:
            raise ValueError("no job")
        done.append(job)
        return os.getpid(), job, len(done)

    try:
        yield work
    finally:
        done = None  # a worker that was closed fails


@contextlib.contextmanager
def broken():
    """Fail to open."""
    raise ValueError("no worker")
    yield


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_from_workers_that_last(processes):
    pids, jobs, counts = zip(*each(counting, range(40), processes), strict=True)
    assert jobs == tuple(range(40))
    assert len(set(pids)) <= processes
    assert (os.getpid() in pids) == (processes == 1)
    assert sum(count == 1 for count in counts) == len(set(pids))


@pytest.mark.parametrize("processes", [1, 2])
def test_an_error_in_a_worker_is_told(processes):
    with pytest.raises(ValueError, match="no job"):
        list(each(counting, [1, None, 2], processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_worker_that_does_not_open_is_told(processes):
    with pytest.raises((ValueError, BrokenProcessPool)):
        list(each(broken, [1, 2], processes))

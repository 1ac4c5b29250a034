"""The life of this process: what has to be renewed in its forks, and what is still to be done at its end.

Source: https://docs.python.org/3/library/os.html#os.register_at_fork, https://docs.python.org/3/library/atexit.html
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable

__all__ = ["after_fork", "at_exit", "here"]

_here = object()

_registered: set[Callable[[], None]] = set()


def after_fork(renew: Callable[[], object]) -> None:
    """Has something of a module renewed in each fork: threads are not there, and a lock may be held by one of them."""
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=renew)


def here() -> object:
    """What stands for this process, and for none of its forks. Its number would do, but that is a system call."""
    return _here


def at_exit(end: Callable[[], None]) -> None:
    """Has something done, once, when this process ends, after all of its threads but those of daemons."""
    if end in _registered:
        return
    _registered.add(end)
    atexit.register(end)
    if "multiprocessing" in sys.modules:
        _at_exit_of_a_worker(end)


def _at_exit_of_a_worker(end: Callable[[], None]) -> None:
    """A child that ``multiprocessing`` has forked passes ``atexit`` over; that module has a list of its own."""
    from multiprocessing import parent_process
    from multiprocessing.util import Finalize

    if parent_process() is not None:
        Finalize(None, end, exitpriority=0)


def _forked() -> None:
    global _here
    _here = object()
    _registered.clear()


after_fork(_forked)

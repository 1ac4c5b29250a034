"""Ending futures at their deadline, whatever becomes of the connection that they wait for.

A connection's own thread cannot do that: it may pause before the next attempt to connect, or run somebody's callback.
So all deadlines of a process have one thread of their own, which starts with the first of them.

================ ==================== ======================= ===========
method           thread               may it block            lock
================ ==================== ======================= ===========
watch            any                  no                      ``_changed``
expire (callee)  that of deadlines    no: others would wait   none
================ ==================== ======================= ===========
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from rmqspec.client import process

__all__ = ["Deadlines", "deadlines"]

F = TypeVar("F", bound="Future[Any]")
_Entry = tuple[float, int, "weakref.ref[Future[Any]]", Callable[[Any], None]]  # when, and a number that breaks ties

FEW = 1_024  # futures that are kept without looking which of them have ended meanwhile

_log = logging.getLogger("rmqspec.client")


class Deadlines:
    """Expires futures that have not ended in time. Those that have are forgotten: most do, and none has to say so."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._heap: list[_Entry] = []
        self._numbers = itertools.count()
        self._enough = FEW
        self._thread: threading.Thread | None = None

    def watch(self, future: F, seconds: float, expire: Callable[[F], None]) -> None:
        """Has a future expired unless it has ended by then.

        Args:
            future: Kept weakly: one that nobody has any more does not expire.
            seconds: From now on.
            expire: Called with it in the thread of the deadlines. It must not wait.
        """
        entry: _Entry = (time.monotonic() + seconds, next(self._numbers), weakref.ref(future), expire)
        with self._changed:
            heapq.heappush(self._heap, entry)
            if len(self._heap) > self._enough:
                self._heap = [one for one in self._heap if _open(one[2])]
                heapq.heapify(self._heap)
                self._enough = max(FEW, 2 * len(self._heap))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._heap and self._heap[0] is entry:
                self._changed.notify()

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the thread of the deadlines, which must not wait for what it has to end."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        while True:
            future, expire = self._next()
            try:
                expire(future)
            except Exception:
                _log.exception("a deadline could not be kept: please report it")
            del future  # else it would be kept until the next one expires

    def _next(self) -> tuple[Future[Any], Callable[[Any], None]]:
        with self._changed:
            while True:
                if not self._heap:
                    self._changed.wait()
                elif (left := self._heap[0][0] - time.monotonic()) > 0:
                    self._changed.wait(min(left, threading.TIMEOUT_MAX))
                else:
                    _, _, reference, expire = heapq.heappop(self._heap)
                    future = reference()
                    if future is not None and not future.done():
                        return future, expire


def _open(reference: weakref.ref[Future[Any]]) -> bool:
    future = reference()
    return future is not None and not future.done()


_shared = Deadlines()


def deadlines() -> Deadlines:
    """Those of this process."""
    return _shared


def _renew() -> None:
    global _shared
    _shared = Deadlines()


process.after_fork(_renew)

"""Ending what has waited too long, whatever else stands still.

A loop's timers end with the loop, and do not run while something in its thread blocks. A promise with a deadline needs
a clock of its own: one thread, which sleeps until the next deadline of something that is still open.

==========  =======================  =========  ============================
method      thread                   may block  lock
==========  =======================  =========  ============================
``add``     any                      no         ``_guard``, briefly
``close``   any                      no         ``_guard``, briefly
``expire``  the deadlines'           no         none is held while it runs
==========  =======================  =========  ============================
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["Deadlines"]

_log = logging.getLogger("rmqspec.client")

SWEEP = 1_024  # entries from which on those that are over are taken out: they would stay until their deadlines


class _Open(Protocol):
    def done(self) -> bool: ...


T = TypeVar("T", bound=_Open)


class Deadlines(Generic[T]):
    """Calls ``expire`` with each thing that is not done at its deadline.

    Args:
        name: Of the thread.
        expire: Called in that thread, once for each; must not block, and ignores what has ended meanwhile.
    """

    def __init__(self, name: str, expire: Callable[[T], None]) -> None:
        self._name, self._expire = name, expire
        self._guard = threading.Lock()
        self._changed = threading.Condition(self._guard)
        self._heap: list[tuple[float, int, T]] = []
        self._numbers, self._sweep = itertools.count(), SWEEP
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, deadline: float, thing: T) -> None:
        """Takes one in.

        Args:
            deadline: When it expires, on the clock of ``time.monotonic``.
            thing: What.
        """
        with self._guard:
            if len(self._heap) >= self._sweep:
                self._heap = [entry for entry in self._heap if not entry[2].done()]
                heapq.heapify(self._heap)
                self._sweep = max(SWEEP, 2 * len(self._heap))
            entry = (deadline, next(self._numbers), thing)
            heapq.heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            elif self._heap[0] is entry:
                self._changed.notify()

    def close(self) -> None:
        """Ends the thread; nothing expires any more."""
        with self._changed:
            self._closed = True
            self._heap.clear()
            self._changed.notify()

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the thread that keeps the deadlines, as a callback of an expired call is."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def _run(self) -> None:
        while (due := self._wait()) is not None:
            try:
                self._expire(due)
            except BaseException:  # a defect of ours: the others have deadlines too
                _log.exception("a deadline could not be kept: please report it")
            del due  # else it would be kept until the next one expires

    def _wait(self) -> T | None:
        """The next that is due, or None at the end."""
        with self._changed:
            while not self._closed:
                while self._heap and self._heap[0][2].done():
                    heapq.heappop(self._heap)
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is not None and left <= 0:
                    return heapq.heappop(self._heap)[2]
                self._changed.wait(left)
        return None

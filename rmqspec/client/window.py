"""How much may be unanswered: the bound between a fast caller and a slow broker.

Without one, a broker that is slow or blocked fills the publisher's memory instead of slowing its caller down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["Window"]


class Window:
    """Counts messages and bytes; whoever would exceed a bound waits.

    Args:
        count: So many messages at most.
        size: So many bytes at most; a single message may be larger.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count_limit, self._size_limit = count, size
        self._count = self._size = self._waiting = 0
        self._changed = threading.Condition(threading.Lock())

    def enter(self, size: int, timeout: float) -> bool:
        """Takes a place, or returns False when none was free for so many seconds."""
        with self._changed:
            if not self._has_room(size) and not (timeout and self._wait(lambda: self._has_room(size), timeout)):
                return False
            self._count += 1
            self._size += size
            return True

    def leave(self, count: int, size: int) -> None:
        """Gives so many places back."""
        with self._changed:
            self._count -= count
            self._size -= size
            if self._waiting:
                self._changed.notify_all()

    def empty(self, timeout: float | None) -> bool:
        """Waits until nothing is unanswered, or returns False after so many seconds."""
        with self._changed:
            return not self._count or self._wait(lambda: not self._count, timeout)

    @property
    def count(self) -> int:
        """How many are unanswered now."""
        return self._count

    def _has_room(self, size: int) -> bool:
        return not self._count or (self._count < self._count_limit and self._size + size <= self._size_limit)

    def _wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        self._waiting += 1
        try:
            return self._changed.wait_for(condition, timeout)
        finally:
            self._waiting -= 1

"""How much may be unanswered: the bound between a fast caller and a slow broker.

Without one, a broker that is slow or blocked fills the publisher's memory instead of slowing its caller down.

Places are given in the order of asking: small messages do not overtake a large one that waits for more room.

Who calls what; each method holds ``_guard`` for as long as it takes, and runs no callback with it:

=============== ===================== ==========================================
method          thread                may it block
=============== ===================== ==========================================
enter           any                   until there is room, or ``timeout`` is over
enter_again     the link's, callback  never
returning       the link's            never
leave           the link's, or any    never
empty           any                   until nothing is left, or ``timeout`` is over
=============== ===================== ==========================================

A signal's exception, as KeyboardInterrupt, may end ``enter`` after the place was taken and before its caller knows. So
the place is noted on a ticket in the same step: there is no call between the two, and Python looks at signals in calls.
"""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Ticket", "Window"]


class Ticket:
    """Who asks for a place.

    Attributes:
        placed: Whether a place was taken for it.
    """

    placed = False


NOBODY = Ticket()


class _Waiting:
    """Somebody who waits for a place."""

    __slots__ = ("admitted", "size", "ticket", "woken")

    def __init__(self, size: int, ticket: Ticket) -> None:
        self.size, self.ticket, self.admitted = size, ticket, False
        self.woken = threading.Lock()
        self.woken.acquire()


class Window:
    """Counts messages and bytes; who would exceed a bound waits.

    Args:
        count: So many messages at most.
        size: So many bytes at most; a single message may be larger.
    """

    def __init__(self, count: int, size: int) -> None:
        self._count_limit, self._size_limit = count, size
        self._count = self._size = 0
        self._returned_count = self._returned_size = 0  # places whose callbacks run; they may be taken by these alone
        self._queue: deque[_Waiting] = deque()
        self._flushing = 0
        self._guard = threading.Lock()
        self._emptied = threading.Condition(self._guard)

    def enter(self, size: int, timeout: float, ticket: Ticket = NOBODY) -> bool:
        """Takes a place, or returns False when none was free for so many seconds."""
        with self._guard:
            count, held = self._count, self._size + size
            if not self._queue and (not count or (count < self._count_limit and held <= self._size_limit)):
                self._count, self._size = count + 1, held
                ticket.placed = True
                return True
            if not timeout:
                return False
            waiting = _Waiting(size, ticket)
            self._queue.append(waiting)
        try:
            waiting.woken.acquire(timeout=timeout)
        except BaseException:  # a signal's exception, as KeyboardInterrupt: the place is not taken by anybody
            with self._guard:
                self._withdraw(waiting)
            raise
        with self._guard:
            if not waiting.admitted:
                self._queue.remove(waiting)
                self._admit()  # behind a large message that gives up, a small one may find room
            return waiting.admitted

    def enter_again(self, size: int, ticket: Ticket = NOBODY) -> bool:
        """Takes a place from a callback, before all who wait; the one of the message that has ended is free for it."""
        with self._guard:
            count, held = self._count - self._returned_count, self._size - self._returned_size
            if count and (count >= self._count_limit or held + size > self._size_limit):
                return False
            self._count += 1
            self._size += size
            ticket.placed = True
            return True

    def returning(self, count: int, size: int) -> None:
        """So many places are about to be given back: the callbacks that come now may take them again."""
        with self._guard:
            self._returned_count += count
            self._returned_size += size

    def leave(self, count: int, size: int, *, returned: bool = False) -> None:
        """Gives so many places back.

        Args:
            count: Messages.
            size: Their bytes.
            returned: Whether they were announced by ``returning``.
        """
        with self._guard:
            self._count -= count
            self._size -= size
            if returned:
                self._returned_count -= count
                self._returned_size -= size
            if self._queue:
                self._admit()
            if self._flushing and not self._count:
                self._emptied.notify_all()

    def empty(self, timeout: float | None) -> bool:
        """Waits until nothing is unanswered, or returns False after so many seconds."""
        with self._guard:
            self._flushing += 1
            try:
                return self._emptied.wait_for(lambda: not self._count, timeout)
            finally:
                self._flushing -= 1

    @property
    def count(self) -> int:
        """How many are unanswered now."""
        return self._count

    def _has_room(self, size: int) -> bool:
        return not self._count or (self._count < self._count_limit and self._size + size <= self._size_limit)

    def _admit(self) -> None:
        while self._queue and self._has_room(self._queue[0].size):
            waiting = self._queue.popleft()
            self._count += 1
            self._size += waiting.size
            waiting.admitted = waiting.ticket.placed = True
            waiting.woken.release()

    def _withdraw(self, waiting: _Waiting) -> None:
        if waiting.admitted:
            self._count -= 1
            self._size -= waiting.size
            waiting.ticket.placed = False
        else:
            self._queue.remove(waiting)
        self._admit()

"""What callers of any thread hand over to the thread of a link."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from rmqspec.client.errors import ClientError

__all__ = ["Outbox"]

T = TypeVar("T")


class Outbox(Generic[T]):
    """Keeps what is handed over, in order, until the link's thread takes it; wakes that thread once for many.

    Args:
        wake: Has what is here taken soon; false where there is no connection now.
    """

    def __init__(self, wake: Callable[[], bool]) -> None:
        self._wake = wake
        self._guard = threading.Lock()
        self._items: deque[T] = deque()
        self._woken = False
        self.ended: ClientError | None = None

    def put(self, item: T, *, wake: bool = True) -> bool:
        """Hands one over. False if there is no connection now: it waits for the next.

        Args:
            item: What.
            wake: False if it can wait for others.

        Raises:
            ClientError: What this outbox has ended with.
        """
        with self._guard:
            if self.ended:
                raise self.ended
            self._items.append(item)
            if self._woken or not wake:
                return True
            self._woken = True
        # Outside of the guard: the link's thread may be about to take what is here.
        if self._wake():
            return True
        self._woken = False
        return False

    def __len__(self) -> int:
        return len(self._items)

    def take(self) -> deque[T]:
        """All that was handed over; from now on who puts wakes again."""
        with self._guard:
            self._woken = False
            items, self._items = self._items, deque()
            return items

    def rest(self) -> None:
        """Nothing can be taken now; what is here waits. From now on who puts wakes again."""
        self._woken = False

    def put_back(self, items: Iterable[T]) -> None:
        """Before all that is here, in this order: what was taken and is to be taken again."""
        with self._guard:
            self._items.extendleft(reversed(list(items)))

    def end(self, error: ClientError) -> None:
        """Takes no more: whoever puts hears this error, or an earlier one."""
        with self._guard:
            self.ended = self.ended or error

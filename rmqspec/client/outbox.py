"""What callers of any thread hand over to the thread of a link.

Which thread calls what, whether it may block, and under which lock:

==============  ===========  =========  ====================
method          thread       may block  lock
==============  ===========  =========  ====================
``put``         any          no         ``_guard``, briefly
``end``         any          no         ``_guard``, briefly
``take``        any          no         ``_guard``, briefly
``take_first``  any          no         ``_guard``, briefly
``put_back``    the link's   no         ``_guard``, briefly
``remove``      any          no         ``_guard``, briefly
``in``          any          no         ``_guard``, briefly
``len``         any          no         none
==============  ===========  =========  ====================

Whether somebody has been woken is not known here: that is the link's to know, which alone knows when its loop ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from rmqspec.client.errors import ClientError, again

__all__ = ["Outbox"]

T = TypeVar("T")


class Outbox(Generic[T]):
    """Keeps what is handed over, in order, until it is taken.

    Invariant: after ``put`` has returned, the item is in here or was taken, and if it was put with ``wake`` then the
    tenant's ``on_work`` begins at least once more.

    Args:
        wake: Has the tenant's ``on_work`` called soon: ``Link.wake``.

    Attributes:
        ended: What this outbox has ended with.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._guard = threading.Lock()
        self._items: deque[T] = deque()
        self.ended: ClientError | None = None

    def put(self, item: T, *, wake: bool = True) -> None:
        """Hands one over.

        Args:
            item: What.
            wake: False if it can wait for others.

        Raises:
            ClientError: What this outbox has ended with.
        """
        with self._guard:
            if self.ended:
                raise again(self.ended)
            self._items.append(item)
        if wake:
            self._wake()

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, item: T) -> bool:
        with self._guard:
            return item in self._items

    def take(self) -> deque[T]:
        """All that was handed over."""
        with self._guard:
            items, self._items = self._items, deque()
            return items

    def take_first(self) -> T | None:
        """The oldest that was handed over, or None."""
        with self._guard:
            return self._items.popleft() if self._items else None

    def remove(self, item: T) -> bool:
        """Takes one back; false if it is not here any more: it was taken, or is about to be."""
        with self._guard:
            try:
                self._items.remove(item)
            except ValueError:
                return False
            return True

    def put_back(self, items: Iterable[T]) -> None:
        """Before all that is here, in this order: what was taken and is to be taken again."""
        with self._guard:
            self._items.extendleft(reversed(list(items)))

    def end(self, error: ClientError) -> None:
        """Takes no more: whoever puts hears this error, or an earlier one."""
        with self._guard:
            self.ended = self.ended or error

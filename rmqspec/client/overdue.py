"""Noticing that an answer does not come, at no cost for those that do."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rmqspec.client.connection import Loop

__all__ = ["Overdue"]

TICKS = 4  # looks within the time; so who is overdue is told so after at most a quarter more


class Overdue:
    """Looks from time to time which delivery tags are still without an answer.

    Args:
        timeout: Seconds that an answer may take; None is for ever.
        expire: Ends what has a lower tag than this one and no answer; false if nothing waits any more.

    Attributes:
        timeout: The same seconds.
    """

    def __init__(self, timeout: float | None, expire: Callable[[int], bool]) -> None:
        self.timeout, self._expire = timeout, expire
        self._round: object | None = None  # the next look; one that has been forgotten comes all the same, and ends
        self._next_tags: deque[int] = deque(maxlen=TICKS)

    def watch(self, loop: Loop, next_tag: Callable[[], int]) -> None:
        """Looks until nothing waits any more, unless it does already.

        Args:
            loop: Where the time is taken.
            next_tag: Tells which tag the next message will have.
        """
        if self._round is None and self.timeout is not None:
            self._next_tags.append(next_tag())
            self._round = one = object()
            loop.ioloop.call_later(self.timeout / TICKS, lambda: self._look(one, loop, next_tag))

    def restart(self) -> None:
        """All that waits has its whole time again: the broker has said that it cannot answer."""
        self._next_tags.clear()

    def forget(self) -> None:
        """Nothing waits any more; the loop may have ended, or go on with another channel."""
        self._next_tags.clear()
        self._round = None

    def _look(self, one: object, loop: Loop, next_tag: Callable[[], int]) -> None:
        if one is not self._round:
            return
        self._round = None
        limit = self._next_tags[0] if len(self._next_tags) == TICKS else 0
        if self._expire(limit):
            self.watch(loop, next_tag)
        else:
            self._next_tags.clear()

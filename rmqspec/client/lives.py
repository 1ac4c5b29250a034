"""How the last connections and channels have fared: how long to pause before the next one, and when to give up.

What ends after it was of some use is opened again at once. What ends right after it was opened, and has brought
nothing, would probably do so again, hundreds of times a second: a message that its reader cannot bear, a limit of the
broker's, a proxy with nothing behind it. So pauses grow; they are random, as a thousand clients of one broker must not
come back at once. All of it is touched by the link's thread alone.
"""

from __future__ import annotations

import random
import time

__all__ = ["Lives"]

FIRST_PAUSE = 0.05  # seconds at most after the first failure; twice as long after the second
SHORT_LIFE = 1.0  # seconds: what has lived no longer and brought nothing did not help
SHORT_LIVES = 10  # so many connections in a row, over at least SHORT_SPAN, and the next would not help either
SHORT_SPAN = 30.0  # seconds; a broker that restarts, or a network that flickers, is well again before


class Lives:
    """Counts failures in a row.

    Args:
        longest_pause: Seconds.
    """

    def __init__(self, longest_pause: float) -> None:
        self._longest_pause = longest_pause
        self._failures = self._channel_failures = self._short = 0
        self._useful = False
        self._connected_at: float | None = None
        self._channel_at = self._first_short = 0.0

    def attempt_begins(self) -> None:
        """Somebody connects."""
        self._useful, self._connected_at = False, None

    def attempt_failed(self) -> None:
        """Nobody was let in."""
        self._failures += 1

    def channel_opens(self) -> None:
        """A channel is open; with the first one the connection's life begins."""
        self._channel_at = time.monotonic()
        if self._connected_at is None:
            self._connected_at = self._channel_at

    def was_useful(self) -> None:
        """It has brought what it was opened for."""
        if not self._useful:
            self._useful = True
            self._failures = self._channel_failures = self._short = 0

    def channel_ends(self) -> float:
        """The seconds to pause before another channel of the same connection."""
        helped = self._useful or time.monotonic() - self._channel_at >= SHORT_LIFE
        self._channel_failures = 0 if helped else self._channel_failures + 1
        self._useful = False
        return self._pause(self._channel_failures)

    def connection_ends(self, *, forced: bool = False) -> float | None:
        """The seconds for which connections have ended right after they were opened, if it is time to give up.

        Args:
            forced: The broker has said that an operator ends it, or that it shuts down (320). That is no sign that the
                next connection would end too: the pause grows, and nobody gives up for it.
        """
        now = time.monotonic()
        if forced:
            self._failures += 1
            return None
        if self._useful or (self._connected_at is not None and now - self._connected_at >= SHORT_LIFE):
            self._failures = self._short = 0
            return None
        self._failures += 1
        self._first_short = self._first_short if self._short else now
        self._short += 1
        span = now - self._first_short
        return span if self._short >= SHORT_LIVES and span >= SHORT_SPAN else None

    @property
    def short(self) -> int:
        """How many connections in a row have ended right after they were opened."""
        return self._short

    @property
    def pause(self) -> float:
        """The seconds to pause before the next attempt: none after a connection that was of use."""
        return self._pause(self._failures)

    def _pause(self, failures: int) -> float:
        if not failures:
            return 0.0
        longest = min(self._longest_pause, FIRST_PAUSE * 2.0 ** min(failures - 1, 32))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - nobody gains by guessing it

"""One direction of one connection: bytes come in, and go out late, slowly, changed, or not at all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum

from rmqspec.tools.wire.harm import Harm

__all__ = ["Direction", "Pump", "Tap"]

KEPT = 256 * 1024  # bytes that may wait in here; beyond that their sender is not read

Tap = Callable[[bytes], bytes]
"""Sees all bytes of one direction of one connection, and returns those that go on instead, or ``b""`` to keep them for
the time being. The end is one more call with ``b""``, which returns what was kept. It runs in the proxy's thread."""


class Direction(Enum):
    """Whose bytes."""

    FROM_CLIENT = "from the client"
    FROM_BROKER = "from the broker"


class Pump:
    """Carries what one side sends to the other, in order.

    Args:
        loop: The proxy's.
        harm: What is wrong with the line.
        tap: Who looks at the bytes; without one they pass unseen.
        on_budget: Called when the budget is used up.
        on_end: Called when the source has said its last and it is handed over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        harm: Harm,
        tap: Tap | None,
        on_budget: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop, self._harm, self._tap = loop, harm, tap
        self._on_budget, self._on_end = on_budget, on_end
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.budget: int | None = None  # bytes that may still pass
        self.ended = self.done = False
        self._sink_full = False
        self._waiting: deque[tuple[float, bytes]] = deque()  # with the loop's time at which they are due
        self._size = 0
        self._end = 0.0  # when the source has ended
        self._free = 0.0  # when a throttled line is free again
        self._timer: asyncio.TimerHandle | None = None

    def take(self, data: bytes) -> None:
        """Bytes from the source."""
        if self.done:  # nobody is left to get them
            return
        if self._tap and not (data := self._tap(data)):
            return
        self._pass(data)

    def inject(self, data: bytes) -> None:
        """Bytes that the source has not sent, behind those that it has."""
        if not self.ended and self.sink is not None:
            self._pass(data)

    def _pass(self, data: bytes) -> None:
        # Before the other side is connected, too: a pause in connection_made is not kept by asyncio of Python 3.11.2.
        if self.sink is not None and not (self._waiting or self._harm.slows):
            self._write(data)
            return
        self._waiting.append((self._loop.time() + self._harm.delay, data))
        self._size += len(data)
        self.settle()

    def end(self) -> None:
        """The source sends no more, or is gone; what waits still goes out before the sink hears of it."""
        if self.ended:
            return
        if self._tap and (rest := self._tap(b"")):
            self._pass(rest)
        self.ended, self._end = True, self._loop.time()
        self.settle()

    def fill(self, *, full: bool) -> None:
        """The sink has all that it can take for now, or takes more again."""
        self._sink_full = full
        self._throttle_source()

    def settle(self) -> None:
        """Does what can be done now: after a change of the harm, of a side, or of the time."""
        self._pour()
        self._throttle_source()
        if self.ended and not self._waiting and self.sink is not None and not self.done:
            due = self._end + self._harm.linger
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self.settle)
                return
            self.done = True
            self._on_end()

    def stop(self) -> None:
        """Carries nothing any more."""
        self.ended = self.done = True
        self._waiting.clear()
        self._disarm()

    def _throttle_source(self) -> None:
        # A source that has ended must not be resumed: asyncio would tell its end again.
        if self.source is None or self.ended:
            return
        if self.sink is None or self._sink_full or self._size > KEPT or self._harm.silent:
            self.source.pause_reading()
        else:
            self.source.resume_reading()

    def _pour(self) -> None:
        self._disarm()
        while self._waiting and self.sink is not None and not self._harm.silent:
            due, data = self._waiting[0]
            at = max(due if self._harm.delay else 0.0, self._free if self._harm.rate else 0.0)
            if at > self._loop.time():
                self._timer = self._loop.call_at(at, self.settle)
                return
            self._pour_some(due, data)

    def _pour_some(self, due: float, data: bytes) -> None:
        part = data[: self._harm.slice]
        if self._harm.rate:
            self._free = max(self._free, self._loop.time()) + len(part) / self._harm.rate
        self._waiting.popleft()
        if len(part) < len(data):
            self._waiting.appendleft((due, data[len(part) :]))
        self._size -= len(part)
        self._write(part)

    def _write(self, data: bytes) -> None:
        assert self.sink is not None
        if self.budget is None:
            self.sink.write(data)
            return
        part = data[: self.budget]
        self.budget -= len(part)
        self.sink.write(part)
        if not self.budget:
            self._on_budget()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

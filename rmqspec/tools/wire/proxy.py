"""A proxy on loopback, between a client and a broker, that harms the connections on request.

Whoever wants to see a client survive a bad network needs one that is bad on demand, at an exact moment, without root.
This one passes bytes on and knows nothing of them, so TLS goes through it as well. It is one event loop in one thread.

Source: https://www.rabbitmq.com/docs/reliability#detecting-failures
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from rmqspec.tools.wire.harm import Harm
from rmqspec.tools.wire.pair import Pair, Side
from rmqspec.tools.wire.pump import Direction, Tap

__all__ = ["Proxy"]

T = TypeVar("T")

LOOPBACK = "127.0.0.1"


class Line(Protocol):
    """Listens to one connection."""

    def tap(self, direction: Direction) -> Tap:
        """What sees the bytes of one direction."""


class Proxy:
    """Listens on a port of its own, and connects each client that comes there to the broker.

    Everything may be called from any thread, and is in force when the call returns. Harms add up until ``heal``. A
    client that comes while the broker is down gets its connection closed. One side's goodbye is passed on to the other
    after its last bytes. A side that does not read is waited for: not more than some 256 KiB are kept for it.

    Args:
        host: The broker's.
        port: The broker's.
        listen_port: Where to listen on 127.0.0.1; 0 is any free port.

    Raises:
        OSError: The port is taken.

    Attributes:
        port: Where it listens.
        taps: Asked for the tap of each direction of each new connection, which is numbered from 1; None is without.
    """

    def __init__(self, host: str, port: int, *, listen_port: int = 0) -> None:
        self._address, self._harm = (host, port), Harm()
        self._pairs: dict[int, Pair] = {}  # by their numbers
        self._count, self._closed, self._guard = 0, False, threading.Lock()
        self.taps: Callable[[int, Direction], Tap | None] | None = None
        self._loop = asyncio.new_event_loop()
        try:
            listening = self._loop.create_server(self._accept, LOOPBACK, listen_port)
            self._server = self._loop.run_until_complete(listening)
        except OSError as error:
            self._loop.close()
            words = f"the proxy cannot listen on {LOOPBACK}:{listen_port} ({error.strerror}): choose another port, or 0"
            raise OSError(error.errno, words) from error
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {self.port}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def url(self, url: str) -> str:
        """The same URL through the proxy; scheme, user, vhost and query stay. It holds the password: never print it."""
        scheme, _, rest = url.partition("://")
        end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
        login, mark, _ = rest[:end].rpartition("@")
        return f"{scheme}://{login}{mark}{LOOPBACK}:{self.port}{rest[end:]}"

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._pairs)

    def cut(self) -> int:
        """Resets both sides of every open connection, without a goodbye. Returns how many there were."""
        return self._do(self._cut)

    def half_open(self) -> None:
        """Goes silent: sockets stay open, nothing passes in either direction, a goodbye neither.

        What is sent meanwhile is kept, first in the system's buffers, then by the sender, and passes after ``heal``, as
        TCP has it when a network comes back. New connections are accepted, and reach the broker after ``heal``.
        """
        self._change(silent=True)

    def delay(self, seconds: float) -> None:
        """Makes each chunk late by so many seconds, in each direction; the order stays.

        Raises:
            ValueError: It is negative.
        """
        if seconds < 0:
            raise ValueError(f"a delay of {seconds:g} s is in the past: give 0 or more")
        self._change(delay=seconds)

    def throttle(self, bytes_per_second: float) -> None:
        """Lets so many bytes per second pass, in each direction of each connection.

        Raises:
            ValueError: It is not positive.
        """
        if bytes_per_second <= 0:
            raise ValueError(f"at {bytes_per_second:g} bytes per second nothing passes: half_open() does that")
        self._change(rate=bytes_per_second)

    def drop_after(self, size: int) -> None:
        """Cuts each connection after so many bytes from the broker, counted from now or from its beginning.

        The client gets exactly these bytes and then the end, mostly in the middle of a frame.

        Raises:
            ValueError: It is not positive.
        """
        if size <= 0:
            raise ValueError(f"after {size} bytes there is nothing left to pass: cut() does that")
        self._change(budget=size)

    def linger(self, seconds: float) -> None:
        """Tells each side so many seconds late that the other has gone; what it said before is in time.

        Raises:
            ValueError: It is negative.
        """
        if seconds < 0:
            raise ValueError(f"an end {seconds:g} s from now is in the past: give 0 or more")
        self._change(linger=seconds)

    def accept_no_connections(self) -> None:
        """Closes new connections at once; open ones stay."""
        self._change(refusing=True)

    def watch(self, line: Callable[[int], Line]) -> None:
        """Has somebody listen to both directions of each connection that comes from now on: ``line(number)``."""
        halves: dict[int, Line] = {}  # connections of which one direction has its tap

        def tap(number: int, direction: Direction) -> Tap:
            one = halves.pop(number, None)
            if one is None:
                one = halves[number] = line(number)
            return one.tap(direction)

        self.taps = tap

    def inject(self, number: int, direction: Direction, data: bytes) -> None:
        """Says something on a connection as if one of its sides had; past its tap. Of one that is over it does nothing.

        Args:
            number: The connection's, as ``taps`` was told it.
            direction: Who is to have said it.
            data: Whole frames, if the tap passes on nothing but whole frames.
        """
        self._do(lambda: self._inject(number, direction, data))

    def call_later(self, seconds: float, work: Callable[[], object]) -> None:
        """Has work done in the proxy's thread, so many seconds from now; for taps. Once closed, it does nothing."""
        self._loop.call_later(seconds, work)

    def heal(self) -> None:
        """Undoes ``delay``, ``throttle``, ``half_open``, ``linger``, ``accept_no_connections`` and ``drop_after``.

        What waited passes.
        """
        self._change(delay=0.0, rate=0.0, silent=False, linger=0.0, refusing=False, budget=None)

    def close(self) -> None:
        """Resets what is open, and ends the listener and the thread. More than once does no harm."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)  # behind the calls that close the sockets
        self._thread.join()
        self._loop.close()

    def _accept(self) -> Side:
        self._count += 1
        number, taps = self._count, self.taps
        pair = Pair(
            self._loop,
            self._address,
            self._harm,
            lambda direction: taps(number, direction) if taps else None,
            lambda: self._pairs.pop(number, None),
        )
        self._pairs[number] = pair
        return pair.client

    def _change(self, **harms: Any) -> None:
        self._do(lambda: self._set(harms))

    def _set(self, harms: dict[str, Any]) -> None:
        for name, value in harms.items():
            setattr(self._harm, name, value)
        for pair in list(self._pairs.values()):
            if "budget" in harms:
                pair.down.budget = harms["budget"]
            pair.settle()

    def _inject(self, number: int, direction: Direction, data: bytes) -> None:
        if pair := self._pairs.get(number):
            pair.inject(direction, data)

    def _cut(self) -> int:
        pairs = list(self._pairs.values())
        for pair in pairs:
            pair.cut()
        return len(pairs)

    def _do(self, work: Callable[[], T]) -> T:
        """Has work done in the proxy's thread, and waits for it."""
        if threading.current_thread() is self._thread:  # a tap
            return work()

        async def call() -> T:
            return work()

        with self._guard:
            if self._closed:
                raise RuntimeError("the proxy has been closed: make another")
            return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        self._harm.refusing = True  # who was accepted a moment ago, and has not been seen yet
        self._cut()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*others, return_exceptions=True)
        self._cut()

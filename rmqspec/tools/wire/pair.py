"""One connection through the proxy: a client's socket, one to the broker, and a pump for each direction."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import cast

from rmqspec.tools.wire.harm import Harm
from rmqspec.tools.wire.pump import Direction, Pump, Tap

__all__ = ["Pair"]

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds


class Side(asyncio.Protocol):
    """What asyncio tells of one of the two sockets.

    Args:
        outward: Carries what this side sends.
        inward: Carries what it is sent.
        on_made: Called when it is connected.
        on_lost: Called when it is closed.
    """

    def __init__(
        self,
        outward: Pump,
        inward: Pump,
        on_made: Callable[[asyncio.Transport], None],
        on_lost: Callable[[Side], None],
    ) -> None:
        self.outward, self.inward, self._on_made, self._on_lost = outward, inward, on_made, on_lost
        self.data_received = outward.take  # type: ignore[method-assign]  # one call less for each chunk

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.outward.source = self.inward.sink = cast("asyncio.Transport", transport)
        self._on_made(self.outward.source)

    def eof_received(self) -> bool:
        self.outward.end()
        return True  # it is still to be written to: what closes it is the end of the other direction

    def pause_writing(self) -> None:
        self.inward.fill(full=True)

    def resume_writing(self) -> None:
        self.inward.fill(full=False)

    def connection_lost(self, _: Exception | None) -> None:
        self._on_lost(self)


class Pair:
    """Accepts a client, connects to the broker, and carries bytes until both have said their last.

    Args:
        loop: The proxy's.
        address: The broker's.
        harm: What is wrong with the line.
        tap: The tap of each direction, if any.
        on_over: Called once, when the pair is over.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: tuple[str, int],
        harm: Harm,
        tap: Callable[[Direction], Tap | None],
        on_over: Callable[[], object],
    ) -> None:
        self._loop, self._address, self._harm, self._on_over = loop, address, harm, on_over
        self._up = Pump(loop, harm, tap(Direction.FROM_CLIENT), self._break_off, self._on_end)
        self.down = Pump(loop, harm, tap(Direction.FROM_BROKER), self._break_off, self._on_end)
        self.down.budget = harm.budget
        self.client = Side(self._up, self.down, self._on_client, self._on_side_lost)
        self.broker = Side(self.down, self._up, self._on_broker, self._on_side_lost)
        self._connecting: asyncio.Task[None] | None = None

    def settle(self) -> None:
        """Does what the harm allows now; a client that came while the line was silent is connected after that."""
        for pump in self._pumps:
            pump.settle()
        if self._connecting is None and self._up.source is not None and not self._harm.silent:
            self._connecting = self._loop.create_task(self._connect())

    def cut(self) -> None:
        """Resets both sides now, as a network device does that has lost its memory; what waits is dropped."""
        self._stop()
        for transport in self._transports:
            _reset(transport)

    def inject(self, direction: Direction, data: bytes) -> None:
        """Passes on what nobody has said."""
        (self._up if direction is Direction.FROM_CLIENT else self.down).inject(data)

    @property
    def _pumps(self) -> tuple[Pump, Pump]:
        return self._up, self.down

    @property
    def _transports(self) -> list[asyncio.Transport]:
        return [pump.source for pump in self._pumps if pump.source is not None]

    def _on_client(self, _: asyncio.Transport) -> None:
        if self._harm.refusing:
            self.cut()
        else:
            self.settle()

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: self.broker, *self._address)
        except OSError:  # the broker is down: its client hears it as it would from a port without a listener behind it
            self.cut()

    def _on_broker(self, transport: asyncio.Transport) -> None:
        if self._up.done:  # cut meanwhile
            _reset(transport)
        else:
            self.settle()

    def _on_end(self) -> None:
        """One direction has come to its end; with both the pair is over."""
        if all(pump.done for pump in self._pumps):
            self._close()
            return
        for pump in self._pumps:
            if pump.done and pump.sink is not None and not pump.sink.is_closing():
                pump.sink.write_eof()

    def _on_side_lost(self, side: Side) -> None:
        """One side is gone without a goodbye: the other gets what was meant for it, and is closed."""
        side.inward.stop()
        side.outward.end()
        self._on_end()

    def _break_off(self) -> None:
        """The budget is used up: the client gets what it was given until now, and the end."""
        self._stop()
        assert self.down.source is not None
        assert self.down.sink is not None
        _reset(self.down.source)
        self.down.sink.close()

    def _close(self) -> None:
        self._stop()
        for transport in self._transports:
            transport.close()

    def _stop(self) -> None:
        for pump in self._pumps:
            pump.stop()
        if self._connecting is not None:
            self._connecting.cancel()
        self._on_over()


def _reset(transport: asyncio.Transport) -> None:
    link = transport.get_extra_info("socket")
    if link.fileno() >= 0:  # not closed already
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    transport.abort()

"""Lets come late whatever may: what is said on one channel against what is said elsewhere, and the end of a connection.

AMQP keeps the order of a channel, and no other. What was published or acknowledged on one channel may arrive behind a
question that was asked later on another, or by another client. On an idle machine it hardly ever does, and a program
that counts on an order that nobody has promised fails once in a thousand runs. Behind this it fails in each.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 4.7
"""

from __future__ import annotations

from functools import partial

from pika import spec

from rmqspec.tools.wire.proxy import Proxy
from rmqspec.tools.wire.pump import Direction, Tap
from rmqspec.tools.wire.said import Said, Sayings

__all__ = ["Late"]

# What nobody waits for. All else is a question or its answer, and brings what was said before it on its channel.
UNAWAITED = {
    Direction.FROM_CLIENT: {"basic.publish", "basic.ack", "basic.nack", "basic.reject", "basic.recover-async"},
    Direction.FROM_BROKER: {"basic.deliver", "basic.return", "basic.ack", "basic.nack", "basic.cancel"},
}


class Late:
    """Stands in a proxy. What a channel says unasked waits there until it says something that is waited for.

    What RabbitMQ itself does now and then, it does always here, too: it says that a channel is closed before all that
    was fetched on it (``basic.get``) is back in its queue.

    Args:
        seconds: How long something waits at most. The end of a connection is always so late.

    Raises:
        ValueError: Not more than 0 seconds.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"in {seconds:g} s nothing comes late: give more than 0, such as 0.05")
        self._seconds = seconds

    def stand_in(self, proxy: Proxy) -> None:
        """Holds for connections that come from now on."""
        proxy.linger(self._seconds)
        proxy.watch(lambda number: _Line(self._seconds, proxy, number))


class _Line:
    """One connection."""

    def __init__(self, seconds: float, proxy: Proxy, number: int) -> None:
        self._seconds, self._proxy, self._number = seconds, proxy, number
        self._held: dict[Direction, dict[int, list[bytes]]] = {direction: {} for direction in Direction}
        self._fetched: set[int] = set()  # channels with messages that nobody has sent them
        self._closing: dict[int, list[bytes]] = {}  # channels that the client holds for closed, and what it says there

    def tap(self, direction: Direction) -> Tap:
        sayings = Sayings(by_broker=direction is Direction.FROM_BROKER)

        def hear(data: bytes) -> bytes:
            passed = [self._pass(said, direction) for said in sayings.feed(data)]
            return b"".join(passed if data else [self._all(direction), *passed])

        return hear

    def _pass(self, said: Said | bytes, direction: Direction) -> bytes:
        if isinstance(said, bytes):
            return said
        raw = said.raw or b""
        if self._keeps(said, raw, direction):
            return b""
        if said.name in UNAWAITED[direction]:
            self._hold(said.channel, raw, direction)
            return b""
        before = self._release(said.channel, direction) if said.channel else self._all(direction)
        return before + raw

    def _keeps(self, said: Said, raw: bytes, direction: Direction) -> bool:
        """Whether it has to do with a channel whose end is told early."""
        if direction is Direction.FROM_BROKER:
            if said.name != "channel.close-ok" or said.channel not in self._closing:
                return False
            self._proxy.inject(self._number, Direction.FROM_CLIENT, b"".join(self._closing.pop(said.channel)))
            return True
        if said.channel in self._closing:
            self._closing[said.channel].append(raw)
            return True
        if said.name == "basic.get" and not said.method.no_ack:
            self._fetched.add(said.channel)
        if said.name != "channel.close" or said.channel not in self._fetched:
            return False
        self._fetched.discard(said.channel)
        if said.channel in self._held[direction]:  # an ack that may still be refused
            return False
        self._closing[said.channel] = []
        self._hold(said.channel, raw, direction)
        answer = Said(said.channel, spec.Channel.CloseOk(), by_broker=True)
        self._proxy.inject(self._number, Direction.FROM_BROKER, answer.frames(4096))
        return True

    def _hold(self, channel: int, raw: bytes, direction: Direction) -> None:
        held = self._held[direction].setdefault(channel, [])
        held.append(raw)
        if len(held) == 1:
            self._proxy.call_later(self._seconds, partial(self._due, held, channel, direction))

    def _due(self, held: list[bytes], channel: int, direction: Direction) -> None:
        if self._held[direction].get(channel) is held:  # it has not been waited for meanwhile
            self._proxy.inject(self._number, direction, self._release(channel, direction))

    def _release(self, channel: int, direction: Direction) -> bytes:
        return b"".join(self._held[direction].pop(channel, ()))

    def _all(self, direction: Direction) -> bytes:
        return b"".join(self._release(channel, direction) for channel in list(self._held[direction]))

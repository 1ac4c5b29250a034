"""Lies about what client and broker say to each other, and how a broker is configured; one at a time.

Whoever trusts the broker is to notice.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rmqspec.tools.broker.configuration import Configuration
from rmqspec.tools.wire.lies.lie import Lie, Talk
from rmqspec.tools.wire.proxy import Proxy
from rmqspec.tools.wire.pump import Direction, Tap
from rmqspec.tools.wire.said import Said, Sayings

__all__ = ["Liar"]

LARGEST = 4096  # bytes of a frame that is made here; every connection agrees to that much


class Liar:
    """Stands in a proxy and tells a lie on each connection that comes; or only notes which lies would be told.

    ``lie`` and ``would`` may be set from any thread, and hold for connections that come from then on.

    Attributes:
        lie: What is told; None is the truth.
        would: Lies that are tried on the truth, without effect.
        told: The names of those that were told, or would have been, since ``begin``.
        heard: Whether a client has said anything since then.
    """

    def __init__(self) -> None:
        self.lie: Lie | None = None
        self.would: Iterable[Lie] = ()
        self.begin()

    def begin(self) -> None:
        """Forgets what was told."""
        self.told: set[str] = set()
        self.heard = False

    def configured(self, configuration: Configuration) -> Configuration:
        """What a broker that is to have this configuration is started with."""
        for lie in self.would:
            if lie.configure is not None and lie.configure(configuration) != configuration:
                self.told.add(lie.name)
        if self.lie is None or self.lie.configure is None:
            return configuration
        lied = self.lie.configure(configuration)
        if lied != configuration:
            self.told.add(self.lie.name)
        return lied

    def stand_in(self, proxy: Proxy) -> None:
        """From now on sees what passes there."""
        proxy.watch(lambda number: _Line(self, lambda towards, data: proxy.inject(number, towards, data)))


class _Line:
    """One connection."""

    def __init__(self, liar: Liar, inject: Callable[[Direction, bytes], None]) -> None:
        self._liar, self._inject = liar, inject
        self._lie = liar.lie
        self._talk = Talk(self._says(Direction.FROM_BROKER), self._says(Direction.FROM_CLIENT))
        self._would = [(lie, Talk(_nothing, _nothing)) for lie in liar.would]

    def tap(self, direction: Direction) -> Tap:
        sayings = Sayings(by_broker=direction is Direction.FROM_BROKER)

        def hear(data: bytes) -> bytes:
            return b"".join(self._pass(said, direction) for said in sayings.feed(data))

        return hear

    def _says(self, direction: Direction) -> Callable[[Said], None]:
        def say(said: Said) -> None:
            self._note_told()
            self._inject(direction, said.frames(LARGEST))

        return say

    def _pass(self, said: Said | bytes, direction: Direction) -> bytes:
        if isinstance(said, bytes):
            return said
        self._liar.heard |= direction is Direction.FROM_CLIENT
        for lie, talk in self._would:
            if said.name in lie.methods and lie.tell(said, talk) is not said:
                self._liar.told.add(lie.name)
        if self._lie is None or said.name not in self._lie.methods:
            return said.raw or b""
        told = self._lie.tell(said, self._talk)
        if told is said:
            return said.raw or b""
        self._note_told()
        return b"".join(one.frames(LARGEST) for one in _listed(told))

    def _note_told(self) -> None:
        """Before anything leaves: who hears it is judged in another thread, perhaps at once."""
        if self._lie is not None:
            self._liar.told.add(self._lie.name)


def _listed(told: Said | Iterable[Said] | None) -> Iterable[Said]:
    if told is None:
        return ()
    return (told,) if isinstance(told, Said) else told


def _nothing(_: Said) -> None:
    """Speaks to nobody."""

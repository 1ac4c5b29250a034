"""What one side says to the other: a method, with its message if it carries one, out of frames and back into them.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 2.3.5
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from pika import BasicProperties
from pika import frame as amqp

from rmqspec.client.decoding import ours
from rmqspec.tools.wire.fields import name_of
from rmqspec.tools.wire.frames import Frames, Piece

__all__ = ["CONTENT", "OVERHEAD", "Said", "Sayings"]

CONTENT = {"basic.publish", "basic.deliver", "basic.return", "basic.get-ok"}  # a header and a body follow
OVERHEAD = 8  # bytes around the part of a body that one frame carries


@dataclass(frozen=True, slots=True)
class Said:
    """One method and, where it carries a message, that.

    Attributes:
        channel: Its number; 0 is the connection itself.
        method: pika's object of it, of the class of its name; never changed, ``but`` makes another.
        properties: The message's; None where there is none.
        body: The message's.
        by_broker: Whether the broker says it.
        raw: The bytes that it came in; None for what nobody has said.
    """

    channel: int
    method: Any
    properties: BasicProperties | None = None
    body: bytes = b""
    by_broker: bool = False
    raw: bytes | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """As in the protocol: ``basic.get-ok``."""
        return name_of(self.method)

    def but(self, **fields: Any) -> Said:
        """The same with other arguments of the method."""
        return replace(self, method=_changed(self.method, fields), raw=None)

    @property
    def headers(self) -> dict[str, Any]:
        """The message's; empty where there are none."""
        return getattr(self.properties, "headers", None) or {}

    def having(self, body: bytes | None = None, **properties: Any) -> Said:
        """The same with another body or other properties of the message."""
        changed = _changed(self.properties or BasicProperties(), properties)
        return replace(self, properties=changed, body=self.body if body is None else body, raw=None)

    def frames(self, largest: int) -> bytes:
        """As it goes over the wire, in frames of at most so many bytes."""
        if self.raw is not None:
            return self.raw
        pieces = [amqp.Method(self.channel, ours(self.method)).marshal()]
        if self.properties is not None:
            pieces.append(amqp.Header(self.channel, len(self.body), ours(self.properties)).marshal())
            step = largest - OVERHEAD
            parts = (self.body[at : at + step] for at in range(0, len(self.body), step))
            pieces += [amqp.Body(self.channel, part).marshal() for part in parts]
        return b"".join(pieces)


class Sayings:
    """Puts together what one direction of one connection says; all that it yields is the stream, byte for byte.

    What cannot be read, and what is no method (a heartbeat, the greeting), comes out as bytes. A message comes when it
    is whole, so what other channels say meanwhile comes before it. One that cannot be read to its end comes as bytes.

    Args:
        by_broker: Whether it is the broker's.
    """

    def __init__(self, *, by_broker: bool) -> None:
        self._by_broker = by_broker
        self._frames = Frames()
        self._unfinished: dict[int, tuple[Said, int]] = {}  # by channel, with the bytes of body still to come

    def feed(self, data: bytes) -> Iterator[Said | bytes]:
        """What is whole with these bytes. None at all (``b""``) is the end: it brings out what was kept."""
        for piece in self._frames.feed(data):
            yield from self._on_piece(piece)
        if not data:
            yield from self._broken_off(None)

    def _broken_off(self, channel: int | None) -> Iterator[bytes]:
        """What a channel, or every one, has said of a message that is not whole."""
        for number in list(self._unfinished) if channel is None else [channel]:
            if number in self._unfinished:
                yield self._unfinished.pop(number)[0].raw or b""

    def _on_piece(self, piece: Piece) -> Iterator[Said | bytes]:
        frame = piece.frame
        if frame is None:
            yield from self._broken_off(piece.channel)
            yield piece.raw
        elif isinstance(frame, amqp.Method):
            yield from self._broken_off(frame.channel_number)  # its message never came
            said = Said(frame.channel_number, frame.method, by_broker=self._by_broker, raw=piece.raw)
            if said.name in CONTENT:
                self._unfinished[said.channel] = said, -1  # its size is not known yet
            else:
                yield said
        elif isinstance(frame, (amqp.Header, amqp.Body)) and frame.channel_number in self._unfinished:
            said, missing = self._unfinished.pop(frame.channel_number)
            said = replace(said, raw=(said.raw or b"") + piece.raw)
            if isinstance(frame, amqp.Header):
                said, missing = replace(said, properties=frame.properties), int(frame.body_size)
            else:
                said, missing = replace(said, body=said.body + frame.fragment), missing - len(frame.fragment)
            if missing > 0:
                self._unfinished[said.channel] = said, missing
            else:
                yield said
        else:
            yield piece.raw


def _changed(thing: Any, fields: dict[str, Any]) -> Any:
    changed = copy(thing)
    for name, value in fields.items():
        if not hasattr(thing, name):
            raise AttributeError(f"{type(thing).__name__} has no {name!r}")
        setattr(changed, name, value)
    return changed

"""What went over the wire, in words: AMQP frames noted as events while their bytes pass untouched.

A publish is three frames or more (method, header, pieces of the body) and one event. Heartbeats are left out, and so is
whatever is secret: the answers of a login are noted without what they say. A stream that cannot be read, as one of TLS,
passes and is not noted.

Source: https://www.rabbitmq.com/amqp-0-9-1-reference
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pika import frame as amqp
from pika.amqp_object import Properties

from rmqspec.tools.wire.fields import EXCERPT, excerpt, fields_of, name_of, properties_of
from rmqspec.tools.wire.frames import Frames
from rmqspec.tools.wire.pump import Direction, Tap
from rmqspec.tools.wire.said import CONTENT

__all__ = ["KEPT", "Event", "Recorder", "Recording"]

KEPT = 200  # events of the beginning, and as many of the end
Sender = Literal["client", "broker"]
SENDERS: Mapping[Direction, Sender] = {Direction.FROM_CLIENT: "client", Direction.FROM_BROKER: "broker"}


@dataclass(frozen=True, slots=True)
class Event:
    """One method, with its message if it carries one.

    Attributes:
        at: Seconds since the recording began.
        connection: What the client calls it; a second one of that name has ``(2)`` behind it.
        channel: Its number; 0 is the connection itself.
        sender: Whose it is.
        method: As in the protocol: ``basic.publish``.
        fields: Those of its arguments that matter; ``properties`` are the message's.
        body: The first 200 bytes of the message: text, or hexadecimal digits behind ``0x`` where they are none.
        size: Bytes of the whole body.
    """

    at: float
    connection: str
    channel: int
    sender: Sender
    method: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    body: str = ""
    size: int = 0


class Recording(NamedTuple):
    """What was noted, oldest first, and how many events in the middle were left out."""

    events: tuple[Event, ...]
    left_out: int


class Recorder:
    """Notes what passes through a proxy: ``proxy.taps = recorder.tap``.

    Args:
        kept: How many events of the beginning of a recording are kept, and how many of its end.
        clock: Seconds.
    """

    def __init__(self, kept: int = KEPT, clock: Callable[[], float] = time.perf_counter) -> None:
        self._kept, self._clock, self._guard = kept, clock, threading.Lock()
        self._halves: dict[int, _Line] = {}  # connections of which one direction has its tap
        self.begin()

    def begin(self) -> None:
        """Starts a new recording; what was noted before is forgotten. Any thread may call it."""
        with self._guard:
            self._zero, self._count = self._clock(), 0
            self._first: list[_Note] = []
            self._last: deque[_Note] = deque(maxlen=self._kept)

    def recording(self) -> Recording:
        """What was noted since the beginning. Any thread may call it."""
        with self._guard:
            notes, count, zero = [*self._first, *self._last], self._count, self._zero
        names = _names(note.line for note in notes)
        return Recording(tuple(_event(note, names[note.line], zero) for note in notes), count - len(notes))

    def tap(self, number: int, direction: Direction) -> Tap:
        """A tap for one direction of a connection; it returns the bytes that it is given.

        Args:
            number: The connection's; its two directions share it.
            direction: Whose bytes.
        """
        line = self._halves.pop(number, None)
        if line is None:
            line = self._halves[number] = _Line(f"connection {number}")
        ear = _Ear(SENDERS[direction], line, self._clock, self._keep)

        def hear(data: bytes) -> bytes:
            ear.hear(data)
            return data

        return hear

    def _keep(self, note: _Note) -> None:
        with self._guard:
            self._count += 1
            (self._first if len(self._first) < self._kept else self._last).append(note)


class _Line:
    """One connection, and what its client calls it as soon as it has said so."""

    def __init__(self, name: str) -> None:
        self.name = name


@dataclass(slots=True)
class _Note:
    """An event as it came; it is put into words when somebody asks for it."""

    line: _Line
    at: float
    sender: Sender
    method: amqp.Method[Any]
    properties: Properties | None = None
    body: bytes = b""
    size: int = 0


class _Ear:
    """Hears one direction of one connection. Whatever goes wrong in here, the bytes do not notice."""

    def __init__(self, sender: Sender, line: _Line, clock: Callable[[], float], keep: Callable[[_Note], None]) -> None:
        self._sender, self._line, self._clock, self._keep = sender, line, clock, keep
        self._frames, self._deaf = Frames(), False
        self._unfinished: dict[int, tuple[_Note, int]] = {}  # by channel, with the bytes of body that have come

    def hear(self, data: bytes) -> None:
        if self._deaf:
            return
        try:
            for piece in self._frames.feed(data):
                self._on_frame(piece.frame)
        except Exception:  # a defect of ours: this stream is noted no longer, and goes on
            self._deaf = True

    def _on_frame(self, frame: object) -> None:
        if isinstance(frame, amqp.Method):
            self._on_method(frame)
        elif isinstance(frame, amqp.Header):
            self._on_header(frame)
        elif isinstance(frame, amqp.Body):
            self._on_body(frame)

    def _on_method(self, frame: amqp.Method[Any]) -> None:
        name, note = name_of(frame.method), _Note(self._line, self._clock(), self._sender, frame)
        self._unfinished.pop(frame.channel_number, None)  # its message never came
        if name == "connection.start-ok":
            properties = frame.method.client_properties or {}
            name = properties.get("connection_name") or self._line.name
            self._line.name = excerpt(name) if isinstance(name, bytes) else str(name)
        if name in CONTENT:
            self._unfinished[frame.channel_number] = note, 0
        else:
            self._keep(note)

    def _on_header(self, frame: amqp.Header) -> None:
        if frame.channel_number in self._unfinished:
            note, _ = self._unfinished[frame.channel_number]
            note.properties, note.size = frame.properties, int(frame.body_size)
            self._finish(frame.channel_number)

    def _on_body(self, frame: amqp.Body) -> None:
        if frame.channel_number in self._unfinished:
            note, come = self._unfinished[frame.channel_number]
            note.body += frame.fragment[: EXCERPT - len(note.body)]
            self._unfinished[frame.channel_number] = note, come + len(frame.fragment)
            self._finish(frame.channel_number)

    def _finish(self, channel: int) -> None:
        note, come = self._unfinished[channel]
        if come >= note.size:
            del self._unfinished[channel]
            self._keep(note)


def _event(note: _Note, connection: str, zero: float) -> Event:
    fields = fields_of(note.method.method) | properties_of(note.properties)
    name, text = name_of(note.method.method), excerpt(note.body, whole=len(note.body) == note.size)
    at = round(max(0.0, note.at - zero), 6)
    return Event(at, connection, int(note.method.channel_number), note.sender, name, fields, text, note.size)


def _names(lines: Iterable[_Line]) -> dict[_Line, str]:
    """A name for each connection; no two have the same."""
    names, seen = {}, Counter[str]()
    for line in dict.fromkeys(lines):
        seen[line.name] += 1
        names[line] = line.name if seen[line.name] == 1 else f"{line.name} ({seen[line.name]})"
    return names

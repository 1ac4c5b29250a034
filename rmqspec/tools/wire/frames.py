"""Whole AMQP frames out of a stream of bytes that arrives in pieces of any size.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, section 2.3.5
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pika import spec
from pika.exceptions import AMQPError
from pika.frame import Frame, ProtocolHeader

from rmqspec.client.decoding import decode_frame

__all__ = ["Frames", "Piece"]

LARGEST = 16 * 1024 * 1024  # bytes; whoever announces a larger frame is not waited for
GREETING = b"AMQP"
HEADER = struct.Struct(">BHL")
TYPES = {spec.FRAME_METHOD, spec.FRAME_HEADER, spec.FRAME_BODY, spec.FRAME_HEARTBEAT}


class Piece(NamedTuple):
    """Some bytes of the stream, and the frame that they are; None where they cannot be read as one."""

    raw: bytes
    frame: Frame | ProtocolHeader | None

    @property
    def channel(self) -> int | None:
        """The channel's number; None where these bytes are no frame."""
        if self.raw.startswith(GREETING) or _size(self.raw, 0) != len(self.raw):
            return None
        number: int = HEADER.unpack_from(self.raw)[1]
        return number


class Frames:
    """Splits one direction of one connection into frames; all ``raw`` together are the stream, byte for byte.

    A frame with a method that pika does not know is a piece without a frame. Where the stream is no AMQP at all, as
    with TLS, or from where it is broken, all that follows passes as it comes.
    """

    def __init__(self) -> None:
        self._kept, self._foreign = b"", False

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are whole with these bytes. None at all (``b""``) is the end: it brings out what was kept."""
        stream, at = self._kept + data, 0
        pieces = []
        for size in self._sizes(stream):
            pieces.append(_read(stream[at : at + size]))
            at += size
        self._kept = stream[at:]
        if self._kept and (self._foreign or not data):
            pieces.append(Piece(self._kept, None))
            self._kept = b""
        return pieces

    def _sizes(self, stream: bytes) -> Iterator[int]:
        at = 0
        while not self._foreign and at < len(stream):
            size = _size(stream, at)
            if size is None or at + size > len(stream):
                return
            self._foreign = size == 0
            if size:
                yield size
            at += size


def _size(stream: bytes, at: int) -> int | None:
    """Bytes of the frame that begins here; 0 if none does, None if that cannot be seen yet."""
    begin = stream[at : at + len(GREETING)]
    if begin == GREETING[: len(begin)]:
        return 8 if begin == GREETING else None
    if stream[at] not in TYPES:
        return 0
    if len(stream) - at < HEADER.size:
        return None
    size: int = HEADER.unpack_from(stream, at)[2] + spec.FRAME_HEADER_SIZE + spec.FRAME_END_SIZE
    broken = size > LARGEST or (at + size <= len(stream) and stream[at + size - 1] != spec.FRAME_END)
    return 0 if broken else size


def _read(raw: bytes) -> Piece:
    try:
        return Piece(raw, decode_frame(raw)[1])
    except (
        AMQPError,
        LookupError,
        ValueError,
        TypeError,
        struct.error,
        AssertionError,
    ):  # what pika raises at what it cannot read
        return Piece(raw, None)

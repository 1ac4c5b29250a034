"""Frames as objects of pika's, with field tables read and written by ``rmqspec.client.tables``.

pika's own tables lose what they carry (a float becomes an integer), and one timestamp in milliseconds raises in the
middle of its loop: the connection ends, the broker delivers the message again, and that connection ends too. There is
no hook to put others in. Its generated code, however, looks for the module ``data`` among the names of its own module;
so here the same code runs a second time, with another ``data``. pika itself is not changed, nor is any connection that
a program opens with pika beside ours.

What is put in, and where: ``decode_frame`` reads for our connections (``Reader``, the base of those in
``connection.py``) and for the wire proxy; what it returns is of subclasses that also write our tables. What is sent
through pika's channels goes through ``ours``.

Content takes a shorter way (``content_frame``): pika makes a name for each method that comes, to look for callbacks,
and copies what is left of the buffer for each frame. Of a consumer's processor time that was a tenth.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from pika import BasicProperties, amqp_object, data, exceptions, frame, spec
from pika.adapters.select_connection import SelectConnection
from pika.frame import Frame, ProtocolHeader

from rmqspec.client.tables import read_table, write_table

__all__ = ["Properties", "Reader", "decode_frame", "ours"]

T = TypeVar("T")


def _decode_table(encoded: bytes, offset: int) -> tuple[dict[Any, Any], int]:
    begin = offset + 4
    end = begin + int.from_bytes(encoded[offset:begin], "big")
    if end > len(encoded):  # a frame that contradicts itself; what follows in it is not to be found
        raise ValueError("a field table is larger than its frame")
    return read_table(encoded, begin, end), end


def _encode_table(pieces: list[bytes], table: dict[Any, Any] | None) -> int:
    pieces.append(write_table(table or {}))
    return len(pieces[-1])


def _with(function: Callable[..., Any], **names: object) -> Any:
    """A function of pika's that finds other things under these names."""
    assert isinstance(function, FunctionType)
    return FunctionType(function.__code__, {**function.__globals__, **names}, function.__name__, function.__defaults__)


def _module(module: ModuleType, **names: object) -> ModuleType:
    """A module of pika's with other things under these names."""
    changed = ModuleType(module.__name__)
    vars(changed).update({**vars(module), **names})
    return changed


def _subclass(kind: type[Any]) -> type[Any]:
    """The same method or properties, with our tables."""
    changed = {name: _with(vars(kind)[name], data=DATA) for name in ("decode", "encode")}
    return type(kind.__name__, (kind,), changed)


DATA = _module(data, decode_table=_decode_table, encode_table=_encode_table)
METHODS = {
    number: _subclass(kind) if "decode_table" in kind.decode.__code__.co_names else kind
    for number, kind in spec.methods.items()
}


class Properties(BasicProperties):
    """A message's properties, with our tables."""

    decode = _with(BasicProperties.decode, data=DATA)
    encode = _with(BasicProperties.encode, data=DATA)


SUBCLASSES: dict[type, type] = {BasicProperties: Properties} | {
    kind: METHODS[number] for number, kind in spec.methods.items() if METHODS[number] is not kind
}

decode_frame: Callable[[bytes], tuple[int, Frame | ProtocolHeader | None]] = _with(
    frame.decode_frame,
    spec=_module(spec, methods=METHODS, props={BasicProperties.INDEX: Properties}),
)


def ours(thing: T) -> T:
    """A method or properties that write our tables; what carries no table stays as it is."""
    kind: Any = SUBCLASSES.get(type(thing))
    if kind is None:
        return thing
    changed: T = kind.__new__(kind)
    vars(changed).update(vars(thing))
    return changed


_head = struct.Struct(">BHL").unpack_from  # of a frame: its type, channel and size
_body_size = struct.Struct(">Q").unpack_from
HEAD, TAIL = spec.FRAME_HEADER_SIZE, spec.FRAME_END_SIZE
DELIVER = spec.Basic.Deliver.INDEX.to_bytes(4, "big")  # what the payload of such a method begins with
BASIC = BasicProperties.INDEX.to_bytes(2, "big")  # and that of a header


def content_frame(buffer: bytes, at: int) -> tuple[int, frame.Frame | None]:
    """The frame of content at this place, and where the next begins; None if it is not whole, or is another method.

    Content is ``basic.deliver``, a header or a body; all else is left to pika.

    Args:
        buffer: What has come.
        at: Where a frame begins.

    Raises:
        InvalidFrameError: The frame does not end where it says.
    """
    start = at + HEAD
    if start >= len(buffer):
        return at, None
    kind, channel, size = _head(buffer, at)
    end = start + size
    if end >= len(buffer):
        return at, None
    found: frame.Frame
    if kind == spec.FRAME_BODY:
        found = frame.Body(channel, buffer[start:end])
    elif kind == spec.FRAME_HEADER and buffer.startswith(BASIC, start):
        found = frame.Header(channel, _body_size(buffer, start + 4)[0], Properties().decode(buffer[start + 12 : end]))
    elif kind == spec.FRAME_METHOD and buffer.startswith(DELIVER, start):
        found = frame.Method(channel, spec.Basic.Deliver().decode(buffer[start + 4 : end]))
    else:
        return at, None
    if buffer[end] != spec.FRAME_END:
        raise exceptions.InvalidFrameError("a frame does not end where it says")
    return end + TAIL, found


class Reader(SelectConnection):
    """A connection of pika's with our tables."""

    _frame_buffer: bytes
    bytes_received: int
    frames_received: int

    def _on_data_available(self, data_in: bytes) -> None:
        buffer = self._frame_buffer = self._frame_buffer + data_in
        at = 0
        try:
            while self._frame_buffer is buffer:  # else a callback has ended the connection
                after, content = content_frame(buffer, at)
                if content is None or content.channel_number not in self._channels:  # type: ignore[attr-defined]
                    break
                at = after
                self.frames_received += 1
                self._deliver_frame_to_channel(content)  # type: ignore[attr-defined]
        finally:
            self.bytes_received += at
            if self._frame_buffer is buffer:
                self._frame_buffer = buffer[at:]
        super()._on_data_available(b"")  # type: ignore[misc]  # what is left

    def _read_frame(self) -> tuple[int, Frame | ProtocolHeader | None]:
        return decode_frame(self._frame_buffer)

    def _send_method(
        self, channel_number: int, method: amqp_object.Method, content: tuple[BasicProperties, bytes] | None = None
    ) -> None:
        content = content and (ours(content[0]), content[1])
        super()._send_method(channel_number, ours(method), content)  # type: ignore[misc]

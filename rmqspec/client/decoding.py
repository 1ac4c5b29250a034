"""Frames as objects of pika's, with field tables read and written by ``rmqspec.client.tables``.

pika's own tables lose what they carry (a float becomes an integer), and one timestamp in milliseconds raises in the
middle of its loop: the connection ends, the broker delivers the message again, and that connection ends too. There is
no hook to put others in. Its generated code, however, looks for the module ``data`` among the names of its own module;
so here the same code runs a second time, with another ``data``. pika itself is not changed, nor is any connection that
a program opens with pika beside ours.

What is put in, and where: ``decode_frame`` reads for our connections (``Reader``, the base of those in
``connection.py``) and for the wire proxy; what it returns is of subclasses that also write our tables. What is sent
through pika's channels goes through ``ours``.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, TypeVar

from pika import BasicProperties, amqp_object, data, frame, spec
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


class Reader(SelectConnection):
    """A connection of pika's with our tables."""

    def _read_frame(self) -> tuple[int, Frame | ProtocolHeader | None]:
        return decode_frame(self._frame_buffer)  # type: ignore[attr-defined]

    def _send_method(
        self, channel_number: int, method: amqp_object.Method, content: tuple[BasicProperties, bytes] | None = None
    ) -> None:
        content = content and (ours(content[0]), content[1])
        super()._send_method(channel_number, ours(method), content)  # type: ignore[misc]

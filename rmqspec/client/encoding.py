"""A message as the bytes that it is on the wire.

Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf (2.3.5 frame details, 4.2 frames)
"""

from __future__ import annotations

import struct
from copy import copy
from functools import lru_cache
from typing import Any

from pika import BasicProperties, exceptions, spec
from pika.frame import Method

from rmqspec.client.decoding import Properties
from rmqspec.client.errors import Unencodable
from rmqspec.client.message import Message
from rmqspec.client.tables import Unrepresentable

__all__ = ["OVERHEAD", "frames", "method_frame", "payloads", "reframed"]

FRAME_END = bytes([spec.FRAME_END])
OVERHEAD = 8  # bytes of a frame besides its payload: type, channel, size, end


def frames(message: Message, channel: int, body_limit: int) -> list[bytes | memoryview]:
    """What a publish is on the wire, in pieces to be joined: method, header, and the body in frames.

    pika makes the same bytes, frame by frame, and hands each to the socket's buffer by itself. Here the fields that
    repeat from message to message are encoded once.

    Args:
        message: What is published.
        channel: The channel's number.
        body_limit: Bytes of body that fit into one frame: the negotiated frame size less the frame's ``OVERHEAD``.

    Raises:
        Unencodable: A name, a key, a property or the body has no place in the protocol.
    """
    body = message.body
    try:
        header = _header(channel, message)
        if len(header) > body_limit + OVERHEAD:
            raise ValueError("its headers need more than one frame")  # the broker would end the connection (501)
        head = _method(channel, message.exchange, message.routing_key, message.mandatory) + header
    except (AssertionError, AttributeError, TypeError, ValueError, exceptions.AMQPError, struct.error) as error:
        raise Unencodable(f"AMQP 0-9-1 cannot carry {_culprit(error)}: not sent", message) from error
    return _with_body(head, body, channel, body_limit)


def reframed(pieces: list[bytes | memoryview], body: bytes, channel: int, body_limit: int) -> list[bytes | memoryview]:
    """What ``frames`` has made, for another channel: the message as it was, whatever its properties object is now.

    Args:
        pieces: What ``frames`` has made.
        body: The message's.
        channel: The channel's number.
        body_limit: Bytes of body that fit into one frame.

    Raises:
        ValueError: The headers need more than one frame there.
    """
    method, header = payloads(pieces)
    if len(header) > body_limit:
        raise ValueError("its headers need more than one frame")
    head = b"".join(
        struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END
        for kind, payload in ((spec.FRAME_METHOD, method), (spec.FRAME_HEADER, header))
    )
    return _with_body(head, body, channel, body_limit)


def payloads(pieces: list[bytes | memoryview]) -> tuple[bytes, bytes]:
    """Those of the method and of the header in what ``frames`` has made."""
    head, found, start = bytes(pieces[0]), [], 0
    for _ in range(2):
        size = struct.unpack_from(">I", head, start + 3)[0]
        found.append(head[start + OVERHEAD - 1 : start + OVERHEAD - 1 + size])
        start += size + OVERHEAD
    return found[0], found[1]


def _with_body(head: bytes, body: bytes, channel: int, body_limit: int) -> list[bytes | memoryview]:
    if not body:
        return [head]
    if len(body) <= body_limit:
        return [head + _body_start(channel, len(body)), body, FRAME_END]
    pieces: list[bytes | memoryview] = [head]
    for start in range(0, len(body), body_limit):
        piece = memoryview(body)[start : start + body_limit]
        pieces += [_body_start(channel, len(piece)), piece, FRAME_END]
    return pieces


def method_frame(method: spec.Basic.Ack | spec.Basic.Nack, channel: int) -> bytes:
    """What a method without content is on the wire."""
    return Method(channel, method).marshal()


def _culprit(error: Exception) -> str:
    """What pika could not encode, in words. Its own may hold what the message says, which stays out of logs."""
    if isinstance(error, exceptions.ShortStringTooLong):
        return "a name, a key or a property of more than 255 bytes"
    if isinstance(error, Unrepresentable):
        return str(error)
    return f"one of its properties ({error})"


@lru_cache(maxsize=1024)
def _method(channel: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    method = spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
    payload = struct.pack(">I", method.INDEX) + b"".join(method.encode())
    return struct.pack(">BHI", spec.FRAME_METHOD, channel, len(payload)) + payload + FRAME_END


def _body_start(channel: int, size: int) -> bytes:
    return struct.pack(">BHI", spec.FRAME_BODY, channel, size)


def _header(channel: int, message: Message) -> bytes:
    properties = message.properties
    if properties.headers == {}:  # some brokers hand it on as none, and a return must be known by its bytes
        properties = copy(properties)
        properties.headers = None
    repeats = properties.headers is None and properties.correlation_id is None and properties.message_id is None
    encoded = _encoded(*_fields(properties)) if repeats else b"".join(Properties.encode(properties))
    if not isinstance(message.body, bytes):
        raise TypeError(f"the body is of type {type(message.body).__name__}, not bytes")
    return (
        struct.pack(">BHIHxxQ", spec.FRAME_HEADER, channel, 12 + len(encoded), properties.INDEX, len(message.body))
        + encoded
        + FRAME_END
    )


# What messages of one kind have in common: all but their headers and ids.
FIELDS = (
    "content_type", "content_encoding", "delivery_mode", "priority", "reply_to", "expiration", "timestamp", "type",
    "user_id", "app_id", "cluster_id",
)  # fmt: skip


def _fields(p: BasicProperties) -> tuple[Any, ...]:
    return (
        p.content_type, p.content_encoding, p.delivery_mode, p.priority, p.reply_to, p.expiration, p.timestamp, p.type,
        p.user_id, p.app_id, p.cluster_id,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _encoded(*fields: Any) -> bytes:
    return b"".join(BasicProperties(**dict(zip(FIELDS, fields, strict=True))).encode())

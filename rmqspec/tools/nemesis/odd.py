"""Odd messages: legal, as strangers publish them, and fatal to a service that republishes all that it got.

A copy to a retry queue or to the dead letters must drop what the broker drops when it dead-letters, and change
no value.

Source: https://www.rabbitmq.com/docs/dlx#effects, https://www.rabbitmq.com/docs/validated-user-id,
https://www.rabbitmq.com/docs/sender-selected
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from pika import BasicProperties

from rmqspec.client import persistent
from rmqspec.tools.nemesis.shared import COPIES

__all__ = ["KINDS", "NAMES_QUEUES", "ODD", "REJECTED", "odd_properties"]

FRAME_MAX = 131_072  # bytes; what a broker offers by default, and clients take
FRAME_OVERHEAD = 8 + 14  # bytes of a header frame besides the properties: type, channel, size, end; class, body size
MESSAGE_ID, SPARE = 40, 20  # bytes for what is added, and to spare
EXPIRATION = "2000"  # milliseconds; enough to be handled before
DOUBLES: dict[str, Any] = {"price": 19.99, "share": 0.25}
NAMES_QUEUES = "CC"  # a header that is not kept, as its work is done


class _WithDoubles(BasicProperties):
    """Headers that are floats, as doubles; pika encodes none. A double has the bytes of some long, which it does."""

    def encode(self) -> list[bytes]:
        """The bytes on the wire."""
        encoded = b"".join(persistent(message_id=self.message_id, headers=self._as_longs()).encode())
        for name in self.headers or {}:
            encoded = encoded.replace(_short(name) + b"l", _short(name) + b"d")
        return [encoded]

    def _as_longs(self) -> dict[str, int]:
        return {name: struct.unpack(">q", struct.pack(">d", value))[0] for name, value in (self.headers or {}).items()}


def _short(name: str) -> bytes:
    return bytes([len(name)]) + name.encode()


def _with_user(user: str) -> BasicProperties:
    properties = persistent()
    properties.user_id = user
    return properties


def _with_large_headers(_: str) -> BasicProperties:
    size = len(b"".join(persistent(headers={"note": ""}).encode())) + MESSAGE_ID + SPARE
    return persistent(headers={"note": "x" * (FRAME_MAX - FRAME_OVERHEAD - size)})


ODD: Mapping[str, Callable[[str], BasicProperties]] = {  # the argument is the publisher's login
    "an expiration": lambda _: persistent(expiration=EXPIRATION),
    "a CC header": lambda _: persistent(headers={NAMES_QUEUES: [COPIES]}),
    "a user_id": _with_user,
    "doubles": lambda _: _WithDoubles(persistent().content_type, delivery_mode=2, headers=DOUBLES),
    "headers nearly as large as a frame": _with_large_headers,
}
KINDS = tuple(ODD)
REJECTED = (KINDS[0], KINDS[-1])  # what the broker dead-letters: it expires, or no copy of it can be published


def odd_properties(number: int, user: str, message_id: str) -> tuple[str, BasicProperties]:
    """The kind of the odd message of this number, and its properties."""
    kind = KINDS[number % len(KINDS)]
    properties = ODD[kind](user)
    properties.message_id = message_id
    return kind, properties

"""Which arguments of a method matter to a reader, and how values of AMQP are shown.

Source: https://www.rabbitmq.com/amqp-0-9-1-reference
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import islice
from math import isfinite
from re import sub
from typing import Any

from pika.amqp_object import AMQPObject, Properties

from rmqspec.client.tables import NAMES, Undecoded

__all__ = ["EXCERPT", "FIELDS", "excerpt", "fields_of", "name_of", "properties_of"]

EXCERPT = 200  # bytes of a body, characters of a string
ENTRIES = 50  # of a table or a list

# What is not listed is not noted: so the response of connection.start-ok, the challenges of secure, the secret of
# update-secret. A name with ? is noted only where it is set.
FIELDS = {
    "connection.start": ("mechanisms",),
    "connection.start-ok": ("mechanism",),
    "connection.tune": ("channel_max", "frame_max", "heartbeat"),
    "connection.tune-ok": ("channel_max", "frame_max", "heartbeat"),
    "connection.open": ("virtual_host",),
    "connection.close": ("reply_code", "reply_text"),
    "connection.blocked": ("reason",),
    "connection.update-secret": ("reason",),
    "channel.flow": ("active",),
    "channel.flow-ok": ("active",),
    "channel.close": ("reply_code", "reply_text"),
    "exchange.declare": ("exchange", "type", "passive?", "durable?", "auto_delete?", "internal?", "arguments?"),
    "exchange.delete": ("exchange", "if_unused?"),
    "exchange.bind": ("destination", "source", "routing_key", "arguments?"),
    "exchange.unbind": ("destination", "source", "routing_key", "arguments?"),
    "queue.declare": ("queue", "passive?", "durable?", "exclusive?", "auto_delete?", "arguments?"),
    "queue.declare-ok": ("queue", "message_count", "consumer_count"),
    "queue.bind": ("queue", "exchange", "routing_key", "arguments?"),
    "queue.unbind": ("queue", "exchange", "routing_key", "arguments?"),
    "queue.purge": ("queue",),
    "queue.purge-ok": ("message_count",),
    "queue.delete": ("queue", "if_unused?", "if_empty?"),
    "queue.delete-ok": ("message_count",),
    "basic.qos": ("prefetch_size?", "prefetch_count", "global_qos?"),
    "basic.consume": ("queue", "consumer_tag", "no_local?", "no_ack?", "exclusive?", "arguments?"),
    "basic.consume-ok": ("consumer_tag",),
    "basic.cancel": ("consumer_tag",),
    "basic.cancel-ok": ("consumer_tag",),
    "basic.publish": ("exchange", "routing_key", "mandatory?", "immediate?"),
    "basic.return": ("reply_code", "reply_text", "exchange", "routing_key"),
    "basic.deliver": ("consumer_tag", "delivery_tag", "redelivered?", "exchange", "routing_key"),
    "basic.get": ("queue", "no_ack?"),
    "basic.get-ok": ("delivery_tag", "redelivered?", "exchange", "routing_key", "message_count"),
    "basic.ack": ("delivery_tag", "multiple?"),
    "basic.reject": ("delivery_tag", "requeue"),
    "basic.nack": ("delivery_tag", "multiple?", "requeue"),
    "basic.recover": ("requeue",),
}


def name_of(method: AMQPObject) -> str:
    """As in the protocol: ``basic.get-ok``."""
    return _protocol_name(method.NAME)


def fields_of(method: AMQPObject) -> dict[str, Any]:
    """Those that matter, as JSON can carry them."""
    fields = {}
    for name in FIELDS.get(name_of(method), ()):
        value = getattr(method, name.rstrip("?"), None)
        if value or not name.endswith("?"):
            fields[name.rstrip("?")] = _plain(value)
    return fields


def properties_of(properties: Properties | None) -> dict[str, Any]:
    """A message's properties under that name; nothing if it has none."""
    given = vars(properties) if properties else {}
    given = {name: _plain(value) for name, value in given.items() if value is not None}
    return {"properties": given} if given else {}


def excerpt(body: bytes, *, whole: bool = True) -> str:
    """Text, or hexadecimal digits behind ``0x``; of one that is not whole the last character may have been cut."""
    for cut in range(1 if whole else 4):
        try:
            text = body[: len(body) - cut].decode()
        except UnicodeDecodeError:
            continue
        if text.isprintable() or all(sign.isprintable() or sign in "\t\r\n" for sign in text):
            return text
    return f"0x{body.hex()}"


@cache
def _protocol_name(name: str) -> str:
    group, _, method = name.partition(".")
    return f"{group}.{sub('(?<!^)(?=[A-Z])', '-', method)}".lower()


def _name(name: str) -> str:
    raw = name.encode(*NAMES)
    return excerpt(raw[:EXCERPT], whole=len(raw) <= EXCERPT)


def _plain(value: Any) -> Any:
    """A value of AMQP as JSON has it, of bounded size."""
    if value is None or isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return value
    if isinstance(value, Undecoded) and value.head[:1] != b"S":
        return f"{excerpt(value.head[:1])} 0x{value[:EXCERPT].hex()}"  # a number of some type, not a text
    if isinstance(value, bytes):
        return excerpt(value[:EXCERPT], whole=len(value) <= EXCERPT)
    if isinstance(value, Mapping):
        return {_name(name): _plain(inner) for name, inner in islice(value.items(), ENTRIES)}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value[:ENTRIES]]
    return str(value)[:EXCERPT]  # text; in words a time, a decimal number, an infinity

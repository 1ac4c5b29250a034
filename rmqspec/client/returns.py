"""To which message a return belongs.

A return names no delivery tag, and equal bodies may be under way to equal keys. So everything that distinguishes two
messages is compared: exchange, routing key, body, whether it was mandatory, and the properties, as they were encoded.
Returns come in the order of publishing, each before the ack of its message; of equal messages it is the oldest.

A broker takes ``BCC`` out. Beside a message without it that is otherwise equal, the return is that one's: ``BCC`` only
adds queues, so where the other has none either, both come back. Two whose ``BCC`` alone differ cannot be told apart;
with a ``message_id`` each is one of its own.

Source: https://www.rabbitmq.com/docs/publishers#unroutable
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pika import BasicProperties, spec

from rmqspec.client.decoding import Properties
from rmqspec.client.encoding import payloads
from rmqspec.client.sent import Sent

__all__ = ["properties_of", "returned_one"]

CONTENT_HEADER = 12  # bytes: class, weight, body size
STRIPPED = "BCC"  # the one header that a broker takes out on its way


def returned_one(
    unanswered: Iterable[Sent], method: spec.Basic.Return, properties: BasicProperties, body: bytes
) -> Sent | None:
    """The message that has come back, or None if it is nobody's.

    Args:
        unanswered: In the order of publishing.
        method: The return.
        properties: What came with it.
        body: What came with it.
    """
    candidates: list[Sent] = []
    came = b"".join(Properties.encode(properties))
    for sent in unanswered:
        message = sent.message
        if (
            sent.returned is None
            and message.mandatory
            and (message.exchange, message.routing_key) == (method.exchange, method.routing_key)
            and message.body == body
        ):
            if _on_the_wire(sent) == came:
                return sent
            candidates.append(sent)
    return next(_alike(candidates, properties), None)


def _alike(candidates: list[Sent], properties: BasicProperties) -> Iterator[Sent]:
    """The best first: equal but for headers that a broker has added or taken out; then any other, the oldest first."""
    yield from (sent for sent in candidates if _within(properties_of(sent), properties))
    yield from candidates


def properties_of(sent: Sent) -> BasicProperties:
    """Those of a message as they were when it was published."""
    properties: BasicProperties = Properties().decode(_on_the_wire(sent))
    return properties


def _on_the_wire(sent: Sent) -> bytes:
    """The properties in the frames: their object may have changed since."""
    return payloads(sent.frames)[1][CONTENT_HEADER:]


def _within(own: BasicProperties, came: BasicProperties) -> bool:
    ours, theirs = dict(vars(own)), dict(vars(came))
    kept = {name: value for name, value in (ours.pop("headers") or {}).items() if name != STRIPPED}
    headers = theirs.pop("headers") or {}
    return ours == theirs and all(name in headers and headers[name] == value for name, value in kept.items())

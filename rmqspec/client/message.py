"""A message and where it goes.

Source: https://www.rabbitmq.com/docs/publishers#message-properties
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from pika import BasicProperties, DeliveryMode

__all__ = ["Confirmed", "Message", "persistent"]


class Message(NamedTuple):
    """What is published.

    Attributes:
        exchange: Where it goes; the empty name is the default exchange, which knows each queue by its name.
        routing_key: What the exchange compares with its bindings.
        body: The payload.
        properties: What the broker and the receiver read beside the body.
        mandatory: Whether it is an error if no queue is bound for it.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: BasicProperties
    mandatory: bool = True

    def __str__(self) -> str:
        """Where it was going; the body stays out of logs."""
        return f"a message of {len(self.body)} bytes for exchange {self.exchange!r} with key {self.routing_key!r}"


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The broker has taken the message: it is in all of its queues, on disk where that was asked for."""

    message: Message


def persistent(
    content_type: str = "application/json",
    *,
    message_id: str | None = None,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    expiration: str | None = None,
    headers: dict[str, Any] | None = None,
) -> BasicProperties:
    """Properties of a message that a durable queue keeps on disk.

    Args:
        content_type: Of the body.
        message_id: Lets a receiver recognise a message that comes twice.
        correlation_id: Joins a reply to its request.
        reply_to: The queue that a reply goes to.
        expiration: Milliseconds after which the message is no longer wanted, as digits.
        headers: Whatever else a receiver reads.
    """
    return BasicProperties(
        content_type=content_type,
        delivery_mode=DeliveryMode.Persistent,
        message_id=message_id,
        correlation_id=correlation_id,
        reply_to=reply_to,
        expiration=expiration,
        headers=headers,
    )

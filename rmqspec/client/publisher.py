"""Publishing that is known to have arrived.

Without confirms a publish is a hope: the message may be lost on the way, or find no queue, and nobody is told.
Source: https://www.rabbitmq.com/docs/confirms#publisher-confirms
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from pika import BasicProperties, DeliveryMode, exceptions

from rmqspec.client.connection import Connection, translated
from rmqspec.client.errors import Nacked, Unroutable

__all__ = ["Publisher", "persistent"]


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


class Publisher:
    """Publishes on a channel of its own and returns when the broker has taken the message.

    Args:
        connection: Used by one thread only; a publisher is not shared between threads.

    Attributes:
        confirmed: How many messages each exchange has taken from here.
    """

    def __init__(self, connection: Connection) -> None:
        self._channel = connection.channel()
        self._channel.confirm_delivery()
        self.confirmed: Counter[str] = Counter()

    def publish(
        self, exchange: str, key: str, body: bytes, properties: BasicProperties | None = None, *, mandatory: bool = True
    ) -> None:
        """Publishes one message and waits for the broker's confirm.

        Args:
            exchange: Where it goes; the empty name is the default exchange, which knows each queue by its name.
            key: The routing key.
            body: The payload.
            properties: By default persistent JSON.
            mandatory: Whether it is an error if no queue is bound. Without it such a message is dropped in silence.

        Raises:
            Unroutable: No queue is bound for it.
            Nacked: A queue refused it.
            ChannelClosed: There is no such exchange, or this user may not write to it.
            ConnectionLost: Whether the broker has it is unknown.
        """
        to = f"publishing to exchange {exchange!r} with key {key!r}"
        with translated(to):
            try:
                self._channel.basic_publish(exchange, key, body, properties or persistent(), mandatory=mandatory)
            except exceptions.UnroutableError as error:
                raise Unroutable(f"{to}: no queue is bound for it; declare the topology first", 312) from error
            except exceptions.NackError as error:
                raise Nacked(f"{to}: a queue refused it, as a full one does; try again later") from error
        self.confirmed[exchange] += 1

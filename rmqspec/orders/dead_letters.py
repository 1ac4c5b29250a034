"""Orders that nobody could handle: how they get to ``orders.failed``, and back.

Source: https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from copy import copy
from typing import Any

from pika import BasicProperties

from rmqspec.client import Channel, Delivery, Publisher, Settings, connect
from rmqspec.client.connection import translated
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDER_KEY, ORDERS_EXCHANGE

__all__ = ["REASON_HEADER", "REPLAYS_HEADER", "park", "replay"]

REASON_HEADER = "rejection-reason"  # why a message is not an order
REPLAYS_HEADER = "replays"  # how often an order was sent again

BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-")


def park(publisher: Publisher, delivery: Delivery, reason: str) -> None:
    """Sends a message that cannot be handled to the dead letters, with the reason in a header.

    A reject would send it there too, but could not say why. When this returns, the broker has confirmed the copy:
    only then may the original be acknowledged. A crash in between leaves both, never none.

    Raises:
        PublishFailed: The dead letters did not take it; the original must not be acknowledged.
    """
    properties = copy(delivery.properties)
    properties.headers = {**(properties.headers or {}), REASON_HEADER: reason}
    properties.delivery_mode = 2
    publisher.publish(DEAD_LETTER_EXCHANGE, delivery.routing_key, delivery.body, properties).result()


def replay(source: str | Settings, limit: int | None = None) -> int:
    """Sends failed orders again, as if they were new, oldest first.

    Each is confirmed before its dead letter is acknowledged: a crash in between repeats an order, and loses none.

    Args:
        source: The broker's URL, or settings.
        limit: At most so many; by default those that are there now.

    Returns:
        How many were sent.
    """
    connection = connect(source, "replay")
    with Publisher(source, "replay publisher") as publisher, closing(connection), translated(f"replaying {FAILED!r}"):
        channel = connection.channel()
        # Counted first: an order that fails again comes back while we go on, and would be sent round and round.
        there = channel.queue_declare(FAILED, passive=True).method.message_count
        return sum(1 for _ in _resend(channel, publisher, there if limit is None else min(limit, there)))


def _resend(channel: Channel, publisher: Publisher, count: int) -> Iterator[None]:
    for _ in range(count):
        method, properties, body = channel.basic_get(FAILED)
        if method is None or properties is None:  # somebody else took the rest
            return
        publisher.publish(ORDERS_EXCHANGE, ORDER_KEY, body or b"", _as_new(properties)).result()
        channel.basic_ack(method.delivery_tag or 0)
        yield


def _as_new(properties: BasicProperties) -> BasicProperties:
    """Without the broker's history: up to 3.12 it would be continued, from 4.0 it is ignored."""
    fresh = copy(properties)
    headers: dict[str, Any] = dict(properties.headers or {})
    fresh.headers = {name: value for name, value in headers.items() if not name.startswith(BROKERS_OWN)}
    fresh.headers[REPLAYS_HEADER] = int(headers.get(REPLAYS_HEADER) or 0) + 1
    return fresh

"""Orders that nobody could handle: how they get to ``orders.failed``, and back.

Source: https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pika import BasicProperties

from rmqspec.client import Channel, Delivery, Publisher, Settings, connect
from rmqspec.client.connection import translated
from rmqspec.orders.messages import InvalidMessage, Order, parse
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDER_KEY, ORDERS_EXCHANGE, order_system

__all__ = ["REASON_HEADER", "REPLAYS_HEADER", "DeadLetter", "look", "park", "purge", "replay"]

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


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One message in ``orders.failed``.

    Attributes:
        number: Its place in the queue, from 1.
        message_id: What its producer called it, or empty.
        reason: Ours where the message could not be read, else the broker's: ``rejected``, ``expired``, ``maxlen``.
        died: When the broker dead-lettered it, or None where we parked it.
        properties: As they arrived.
        body: As it was published.
    """

    number: int
    message_id: str
    reason: str
    died: datetime | None
    properties: BasicProperties
    body: bytes

    @property
    def order_id(self) -> str:
        """The order's id, or a question mark where the body is no order."""
        try:
            return parse(Order, self.body).order_id
        except InvalidMessage:
            return "?"


def look(source: str | Settings, limit: int = 100) -> list[DeadLetter]:
    """Looks at failed orders, oldest first, and leaves them where they are.

    They are fetched without an ack, and the channel is closed: all go back to their places, marked as redelivered.

    Args:
        source: The broker's URL, or settings.
        limit: At most so many.
    """
    with _failed(source) as channel:
        return [letter for _, letter in _fetched(channel, limit)]


def replay(source: str | Settings, limit: int | None = None, numbers: Container[int] | None = None) -> int:
    """Sends failed orders again, as if they were new, oldest first.

    Each is confirmed before its dead letter is acknowledged: a crash in between repeats an order, and loses none.

    Args:
        source: The broker's URL, or settings.
        limit: At most so many; by default those that are there now.
        numbers: Only those in these places, as ``look`` counts them; by default all.

    Returns:
        How many were sent.
    """
    sent = 0
    with Publisher(source, "replay publisher") as publisher, _failed(source) as channel:
        # Counted first: an order that fails again comes back while we go on, and would be sent round and round.
        there = channel.queue_declare(FAILED, passive=True).method.message_count
        for tag, letter in _fetched(channel, there if limit is None else min(limit, there)):
            if numbers is None or letter.number in numbers:
                publisher.publish(ORDERS_EXCHANGE, ORDER_KEY, letter.body, _as_new(letter.properties)).result()
                channel.basic_ack(tag)
                sent += 1
    return sent


def purge(source: str | Settings) -> int:
    """Deletes all failed orders for good, and returns how many there were."""
    with _failed(source) as channel:
        return int(channel.queue_purge(FAILED).method.message_count or 0)


@contextmanager
def _failed(source: str | Settings) -> Iterator[Channel]:
    """A channel on which ``orders.failed`` is there."""
    with closing(connect(source, "dead letters")) as connection, translated(f"reading {FAILED!r}"):
        channel = connection.channel()
        order_system().declare(channel)
        yield channel
        channel.close()


def _fetched(channel: Channel, limit: int) -> Iterator[tuple[int, DeadLetter]]:
    for number in range(1, limit + 1):
        method, properties, body = channel.basic_get(FAILED)
        if method is None or properties is None:  # that was all
            return
        headers: dict[str, Any] = dict(properties.headers or {})
        death: dict[str, Any] = next(iter(headers.get("x-death") or []), {})
        reason = str(headers.get(REASON_HEADER) or death.get("reason") or "unknown")
        letter = DeadLetter(number, properties.message_id or "", reason, death.get("time"), properties, body or b"")
        yield method.delivery_tag or 0, letter


def _as_new(properties: BasicProperties) -> BasicProperties:
    """Without the broker's history: up to 3.12 it would be continued, from 4.0 it is ignored."""
    fresh = copy(properties)
    headers: dict[str, Any] = dict(properties.headers or {})
    fresh.headers = {name: value for name, value in headers.items() if not name.startswith(BROKERS_OWN)}
    fresh.headers[REPLAYS_HEADER] = int(headers.get(REPLAYS_HEADER) or 0) + 1
    return fresh

"""Orders that nobody could handle: how they get to ``orders.failed``, and back.

Source: https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from pika import BasicProperties

from rmqspec.client import Channel, Delivery, Publisher, RetryLadder, Settings, connect
from rmqspec.client.connection import translated
from rmqspec.client.retry import ATTEMPTS_HEADER, HISTORY_HEADER
from rmqspec.orders.messages import InvalidMessage, Order, parse
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDER_KEY, ORDERS, ORDERS_EXCHANGE, order_system

__all__ = ["REASON_HEADER", "REPLAYS_HEADER", "DeadLetter", "look", "park", "purge", "replay"]

REASON_HEADER = "rejection-reason"  # why a message is not an order
REPLAYS_HEADER = "replays"  # how often an order was sent again

OF_AN_EARLIER_LIFE = ("x-death", "x-first-death-", "x-last-death-", ATTEMPTS_HEADER, HISTORY_HEADER)


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
        reason: Ours where we parked it, because it could not be read or had failed too often; else the broker's:
            ``rejected``, ``expired``, ``maxlen``.
        attempts: How often it was put off until later, or parked after the last time; 0 where there is no retry ladder.
        died: When the broker dead-lettered it, or None where we parked it.
        properties: As they arrived.
        body: As it was published.
    """

    number: int
    message_id: str
    reason: str
    attempts: int
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
        yield method.delivery_tag or 0, _letter(number, properties, body or b"")


def _letter(number: int, properties: BasicProperties, body: bytes) -> DeadLetter:
    headers: dict[str, Any] = dict(properties.headers or {})
    # An order that was tried again has expired in the ladder's queues: those deaths are not what brought it here.
    deaths: Iterator[dict[str, Any]] = (d for d in headers.get("x-death") or [] if d.get("queue") == ORDERS)
    death = next(deaths, {})
    reason = headers.get(REASON_HEADER) or death.get("reason") or _summary(headers.get(HISTORY_HEADER)) or "unknown"
    attempts, died = RetryLadder.attempts(properties), death.get("time")
    return DeadLetter(number, properties.message_id or "", str(reason), attempts, died, properties, body)


def _summary(history: object) -> str:
    """The reasons of all attempts, oldest first; one that came several times in a row stands there once."""
    runs = [(reason, len([*same])) for reason, same in groupby(history if isinstance(history, list) else [])]
    return "; ".join(f"{reason} (x{times})" if times > 1 else reason for reason, times in runs)


def _as_new(properties: BasicProperties) -> BasicProperties:
    """Without its history: up to 3.12 the broker would continue its own, and our ladder would go on where it ended."""
    fresh = copy(properties)
    headers: dict[str, Any] = dict(properties.headers or {})
    fresh.headers = {name: value for name, value in headers.items() if not name.startswith(OF_AN_EARLIER_LIFE)}
    fresh.headers[REPLAYS_HEADER] = int(headers.get(REPLAYS_HEADER) or 0) + 1
    return fresh

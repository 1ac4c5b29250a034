"""Orders that nobody could handle: how they get to ``orders.failed``, and back.

Source: https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from pika import BasicProperties

from rmqspec.client import Channel, Connection, Delivery, Publisher, RetryLadder, Settings, connect
from rmqspec.client.connection import translated
from rmqspec.client.deaths import count_in, deaths_in
from rmqspec.client.errors import ClientError, Unrepublishable
from rmqspec.client.link import GOODBYE
from rmqspec.client.republish import Wait, beside, confirmed, foreign_headers, headers_to_keep, republish, shortened
from rmqspec.client.retry import ATTEMPTS_HEADER, HISTORY_HEADER, reasons_in
from rmqspec.orders.messages import FAILURE, InvalidMessage, Order, parse
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, FAILED, ORDER_KEY, ORDERS, ORDERS_EXCHANGE, order_system

__all__ = ["REASON_HEADER", "REPLAYS_HEADER", "DeadLetter", "look", "park", "park_without_room", "purge", "replay"]

REASON_HEADER = "rejection-reason"  # why a message is not an order
REPLAYS_HEADER = "replays"  # how often an order was sent again

# With these our ladder would go on where it ended, and the list would show why an order failed the time before.
OF_AN_EARLIER_LIFE = (ATTEMPTS_HEADER, HISTORY_HEADER, REASON_HEADER)


def park(publisher: Publisher, delivery: Delivery, reason: str, *, wait: Wait = confirmed) -> None:
    """Sends a message that cannot be handled to the dead letters, with the reason in a header.

    A reject would send it there too, but could not say why. When this returns, the broker has confirmed the copy:
    only then may the original be acknowledged. A crash in between leaves both, never none.

    Args:
        publisher: Whose connection is used.
        delivery: What cannot be handled.
        reason: Why not; shortened where the message's headers leave little room.
        wait: How to wait for the confirm.

    Raises:
        Unrepublishable: Its headers leave no room at all; the original is to be rejected.
        PublishFailed: The dead letters did not take it; the original must not be acknowledged.
    """
    kept = headers_to_keep(delivery)
    headers = (beside(kept, {REASON_HEADER: short}) for short in shortened(reason))
    republish(publisher, delivery, DEAD_LETTER_EXCHANGE, delivery.routing_key, headers, wait=wait)


def park_without_room(publisher: Publisher, delivery: Delivery, *, wait: Wait = confirmed) -> None:
    """Sends a message to the dead letters whose headers leave no room for a reason: with those, or else without them.

    For a queue without a dead-letter exchange, where a reject deletes. Args and errors are those of ``park``.
    """
    headers = (foreign_headers(delivery), {REASON_HEADER: "unreadable; its headers do not fit into one frame"})
    republish(publisher, delivery, DEAD_LETTER_EXCHANGE, delivery.routing_key, headers, wait=wait)


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
        delivery: The message as it arrived.
    """

    number: int
    message_id: str
    reason: str
    attempts: int
    died: datetime | None
    delivery: Delivery

    @property
    def detail(self) -> str:
        """What is behind a reject of a worker of ours, which cannot carry a reason; else empty.

        The broker says ``rejected``. Our worker rejects what it can read for one cause alone.
        """
        return FAILURE if self.reason == "rejected" and self.order_id != "?" else ""

    @property
    def properties(self) -> BasicProperties:
        """As they arrived."""
        return self.delivery.properties

    @property
    def body(self) -> bytes:
        """As it was published."""
        return self.delivery.body

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


def replay(
    source: str | Settings,
    limit: int | None = None,
    numbers: Container[int] | None = None,
    left: Callable[[DeadLetter, Unrepublishable], object] = lambda *_: None,
) -> int:
    """Sends failed orders again, as if they were new, oldest first.

    Each is confirmed before its dead letter is acknowledged: a crash in between repeats an order, and loses none.

    Args:
        source: The broker's URL, or settings.
        limit: At most so many; by default those that are there now.
        numbers: Only those in these places, as ``look`` counts them; by default all.
        left: Called with each that cannot be published again; it stays where it is, and the others are sent.

    Returns:
        How many were sent.
    """
    sent = 0
    with Publisher(source, "replay publisher") as publisher, _failed(source) as channel:
        # Counted first: an order that fails again comes back while we go on, and would be sent round and round.
        there = channel.queue_declare(FAILED, passive=True).method.message_count
        for tag, letter in _fetched(channel, there if limit is None else min(limit, there)):
            if numbers is None or letter.number in numbers:
                try:
                    _send_as_new(publisher, letter)
                except Unrepublishable as error:
                    left(letter, error)
                else:
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
    connection = connect(source, "dead letters")
    try:
        with translated(f"reading {FAILED!r}"):
            channel = connection.channel()
            order_system().declare(channel)
            yield channel
            channel.close()
    except BaseException:  # as a Ctrl-C: a broker that does not answer must not hold it up, nor hide it
        connection.patience = GOODBYE
        with suppress(ClientError):
            _hang_up(connection)
        raise
    _hang_up(connection)


def _hang_up(connection: Connection) -> None:
    """A connection that was lost meanwhile has raised already what there is to say, and cannot be closed."""
    if connection.is_open:
        with translated("closing the connection"):
            connection.close()


def _fetched(channel: Channel, limit: int) -> Iterator[tuple[int, DeadLetter]]:
    for number in range(1, limit + 1):
        method, properties, body = channel.basic_get(FAILED)
        if method is None or properties is None:  # that was all
            return
        delivery = Delivery(
            FAILED, method.exchange or "", method.routing_key or "", bool(method.redelivered), properties, body or b""
        )
        yield method.delivery_tag or 0, _letter(number, delivery)


def _letter(number: int, delivery: Delivery) -> DeadLetter:
    headers, properties = delivery.headers, delivery.properties
    # An order that was tried again has expired in the ladder's queues: those deaths are not what brought it here.
    death = next((death for death in deaths_in(headers) if death.queue == ORDERS), None)
    ours = headers.get(REASON_HEADER)
    reasons = (ours if isinstance(ours, str) else "", death.reason if death else "", _summary(reasons_in(headers)))
    reason = next(filter(None, reasons), "unknown")
    attempts, died = RetryLadder.attempts(properties), death.time if death else None
    return DeadLetter(number, _as_text(properties.message_id), reason, attempts, died, delivery)


def _as_text(name: str | bytes | None) -> str:
    """A property that is not UTF-8 comes as bytes."""
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else name or ""


def _summary(reasons: list[str]) -> str:
    """The reasons of all attempts, oldest first; one that came several times in a row stands there once."""
    runs = [(reason, len([*same])) for reason, same in groupby(reasons)]
    return "; ".join(f"{reason} (x{times})" if times > 1 else reason for reason, times in runs)


def _send_as_new(publisher: Publisher, letter: DeadLetter) -> None:
    """Sends it on without its history."""
    kept = headers_to_keep(letter.delivery, history=False)
    replays = count_in(kept, REPLAYS_HEADER) + 1
    anew = {name: value for name, value in kept.items() if name not in OF_AN_EARLIER_LIFE}
    republish(publisher, letter.delivery, ORDERS_EXCHANGE, ORDER_KEY, [beside(anew, {REPLAYS_HEADER: replays})])

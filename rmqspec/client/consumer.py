"""Consuming with manual acknowledgement: a message is gone only when its work is done.

Source: https://www.rabbitmq.com/docs/confirms#consumer-acknowledgements
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from pika import BasicProperties
from pika.spec import Basic

from rmqspec.client.connection import Channel, Connection, translated
from rmqspec.client.errors import ConsumerCancelled

__all__ = ["Consumer", "Delivery", "Handler", "Outcome"]

STOP_LATENCY = 0.1  # seconds at most until an idle consumer notices that it is asked to stop


class Outcome(Enum):
    """What becomes of a delivery once its handler has returned."""

    ACK = "done: the broker forgets it"
    REQUEUE = "not now: back to its queue, for whoever comes next"
    REJECT = "never: to the dead-letter exchange, or gone where there is none"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message, as it came from a queue."""

    queue: str
    exchange: str
    routing_key: str
    redelivered: bool
    properties: BasicProperties
    body: bytes


Handler = Callable[[Delivery], Outcome]


class Consumer:
    """Feeds the messages of one queue to a handler, one at a time.

    Args:
        connection: Used by the thread that calls ``run`` only.
        queue: Must be declared.
        handler: Its outcome is told to the broker after it has returned. If it raises, the delivery stays
            unacknowledged and ``run`` raises too; the broker gives the message to somebody else.
        prefetch: How many unacknowledged messages the broker may have out with this consumer. 1 is fair where work
            takes long; see https://www.rabbitmq.com/docs/consumer-prefetch.
        name: The consumer tag, shown in the management UI.

    Attributes:
        outcomes: How many deliveries ended in which way.
    """

    def __init__(
        self, connection: Connection, queue: str, handler: Handler, *, prefetch: int = 1, name: str = ""
    ) -> None:
        self.queue, self._connection, self._handler, self._prefetch, self._name = (
            queue, connection, handler, prefetch, name,
        )  # fmt: skip
        self.outcomes: Counter[Outcome] = Counter()
        self._stopping = threading.Event()
        self._cancelled = False

    def run(self) -> None:
        """Consumes until ``stop`` is called.

        Raises:
            ConsumerCancelled: The queue was deleted.
            ChannelClosed: There is no such queue, or it is somebody else's.
            ConnectionLost: The connection ended.
        """
        with translated(f"consuming from {self.queue!r}"):
            channel = self._connection.channel()
            channel.basic_qos(prefetch_count=self._prefetch)
            channel.add_on_cancel_callback(self._on_cancel)
            channel.basic_consume(self.queue, self._on_delivery, consumer_tag=self._name or None)
            while not self._stopping.is_set() and not self._cancelled:
                self._connection.process_data_events(time_limit=STOP_LATENCY)
            # Closing the channel gives back what was delivered ahead and not begun.
            channel.close()
        if self._cancelled:
            raise ConsumerCancelled(f"the broker ended the subscription to {self.queue!r}: was the queue deleted?")

    def stop(self) -> None:
        """Ends ``run`` after the delivery in hand. Any thread and any signal handler may call it."""
        self._stopping.set()

    def _on_delivery(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        if self._stopping.is_set():
            return  # left unacknowledged: run closes the channel, and the broker takes it back
        delivery = Delivery(
            self.queue, method.exchange or "", method.routing_key or "", bool(method.redelivered), properties, body
        )
        outcome = self._handler(delivery)
        tag = method.delivery_tag or 0
        if outcome is Outcome.ACK:
            channel.basic_ack(tag)
        else:
            channel.basic_nack(tag, requeue=outcome is Outcome.REQUEUE)
        self.outcomes[outcome] += 1

    def _on_cancel(self, _: object) -> None:
        self._cancelled = True

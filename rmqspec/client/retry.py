"""Trying again later: a ladder of queues in which a message waits, each step longer than the last.

A message that is requeued comes back at once, and a consumer that cannot handle it now spins. Instead it is published
to a queue that nobody consumes; there it outlives its time to live, and its dead-letter exchange brings it back to
where it came from. After the last step somebody has to look at it.

Source: https://www.rabbitmq.com/docs/ttl, https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

from pika import BasicProperties

from rmqspec.client.delivery import Delivery
from rmqspec.client.publisher import Publisher
from rmqspec.client.topology import Queue, Topology

__all__ = ["ATTEMPTS_HEADER", "HISTORY_HEADER", "RetryLadder"]

ATTEMPTS_HEADER = "attempts"  # how often a message has been tried; the broker's x-death is not counted on
HISTORY_HEADER = "attempt-reasons"  # why each attempt failed, oldest first


@dataclass(frozen=True, slots=True)
class RetryLadder:
    """The steps of one queue.

    Attributes:
        queue: Where a message comes back to.
        parking: The exchange that gets a message after the last step.
        delays: Seconds of each step. A queue has one delay only: behind a message that waits a minute, one that waits a
            second would wait a minute too.
    """

    queue: str
    parking: str
    delays: tuple[float, ...] = (1.0, 10.0, 60.0)

    def topology(self) -> Topology:
        """The waiting queues."""
        back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue}
        return Topology(
            queues=tuple(
                Queue(self._step(delay), {"x-message-ttl": round(delay * 1000), **back}) for delay in self.delays
            )
        )

    def climb(self, publisher: Publisher, delivery: Delivery, reason: str) -> float | None:
        """Sends a message to its next step. When this returns the broker has it, and the original may be acknowledged.

        Args:
            publisher: Whose connection is used.
            delivery: What could not be handled now.
            reason: Why not; it travels with the message.

        Returns:
            The seconds that it will wait, or None if it was parked.

        Raises:
            PublishFailed: It was not taken; the original must not be acknowledged.
        """
        properties = copy(delivery.properties)
        headers: dict[str, Any] = dict(properties.headers or {})
        attempts, before = self.attempts(delivery.properties), headers.get(HISTORY_HEADER)
        history = [*(before if isinstance(before, list) else []), reason]
        properties.headers = {**headers, ATTEMPTS_HEADER: attempts + 1, HISTORY_HEADER: history}
        properties.delivery_mode = 2
        if attempts < len(self.delays):
            delay = self.delays[attempts]
            publisher.publish("", self._step(delay), delivery.body, properties).result()
            return delay
        publisher.publish(self.parking, self.queue, delivery.body, properties).result()
        return None

    @staticmethod
    def attempts(properties: BasicProperties) -> int:
        """How often a message has failed so far. A header that is no count, as a stranger may write it, is none."""
        count = (properties.headers or {}).get(ATTEMPTS_HEADER)
        return count if isinstance(count, int) and count > 0 else 0

    def _step(self, delay: float) -> str:
        return f"{self.queue}.retry.{delay:g}s"

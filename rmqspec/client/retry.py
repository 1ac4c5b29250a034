"""Trying again later: a ladder of queues in which a message waits, each step longer than the last.

A message that is requeued comes back at once, and a consumer that cannot handle it now spins. Instead it is published
to a queue that nobody consumes; there it outlives its time to live, and its dead-letter exchange brings it back to
where it came from. After the last step somebody has to look at it.

What comes back is dead-lettered, and by default RabbitMQ does that at most once: a broker that is killed at that moment
may lose the message. A quorum queue with ``x-dead-letter-strategy: at-least-once`` does not.

Source: https://www.rabbitmq.com/docs/ttl, https://www.rabbitmq.com/docs/dlx
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pika import BasicProperties

from rmqspec.client.bounds import check_number
from rmqspec.client.deaths import count_in
from rmqspec.client.delivery import Delivery
from rmqspec.client.publisher import Publisher
from rmqspec.client.republish import Wait, beside, confirmed, headers_to_keep, republish, shortened
from rmqspec.client.topology import Queue, Topology

__all__ = ["ATTEMPTS_HEADER", "HISTORY_HEADER", "RetryLadder", "reasons_in"]

ATTEMPTS_HEADER = "attempts"  # how often a message has been tried; the broker's x-death is not counted on
LONGEST = 4_294_967.0  # seconds: the broker takes no more milliseconds than fit into 32 bits
HISTORY_HEADER = "attempt-reasons"  # why each attempt failed, oldest first


@dataclass(frozen=True, slots=True)
class RetryLadder:
    """The steps of one queue.

    Attributes:
        queue: Where a message comes back to.
        parking: The exchange that gets a message after the last step.
        delays: Seconds of each step. A queue has one delay only: behind a message that waits a minute, one that waits a
            second would wait a minute too.

    Raises:
        InvalidSetting: A delay is no time that a queue can wait.
    """

    queue: str
    parking: str
    delays: tuple[float, ...] = (1.0, 10.0, 60.0)

    def __post_init__(self) -> None:
        for delay in self.delays:
            check_number("a delay", delay, 0, LONGEST)

    def topology(self) -> Topology:
        """The waiting queues."""
        back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.queue}
        return Topology(
            queues=tuple(
                Queue(self._step(delay), {"x-message-ttl": round(delay * 1000), **back}) for delay in self.delays
            )
        )

    def climb(self, publisher: Publisher, delivery: Delivery, reason: str, *, wait: Wait = confirmed) -> float | None:
        """Sends a message to its next step. When this returns the broker has it, and the original may be acknowledged.

        Args:
            publisher: Whose connection is used.
            delivery: What could not be handled now.
            reason: Why not; it travels with the message, shortened where its headers have no room.
            wait: How to wait for the confirm.

        Returns:
            The seconds that it will wait, or None if it was parked.

        Raises:
            Unrepublishable: Not even its count has room; the original is to be rejected. A consumer without an
                ``on_error`` that says so ends by it: only the application knows whether its queue dead-letters.
            PublishFailed: It was not taken; the original must not be acknowledged.
        """
        attempts = self.attempts(delivery.properties)
        delay = self.delays[attempts] if attempts < len(self.delays) else None
        exchange, key = (self.parking, self.queue) if delay is None else ("", self._step(delay))
        kept = headers_to_keep(delivery, history=False)
        additions = _additions(attempts + 1, reasons_in(delivery.headers), reason)
        republish(publisher, delivery, exchange, key, (beside(kept, ours) for ours in additions), wait=wait)
        return delay

    @staticmethod
    def attempts(properties: BasicProperties) -> int:
        """How often a message has failed so far. A header that is no count, as a stranger may write it, is none."""
        return count_in(properties.headers, ATTEMPTS_HEADER)

    def _step(self, delay: float) -> str:
        return f"{self.queue}.retry.{delay:g}s"


def reasons_in(headers: Mapping[Any, Any] | None) -> list[str]:
    """Why each attempt failed, oldest first; none where the header is no list of texts."""
    reasons = (headers or {}).get(HISTORY_HEADER)
    return reasons if isinstance(reasons, list) and all(isinstance(reason, str) for reason in reasons) else []


def _additions(attempts: int, before: list[str], reason: str) -> Iterator[Mapping[str, Any]]:
    for short in shortened(reason):
        yield {ATTEMPTS_HEADER: attempts, HISTORY_HEADER: [*before, short]}
    yield {ATTEMPTS_HEADER: attempts, HISTORY_HEADER: before}  # the count ends the ladder, so it must not be missing

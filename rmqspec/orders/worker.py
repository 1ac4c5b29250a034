"""The worker: takes an order, works on it, tells everybody, and only then lets the broker forget it."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from dataclasses import dataclass

from pika import BasicProperties

from rmqspec.client import Delivery, Outcome, RetryLadder, Settings, persistent
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.messages import FAILURE, Completed, Event, Log, Order, parse
from rmqspec.orders.service import GRACE, PAUSE, Say, Subscriber, origin, silent
from rmqspec.orders.topology import DEAD_LETTER_EXCHANGE, EVENTS_EXCHANGE, FAILED, LOGS_EXCHANGE, ORDERS, order_system

__all__ = ["Failures", "Worker"]

SAMPLE = re.compile(r"^(\d+-\d{4,})-[a-z0-9]{4}$")  # as sample_orders makes ids: the order, and the run


@dataclass(frozen=True, slots=True)
class Failures:
    """Which orders fail, for the sake of the lesson.

    The verdict depends on seed, order and attempt alone, not on who works when: a run with the same seed fails the same
    orders. What the ids of sample orders end in, to tell runs apart, is no part of it. Each further attempt has its own
    verdict, so that a failure passes, unless the rate is 1.

    Attributes:
        rate: The share that fails, from 0 to 1.
        seed: Another seed, other orders.
    """

    rate: float = 0.1
    seed: int = 0

    def hits(self, order_id: str, attempt: int = 1) -> bool:
        """Whether this order fails at this attempt, from 1."""
        sample = SAMPLE.sub(r"\1", order_id)
        die = f"{self.seed}:{sample}" if attempt == 1 else f"{self.seed}:{sample}:{attempt}"
        return random.Random(die).random() < self.rate  # noqa: S311  (a simulation)


class Worker(Subscriber):
    """Handles orders one at a time; as many workers as you like share the queue.

    Args:
        source: The broker's URL, or settings.
        name: Who it is.
        failures: Which orders fail.
        work_time: Seconds that an order takes. The connection stays alive meanwhile.
        inbox: The orders that are handled already; a file makes them outlive the worker, and several workers may share
            it. The events of an order are done once where notification and analytics have such a file too.
        say: Where it tells what it does.
        retry: Where an order waits that failed, to be tried again. Without one it is rejected at its first failure.
        pause: Seconds before an order that cannot be handled now goes back to its queue.
        prefetch: How many unacked orders it may have.

    Attributes:
        handled: How many orders it completed and failed.
    """

    def __init__(
        self,
        source: str | Settings,
        name: str = "W1",
        failures: Failures = Failures(),
        work_time: float = 0.0,
        inbox: Inbox | None = None,
        say: Say = silent,
        retry: RetryLadder | None = None,
        pause: float = PAUSE,
        prefetch: int = 1,
    ) -> None:
        topology = order_system(retry=retry)
        super().__init__(
            source, ORDERS, name, say, inbox=inbox, pause=pause, topology=topology, prefetch=prefetch,
            grace=work_time + GRACE,
        )  # fmt: skip
        self.failures, self.work_time, self.retry = failures, work_time, retry
        self.handled: Counter[Event] = Counter()

    def handle(self, delivery: Delivery) -> Outcome:
        """Works on one order. A crash before the end leaves it unacknowledged, and another worker gets it."""
        order = parse(Order, delivery.body)
        self.say(
            f"took order {order.order_id}{' (redelivered)' if delivery.redelivered else ''} from {origin(delivery)}"
        )
        if self.work_time:
            time.sleep(self.work_time)  # the consumer's own thread answers heartbeats meanwhile
        if self.failures.hits(order.order_id, RetryLadder.attempts(delivery.properties) + 1):
            self._log("order.failed", order, delivery, "simulated")
            outcome, what = (
                (Outcome.RETRY, "") if self.retry else (Outcome.REJECT, f", rejects it to {DEAD_LETTER_EXCHANGE}")
            )
            self.say(f"failed order {order.order_id} (simulated){what}")
            return outcome
        event = Completed(
            order_id=order.order_id, customer=order.customer, total_cents=order.total_cents, worker=self.name
        )
        # Of this publish of the order, not of its id: what is told twice has one message id, while the same order may
        # be placed again.
        properties = persistent(message_id=delivery.properties.message_id)
        self._publish(EVENTS_EXCHANGE, "", event.to_json(), properties)
        self._log("order.completed", order, delivery)
        self.say(f"completed order {order.order_id} and told {EVENTS_EXCHANGE}")
        return Outcome.ACK

    def put_off(self, delivery: Delivery) -> None:
        """To the next step of the retry ladder, or to the dead letters after the last."""
        assert self.retry is not None
        delay = self.retry.climb(self.publisher, delivery, FAILURE, wait=self.waits.confirmed)
        self.say(f"parked it in {FAILED} for a person" if delay is None else f"will try it again in {delay:g} s")

    def _log(self, event: Event, order: Order, delivery: Delivery, detail: str = "") -> None:
        log = Log(event=event, order_id=order.order_id, worker=self.name, detail=detail)
        about = delivery.properties.message_id  # which publish of the order it tells of
        self._publish(LOGS_EXCHANGE, event, log.to_json(), persistent(correlation_id=about))
        self.handled[event] += 1

    def _publish(self, exchange: str, key: str, body: bytes, properties: BasicProperties) -> None:
        self.waits.confirmed(self.publisher.publish(exchange, key, body, properties))

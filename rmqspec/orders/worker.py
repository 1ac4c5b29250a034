"""The worker: takes an order, works on it, tells everybody, and only then lets the broker forget it."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from rmqspec.client import Delivery, Outcome, Settings, persistent
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.messages import Completed, Event, Log, Order, parse
from rmqspec.orders.service import Say, Subscriber, silent
from rmqspec.orders.topology import EVENTS_EXCHANGE, LOGS_EXCHANGE, ORDERS

__all__ = ["Failures", "Worker"]


@dataclass(frozen=True, slots=True)
class Failures:
    """Which orders fail, for the sake of the lesson.

    The verdict depends on seed and order alone, not on who works when: a run with the same seed fails the same orders.

    Attributes:
        rate: The share that fails, from 0 to 1.
        seed: Another seed, other orders.
    """

    rate: float = 0.1
    seed: int = 0

    def hits(self, order_id: str) -> bool:
        """Whether this order fails."""
        return random.Random(f"{self.seed}:{order_id}").random() < self.rate  # noqa: S311  (a simulation)


class Worker(Subscriber):
    """Handles orders one at a time; as many workers as you like share the queue.

    Args:
        source: The broker's URL, or settings.
        name: Who it is.
        failures: Which orders fail.
        work_time: Seconds that an order takes. The connection stays alive meanwhile.
        inbox: The ids of the messages that are handled already; a file makes them outlive the worker.
        say: Where it tells what it does.

    Attributes:
        handled: How many orders it completed and failed.
    """

    def __init__(
        self,
        source: str | Settings,
        name: str = "worker-1",
        failures: Failures = Failures(),
        work_time: float = 0.0,
        inbox: Inbox | None = None,
        say: Say = silent,
    ) -> None:
        super().__init__(source, ORDERS, name, say)
        self.failures, self.work_time = failures, work_time
        self.inbox = inbox or Inbox()
        self.handled: Counter[Event] = Counter()

    def handle(self, delivery: Delivery) -> Outcome:
        """Works on one order. A crash before the end leaves it unacknowledged, and another worker gets it."""
        order, message_id = parse(Order, delivery.body), delivery.properties.message_id
        if message_id and self.inbox.has(message_id):
            self.say(f"had done order {order.order_id} already")
            return Outcome.ACK
        self.say(f"took order {order.order_id}{' (redelivered)' if delivery.redelivered else ''}")
        self._log("order.created", order)
        if self.work_time:
            time.sleep(self.work_time)  # the consumer's own thread answers heartbeats meanwhile
        if self.failures.hits(order.order_id):
            self._log("order.failed", order, "simulated failure")
            self.say(f"failed order {order.order_id}")
            return Outcome.REJECT
        event = Completed(
            order_id=order.order_id, customer=order.customer, total_cents=order.total_cents, worker=self.name
        )
        self.publisher.publish(EVENTS_EXCHANGE, "", event.to_json(), persistent(message_id=order.order_id)).result()
        self._log("order.completed", order)
        if message_id:
            self.inbox.add(message_id)  # a crash before this line repeats the events, one after it only the ack
        self.say(f"completed order {order.order_id}")
        return Outcome.ACK

    def _log(self, event: Event, order: Order, detail: str = "") -> None:
        log = Log(event=event, order_id=order.order_id, worker=self.name, detail=detail)
        self.publisher.publish(LOGS_EXCHANGE, event, log.to_json()).result()
        self.handled[event] += 1

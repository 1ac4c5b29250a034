"""The log consumer: everything that happens to orders, by the pattern ``order.#`` on ``logs.topic``."""

from __future__ import annotations

from collections import Counter

from rmqspec.client import Delivery, Outcome, Settings
from rmqspec.orders.messages import Log, parse
from rmqspec.orders.service import Say, Subscriber, silent
from rmqspec.orders.topology import LOGS, LOGS_EXCHANGE

__all__ = ["LogConsumer"]


class LogConsumer(Subscriber):
    """Prints the log.

    Attributes:
        events: How often each event came.
    """

    def __init__(self, source: str | Settings, name: str = "logs", say: Say = silent) -> None:
        super().__init__(source, LOGS, name, say)
        self.events: Counter[str] = Counter()

    def handle(self, delivery: Delivery) -> Outcome:
        """Prints one line."""
        log = parse(Log, delivery.body)
        self.events[log.event] += 1
        detail = f", {log.detail}" if log.detail else ""
        self.say(f"key {log.event}: {log.order_id} by {log.worker}{detail}; {LOGS_EXCHANGE} → {LOGS}")
        return Outcome.ACK

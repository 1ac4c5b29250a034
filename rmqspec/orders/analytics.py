"""Analytics: adds up what was sold. The other of the two who listen to ``events.fanout``."""

from __future__ import annotations

from collections import Counter

from rmqspec.client import Delivery, Outcome, Settings
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.messages import Completed, money, parse
from rmqspec.orders.service import Say, Subscriber, silent
from rmqspec.orders.topology import ANALYTICS

__all__ = ["Analytics"]


class Analytics(Subscriber):
    """Keeps totals. An order whose completion is told twice counts once.

    Attributes:
        orders: How many orders were completed.
        revenue_cents: What they brought.
        by_worker: How many each worker completed.
    """

    def __init__(
        self, source: str | Settings, name: str = "analytics", say: Say = silent, inbox: Inbox | None = None
    ) -> None:
        super().__init__(source, ANALYTICS, name, say, inbox=inbox)
        self.orders = self.revenue_cents = 0
        self.by_worker: Counter[str] = Counter()

    def handle(self, delivery: Delivery) -> Outcome:
        """Adds one order."""
        event = parse(Completed, delivery.body)
        self.revenue_cents += event.total_cents
        self.by_worker[event.worker] += 1
        self.orders += 1  # last: who sees the count sees the sum
        self.say(self.totals())
        return Outcome.ACK

    def totals(self) -> str:
        """The totals so far, for a person."""
        shares = ", ".join(f"{worker} {count}" for worker, count in sorted(self.by_worker.items()))
        orders = "1 order" if self.orders == 1 else f"{self.orders} orders"
        return f"{orders}, {money(self.revenue_cents)} in all ({shares or 'none yet'})"

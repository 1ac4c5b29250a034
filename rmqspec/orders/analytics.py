"""Analytics: adds up what was sold. The other of the two who listen to ``events.fanout``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rmqspec.client import Delivery, Outcome, Settings
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.messages import Completed, counted, money, parse
from rmqspec.orders.service import Say, Subscriber, silent
from rmqspec.orders.topology import ANALYTICS

__all__ = ["Analytics", "Totals"]


@dataclass(slots=True)
class Totals:
    """What was sold.

    Attributes:
        orders: How many orders were completed.
        revenue_cents: What they brought.
        by_worker: How many each worker completed.
    """

    orders: int = 0
    revenue_cents: int = 0
    by_worker: Counter[str] = field(default_factory=Counter)

    def add(self, event: Completed) -> None:
        """Adds one order."""
        self.revenue_cents += event.total_cents
        self.by_worker[event.worker] += 1
        self.orders += 1  # last: who sees the count sees the sum

    def __str__(self) -> str:
        shares = ", ".join(f"{worker} {count}" for worker, count in sorted(self.by_worker.items()))
        return f"{counted(self.orders, 'order')}, {money(self.revenue_cents)} in all ({shares or 'none yet'})"


class Analytics(Subscriber):
    """Keeps totals. An order whose completion is told twice counts once.

    Attributes:
        totals: Those since it was made.
    """

    def __init__(
        self, source: str | Settings, name: str = "analytics", say: Say = silent, inbox: Inbox | None = None
    ) -> None:
        super().__init__(source, ANALYTICS, name, say, inbox=inbox)
        self.totals = Totals()

    @property
    def orders(self) -> int:
        """How many orders were completed."""
        return self.totals.orders

    @property
    def revenue_cents(self) -> int:
        """What they brought."""
        return self.totals.revenue_cents

    def handle(self, delivery: Delivery) -> Outcome:
        """Adds one order."""
        self.totals.add(parse(Completed, delivery.body))
        self.say(f"{self.totals}, from {ANALYTICS}")
        return Outcome.ACK

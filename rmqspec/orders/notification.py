"""Notification: tells each customer that an order is done. One of the two who listen to ``events.fanout``."""

from __future__ import annotations

from rmqspec.client import Delivery, Outcome, Settings
from rmqspec.orders.inbox import Inbox
from rmqspec.orders.messages import Completed, parse
from rmqspec.orders.service import Say, Subscriber, origin, silent
from rmqspec.orders.topology import NOTIFICATIONS

__all__ = ["Notification"]


class Notification(Subscriber):
    """Notifies customers, each once, also where an order's completion is told twice.

    Attributes:
        notified: The ids of the orders whose customers were told, in order.
    """

    def __init__(
        self, source: str | Settings, name: str = "notification", say: Say = silent, inbox: Inbox | None = None
    ) -> None:
        super().__init__(source, NOTIFICATIONS, name, say, inbox=inbox)
        self.notified: list[str] = []

    def handle(self, delivery: Delivery) -> Outcome:
        """Notifies one customer."""
        event = parse(Completed, delivery.body)
        self.notified.append(event.order_id)
        self.say(f"told {event.customer} of order {event.order_id}, from {origin(delivery)}")
        return Outcome.ACK

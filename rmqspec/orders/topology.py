"""The order system's exchanges, queues and bindings. Each name is written here and nowhere else.

::

    orders.direct ──"order"──▶ orders ──(rejected, expired, too many)──▶ orders.dlx ──▶ orders.failed
    (default exchange) ──▶ orders.retry.… ──(expired)──▶ orders, where a retry ladder is asked for
    events.fanout ──▶ notifications, analytics
    logs.topic ──"order.#"──▶ logs
    (default exchange) ──▶ rpc.inventory
"""

from __future__ import annotations

from rmqspec.client import Binding, Exchange, Queue, RetryLadder, Topology

__all__ = [
    "ANALYTICS",
    "DEAD_LETTER_EXCHANGE",
    "EVENTS_EXCHANGE",
    "FAILED",
    "INVENTORY",
    "LOGS",
    "LOGS_EXCHANGE",
    "LOGS_PATTERN",
    "MAX_ORDERS",
    "NOTIFICATIONS",
    "ORDERS",
    "ORDERS_EXCHANGE",
    "ORDER_KEY",
    "dead_letters_from",
    "order_system",
    "retry_ladder",
]

ORDERS_EXCHANGE, ORDER_KEY, ORDERS = "orders.direct", "order", "orders"
EVENTS_EXCHANGE, NOTIFICATIONS, ANALYTICS = "events.fanout", "notifications", "analytics"
LOGS_EXCHANGE, LOGS_PATTERN, LOGS = "logs.topic", "order.#", "logs"
DEAD_LETTER_EXCHANGE, FAILED = "orders.dlx", "orders.failed"
INVENTORY = "rpc.inventory"

MAX_ORDERS = 100_000  # waiting orders; beyond it the oldest goes to orders.failed, where a person sees it


def retry_ladder(*delays: float) -> RetryLadder:
    """Steps for orders that fail for a passing reason; after the last one an order goes to ``orders.failed``.

    Args:
        delays: Seconds of each step.
    """
    return RetryLadder(ORDERS, DEAD_LETTER_EXCHANGE, delays)


def order_system(max_orders: int = MAX_ORDERS, retry: RetryLadder | None = None) -> Topology:
    """All that the order system declares.

    Args:
        max_orders: How many orders may wait in ``orders``.
        retry: Whose waiting queues are declared too; by default there are none.
    """
    return Topology(
        exchanges=(
            Exchange(ORDERS_EXCHANGE, "direct"),
            Exchange(EVENTS_EXCHANGE, "fanout"),
            Exchange(LOGS_EXCHANGE, "topic"),
            # A fanout: whatever key a dead letter carries, it arrives.
            Exchange(DEAD_LETTER_EXCHANGE, "fanout"),
        ),
        queues=(
            Queue(ORDERS, {"x-dead-letter-exchange": DEAD_LETTER_EXCHANGE, "x-max-length": max_orders}),
            Queue(NOTIFICATIONS),
            Queue(ANALYTICS),
            Queue(LOGS),
            Queue(FAILED),
            Queue(INVENTORY),
            *(retry.topology().queues if retry else ()),
        ),
        bindings=(
            Binding(ORDERS_EXCHANGE, ORDERS, ORDER_KEY),
            Binding(EVENTS_EXCHANGE, NOTIFICATIONS),
            Binding(EVENTS_EXCHANGE, ANALYTICS),
            Binding(LOGS_EXCHANGE, LOGS, LOGS_PATTERN),
            Binding(DEAD_LETTER_EXCHANGE, FAILED),
        ),
    )


def dead_letters_from(queue: str) -> bool:
    """Whether a reject moves a message from this queue to the dead letters; from the others it deletes."""
    return any(known.name == queue and "x-dead-letter-exchange" in known.arguments for known in order_system().queues)

"""The table of participants."""

from __future__ import annotations

from collections.abc import Mapping

from rmqspec.orders import Analytics, LogConsumer, Notification
from rmqspec.tools.nemesis import calls, order_traffic, traffic
from rmqspec.tools.nemesis.participants import Kind

__all__ = ["PARTICIPANTS"]

# A consumer that does not acknowledge any more still handles what it was sent: up to its prefetch, and as many again as
# handlers were at work. A worker says some words of each order.
IN_HAND = traffic.PREFETCH + max(traffic.CONCURRENCIES)
SOME_ORDERS = 12
RPC_PREFETCH = 10

PARTICIPANTS: Mapping[str, Kind] = {
    "producer": Kind(traffic.producer, 2, 10, feeds=True),
    "consumer": Kind(traffic.consumer, 3, IN_HAND + 1, ("producer",)),
    "rpc-client": Kind(calls.caller, 2, 10, ("rpc-server",), feeds=True),
    # Clients and servers feed each other. Where both stand still the server is named; a call that does not end is found
    # all the same.
    "rpc-server": Kind(calls.server, 2, RPC_PREFETCH + 2),
    "order-producer": Kind(order_traffic.order_producer, 1, 1, feeds=True),
    "unreadable-producer": Kind(order_traffic.unreadable_producer, 1, 1, feeds=True),
    "odd-producer": Kind(order_traffic.odd_producer, 1, 1, feeds=True),
    "worker": Kind(order_traffic.worker, 3, SOME_ORDERS, ("order-producer",)),
    "notification": Kind(order_traffic.subscriber(Notification), 1, 4, ("worker",)),
    "analytics": Kind(order_traffic.subscriber(Analytics), 1, 4, ("worker",)),
    "logs": Kind(order_traffic.subscriber(LogConsumer), 1, 4, ("worker",)),
    "events": Kind(order_traffic.events, 1, order_traffic.NOTING_PREFETCH + 2, ("worker",)),
    "dead-letters": Kind(
        order_traffic.dead_letters, 1, order_traffic.NOTING_PREFETCH + 2, ("worker", "unreadable-producer")
    ),
    "copies": Kind(order_traffic.copies, 1, 0),
}

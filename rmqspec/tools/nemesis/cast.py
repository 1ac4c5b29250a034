"""The table of participants."""

from __future__ import annotations

from collections.abc import Mapping

from rmqspec.orders import Analytics, LogConsumer, Notification
from rmqspec.tools.nemesis import calls, shop, traffic
from rmqspec.tools.nemesis.participants import Kind

__all__ = ["PARTICIPANTS", "RAW_ORDERS"]

# A consumer that does not acknowledge any more still handles what it was sent: up to its prefetch, and as many again as
# handlers were at work. A worker says some words of each order.
IN_HAND = traffic.PREFETCH + max(traffic.CONCURRENCIES)
SOME_ORDERS = 12
RPC_PREFETCH = 10

PARTICIPANTS: Mapping[str, Kind] = {
    "producer": Kind(traffic.producer, 2, 10, feeds=True),
    "consumer": Kind(traffic.consumer, 3, IN_HAND + 1, ("producer",)),
    "rpc-client": Kind(calls.caller, 2, 10, ("rpc-server",), feeds=True),
    # Each feeds the other. One is to be named where both stand still: calls that do not end are found anyway.
    "rpc-server": Kind(calls.server, 2, RPC_PREFETCH + 2),
    "order-producer": Kind(shop.customer, 1, 1, feeds=True),
    "odd-producer": Kind(shop.stranger, 1, 1, feeds=True),
    "worker": Kind(shop.worker, 3, SOME_ORDERS, ("order-producer",)),
    "notification": Kind(shop.subscriber(Notification), 1, 4, ("worker",)),
    "analytics": Kind(shop.subscriber(Analytics), 1, 4, ("worker",)),
    "logs": Kind(shop.subscriber(LogConsumer), 1, 4, ("worker",)),
    "events": Kind(shop.events, 1, traffic.PREFETCH + 2, ("worker",)),
    "dead-letters": Kind(shop.dead_letters, 1, 1, ("worker", "odd-producer")),
    "copies": Kind(shop.copies, 1, 0),
}
RAW_ORDERS = ("producer", "consumer")

"""The whole order system in one terminal: every pattern at work, and at the end what went where."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rmqspec.client import Outcome, RpcClient, Settings
from rmqspec.client.errors import CallRefused, ClientError
from rmqspec.orders import topology
from rmqspec.orders.analytics import Analytics
from rmqspec.orders.inventory import STOCK, InventoryServer, stock_of
from rmqspec.orders.log_consumer import LogConsumer
from rmqspec.orders.notification import Notification
from rmqspec.orders.producer import sample_orders
from rmqspec.orders.service import Say
from rmqspec.orders.system import OrderSystem
from rmqspec.orders.worker import Failures, Worker

__all__ = ["Plan", "Row", "run"]

Voice = Callable[[str], Say]  # gives each service its own way of speaking

NOT_AN_ORDER = (
    b'{"order_id": "oops", "customer": "Nobody", "items": [{"sku": "mouse", "quantity": -1, "unit_price_cents": 1}]}'
)
PATIENCE = 30.0  # seconds in which nothing may move before the demo gives up


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a demo is.

    Attributes:
        orders: How many are published.
        workers: How many share them.
        failures: Which of them fail.
        work_time: Seconds that an order takes.
    """

    orders: int = 20
    workers: int = 3
    failures: Failures = field(default_factory=Failures)
    work_time: float = 0.05


@dataclass(frozen=True, slots=True)
class Row:
    """What went through one place."""

    concept: str
    where: str
    through: str


@dataclass(slots=True)
class _Cast:
    """The services of one demo."""

    workers: list[Worker]
    notification: Notification
    analytics: Analytics
    logs: LogConsumer
    inventory: InventoryServer


def run(source: str | Settings, plan: Plan, voice: Voice, scene: Say) -> list[Row]:
    """Runs the demo.

    Args:
        source: The broker's URL, with the vhost, or settings.
        plan: How large.
        voice: Gives each service by its name a way of speaking.
        scene: Told what comes next.

    Returns:
        The summary: what went through each exchange and queue.

    Raises:
        ClientError: The broker went away, or orders are not being finished.
    """
    with OrderSystem(source, "demo", say=voice("producer")) as system:
        scene("The topology is declared: 4 exchanges, 6 queues, all durable")
        inventory = system.start(partial(InventoryServer, say=voice("inventory")))
        scene("RPC: the shop asks the inventory before it takes orders")
        asked = _ask(source, voice("rpc-client"))
        some = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
        scene(f"{some}, notification, analytics and logs take their places")
        cast = _cast(system, plan, voice, inventory)
        scene(f"{plan.orders} orders are published, each confirmed; then something that is no order")
        _publish(system, plan, voice("producer"))
        _finish(system, cast, plan)
        system.halt(inventory)
        scene("All orders are settled; what went where:")
        return _summary(system, cast, asked)


def _cast(system: OrderSystem, plan: Plan, voice: Voice, inventory: InventoryServer) -> _Cast:
    workers = []
    for number in range(1, plan.workers + 1):
        name = f"worker-{number}"
        make = partial(Worker, name=name, failures=plan.failures, work_time=plan.work_time, say=voice(name))
        workers.append(system.start(make))
    return _Cast(
        workers,
        system.start(partial(Notification, say=voice("notification"))),
        system.start(partial(Analytics, say=voice("analytics"))),
        system.start(partial(LogConsumer, say=voice("logs"))),
        inventory,
    )


def _ask(source: str | Settings, say: Say) -> int:
    with RpcClient(source, "demo rpc-client") as client:
        for sku in [*STOCK, "unicorn"]:
            try:
                say(f"{sku}: {stock_of(client, sku)} in stock")
            except CallRefused as refusal:
                say(f"{sku}: {refusal}")
    return len(STOCK) + 1


def _publish(system: OrderSystem, plan: Plan, say: Say) -> None:
    for order in sample_orders(plan.orders, plan.failures.seed):
        system.producer.publish(order)
    system.channel.basic_publish(topology.ORDERS_EXCHANGE, topology.ORDER_KEY, NOT_AN_ORDER, mandatory=True)
    say("published something that is no order")


def _finish(system: OrderSystem, cast: _Cast, plan: Plan) -> None:
    """Waits until every order is settled and every event was heard."""
    seen, since = -1, time.monotonic()
    while (settled := _settled(cast)) < plan.orders + 1 or not _heard(cast) or system.depth(topology.ORDERS):
        if (moved := settled + len(cast.notification.notified) + cast.logs.events.total()) != seen:
            seen, since = moved, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            raise ClientError(f"{settled} of {plan.orders + 1} messages were settled, then nothing for {PATIENCE:g} s")
        system.connection.sleep(0.02)


def _settled(cast: _Cast) -> int:
    return sum(worker.consumer.outcomes.total() for worker in cast.workers)


def _heard(cast: _Cast) -> bool:
    events = sum(worker.publisher.confirmed[topology.EVENTS_EXCHANGE] for worker in cast.workers)
    logs = sum(worker.publisher.confirmed[topology.LOGS_EXCHANGE] for worker in cast.workers)
    heard = min(len(cast.notification.notified), cast.analytics.orders) >= events
    return heard and cast.logs.events.total() >= logs


def _summary(system: OrderSystem, cast: _Cast, asked: int) -> list[Row]:
    names = topology
    confirmed = sum((worker.publisher.confirmed for worker in cast.workers), start=Counter[str]())
    outcomes = {outcome: sum(worker.consumer.outcomes[outcome] for worker in cast.workers) for outcome in Outcome}
    shares = ", ".join(f"{worker.name} {worker.consumer.outcomes.total()}" for worker in cast.workers)
    parked, failed = confirmed[names.DEAD_LETTER_EXCHANGE], outcomes[Outcome.REJECT]
    events = ", ".join(f"{count} {event}" for event, count in sorted(cast.logs.events.items()))
    return [
        Row(
            "Direct exchange",
            f"{names.ORDERS_EXCHANGE} → {names.ORDERS}",
            f"{system.producer.published} orders and 1 that is none, confirmed",
        ),
        Row("Work queue, fair dispatch", f"{names.ORDERS} → workers, prefetch 1", shares),
        Row(
            "Ack and nack",
            names.ORDERS,
            f"{outcomes[Outcome.ACK]} acked, {failed} nacked, {system.depth(names.ORDERS)} left",
        ),
        Row(
            "Dead letter exchange",
            f"{names.DEAD_LETTER_EXCHANGE} → {names.FAILED}",
            f"{failed} failed, {parked} unreadable; {system.depth(names.FAILED)} there now",
        ),
        Row(
            "Fanout exchange",
            f"{names.EVENTS_EXCHANGE} → {names.NOTIFICATIONS}, {names.ANALYTICS}",
            f"{confirmed[names.EVENTS_EXCHANGE]} events; {len(cast.notification.notified)} and {cast.analytics.orders}"
            " delivered",
        ),
        Row("Topic exchange", f"{names.LOGS_EXCHANGE} → {names.LOGS} ({names.LOGS_PATTERN})", events),
        Row(
            "Persistence",
            "all of these",
            f"durable; {system.producer.published + confirmed.total()} persistent messages",
        ),
        Row("RPC", f"{names.INVENTORY} and back", f"{asked} calls, {cast.inventory.answered} replies"),
        Row("Analytics", names.ANALYTICS, cast.analytics.totals()),
    ]

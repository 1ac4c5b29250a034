"""The whole order system in one terminal: every pattern at work, and at the end what went where."""

from __future__ import annotations

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rmqspec.client import Delivery, Outcome, RpcClient, Settings, persistent
from rmqspec.client.errors import CallRefused, ClientError
from rmqspec.orders import topology
from rmqspec.orders.analytics import Analytics, Totals
from rmqspec.orders.inventory import STOCK, InventoryServer, stock_of
from rmqspec.orders.log_consumer import LogConsumer
from rmqspec.orders.messages import Completed, counted, parse
from rmqspec.orders.notification import Notification
from rmqspec.orders.producer import sample_orders
from rmqspec.orders.service import Say, Service, Subscriber
from rmqspec.orders.system import OrderSystem
from rmqspec.orders.topology import order_system
from rmqspec.orders.worker import Failures, Worker

__all__ = ["Plan", "Row", "run"]

S = TypeVar("S", bound=Subscriber)
Voice = Callable[[str], Say]  # gives each service its own way of speaking

NOT_AN_ORDER = b'{"order_id": "oops", "items": [{"sku": "mouse", "quantity": 1, "unit_price_cents": 1}]}'
PATIENCE = 30.0  # seconds in which nothing may move before the demo gives up
SLOWER = 4  # times as long as the others works the last of several workers, so that fair dispatch is seen
NOTHING = "none"  # ends the message id of what is no order


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a demo is.

    Attributes:
        orders: How many are published.
        workers: How many share them.
        failures: Which of them fail.
        work_time: Seconds that an order takes; with the last of several workers longer.
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


class _Tally:
    """What has become of the messages of this demo. Others may be in the same queues; they are known by their ids.

    Each order's message id begins with the run, its event has the same, and its logs have it as correlation id. The
    services' threads write.
    """

    def __init__(self) -> None:
        self.run = uuid.uuid4().hex
        self._guard = threading.Lock()
        self.outcomes: dict[str, Counter[Outcome]] = {}
        self.logs: Counter[str] = Counter()
        self.unreadable = self.handled = 0
        self.totals = Totals()

    def message_id(self, name: str) -> str:
        """That of one message of this demo."""
        return f"{self.run}-{name}"

    def note(self, name: str, delivery: Delivery, outcome: Outcome) -> None:
        """Counts what a service has settled."""
        properties = delivery.properties
        with self._guard:
            self.handled += 1
            if not str(properties.message_id or properties.correlation_id).startswith(self.run):
                return
            self.outcomes.setdefault(name, Counter())[outcome] += 1
            if outcome is not Outcome.ACK:
                return
            if delivery.queue == topology.LOGS:
                self.logs[delivery.routing_key] += 1
            elif delivery.queue == topology.ANALYTICS:
                self.totals.add(parse(Completed, delivery.body))
            elif delivery.queue == topology.ORDERS:
                self.unreadable += str(properties.message_id).endswith(NOTHING)

    def acked(self, name: str) -> int:
        """How many a service has acknowledged."""
        return self.outcomes.get(name, Counter[Outcome]())[Outcome.ACK]

    def rejected(self, name: str) -> int:
        """How many it has rejected."""
        return self.outcomes.get(name, Counter[Outcome]())[Outcome.REJECT]


@dataclass(slots=True)
class _Cast:
    """The services of one demo, and the account of it."""

    workers: list[Worker]
    inventory: InventoryServer
    tally: _Tally

    @property
    def acked(self) -> int:
        return sum(self.tally.acked(worker.name) for worker in self.workers)

    @property
    def rejected(self) -> int:
        return sum(self.tally.rejected(worker.name) for worker in self.workers)

    @property
    def completed(self) -> int:
        return self.acked - self.tally.unreadable


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
        if others := _waiting(system):
            voice("producer")(f"others wait here already: {others}; they are not counted")
        inventory = system.start(partial(InventoryServer, say=voice("inventory")))
        scene("RPC: the shop asks the inventory before it takes orders")
        asked = _ask(source, voice("rpc-client"))
        scene(f"{_workers(plan)}, notification, analytics and logs take their places")
        cast = _cast(system, plan, voice, inventory)
        scene(f"{_are(plan.orders)} published, each confirmed; then something that is no order")
        _publish(system, plan, cast.tally, voice("producer"))
        _finish(system, cast, plan)
        ended: list[Service] = [inventory, *cast.workers]
        for service in ended:  # what they have settled is with the broker then
            system.halt(service)
        scene("All orders are settled; what went where:")
        return _summary(system, cast, asked)


def _are(orders: int) -> str:
    return f"{counted(orders, 'order')} {'is' if orders == 1 else 'are'}"


def _workers(plan: Plan) -> str:
    slow = f" (W{plan.workers} is slow)" if plan.workers > 1 else ""
    return f"{counted(plan.workers, 'worker')}{slow}"


def _cast(system: OrderSystem, plan: Plan, voice: Voice, inventory: InventoryServer) -> _Cast:
    tally = _Tally()

    def start(make: Callable[..., S], name: str, **options: object) -> S:
        def counting(source: Settings) -> S:
            service = make(source, name=name, say=voice(name), **options)
            service.settled = partial(tally.note, name)
            return service

        return system.start(counting)

    workers = []
    for number in range(1, plan.workers + 1):
        slower = SLOWER if number == plan.workers > 1 else 1
        workers.append(start(Worker, f"W{number}", failures=plan.failures, work_time=plan.work_time * slower))
    start(Notification, "notification")
    start(Analytics, "analytics")
    start(LogConsumer, "logs")
    return _Cast(workers, inventory, tally)


def _ask(source: str | Settings, say: Say) -> int:
    with RpcClient(source, "demo rpc-client") as client:
        say(f"waits for replies at reply_to {client.reply_to}")
        for sku in [*STOCK, "unicorn"]:
            try:
                stock_of(client, sku, say=say)
            except CallRefused as refusal:
                say(f"{sku}: {refusal}")
    return len(STOCK) + 1


def _publish(system: OrderSystem, plan: Plan, tally: _Tally, say: Say) -> None:
    for order in sample_orders(plan.orders, plan.failures.seed):
        system.producer.publish(order, tally.message_id(order.order_id))
    properties = persistent(message_id=tally.message_id(NOTHING))
    system.channel.basic_publish(topology.ORDERS_EXCHANGE, topology.ORDER_KEY, NOT_AN_ORDER, properties, mandatory=True)
    say(f"published something that is no order to {topology.ORDERS_EXCHANGE}, key {topology.ORDER_KEY}")


def _finish(system: OrderSystem, cast: _Cast, plan: Plan) -> None:
    """Waits until every order is settled and every event was heard."""
    seen, since = -1, time.monotonic()
    while (settled := cast.acked + cast.rejected) < plan.orders + 1 or not _heard(cast, plan):
        if (moved := cast.tally.handled) != seen:
            seen, since = moved, time.monotonic()
        if time.monotonic() - since > PATIENCE:
            others = system.consumers(topology.ORDERS) - plan.workers
            why = f": {counted(others, 'other worker')} may have the rest" if others > 0 else ""
            raise ClientError(
                f"{settled} of {plan.orders + 1} messages were settled, then nothing for {PATIENCE:g} s{why}"
            )
        system.connection.sleep(0.02)


def _heard(cast: _Cast, plan: Plan) -> bool:
    events = min(cast.tally.acked("notification"), cast.tally.acked("analytics"))
    return events >= cast.completed and cast.tally.logs.total() >= plan.orders + cast.completed + cast.rejected


def _waiting(system: OrderSystem, without: str = "") -> str:
    """What is in the queues, as in ``2 in orders, 7 in orders.failed``; empty where there is nothing."""
    depths = {queue.name: system.depth(queue.name) for queue in order_system().queues if queue.name != without}
    return ", ".join(f"{depth:,} in {name}" for name, depth in depths.items() if depth)


def _summary(system: OrderSystem, cast: _Cast, asked: int) -> list[Row]:
    names, tally = topology, cast.tally
    published, completed, failed = system.producer.published, cast.completed, cast.rejected
    shares = ", ".join(f"{one.name} {tally.acked(one.name) + tally.rejected(one.name)}" for one in cast.workers)
    if len(cast.workers) > 1:
        shares += " (slow)"
    there = system.depth(names.FAILED)
    of_others = there - failed - tally.unreadable
    notified, added = tally.acked("notification"), tally.acked("analytics")
    logs = ", ".join(f"{count} {event}" for event, count in sorted(tally.logs.items()))
    messages = published + 1 + tally.logs.total() + completed + tally.unreadable
    rows = [
        Row(
            "Direct exchange",
            f"{names.ORDERS_EXCHANGE} → {names.ORDERS} ({names.ORDER_KEY})",
            f"{counted(published, 'order')} and 1 that is none, confirmed",
        ),
        Row("Work queue, fair dispatch", f"{names.ORDERS} → workers, prefetch 1", shares),
        Row(
            "Ack and nack",
            names.ORDERS,
            f"{cast.acked} acked, {failed} nacked, {published + 1 - cast.acked - failed} left",
        ),
        Row(
            "Dead letter exchange",
            f"{names.DEAD_LETTER_EXCHANGE} → {names.FAILED}",
            f"{failed} failed, {tally.unreadable} unreadable; {there} there now"
            f"{f', {of_others} of them of others' if of_others > 0 else ''}",
        ),
        Row(
            "Fanout exchange",
            f"{names.EVENTS_EXCHANGE} → {names.NOTIFICATIONS}, {names.ANALYTICS}",
            f"{counted(completed, 'event')}; {notified} and {added} delivered",
        ),
        Row("Topic exchange", f"{names.LOGS_EXCHANGE} → {names.LOGS} ({names.LOGS_PATTERN})", logs),
        Row("Persistence", "all of these", f"durable; {messages} persistent messages"),
        Row("RPC", f"{names.INVENTORY} and back", f"{counted(asked, 'call')}, {cast.inventory.answered} replies"),
        Row("Analytics", names.ANALYTICS, str(tally.totals)),
    ]
    if elsewhere := _waiting(system, without=names.FAILED):
        rows.append(Row("Messages of others", "", f"{elsewhere}"))
    return rows
